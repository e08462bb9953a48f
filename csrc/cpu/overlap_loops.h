// The loops of the overlap losses over planes of softmax, for targets of labels and soft targets.
//
// A tile has C planes of e = exp(x - largest), and per position (lane) u = w / sum of e: p w = e u.
// With slopes a = dl/dI and b = dl/dP of a class, the gradient for the logits is
//
//     dx_c = e_c (u (a_c t_c + b_c (1 or 2 p_c)) - m),   m = u sum_k p_k (a_k t_k + b_k (...))
#pragma once

#include "core/stored_gradient.h"
#include "cpu/label_softmax.h"
#include "cpu/tile_loops.h"
#include "losses/overlap.h"

namespace fusedloss::cpu {

// What the gradient of a pointwise class loss adds: all e_c - [c is the label] (all e_c + label)
// - base v_c.
template <class T>
struct PointwiseSlopes {
  const T *all, *label, *base;
  const T* class_weight;  // v; nullptr: 1
};

// As core/stored_gradient.h says of an element that takes part.
template <class T>
FL_HOST_DEVICE T marked(T gradient) {
  constexpr BitsOf<T> kSign = BitsOf<T>(1) << (8 * sizeof(T) - 1);
  return bit_cast<T>(static_cast<BitsOf<T>>(bit_cast<BitsOf<T>>(T(0) - gradient) ^ kSign));
}

template <class T>
struct OverlapLoops {
  // inverse and u, from the sums.
  FL_VECTOR_CLONES static void weigh(const T* w, int64_t count, SoftmaxLanes<T>* lanes) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const T inverse = T(1) / (lanes->own[i] + lanes->others[i]);
      lanes->inverse[i] = inverse;
      lanes->u[i] = zero_unless(w[i] != T(0), w[i] * inverse);
    }
  }

  // All classes in one pool, weighted alike: the sum of p over the classes is 1.
  FL_VECTOR_CLONES static SoftCounts whole_counts(const SoftmaxLanes<T>& lanes, const T* w,
                                                  int64_t count) {
    SoftCounts result;
    for (int64_t begin = 0; begin < count; begin += kFlush) {
      const int64_t end = count - begin < kFlush ? count : begin + kFlush;
      T both = 0, all = 0, nothing = 0;
#pragma omp simd reduction(+ : both, all, nothing)
      for (int64_t i = begin; i < end; ++i) {
        both += zero_unless(w[i] != T(0), lanes.own[i] * lanes.u[i]);
        all += w[i];
        nothing += zero_unless(w[i] != T(0), lanes.inverse[i] * T(0));  // NaN as p
      }
      result.add({static_cast<double>(both),
                  static_cast<double>(all) + static_cast<double>(nothing),
                  static_cast<double>(all)});
    }
    return result;
  }

  // Of class c, whose plane of e is given.
  template <bool kSquared>
  FL_VECTOR_CLONES static SoftCounts counts(const T* e, int64_t c, const int32_t* label,
                                            const SoftmaxLanes<T>& lanes, const T* w,
                                            int64_t count) {
    SoftCounts result;
    const int32_t number = static_cast<int32_t>(c);
    for (int64_t begin = 0; begin < count; begin += kFlush) {
      const int64_t end = count - begin < kFlush ? count : begin + kFlush;
      T both = 0, input = 0, target = 0;
#pragma omp simd reduction(+ : both, input, target)
      for (int64_t i = begin; i < end; ++i) {
        const bool is_own = label[i] == number;
        const T term = zero_unless(w[i] != T(0), e[i] * lanes.u[i]);
        input += kSquared ? zero_unless(w[i] != T(0), term * (e[i] * lanes.inverse[i])) : term;
        both += zero_unless(is_own, term);
        target += zero_unless(is_own, w[i]);
      }
      result.add(
          {static_cast<double>(both), static_cast<double>(input), static_cast<double>(target)});
    }
    return result;
  }

  // The same of a soft target; `w` of the class.
  template <bool kSquared>
  FL_VECTOR_CLONES static SoftCounts soft_counts(const T* e, const T* t, const T* inverse,
                                                 const T* w, int64_t count) {
    SoftCounts result;
    for (int64_t begin = 0; begin < count; begin += kFlush) {
      const int64_t end = count - begin < kFlush ? count : begin + kFlush;
      T both = 0, input = 0, target = 0;
#pragma omp simd reduction(+ : both, input, target)
      for (int64_t i = begin; i < end; ++i) {
        const bool counts = w[i] != T(0);
        const T p = e[i] * inverse[i];
        input += zero_unless(counts, w[i] * (kSquared ? p * p : p));
        both += zero_unless(counts, w[i] * (p * t[i]));
        target += zero_unless(counts, w[i] * (kSquared ? t[i] * t[i] : t[i]));
      }
      result.add(
          {static_cast<double>(both), static_cast<double>(input), static_cast<double>(target)});
    }
    return result;
  }

  // m, where b is the same for all classes: what it adds cancels, and b may be taken for 0.
  FL_VECTOR_CLONES static void whole_dot(T a, int64_t count, const T* w, SoftmaxLanes<T>* lanes) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const T p = lanes->own[i] * lanes->inverse[i];
      lanes->m[i] = zero_unless(w[i] != T(0), lanes->u[i] * (a * p));
    }
  }
  // The same from m = sum_c e_c (a_c t_c + b_c).
  FL_VECTOR_CLONES static void finish_dot(int64_t count, const T* w, SoftmaxLanes<T>* lanes) {
    T* m = lanes->m;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      m[i] = zero_unless(w[i] != T(0), lanes->u[i] * (m[i] * lanes->inverse[i]));
    }
  }
  // The same of squares.
  FL_VECTOR_CLONES static void squared_dot(const T* planes, PlaneShape shape, const int32_t* label,
                                           SlopePlanes<T> slopes, const T* w,
                                           SoftmaxLanes<T>* lanes) {
    ClassSum<T> sum(lanes->m, shape);
    for (int64_t c = 0; c < shape.classes; ++c) {
      const T* plane = planes + c * shape.pitch;
      const T a = slopes.a[c], b = slopes.b[c];
      const int32_t number = static_cast<int32_t>(c);
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        const T p = plane[i] * lanes->inverse[i];
        const T own = zero_unless(label[i] == number, a);
        sum.partial[i] += p * (own + T(2) * b * p);
      }
      sum.end_class(c);
    }
    T* m = lanes->m;
