// The strided kernels, for every input type, and what needs no loss.
#include "cuda/elementwise_launch.cuh"
#include "cuda/scale_gradient.cuh"

namespace fusedloss::cuda {

template <class T>
void launch_strided(const NamedLoss& named, const KernelCall& call, const LaunchContext& context) {
  named.visit([&](const auto& loss) {
    using Loss = std::decay_t<decltype(loss)>;
    if (call.factors == Factors::kPrograms) {
      launch_call(elementwise_strided<AnyLoss, T, true>, call, AnyLoss(loss), context);
    } else {
      launch_call(elementwise_strided<Loss, T, false>, call, loss, context);
    }
  });
}

template void launch_strided<float>(const NamedLoss&, const KernelCall&, const LaunchContext&);
template void launch_strided<double>(const NamedLoss&, const KernelCall&, const LaunchContext&);

size_t elementwise_workspace_bytes(const ElementwiseParams& params) {
  return workspace_bytes(params);
}

void scale_gradient(const Operand& gradient, int64_t elements, const Operand& grad_output,
                    const LaunchContext& context) {
  if (elements == 0) return;
  switch (gradient.dtype) {
    case DType::kHalf:
      return launch_scale_gradient<Half>(gradient, elements, grad_output, context);
    case DType::kBFloat16:
      return launch_scale_gradient<BFloat16>(gradient, elements, grad_output, context);
    case DType::kFloat:
      return launch_scale_gradient<float>(gradient, elements, grad_output, context);
    default:
      return launch_scale_gradient<double>(gradient, elements, grad_output, context);
  }
}

}  // namespace fusedloss::cuda
