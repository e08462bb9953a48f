// The two zeros of a gradient that the forward pass stores and the backward pass scales.
//
// grad_output may be NaN or infinite. An element that takes part then has a gradient of NaN even
// where its derivative is 0; one that does not keeps exactly 0. So +0 stands for "takes no part",
// and a derivative of 0 is stored as -0: the multiplication needs no mask.
#pragma once

#include "core/dtype.h"
#include "core/macros.h"

namespace fusedloss {

// weight * derivative as it is stored for an element that takes part, from -weight: the addition
// makes +0 of both zeros, at no cost in an FMA, and the sign is turned after it. Turned as a bit,
// since GCC moves a negation into the FMA as if zeros had no sign. What underflows there may become
// either zero.
template <class T>
FL_HOST_DEVICE T stored_gradient(T minus_weight, T derivative) {
  const T turned = minus_weight * derivative + T(0);
  constexpr BitsOf<T> kSign = BitsOf<T>(1) << (8 * sizeof(T) - 1);
  return bit_cast<T>(static_cast<BitsOf<T>>(bit_cast<BitsOf<T>>(turned) ^ kSign));
}

template <class T>
FL_HOST_DEVICE T scaled_gradient(T stored, T factor) {
  return bit_cast<BitsOf<T>>(stored) == 0 ? T(0) : stored * factor;
}

}  // namespace fusedloss
