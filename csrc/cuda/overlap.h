// The overlap losses and compounds on CUDA: soft counts, pools, pointwise part and gradient in one
// launch each way.
//
//     forward    region, weights, input, target -> loss, sums (and, if asked for, grad_input)
//     backward   the same inputs, sums, grad_output -> grad_input
//
// Called by ops/ with a torch-free params struct; nothing here synchronises with the device. The
// caller allocates overlap_workspace_bytes(params) of device memory, for the pass that params are
// laid out for; 0 in most backward passes. This header needs no CUDA toolkit.
#pragma once

#include <cstddef>

#include "core/overlap_params.h"
#include "cuda/launch_context.h"

namespace fusedloss::cuda {

size_t overlap_workspace_bytes(const OverlapParams& params);

// Forward where params have no grad_output.
void overlap(const OverlapParams& params, const LaunchContext& context);

}  // namespace fusedloss::cuda
