// The bridge to the CUDA drivers. Not built where there are no CUDA kernels.
#if defined(FL_WITH_CUDA)
#include "ops/elementwise_cuda.h"

#include <torch/csrc/stable/accelerator.h>

#include "cuda/elementwise.h"

namespace fusedloss::ops {
namespace {

// The tensor's device while this lives, its current stream, and memory from torch's allocator: all
// work is queued on that stream, so the workspace may be given back as soon as it is queued.
class Launch {
 public:
  Launch(const Tensor& like, size_t workspace_bytes)
      : device_(like.get_device_index()),
        guard_(device_),
        workspace_(allocate_vector(like, static_cast<int64_t>(workspace_bytes), ScalarType::Byte)) {
  }

  cuda::LaunchContext context() {
    cuda::LaunchContext context;
    context.stream = static_cast<CUstream_st*>(
        torch::stable::accelerator::getCurrentStream(device_).nativeHandle());
    context.device = device_;
    context.workspace = workspace_.mutable_data_ptr();
    return context;
  }

 private:
  torch::stable::accelerator::DeviceIndex device_;
  torch::stable::accelerator::DeviceGuard guard_;
  Tensor workspace_;
};

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
