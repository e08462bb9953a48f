// Element types as run-time data, and the 16-bit floats as bits.
//
// Tensors of any mixture of types enter a kernel as `Operand`s that carry a `DType`; arithmetic is
// in float, or in double when a floating operand is double. Torch-free, usable on host and device.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "core/macros.h"

namespace fusedloss {

enum class DType : int32_t {
  kBool,
  kUInt8,
  kInt8,
  kInt16,
  kUInt16,
  kInt32,
  kUInt32,
  kInt64,
  kUInt64,
  kHalf,
  kBFloat16,
  kFloat,
  kDouble,
};

FL_HOST_DEVICE constexpr bool is_floating(DType dtype) { return dtype >= DType::kHalf; }

FL_HOST_DEVICE constexpr int64_t item_size(DType dtype) {
  switch (dtype) {
    case DType::kBool:
    case DType::kUInt8:
    case DType::kInt8:
      return 1;
    case DType::kInt16:
    case DType::kUInt16:
    case DType::kHalf:
    case DType::kBFloat16:
      return 2;
    case DType::kInt32:
    case DType::kUInt32:
    case DType::kFloat:
      return 4;
    default:
      return 8;
  }
}

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

// The unsigned integer that holds the bits of a float or double.
template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <class To, class From>
FL_HOST_DEVICE To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

FL_HOST_DEVICE float to_float(BFloat16 value) {
  return bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

// The device has instructions for these. On the host, branch-free so that a loop vectorises: the
// exponent is rebased by one multiplication, which is exact for subnormals too; infinity and NaN
// get their exponent by a select.
FL_HOST_DEVICE float to_float(Half value) {
#if defined(__CUDA_ARCH__)
  return __half2float(bit_cast<__half>(value));
#else
  const uint32_t bits = value.bits;
  const uint32_t magnitude = (bits & 0x7fffu) << 13;
  const float rebased = bit_cast<float>(magnitude) * 0x1p112f;
  const uint32_t finite = bit_cast<uint32_t>(rebased);
  const uint32_t special = magnitude | 0x7f800000u;
  return bit_cast<float>((magnitude >= 0x0f800000u ? special : finite) | ((bits & 0x8000u) << 16));
#endif
}

FL_HOST_DEVICE BFloat16 to_bfloat16(float value) {
#if defined(__CUDA_ARCH__)
  return bit_cast<BFloat16>(__float2bfloat16_rn(value));
#else
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return {static_cast<uint16_t>(is_nan ? 0x7fc0u : rounded)};
#endif
}

// Round to nearest even. Subnormal results come from one float addition whose rounding position is
// the half's last bit; normal results from integer rounding of the mantissa.
FL_HOST_DEVICE Half to_half(float value) {
#if defined(__CUDA_ARCH__)
  return bit_cast<Half>(__float2half_rn(value));
#else
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t tiny = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t half = magnitude < 0x38800000u ? tiny : normal;
  half = magnitude >= 0x47800000u ? 0x7c00u : half;  // 65536 and above; 65520 rounds up by itself
  half = magnitude > 0x7f800000u ? 0x7e00u : half;
  return {static_cast<uint16_t>(half | sign)};
#endif
}

// `convert<float>(Half)`, `convert<BFloat16>(double)`, `convert<double>(int64_t)`, ...
template <class To, class From>
FL_HOST_DEVICE To convert(From from) {
  return static_cast<To>(from);
}
template <>
FL_HOST_DEVICE float convert<float, Half>(Half from) {
  return to_float(from);
}
template <>
FL_HOST_DEVICE float convert<float, BFloat16>(BFloat16 from) {
  return to_float(from);
}
template <>
FL_HOST_DEVICE double convert<double, Half>(Half from) {
  return static_cast<double>(to_float(from));
}
template <>
FL_HOST_DEVICE double convert<double, BFloat16>(BFloat16 from) {
  return static_cast<double>(to_float(from));
}
template <>
FL_HOST_DEVICE Half convert<Half, float>(float from) {
  return to_half(from);
}
template <>
FL_HOST_DEVICE BFloat16 convert<BFloat16, float>(float from) {
  return to_bfloat16(from);
}
template <>
FL_HOST_DEVICE Half convert<Half, double>(double from) {
  return to_half(static_cast<float>(from));
}
template <>
FL_HOST_DEVICE BFloat16 convert<BFloat16, double>(double from) {
  return to_bfloat16(static_cast<float>(from));
}

// Calls `f` with a value-initialised C++ element of `dtype`; only here DTypes become types.
template <class F>
FL_HOST_DEVICE decltype(auto) visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kBool:
    case DType::kUInt8:
      return f(uint8_t{});
    case DType::kInt8:
      return f(int8_t{});
    case DType::kInt16:
      return f(int16_t{});
    case DType::kUInt16:
      return f(uint16_t{});
    case DType::kInt32:
      return f(int32_t{});
    case DType::kUInt32:
      return f(uint32_t{});
    case DType::kInt64:
      return f(int64_t{});
    case DType::kUInt64:
      return f(uint64_t{});
    case DType::kHalf:
      return f(Half{});
    case DType::kBFloat16:
      return f(BFloat16{});
    case DType::kFloat:
      return f(float{});
    default:
      return f(double{});
  }
}

}  // namespace fusedloss
