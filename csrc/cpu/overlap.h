// The overlap losses and compounds on the CPU: soft counts and pointwise sums from one read of the
// logits, then, with the slopes of the pools, the gradient from a second one.
//
//     labels, mask, map  -->  weight of each position (or element)
//     logits  -->  p  -->  I, P, T of every sample and class, sums of the pointwise part
//     pools  -->  slopes;   logits  -->  p  -->  gradient  -->  grad_input
//
// Called by ops/ with a torch-free params struct. Where pools lie within samples, a sample gets its
// gradient while it is still in the caches, if nothing but labels and masks has to be known of the
// others.
#pragma once

#include "core/overlap_params.h"
#include "cpu/classwise.h"

namespace fusedloss::cpu {

// Writes params.sums and the loss; T is double iff a floating operand is.
template <class T>
NotAClass overlap_forward(const OverlapParams& params, ParallelFor parallel_for);
template <class T>
void overlap_backward(const OverlapParams& params, ParallelFor parallel_for);

}  // namespace fusedloss::cpu
