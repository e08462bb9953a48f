// exp, log and their relatives, the same on host and device.
//
// On the device and for double these are the standard functions. For float on the host they are
// short polynomials without branches or table look-ups, so that a plain loop over them vectorises:
// within 2 ulp of the exact value on the ranges named. Coefficients: minimax fits on the reduced
// range (Remez), relative error below 4e-8. NaN goes in, NaN comes out.
#pragma once

#include <cmath>

#include "core/dtype.h"
#include "core/macros.h"

namespace fusedloss::math {

FL_HOST_DEVICE double abs(double x) { return ::fabs(x); }
FL_HOST_DEVICE float abs(float x) { return ::fabsf(x); }

// The larger of both; NaN if `a` is NaN.
template <class T>
FL_HOST_DEVICE T max(T a, T b) {
  return a < b ? b : a;
}
template <class T>
FL_HOST_DEVICE T min(T a, T b) {
  return b < a ? b : a;
}

// -1, 0 or 1; 0 for NaN as torch.sign.
template <class T>
FL_HOST_DEVICE T sign(T x) {
  return static_cast<T>((x > T(0)) - (x < T(0)));
}

FL_HOST_DEVICE double sqrt(double x) { return ::sqrt(x); }
FL_HOST_DEVICE float sqrt(float x) { return ::sqrtf(x); }
FL_HOST_DEVICE double exp(double x) { return ::exp(x); }
FL_HOST_DEVICE double log(double x) { return ::log(x); }
FL_HOST_DEVICE double log1p(double x) { return ::log1p(x); }

#if defined(__CUDA_ARCH__)

FL_HOST_DEVICE float exp(float x) { return ::expf(x); }
FL_HOST_DEVICE float log(float x) { return ::logf(x); }
FL_HOST_DEVICE float log1p(float x) { return ::log1pf(x); }

#else

// For x <= 88; where the result would be subnormal it is 0.
FL_HOST_DEVICE float exp(float x) {
  const float magic = 12582912.0f + 127.0f;  // 1.5 * 2^23 rounds to an integer; 127 is the bias
  const float shifted = x * 1.44269504f + magic;
  const float n = shifted - magic;
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float mantissa = 0.00138367421f;
  mantissa = mantissa * r + 0.00837489869f;
  mantissa = mantissa * r + 0.0416682325f;
  mantissa = mantissa * r + 0.166664198f;
  mantissa = mantissa * r + 0.499999911f;
  mantissa = mantissa * r + 1.0f;
  mantissa = mantissa * r + 1.0f;
  const float result = mantissa * bit_cast<float>(bit_cast<uint32_t>(shifted) << 23);
  return x < -87.3f ? 0.0f : result;
}

// For x >= 0: log(0) = -inf, subnormals exact.
FL_HOST_DEVICE float log(float x) {
  const bool subnormal = x < 0x1p-126f;
  const float scaled = subnormal ? x * 0x1p23f : x;
  const uint32_t bits = bit_cast<uint32_t>(scaled);
  const int32_t shifted =
      static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;  // sqrt(1/2) <= m < sqrt(2)
  const float n = static_cast<float>(shifted) - (subnormal ? 23.0f : 0.0f);
  const float f = bit_cast<float>(bits - (static_cast<uint32_t>(shifted) << 23)) - 1.0f;
  float q = 0.06971612f;
  q = q * f - 0.11479734f;
  q = q * f + 0.1168542f;
  q = q * f - 0.12425687f;
  q = q * f + 0.14249058f;
  q = q * f - 0.16667803f;
  q = q * f + 0.20000716f;
  q = q * f - 0.24999997f;
  q = q * f + 0.3333333f;
  const float ff = f * f;
  float result = (q * f) * ff + n * -2.12194440e-4f;
  result = f - 0.5f * ff + result;
  result = result + n * 0.693359375f;
  result = x == 0.0f ? -HUGE_VALF : result;
  return x < HUGE_VALF ? result : x;  // +inf and NaN pass through
}

// For x >= -1, relative accuracy also for small x (the rounding of 1 + x is corrected).
FL_HOST_DEVICE float log1p(float x) {
  const float u = 1.0f + x;
  const float correction = (x - (u - 1.0f)) / (u == 0.0f ? 1.0f : u);
  const float result = log(u) + correction;
  return u < HUGE_VALF ? result : u;
}

#endif

// log(1 + e) for 0 <= e <= 1, relative accuracy: the only log1p that softplus needs, no division.
FL_HOST_DEVICE double log1p_unit(double e) { return ::log1p(e); }
FL_HOST_DEVICE float log1p_unit(float e) {
#if defined(__CUDA_ARCH__)
  return ::log1pf(e);
#else
  float q = 0.005232694f;
  q = q * e - 0.029505240f;
  q = q * e + 0.078225955f;
  q = q * e - 0.136632460f;
  q = q * e + 0.191060070f;
  q = q * e - 0.248429820f;
  q = q * e + 0.333190980f;
  q = q * e - 0.499994930f;
  q = q * e + 0.999999940f;
  return q * e;
#endif
}

// The three quantities that every logistic loss is made of, from one exponential:
// with e = exp(-|x|), softplus(-|x|) = log(1 + e) and sigmoid(-|x|) = e sigmoid(|x|) = e / (1 + e).
template <class T>
struct Logistic {
  T log1p_e, larger, smaller;
  bool positive;

  FL_HOST_DEVICE explicit Logistic(T x) : positive(!(x < T(0))) {
    const T e = math::exp(positive ? -x : x);
    log1p_e = log1p_unit(e);
    larger = T(1) / (T(1) + e);
    smaller = e * larger;
  }
  FL_HOST_DEVICE T sigmoid() const { return positive ? larger : smaller; }
  FL_HOST_DEVICE T sigmoid_of_minus() const { return positive ? smaller : larger; }
};

}  // namespace fusedloss::math
