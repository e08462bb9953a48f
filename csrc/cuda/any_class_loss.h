// A class loss that a kernel learns at run time: its formula is asked for once per position, or
// once per class of a target of probabilities, beside the exponentials of all classes.
#pragma once

#include "cuda/one_of.h"
#include "losses/class_registry.h"

namespace fusedloss::cuda {

template <class O>
using AnyClassLoss = OneOf<CrossEntropy<O>, NegativeLogLikelihood<O>, SoftmaxFocal<O, true>,
                           SoftmaxFocal<O, false>, CategoricalCrossEntropy<O>>;

// What a block works out before its first position: the class weights are on the device.
template <class O>
struct ClassPreparation {
  O total_weight;  // sum of the class weights, where smoothing
  bool needs_own;  // a position whose label has weight 0 has no part in the loss
};

// Not inlined: the kernels of a file share it.
template <class O>
__device__ __noinline__ LabelResult<O> label_result(const AnyClassLoss<O>& any, LabelTerms<O> at,
                                                    O total_weight) {
  LabelResult<O> result{};
  any.visit([&](const auto& loss) {
    using Loss = std::decay_t<decltype(loss)>;
    if constexpr (std::is_same_v<Loss, CrossEntropy<O>>) {
      Loss own = loss;
      own.total_weight = total_weight;
      result = own(at);
    } else {
      result = loss(at);
    }
  });
  return result;
}

template <class O>
__device__ __forceinline__ ClassResult<O> class_result(const AnyClassLoss<O>& any,
                                                       const ClassTerms<O>& at) {
  ClassResult<O> result{};
  any.visit([&](const auto& loss) {
    using Loss = std::decay_t<decltype(loss)>;
    if constexpr (Loss::kSums != ClassSums::kNone) result = loss.of_class(at);
  });
  return result;
}

}  // namespace fusedloss::cuda
