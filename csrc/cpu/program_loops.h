// The loops of a program's operators over tiles, and what else its evaluation needs of a tile.
#pragma once

#include "cpu/tile_loops.h"
#include "weights/normalized.h"

namespace fusedloss::cpu {

// `result` may be `a`.
template <class T>
struct OperatorLoops {
  FL_VECTOR_CLONES static void both(const T* a, const T* b, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = mask_and(a[i], b[i]);
  }
  FL_VECTOR_CLONES static void either(const T* a, const T* b, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = mask_or(a[i], b[i]);
  }
  FL_VECTOR_CLONES static void negate(const T* a, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = mask_not(a[i]);
  }
  FL_VECTOR_CLONES static void add(const T* a, const T* b, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = a[i] + b[i];
  }
  FL_VECTOR_CLONES static void subtract(const T* a, const T* b, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = a[i] - b[i];
  }
  FL_VECTOR_CLONES static void divide(const T* a, const T* b, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = a[i] / b[i];
  }
  FL_VECTOR_CLONES static void normalise(const T* a, Normaliser<T> normaliser, T* result,
                                         int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = normaliser(a[i]);
  }
};

// The smallest and largest finite value.
template <class T>
struct RangeLoops {
  FL_VECTOR_CLONES static ValueRange<T> range(const T* values, int64_t count) {
    T low = T(HUGE_VAL), high = -T(HUGE_VAL);
#pragma omp simd reduction(min : low) reduction(max : high)
    for (int64_t i = 0; i < count; ++i) {
      const bool finite = values[i] - values[i] == T(0);
      const T below = finite ? values[i] : T(HUGE_VAL), above = finite ? values[i] : -T(HUGE_VAL);
      low = below < low ? below : low;
      high = above > high ? above : high;
    }
    return {low, high};
  }
};

// values <comparison> constant, 0 or 1.
template <class T, class V>
void compare_values(Comparison comparison, const V* values, V constant, T* result, int64_t count) {
  switch (comparison) {
    case Comparison::kGreater:
      return CompareLoop<T, V, Comparison::kGreater>::run(values, constant, result, count);
    case Comparison::kGreaterEqual:
      return CompareLoop<T, V, Comparison::kGreaterEqual>::run(values, constant, result, count);
    case Comparison::kLess:
      return CompareLoop<T, V, Comparison::kLess>::run(values, constant, result, count);
    case Comparison::kLessEqual:
      return CompareLoop<T, V, Comparison::kLessEqual>::run(values, constant, result, count);
    case Comparison::kEqual:
      return CompareLoop<T, V, Comparison::kEqual>::run(values, constant, result, count);
    default:
      return CompareLoop<T, V, Comparison::kNotEqual>::run(values, constant, result, count);
  }
}

}  // namespace fusedloss::cpu
