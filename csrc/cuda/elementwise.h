// The elementwise losses on CUDA: mask, loss, sums and gradient in one launch each way.
//
//     forward    region, weight, input, target -> loss, sums (and, if asked for, grad_input)
//     backward   the same inputs, sums, grad_output -> grad_input
//
// Called by ops/ with a torch-free params struct; nothing here synchronises with the device. T is
// the input's element type. The caller allocates elementwise_workspace_bytes(params) of device
// memory, for the pass that params are laid out for; 0 in most backward passes. This header needs
// no CUDA toolkit.
#pragma once

#include <cstddef>

#include "core/elementwise_params.h"
#include "cuda/launch_context.h"

namespace fusedloss::cuda {

size_t elementwise_workspace_bytes(const ElementwiseParams& params);

// `options` are the functor's, in the order of the public signature.
template <class T>
void elementwise_forward(const char* loss, const double* options, const ElementwiseParams& params,
                         const LaunchContext& context);
template <class T>
void elementwise_backward(const char* loss, const double* options, const ElementwiseParams& params,
                          const LaunchContext& context);

// In place on `elements` numbers that are dense in memory: gradient *= grad_output, a 0-d tensor
// that only the device reads. A grad_output of 1 touches no memory. See
// core/stored_gradient.h for one that is not finite.
void scale_gradient(const Operand& gradient, int64_t elements, const Operand& grad_output,
                    const LaunchContext& context);

}  // namespace fusedloss::cuda
