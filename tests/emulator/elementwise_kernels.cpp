// A small selection of the elementwise kernels, one loss in float32, for the tests that rebuild
// them many times with a bug in. Everything else is built from csrc/cuda/*.cu.
#include "cuda/elementwise_launch.cuh"
#include "cuda/scale_gradient.cuh"

namespace fusedloss::cuda {

template <>
void launch_strided<float>(const NamedLoss& named, const KernelCall& call,
                           const LaunchContext& context) {
  const MseLoss loss(named.options);
  if (call.factors == Factors::kPrograms) {
    launch_call(elementwise_strided<AnyLoss, float, true>, call, AnyLoss(loss), context);
  } else {
    launch_call(elementwise_strided<MseLoss, float, false>, call, loss, context);
  }
}

template <bool kBackward>
void launch_selected(const ElementwiseParams& params, const LaunchContext& context) {
  const Pass forward = params.grad_input ? Pass::kForwardGradient : Pass::kForward;
  const Pass pass = kBackward ? Pass::kBackward : forward;
  const ElementwisePlan plan = plan_elementwise(params, pass);
  const MseLoss loss(nullptr);
  if (!plan.vector) {
    launch_strided<float>({"mse_loss", nullptr}, plan.call, context);
  } else {
    launch_vector<float, kBackward>(loss, plan.call, context);
  }
}

template <>
void elementwise_forward<float>(const char*, const double*, const ElementwiseParams& params,
                                const LaunchContext& context) {
  launch_selected<false>(params, context);
}
template <>
void elementwise_backward<float>(const char*, const double*, const ElementwiseParams& params,
                                 const LaunchContext& context) {
  launch_selected<true>(params, context);
}

// The bindings name these; no test of this selection calls them.
template <>
void elementwise_forward<double>(const char*, const double*, const ElementwiseParams&,
                                 const LaunchContext&) {}
template <>
void elementwise_backward<double>(const char*, const double*, const ElementwiseParams&,
                                  const LaunchContext&) {}
template <>
void elementwise_forward<Half>(const char*, const double*, const ElementwiseParams&,
                               const LaunchContext&) {}
template <>
void elementwise_backward<Half>(const char*, const double*, const ElementwiseParams&,
                                const LaunchContext&) {}
template <>
void elementwise_forward<BFloat16>(const char*, const double*, const ElementwiseParams&,
                                   const LaunchContext&) {}
template <>
void elementwise_backward<BFloat16>(const char*, const double*, const ElementwiseParams&,
                                    const LaunchContext&) {}

size_t elementwise_workspace_bytes(const ElementwiseParams& params) {
  return workspace_bytes(params);
}

void scale_gradient(const Operand& gradient, int64_t elements, const Operand& grad_output,
                    const LaunchContext& context) {
  launch_scale_gradient<float>(gradient, elements, grad_output, context);
}

}  // namespace fusedloss::cuda
