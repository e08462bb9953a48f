// The bridge from ops to the CUDA driver of the overlap losses and compounds. Without CUDA kernels
// in the build nothing is registered for CUDA tensors and this is never reached.
#pragma once

#include "core/overlap_params.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {

// Forward, or backward where there is a grad_output.
void cuda_overlap(const OverlapParams& params, const Tensor& input);

}  // namespace fusedloss::ops
