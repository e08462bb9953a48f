// A loss that a kernel learns at run time: one kernel for all losses where it is long already.
//
//     with_loss(loss, [&](const auto& own) { ... own.value(x, t) ... });
//
// calls its function with the loss itself, be it a functor of csrc/losses or an AnyLoss; which one
// an AnyLoss holds is the same for all threads, so the choice never diverges.
#pragma once

#include <type_traits>

#include "cuda/one_of.h"
#include "losses/registry.h"

namespace fusedloss::cuda {

template <class List>
struct OneOfList;
template <class... Losses>
struct OneOfList<LossList<Losses...>> {
  using type = OneOf<Losses..., SigmoidFocalLoss<true>>;
};
using AnyLoss = OneOfList<ElementwiseLosses>::type;

template <class Loss, class F>
FL_HOST_DEVICE void with_loss(const Loss& loss, F&& f) {
  if constexpr (std::is_same_v<Loss, AnyLoss>) {
    loss.visit(f);
  } else {
    f(loss);
  }
}

}  // namespace fusedloss::cuda
