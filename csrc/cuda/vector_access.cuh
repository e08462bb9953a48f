// Loads and stores: 16 bytes at a time where memory is dense and aligned, one element at a time, or
// through a run-time dtype, which is the same for all threads and so costs no divergence.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "core/dtype.h"

namespace fusedloss::cuda {

template <class T, int kSize>
struct Pack {
  T at[kSize];
};

template <int kBytes>
struct RawWord;
template <>
struct RawWord<1> {
  using type = unsigned char;
};
template <>
struct RawWord<2> {
  using type = unsigned short;
};
template <>
struct RawWord<4> {
  using type = unsigned;
};
template <>
struct RawWord<8> {
  using type = uint2;
};
template <>
struct RawWord<16> {
  using type = uint4;
};

// The widest access for `kSize` elements of T: 16 bytes, or all of them where that is less.
template <class T, int kSize>
constexpr int kAccessBytes = sizeof(T) * kSize < 16 ? int(sizeof(T)) * kSize : 16;

template <class T, int kSize>
__device__ __forceinline__ bool is_aligned(const T* memory) {
  return reinterpret_cast<uintptr_t>(memory) % kAccessBytes<T, kSize> == 0;
}

// `memory` is aligned to kAccessBytes.
template <class T, int kSize>
__device__ __forceinline__ Pack<T, kSize> load_pack(const T* memory) {
  constexpr int kBytes = kAccessBytes<T, kSize>, kWords = sizeof(T) * kSize / kBytes;
  using Word = typename RawWord<kBytes>::type;
  Pack<Word, kWords> words;
#pragma unroll
  for (int i = 0; i < kWords; ++i) words.at[i] = __ldg(reinterpret_cast<const Word*>(memory) + i);
  return bit_cast<Pack<T, kSize>>(words);
}

// Written once and not read again by this kernel: a streaming store leaves the cache to the inputs.
template <class T, int kSize>
__device__ __forceinline__ void store_pack(T* memory, const Pack<T, kSize>& values) {
  static_assert(sizeof(T) * kSize == 16);
  __stcs(reinterpret_cast<uint4*>(memory), bit_cast<uint4>(values));
}

// Which lanes of a pack exist: [begin, end). Only the first and last pack of a run are not full.
struct Span {
  int begin, end;
  __device__ __forceinline__ bool has(int lane) const { return lane >= begin && lane < end; }
  template <int kSize>
  __device__ __forceinline__ bool is_full() const {
    return begin == 0 && end == kSize;
  }
};

template <class T, int kSize>
__device__ __forceinline__ Pack<T, kSize> load_span(const T* memory, Span span) {
  if (span.is_full<kSize>()) return load_pack<T, kSize>(memory);
  Pack<T, kSize> values{};
#pragma unroll
  for (int lane = 0; lane < kSize; ++lane) {
    if (span.has(lane)) values.at[lane] = memory[lane];
  }
  return values;
}

template <class T, int kSize>
__device__ __forceinline__ void store_span(T* memory, const Pack<T, kSize>& values, Span span) {
  if (span.is_full<kSize>()) return store_pack(memory, values);
#pragma unroll
  for (int lane = 0; lane < kSize; ++lane) {
    if (span.has(lane)) memory[lane] = values.at[lane];
  }
}

template <class To, class From, int kSize>
__device__ __forceinline__ Pack<To, kSize> convert_pack(const Pack<From, kSize>& from) {
  Pack<To, kSize> to;
#pragma unroll
  for (int lane = 0; lane < kSize; ++lane) to.at[lane] = convert<To>(from.at[lane]);
  return to;
}

// Element `index` of an array of run-time type, as a number.
template <class O>
FL_HOST_DEVICE O load_number(const void* data, DType dtype, int64_t index) {
  return visit_dtype(dtype, [&](auto element) {
    return convert<O>(static_cast<const decltype(element)*>(data)[index]);
  });
}

// Element `index` of an array of run-time integer type.
FL_HOST_DEVICE int64_t load_integer(const void* data, DType dtype, int64_t index) {
  return visit_dtype(dtype, [&](auto element) {
    using Element = decltype(element);
    if constexpr (std::is_integral_v<Element>) {
      return static_cast<int64_t>(static_cast<const Element*>(data)[index]);
    } else {
      return int64_t{0};
    }
  });
}

// The same as load_number for a mask: an integer that is not 0 counts as 1.
template <class O>
FL_HOST_DEVICE O as_mask(O number, DType dtype) {
  return is_floating(dtype) ? number : static_cast<O>(number != O(0));
}

// `dtype` is floating.
template <class O>
FL_HOST_DEVICE void store_number(void* data, DType dtype, int64_t index, O value) {
  switch (dtype) {
    case DType::kHalf:
      static_cast<Half*>(data)[index] = convert<Half>(value);
      break;
    case DType::kBFloat16:
      static_cast<BFloat16*>(data)[index] = convert<BFloat16>(value);
      break;
    case DType::kFloat:
      static_cast<float*>(data)[index] = convert<float>(value);
      break;
    default:
      static_cast<double*>(data)[index] = convert<double>(value);
  }
}

}  // namespace fusedloss::cuda
