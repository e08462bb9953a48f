// What every bridge to a CUDA driver needs: device guard, current stream, workspace.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include "cuda/launch_context.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {

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

}  // namespace fusedloss::ops
