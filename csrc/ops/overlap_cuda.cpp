// The bridge to the CUDA driver. Not built where there are no CUDA kernels.
#if defined(FL_WITH_CUDA)
#include "ops/overlap_cuda.h"

#include "cuda/overlap.h"
#include "ops/cuda_launch.h"

namespace fusedloss::ops {

void cuda_overlap(const OverlapParams& params, const Tensor& input) {
  Launch launch(input, cuda::overlap_workspace_bytes(params));
  cuda::overlap(params, launch.context());
}

}  // namespace fusedloss::ops
#endif
