// The bridge to the CUDA drivers. Not built where there are no CUDA kernels.
#if defined(FL_WITH_CUDA)
#include "ops/elementwise_cuda.h"

#include "cuda/elementwise.h"
#include "ops/cuda_launch.h"

namespace fusedloss::ops {
namespace {

// Calls f with a value-initialised element of a floating dtype.
template <class F>
void visit_floating(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kDouble:
      return f(double{});
    case DType::kHalf:
      return f(Half{});
    case DType::kBFloat16:
      return f(BFloat16{});
    default:
      return f(float{});
  }
}

}  // namespace

void cuda_elementwise_forward(const std::string& loss, const double* options,
                              const ElementwiseParams& params, const Tensor& input) {
  Launch launch(input, cuda::elementwise_workspace_bytes(params));
  visit_floating(params.input.dtype, [&](auto element) {
    cuda::elementwise_forward<decltype(element)>(loss.c_str(), options, params, launch.context());
  });
}

void cuda_elementwise_backward(const std::string& loss, const double* options,
                               const ElementwiseParams& params, const Tensor& input) {
  Launch launch(input, cuda::elementwise_workspace_bytes(params));
  visit_floating(params.input.dtype, [&](auto element) {
    cuda::elementwise_backward<decltype(element)>(loss.c_str(), options, params, launch.context());
  });
}

void cuda_scale_gradient(const Tensor& gradient, const Tensor& grad_output) {
  Launch launch(gradient, 0);
  Operand values, factor;
  values.data = gradient.mutable_data_ptr();
  values.dtype = to_dtype(gradient.scalar_type());
  factor.data = view(grad_output).data;
  factor.dtype = to_dtype(grad_output.scalar_type());
  cuda::scale_gradient(values, gradient.numel(), factor, launch.context());
}

}  // namespace fusedloss::ops
#endif
