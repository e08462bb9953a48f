// Device math that the host's <cmath> lacks: bit casts, rounding-named arithmetic, fast intrinsics.
//
// The fast intrinsics are the exact functions here: emulation cannot show a device's approximation.
#pragma once

EMULATOR_INLINE int __float_as_int(float x) { return emulator::bits_to<int>(x); }
EMULATOR_INLINE unsigned __float_as_uint(float x) { return emulator::bits_to<unsigned>(x); }
EMULATOR_INLINE float __int_as_float(int x) { return emulator::bits_to<float>(x); }
EMULATOR_INLINE float __uint_as_float(unsigned x) { return emulator::bits_to<float>(x); }
EMULATOR_INLINE long long __double_as_longlong(double x) { return emulator::bits_to<long long>(x); }
EMULATOR_INLINE double __longlong_as_double(long long x) { return emulator::bits_to<double>(x); }

EMULATOR_INLINE float __fadd_rn(float a, float b) { return a + b; }
EMULATOR_INLINE float __fsub_rn(float a, float b) { return a - b; }
EMULATOR_INLINE float __fmul_rn(float a, float b) { return a * b; }
EMULATOR_INLINE float __fdiv_rn(float a, float b) { return a / b; }
EMULATOR_INLINE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
EMULATOR_INLINE float __frcp_rn(float a) { return 1.0f / a; }
EMULATOR_INLINE float __fsqrt_rn(float a) { return sqrtf(a); }
EMULATOR_INLINE double __dadd_rn(double a, double b) { return a + b; }
EMULATOR_INLINE double __dsub_rn(double a, double b) { return a - b; }
EMULATOR_INLINE double __dmul_rn(double a, double b) { return a * b; }
EMULATOR_INLINE double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

EMULATOR_INLINE float rsqrtf(float a) { return 1.0f / sqrtf(a); }
EMULATOR_INLINE double rsqrt(double a) { return 1.0 / sqrt(a); }
EMULATOR_INLINE float __expf(float a) { return expf(a); }
EMULATOR_INLINE float __logf(float a) { return logf(a); }
EMULATOR_INLINE float __powf(float a, float b) { return powf(a, b); }
EMULATOR_INLINE float __fdividef(float a, float b) { return a / b; }
EMULATOR_INLINE float __saturatef(float a) { return a != a ? 0.0f : fminf(fmaxf(a, 0.0f), 1.0f); }

EMULATOR_INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
EMULATOR_INLINE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
EMULATOR_INLINE int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
EMULATOR_INLINE int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
EMULATOR_INLINE int __ffs(int x) { return __builtin_ffs(x); }
EMULATOR_INLINE int __ffsll(long long x) { return __builtin_ffsll(x); }
EMULATOR_INLINE unsigned __umulhi(unsigned a, unsigned b) {
  return unsigned((uint64_t(a) * b) >> 32);
}
EMULATOR_INLINE unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
EMULATOR_INLINE unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t both = (uint64_t(y) << 32) | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned byte = unsigned(both >> (8 * ((selector >> (4 * i)) & 7))) & 0xff;
    result |= byte << (8 * i);
  }
  return result;
}

// The overloads that CUDA puts in the global namespace.
template <class T>
  requires std::is_arithmetic_v<T>
EMULATOR_INLINE constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
  requires std::is_arithmetic_v<T>
EMULATOR_INLINE constexpr T max(T a, T b) {
  return a < b ? b : a;
}
EMULATOR_INLINE float min(float a, float b) { return fminf(a, b); }
EMULATOR_INLINE float max(float a, float b) { return fmaxf(a, b); }
EMULATOR_INLINE double min(double a, double b) { return fmin(a, b); }
EMULATOR_INLINE double max(double a, double b) { return fmax(a, b); }
