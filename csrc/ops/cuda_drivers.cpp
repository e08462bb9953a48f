// Calls the CUDA drivers. Empty in a build without CUDA kernels.
#if defined(FL_WITH_CUDA)
#include "ops/cuda_drivers.h"

#include <torch/csrc/stable/accelerator.h>

#include "cuda/classwise.h"
#include "cuda/elementwise.h"
#include "cuda/overlap.h"

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

template <class T>
void launch_elementwise(const std::string& loss, const double* options,
                        const ElementwiseParams& params, const cuda::LaunchContext& context) {
  const auto driver =
      params.grad_output ? cuda::elementwise_backward<T> : cuda::elementwise_forward<T>;
  driver(loss.c_str(), options, params, context);
}

}  // namespace

void cuda_elementwise(const std::string& loss, const double* options,
                      const ElementwiseParams& params, const Tensor& input) {
  Launch launch(input, cuda::elementwise_workspace_bytes(params));
  switch (params.input.dtype) {
    case DType::kDouble:
      return launch_elementwise<double>(loss, options, params, launch.context());
    case DType::kHalf:
      return launch_elementwise<Half>(loss, options, params, launch.context());
    case DType::kBFloat16:
      return launch_elementwise<BFloat16>(loss, options, params, launch.context());
    default:
      return launch_elementwise<float>(loss, options, params, launch.context());
  }
}

void cuda_classwise(const std::string& loss, const double* options, const ClasswiseParams& params,
                    const Tensor& input) {
  Launch launch(input, cuda::classwise_workspace_bytes(params));
  cuda::classwise(loss.c_str(), options, params, launch.context());
}

void cuda_overlap(const OverlapParams& params, const Tensor& input) {
  Launch launch(input, cuda::overlap_workspace_bytes(params));
  cuda::overlap(params, launch.context());
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
