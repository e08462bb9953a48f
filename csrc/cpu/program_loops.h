// The loops of a program's operators over tiles, and what else its evaluation needs of a tile.
#pragma once

#include "cpu/known_sums.h"
#include "cpu/tile_loops.h"
#include "weights/normalized.h"

namespace fusedloss::cpu {

// The operators of two values; what they do is said in regions/program.h.
struct Both {
  template <class T>
  FL_HOST_DEVICE static T apply(T a, T b) {
    return mask_and(a, b);
  }
};
struct Either {
  template <class T>
  FL_HOST_DEVICE static T apply(T a, T b) {
    return mask_or(a, b);
  }
};
struct Sum {
  template <class T>
  FL_HOST_DEVICE static T apply(T a, T b) {
    return a + b;
  }
};
struct Difference {
  template <class T>
  FL_HOST_DEVICE static T apply(T a, T b) {
    return a - b;
  }
};
struct Quotient {
  template <class T>
  FL_HOST_DEVICE static T apply(T a, T b) {
    return a / b;
  }
};

// `result` may be an operand.
template <class Operator, class T>
struct BinaryLoops {
  FL_VECTOR_CLONES static void run(const T* a, const T* b, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = Operator::apply(a[i], b[i]);
  }
  FL_VECTOR_CLONES static void run(const T* a, T b, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = Operator::apply(a[i], b);
  }
  FL_VECTOR_CLONES static void run(T a, const T* b, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = Operator::apply(a, b[i]);
  }
};

template <class T>
struct UnaryLoops {
  FL_VECTOR_CLONES static void negate(const T* a, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = mask_not(a[i]);
  }
  FL_VECTOR_CLONES static void normalise(const T* a, Normaliser<T> normaliser, T* result,
                                         int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = normaliser(a[i]);
  }
};

// The values of a run: in memory, or the same number throughout.
template <class T>
struct Values {
  const T* data = nullptr;
  T number = T(0);

  static Values same(T number) { return {nullptr, number}; }
  bool is(T value) const { return data == nullptr && number == value; }
  const T* in_memory(T* buffer, int64_t count) const {
    if (data != nullptr) return data;
    std::fill_n(buffer, count, number);
    return buffer;
  }
};

template <class Operator, class T>
Values<T> apply(Values<T> a, Values<T> b, T* buffer, int64_t count) {
  using Loops = BinaryLoops<Operator, T>;
  if (a.data == nullptr && b.data == nullptr) {
    return Values<T>::same(Operator::apply(a.number, b.number));
  }
  if (a.data == nullptr) {
    Loops::run(a.number, b.data, buffer, count);
  } else if (b.data == nullptr) {
    Loops::run(a.data, b.number, buffer, count);
  } else {
    Loops::run(a.data, b.data, buffer, count);
  }
  return {buffer};
}

// `is_binary`: both are 0 or 1 throughout.
template <class T>
Values<T> apply(const Instruction& instruction, Values<T> a, Values<T> b, bool is_binary, T* buffer,
                int64_t count) {
  switch (instruction.opcode) {
    case Opcode::kAnd:
      if (a.is(T(0)) || b.is(T(1))) return a;
      if (b.is(T(0)) || a.is(T(1))) return b;
      return apply<Both>(a, b, buffer, count);
    case Opcode::kOr:
      if (is_binary && (a.is(T(1)) || b.is(T(0)))) return a;
      if (is_binary && (b.is(T(1)) || a.is(T(0)))) return b;
      return apply<Either>(a, b, buffer, count);
    case Opcode::kAdd:
      return apply<Sum>(a, b, buffer, count);
    case Opcode::kSubtract:
      if (instruction.is_swapped) std::swap(a, b);
      return apply<Difference>(a, b, buffer, count);
    default:  // kDivide
      return apply<Quotient>(a, b, buffer, count);
  }
}

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

template <class T>
struct MapLoops {
  static MapSummary<T> summary(const T* values, int64_t count) {
    MapSummary<T> result{RangeLoops<T>::range(values, count)};
    result.origin = static_cast<double>(values[0]);
    result.count = static_cast<double>(count);
    result.sum = sum_from(values, values[0], count);
    return result;
  }

 private:
  FL_VECTOR_CLONES static double sum_from(const T* values, T origin, int64_t count) {
    double total = 0;
    for (int64_t begin = 0; begin < count; begin += kFlush) {
      const int64_t end = count - begin < kFlush ? count : begin + kFlush;
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = begin; i < end; ++i) sum += values[i] - origin;
      total += static_cast<double>(sum);
    }
    return total;
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
