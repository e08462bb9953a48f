// Host side of the class kernels: from params to one launch. The .cu files instantiate it, the
// typed kernels once per input type.
#pragma once

#include "cuda/class_plan.h"
#include "cuda/class_positions.cuh"
#include "cuda/class_rows.cuh"
#include "cuda/classwise.h"
#include "cuda/launch_call.cuh"

namespace fusedloss::cuda {

// Which loss, as ops/ names it.
struct NamedClassLoss {
  const char* name;
  const double* options;

  // f(loss, AnyClassLoss), for arithmetic in O.
  template <class O, class F>
  void visit(const ClasswiseParams& p, F&& f) const {
    // Weights are summed on the device.
    const ClassOptions<O> given{options, p.label_smoothing, p.classes, O(0)};
    visit_class_loss<O>(name, given, [&](const auto& loss) { f(loss, AnyClassLoss<O>(loss)); });
  }

  ClassSums sums(const ClasswiseParams& p) const {
    ClassSums result{};
    visit<float>(
        p, [&](const auto& loss, const auto&) { result = std::decay_t<decltype(loss)>::kSums; });
    return result;
  }
};

template <class Kernel, class O>
void launch_class_kernel(Kernel kernel, const ClassPlan& plan, const NamedClassLoss& named,
                         const LaunchContext& context) {
  const ClasswiseParams& p = plan.call.params;
  const BlockNeeds needs{.shared_bytes = plan.shared_bytes, .resident_only = sums_class_weights(p)};
  named.visit<O>(p, [&](const auto&, const AnyClassLoss<O>& loss) {
    launch_call(kernel, plan.call, loss, context, needs);
  });
}

template <class O>
void launch_class_strided(const ClassPlan& plan, const NamedClassLoss& named,
                          const LaunchContext& context) {
  using Kernel = decltype(&class_strided<O>);
  launch_class_kernel<Kernel, O>(class_strided<O>, plan, named, context);
}

// T is the input's type. Defined in classwise_<type>.cu.
template <class T>
void launch_class_typed(const ClassPlan& plan, const NamedClassLoss& named,
                        const LaunchContext& context);

}  // namespace fusedloss::cuda