#pragma omp simd
    for (int64_t i = 0; i < shape.count; ++i) {
      m[i] = zero_unless(w[i] != T(0), lanes->u[i] * m[i]);
    }
  }

  // The plane of class c becomes the gradient, from e. `active` is 0 where it is exactly 0;
  // kMarked: what takes part is stored as core/stored_gradient.h says. kB: 0 without b, 1 with it,
  // 2 of squares.
  template <int kB, bool kPointwise, bool kBase, bool kMarked>
  FL_VECTOR_CLONES static void gradient(T* plane, int64_t c, int64_t count, const int32_t* label,
                                        const SoftmaxLanes<T>& lanes, SlopePlanes<T> slopes,
                                        PointwiseSlopes<T> pointwise, const T* active) {
    const T a = slopes.a[c], b = slopes.b[c];
    const T v = kBase && pointwise.class_weight != nullptr ? pointwise.class_weight[c] : T(1);
    const int32_t number = static_cast<int32_t>(c);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const bool is_own = label[i] == number;
      const T e = plane[i];
      T factor = zero_unless(is_own, a);
      if constexpr (kB == 1) factor += b;
      if constexpr (kB == 2) factor += T(2) * b * (e * lanes.inverse[i]);
      factor = lanes.u[i] * factor - lanes.m[i];
      if constexpr (kPointwise) factor += zero_unless(!is_own, pointwise.all[i]);
      T result = e * factor;
      if constexpr (kPointwise) result -= zero_unless(is_own, pointwise.label[i]);
      if constexpr (kBase) result -= pointwise.base[i] * v;
      if constexpr (kMarked) result = marked(result);
      plane[i] = zero_unless(active[i] != T(0), result);
    }
  }

  // ---- soft targets -----------------------------------------------------------------------------

  // t = w (a t + b (1 or 2 p)), planes = p; m collects p t.
  template <bool kSquared>
  FL_VECTOR_CLONES static void slopes(T* e, T* t, const T* inverse, const T* w, T a, T b,
                                      int64_t count, T* m) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const T p = e[i] * inverse[i];
      const T slope = w[i] * (a * t[i] + (kSquared ? T(2) * b * p : b));
      const T kept = zero_unless(w[i] != T(0), slope);
      e[i] = p;
      t[i] = kept;
      m[i] += zero_unless(w[i] != T(0), p * kept);
    }
  }
  // The same of a class without a pool: nothing but p.
  FL_VECTOR_CLONES static void no_slopes(T* e, T* t, const T* inverse, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      e[i] = e[i] * inverse[i];
      t[i] = T(0);
    }
  }
  // own = weight (shared p - own), the gradient of a pointwise part.
  FL_VECTOR_CLONES static void soft_part(const T* p, const T* shared, const T* weight,
                                         const T* counted, bool has_class_weights, int64_t count,
                                         T* own) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const bool lives = weight[i] != T(0) && (!has_class_weights || counted[i] != T(0));
      own[i] = zero_unless(lives, weight[i] * (shared[i] * p[i] - own[i]));
    }
  }
  FL_VECTOR_CLONES static void find_counted(const T* w, const T* counted, int64_t count, T* any) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      any[i] = w[i] != T(0) && counted[i] != T(0) ? T(1) : any[i];
    }
  }
  // planes = p (slope - m) [+ what is there of a pointwise part].
  template <bool kPointwise, bool kMarked>
  FL_VECTOR_CLONES static void soft_gradient(T* p, const T* slope, const T* m, const T* pointwise,
                                             const T* active, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      T result = p[i] * (slope[i] - m[i]);
      if constexpr (kPointwise) result += pointwise[i];
      if constexpr (kMarked) result = marked(result);
      p[i] = zero_unless(active[i] != T(0), result);
    }
  }
};

}  // namespace fusedloss::cpu
