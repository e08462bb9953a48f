// The bridge to the CUDA driver. Not built where there are no CUDA kernels.
#if defined(FL_WITH_CUDA)
#include "ops/classwise_cuda.h"

#include "cuda/classwise.h"
#include "ops/cuda_launch.h"

namespace fusedloss::ops {

void cuda_classwise(const std::string& loss, const double* options, const ClasswiseParams& params,
                    const Tensor& input) {
  Launch launch(input, cuda::classwise_workspace_bytes(params));
  cuda::classwise(loss.c_str(), options, params, launch.context());
}

}  // namespace fusedloss::ops
#endif
