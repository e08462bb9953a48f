// The class losses on the CPU: labels, mask, loss, sums and gradient, one tile at a time.
//
//     labels, mask, map  -->  weight of each position
//     logits  -->  planes in the cache  -->  softmax  -->  loss  -->  gradient planes  -->
//     grad_input
//
// Called by ops/ with a torch-free params struct. A gradient that must be divided by a normalizer
// from the data first sums labels, mask and map alone (few bytes); the logits are read once and the
// gradient is written once.
#pragma once

#include "core/classwise_params.h"
#include "cpu/parallel.h"

namespace fusedloss::cpu {

// A label outside [0, C) where it takes part; index is flat in Extents order.
struct NotAClass {
  int64_t index = -1;
};

// `options` are the loss's; T is double iff a floating operand is.
template <class T>
NotAClass classwise_forward(const char* loss, const double* options, const ClasswiseParams& params,
                            ParallelFor parallel_for);
template <class T>
void classwise_backward(const char* loss, const double* options, const ClasswiseParams& params,
                        ParallelFor parallel_for);

}  // namespace fusedloss::cpu
