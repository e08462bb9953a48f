// (g - low) / (high - low + 1e-7) with the smallest and largest finite g of a sample.
//
// A phase before everything else finds the range of every kNormalize: it runs the instructions that
// yield g over the whole sample, masked or not. A sample without a finite g has the range 0, 0.
#pragma once

#include "core/math.h"

namespace fusedloss {

template <class T>
struct ValueRange {
  T low = T(HUGE_VAL), high = -T(HUGE_VAL);

  FL_HOST_DEVICE void include(T g) {
    if (g - g != T(0)) return;  // NaN or infinite
    low = g < low ? g : low;
    high = g > high ? g : high;
  }
  FL_HOST_DEVICE void combine(const ValueRange& other) {
    low = other.low < low ? other.low : low;
    high = other.high > high ? other.high : high;
  }
  // What kNormalize takes.
  FL_HOST_DEVICE ValueRange finished() const { return low <= high ? *this : ValueRange{0, 0}; }
};

// One division per range, not one per element.
template <class T>
struct Normaliser {
  T low, inverse;

  FL_HOST_DEVICE explicit Normaliser(const ValueRange<T>& range)
      : low(range.low), inverse(T(1) / (range.high - range.low + T(1e-7))) {}
  FL_HOST_DEVICE T operator()(T g) const { return (g - low) * inverse; }
};

}  // namespace fusedloss
