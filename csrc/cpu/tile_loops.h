// The innermost loops over tiles: type conversion, mask algebra, sums. Nothing here knows a tensor.
//
// Each is compiled for baseline, AVX2 and AVX-512 (FL_VECTOR_CLONES) and written as a plain loop
// that the compiler vectorises.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/dtype.h"
#include "core/math.h"
#include "regions/program.h"

namespace fusedloss::cpu {

// Elements in a tile: the input, target, weight and gradient tiles of a step share 16 kB of L1, and
// what is fetched for the next one finds room beside them.
constexpr int64_t kTile = 1024;

// Vector sums of type T are emptied into a double this often: no lane adds more than some dozens of
// numbers, so float sums stay accurate at any size.
constexpr int64_t kFlush = 256;

// The hardware's prefetchers stop at page borders and lose a stream when a loop turns to another
// channel; the next tile asked for while this one is computed hides that. Any address is allowed.
constexpr int64_t kLineBytes = 64;

FL_HOST_DEVICE void prefetch(const void* address) {
#if defined(__GNUC__)
  __builtin_prefetch(address);
#endif
}

// What becomes of an element on its way into a tile.
struct AsNumber {
  template <class To, class From>
  FL_HOST_DEVICE static To apply(From element) {
    return convert<To>(element);
  }
};
struct AsMask {  // bool and integers: which elements take part
  template <class To, class From>
  FL_HOST_DEVICE static To apply(From element) {
    return element != 0 ? To(1) : To(0);
  }
};

template <class Meaning, class To, class From>
struct MoveLoops {
  FL_VECTOR_CLONES static void contiguous(const From* source, To* destination, int64_t count) {
    for (int64_t i = 0; i < count; ++i) destination[i] = Meaning::template apply<To>(source[i]);
  }
  FL_VECTOR_CLONES static void strided(const From* source, int64_t stride, To* destination,
                                       int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      destination[i] = Meaning::template apply<To>(source[i * stride]);
    }
  }
  // Each element kTimes over: a mask of positions over the channels of a channels_last tensor.
  template <int kTimes>
  FL_VECTOR_CLONES static void repeat(const From* source, To* destination, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const To element = Meaning::template apply<To>(source[i]);
      for (int k = 0; k < kTimes; ++k) destination[i * kTimes + k] = element;
    }
  }
  static void rows(const From* source, int64_t row_stride, int64_t stride, To* destination,
                   int64_t rows, int64_t length) {
    if (row_stride == 1 && stride == 0 && length <= 4) {
      if (length == 2) return repeat<2>(source, destination, rows);
      if (length == 3) return repeat<3>(source, destination, rows);
      if (length == 4) return repeat<4>(source, destination, rows);
    }
    for (int64_t row = 0; row < rows; ++row) {
      const From* from = source + row * row_stride;
      To* to = destination + row * length;
      if (stride == 0) {
        std::fill_n(to, length, Meaning::template apply<To>(*from));
      } else {
        for (int64_t i = 0; i < length; ++i) to[i] = Meaning::template apply<To>(from[i * stride]);
      }
    }
  }
};

template <class T>
struct RegionLoops {
  FL_VECTOR_CLONES static void product(const T* a, const T* b, T* result, int64_t count) {
    for (int64_t i = 0; i < count; ++i) result[i] = mask_and(a[i], b[i]);
  }
  FL_VECTOR_CLONES static void raise_to(T* largest, const T* value, int64_t count) {
    for (int64_t i = 0; i < count; ++i) largest[i] = mask_or(value[i], largest[i]);
  }
};

// One comparison of a tile of targets with a constant, in the domain V.
template <class T, class V, Comparison kComparison>
struct CompareLoop {
  FL_VECTOR_CLONES static void run(const V* target, V constant, T* result, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      result[i] = compare(kComparison, target[i], constant) ? T(1) : T(0);
    }
  }
};

template <class T, class V>
struct FiniteLoop {
  FL_VECTOR_CLONES static void run(const V* target, T* result, int64_t count) {
    for (int64_t i = 0; i < count; ++i) result[i] = target[i] - target[i] == V(0) ? T(1) : T(0);
  }
};

template <class T>
struct SumLoops {
  FL_VECTOR_CLONES static double sum(const T* values, int64_t count) {
    double total = 0;
    for (int64_t begin = 0; begin < count; begin += kFlush) {
      const int64_t end = count - begin < kFlush ? count : begin + kFlush;
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = begin; i < end; ++i) sum += values[i];
      total += static_cast<double>(sum);
    }
    return total;
  }
  FL_VECTOR_CLONES static int64_t count_nonzero(const T* values, int64_t count) {
    int32_t result = 0;
    for (int64_t i = 0; i < count; ++i) result += values[i] != T(0) ? 1 : 0;
    return result;
  }
};

}  // namespace fusedloss::cpu
