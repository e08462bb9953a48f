// The loops of the overlap losses over elements whose p depends on their own input alone.
#pragma once

#include "cpu/overlap_loops.h"

namespace fusedloss::cpu {

// p = x, or sigmoid(x), and dp/dx.
template <bool kSigmoid, class T>
struct ElementActivation {
  T p, slope;

  FL_HOST_DEVICE explicit ElementActivation(T x) : p(x), slope(T(1)) {
    if constexpr (kSigmoid) {
      const T e = math::exp(-math::abs(x));
      const T share = T(1) / (T(1) + e), rest = e * share;
      p = math::is_negative(x) ? rest : share;
      slope = share * rest;
    }
  }
};

// One class of a tile. `w` is nullptr where all are 1.
template <class T>
struct ElementTile {
  const T *x, *t, *w;
  int64_t count;
  int64_t next;  // where the next tile begins, from x and t: fetched meanwhile
};

template <bool kSigmoid, bool kWeighted, bool kSquared, class T>
struct ElementOverlapLoops {
  using Activation = ElementActivation<kSigmoid, T>;

  FL_VECTOR_CLONES static SoftCounts counts(const ElementTile<T>& tile) {
    const T *x = tile.x, *t = tile.t, *w = tile.w;
    SoftCounts result;
    for (int64_t begin = 0; begin < tile.count; begin += kFlush) {
      const int64_t end = tile.count - begin < kFlush ? tile.count : begin + kFlush;
      T both = 0, input = 0, target = 0;
      for (int64_t i = begin; i < end; i += kLineBytes / sizeof(T)) {  // of the next tile
        prefetch(x + tile.next + i);
        prefetch(t + tile.next + i);
      }
#pragma omp simd reduction(+ : both, input, target)
      for (int64_t i = begin; i < end; ++i) {
        const T p = Activation(x[i]).p, weight = kWeighted ? w[i] : T(1);
        const bool counts = !kWeighted || weight != T(0);
        both += zero_unless(counts, weight * (p * t[i]));
        input += zero_unless(counts, weight * (kSquared ? p * p : p));
        target += zero_unless(counts, weight * (kSquared ? t[i] * t[i] : t[i]));
      }
      result.add(
          {static_cast<double>(both), static_cast<double>(input), static_cast<double>(target)});
    }
    return result;
  }

  // w (a t + b (1 or 2 p)) dp/dx; exactly 0 where w is.
  template <bool kMarked>
  FL_VECTOR_CLONES static void gradient(const ElementTile<T>& tile, T a, T b, T* result) {
    const T *x = tile.x, *t = tile.t, *w = tile.w;
#pragma omp simd
    for (int64_t i = 0; i < tile.count; ++i) {
      const Activation at(x[i]);
      const T weight = kWeighted ? w[i] : T(1);
      T slope = weight * ((a * t[i] + (kSquared ? T(2) * b * at.p : b)) * at.slope);
      if constexpr (kMarked) slope = marked(slope);
      result[i] = zero_unless(!kWeighted || weight != T(0), slope);
    }
  }
};

template <class T>
struct ElementLoops {
  // 1 where the label is c.
  FL_VECTOR_CLONES static void one_hot(const int32_t* label, int64_t c, int64_t count, T* t) {
    const int32_t number = static_cast<int32_t>(c);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) t[i] = zero_unless(label[i] == number, T(1));
  }
  // a + b, of which either may be 0 and marked where it takes no part.
  template <bool kMarked>
  FL_VECTOR_CLONES static void add(const T* a, const T* w, int64_t count, T* sum) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      T result = a[i] + sum[i];
      if constexpr (kMarked) result = marked(result);
      sum[i] = zero_unless(w == nullptr || w[i] != T(0), result);
    }
  }
};

}  // namespace fusedloss::cpu
