// The loops of the class losses over rows: positions whose classes lie side by side (channels_last,
// (N, C), tokens). Lanes run along classes, and where rows are short also across their ends.
#pragma once

#include <algorithm>

#include "cpu/tile_loops.h"

namespace fusedloss::cpu {

template <class T>
struct ClassRowLoops {
  static constexpr int64_t kLanes = 64 / sizeof(T);
  // Rows shorter than this are computed with in whole vectors that reach over their ends.
  static constexpr int64_t kShort = 4 * kLanes;
  // What a buffer of rows needs behind its end.
  static constexpr int64_t kPadding = kLanes;

  // Rows of a group are too few at a time for the hardware to look ahead far enough.
  static constexpr int64_t kAhead = 1024;

  // Copies values and returns the largest, NaN left out.
  template <class S>
  FL_VECTOR_CLONES static T load(const S* source, int64_t count, T* values) {
    for (int64_t i = 0; i < count; i += kLineBytes / sizeof(S)) prefetch(source + i + kAhead);
    T largest = -T(HUGE_VAL);
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; ++i) {
      const T value = convert<T>(source[i]);
      values[i] = value;
      largest = largest < value ? value : largest;
    }
    return largest;
  }

  // values = exp(values - largest).
  FL_VECTOR_CLONES static void exponentials(T* values, int64_t count, T largest) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) values[i] = math::exp(values[i] - largest);
  }
  // The same, and their sum.
  FL_VECTOR_CLONES static T sum_exponentials(T* values, int64_t count, T largest) {
    double total = 0;
    for (int64_t begin = 0; begin < count; begin += kFlush) {
      const int64_t end = count - begin < kFlush ? count : begin + kFlush;
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = begin; i < end; ++i) {
        values[i] = math::exp(values[i] - largest);
        sum += values[i];
      }
      total += static_cast<double>(sum);
    }
    return static_cast<T>(total);
  }

  // The sum of each of `rows` short rows.
  FL_VECTOR_CLONES static void sum_short(const T* values, int64_t classes, int64_t rows, T* sums) {
    const int64_t whole = classes / kLanes * kLanes, left = classes - whole;
    alignas(64) T keeps[kLanes];
    for (int64_t k = 0; k < kLanes; ++k) keeps[k] = k < left ? T(1) : T(0);
    for (int64_t row = 0; row < rows; ++row) {
      const T* x = values + row * classes;
      alignas(64) T lane[kLanes];
      for (int64_t k = 0; k < kLanes; ++k) lane[k] = zero_unless(keeps[k] != T(0), x[whole + k]);
      for (int64_t begin = 0; begin < whole; begin += kLanes) {
        for (int64_t k = 0; k < kLanes; ++k) lane[k] += x[begin + k];
      }
      for (int64_t half = kLanes / 2; half > 0; half /= 2) {
        for (int64_t k = 0; k < half; ++k) lane[k] += lane[k + half];
      }
      sums[row] = lane[0];
    }
  }

  // result = factor x values per row, 0 where `weight` is 0; writes over the end of each row, which
  // the next one puts right.
  FL_VECTOR_CLONES static void scale_short(const T* values, int64_t classes, int64_t rows,
                                           const T* factor, const T* weight, T* result) {
    for (int64_t row = 0; row < rows; ++row) {
      const T scale = factor[row];
      const bool keeps = weight[row] != T(0);
      const T* x = values + row * classes;
      T* to = result + row * classes;
      for (int64_t begin = 0; begin < classes; begin += kLanes) {
#pragma omp simd
        for (int64_t k = 0; k < kLanes; ++k) {
          to[begin + k] = zero_unless(keeps, scale * x[begin + k]);
        }
      }
    }
  }
  FL_VECTOR_CLONES static void scale(const T* values, int64_t count, T factor, T* result) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = factor * values[i];
  }
};

}  // namespace fusedloss::cpu
