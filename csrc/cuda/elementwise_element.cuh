// What both elementwise kernels do with one element, once its operands are in registers.
#pragma once

#include <cassert>

#include "core/math.h"
#include "core/stored_gradient.h"
#include "cuda/elementwise_call.h"
#include "losses/registry.h"

namespace fusedloss::cuda {

template <class Loss, class O>
__device__ __forceinline__ O element_value(const Loss& loss, O x, O t, O pos_weight) {
  if constexpr (has_pos_weight<Loss>) {
    return loss.value(x, t, pos_weight);
  } else {
    return loss.value(x, t);
  }
}

template <class Loss, class O>
__device__ __forceinline__ O element_derivative(const Loss& loss, O x, O t, O pos_weight) {
  if constexpr (has_pos_weight<Loss>) {
    return loss.derivative(x, t, pos_weight);
  } else {
    return loss.derivative(x, t);
  }
}

// binary_cross_entropy's condition on an input that takes part; a NaN passes and propagates.
template <class Loss, class O>
__device__ __forceinline__ bool is_valid_input(O x, O factor) {
  if constexpr (!input_is_probability<Loss>) return true;
  return factor == O(0) || !(x < O(0) || x > O(1));
}

// Called once for what a thread holds: an assert in every lane costs registers.
template <class Loss>
__device__ __forceinline__ void assert_valid_input(bool valid) {
  if constexpr (input_is_probability<Loss>) {
    assert(valid && "binary_cross_entropy: input outside [0, 1]");
  }
}

}  // namespace fusedloss::cuda
