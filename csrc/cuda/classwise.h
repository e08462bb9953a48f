// The class losses on CUDA: labels, mask, loss, sums and gradient in one launch each way.
//
//     forward    region, weights, logits, target -> loss, sums (and, if asked for, grad_input)
//     backward   the same inputs, sums, grad_output -> grad_input
//
// Called by ops/ with a torch-free params struct; nothing here synchronises with the device, and a
// label out of range is a device assert. The caller allocates classwise_workspace_bytes(...) of
// device memory. This header needs no CUDA toolkit.
#pragma once

#include <cstddef>

#include "core/classwise_params.h"
#include "cuda/launch_context.h"

namespace fusedloss::cuda {

size_t classwise_workspace_bytes(const ClasswiseParams& params);

// Forward, or backward where there is a grad_output. `options` are the loss's.
void classwise(const char* loss, const double* options, const ClasswiseParams& params,
               const LaunchContext& context);

}  // namespace fusedloss::cuda
