// The elementwise losses on the CPU: mask, loss, sums and gradient, one tile at a time.
//
//     region, weight  -->  w tile
//     input, target   -->  x, t tiles  -->  functor loop  -->  block sums, gradient tile -->
//     grad_input
//
// Called by ops/ through elementwise_forward / elementwise_backward with a torch-free params
// struct. A gradient that must be divided by a normalizer from the data first sums the mask and
// weight alone (few bytes); the input is read once and the gradient is written once.
#pragma once

#include "core/elementwise_params.h"
#include "cpu/parallel.h"

namespace fusedloss::cpu {

// An input outside [0, 1] where binary cross-entropy takes part; index is flat in Extents order.
struct NotAProbability {
  int64_t index = -1;
  double value = 0;
};

// `options` are the functor's; T is double iff a floating operand is.
template <class T>
NotAProbability elementwise_forward(const char* loss, const double* options,
                                    const ElementwiseParams& params, ParallelFor parallel_for);
template <class T>
void elementwise_backward(const char* loss, const double* options, const ElementwiseParams& params,
                          ParallelFor parallel_for);

}  // namespace fusedloss::cpu
