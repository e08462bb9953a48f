// exp, log and their relatives, the same on host and device.
//
// On the device and for double these are the standard functions. For float on the host they are
// short polynomials without branches or table look-ups, so that a plain loop over them vectorises:
// within 2 ulp of the exact value on the ranges named. Coefficients: minimax fits on the reduced
// range (Remez), relative error below 1.1e-7. NaN goes in, NaN comes out.
#pragma once

#include <cmath>

#include "core/dtype.h"
#include "core/macros.h"

namespace fusedloss {

// `value` or 0, as a bit mask: from a conditional expression GCC makes masked loads that merge into
// the previous iteration's register, so that every cache miss waits for the one before it.
template <class T>
FL_HOST_DEVICE T zero_unless(bool keep, T value) {
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  return bit_cast<T>(static_cast<Bits>(bit_cast<Bits>(value) & (keep ? ~Bits(0) : Bits(0))));
}

namespace math {

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
  float mantissa = 0.0083125202352f;
  mantissa = mantissa * r + 0.0418901568388f;
  mantissa = mantissa * r + 0.16667114649f;
  mantissa = mantissa * r + 0.499992314952f;
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
  float q = -0.00853920973f;
  q = q * e + 0.0440896355f;
  q = q * e - 0.107681718f;
  q = q * e + 0.177452417f;
  q = q * e - 0.244954629f;
  q = q * e + 0.332754798f;
  q = q * e - 0.499974054f;
  q = q * e + 0.999999806f;
  return q * e;
#endif
}

// Questions about the sign go to the sign bit: they cost one instruction and do not make the
// compiler compute both answers.
FL_HOST_DEVICE bool is_negative(float x) { return bit_cast<int32_t>(x) < 0; }
FL_HOST_DEVICE bool is_negative(double x) { return bit_cast<int64_t>(x) < 0; }
// `magnitude` >= 0, with the sign of `sign`.
FL_HOST_DEVICE float with_sign(float magnitude, float sign) {
  return bit_cast<float>(bit_cast<uint32_t>(magnitude) | (bit_cast<uint32_t>(sign) & 0x80000000u));
}
FL_HOST_DEVICE double with_sign(double magnitude, double sign) {
  return bit_cast<double>(bit_cast<uint64_t>(magnitude) |
                          (bit_cast<uint64_t>(sign) & (uint64_t{1} << 63)));
}

// The quantities that every logistic loss is made of, from one exponential:
// with e = exp(-|x|), softplus(-|x|) = log(1 + e) and sigmoid(-|x|) = e sigmoid(|x|) = e / (1 + e).
template <class T>
struct Logistic {
  T e, log1p_e;
  T step;  // 1 for x >= 0, 0 for x < 0
  bool positive;

  FL_HOST_DEVICE explicit Logistic(T x) : positive(!is_negative(x)) {
    e = math::exp(-math::abs(x));
    log1p_e = log1p_unit(e);
    step = zero_unless(positive, T(1));
  }
  FL_HOST_DEVICE T smaller() const { return e / (T(1) + e); }
  FL_HOST_DEVICE T sigmoid() const { return (positive ? T(1) : e) / (T(1) + e); }
  FL_HOST_DEVICE T sigmoid_of_minus() const { return (positive ? e : T(1)) / (T(1) + e); }
};

}  // namespace math
}  // namespace fusedloss
