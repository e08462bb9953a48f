// The softmax of a tile of planes next to its labels, for class and overlap losses.
#pragma once

#include "cpu/class_tile.h"
#include "cpu/tile_ahead.h"

namespace fusedloss::cpu {

// Per position of a tile of labels; `own` belongs to the label's class, `others` to the rest. What
// a loss does not use stays unset.
template <class T>
struct SoftmaxLanes {
  alignas(64) T largest[kMaxLanes], own[kMaxLanes], others[kMaxLanes];
  alignas(64) T own_difference[kMaxLanes], dot[kMaxLanes];       // for a class loss
  alignas(64) T inverse[kMaxLanes], u[kMaxLanes], m[kMaxLanes];  // for an overlap loss
};

// What a pool's slopes are for the classes of a sample.
template <class T>
struct SlopePlanes {
  const T *a, *b;
};

template <class T>
struct LabelSoftmaxLoops {
  static constexpr int64_t kFetched = 64;  // positions

  // Some classes at a time: the lanes are loaded and stored once for all of them.
  template <bool kStore, bool kDifference, bool kDot>
  struct ExponentialStep {
    T largest, others, own, own_difference, dot;
    int32_t label;

    FL_HOST_DEVICE void add(T* x, int32_t c, T a, T b) {
      const T difference = *x - largest;
      const T e = math::exp(difference);
      const bool is_own = label == c;
      if constexpr (kStore) *x = e;
      others += zero_unless(!is_own, e);
      own = is_own ? e : own;
      if constexpr (kDifference) own_difference = is_own ? difference : own_difference;
      if constexpr (kDot) dot += e * (zero_unless(is_own, a) + b);
    }

    template <int kClasses>
    FL_HOST_DEVICE static void run(T* planes, PlaneShape shape, int64_t c, const int32_t* label,
                                   SlopePlanes<T> slopes, TileAhead ahead, SoftmaxLanes<T>* lanes,
                                   T* others) {
      T *own = lanes->own, *own_difference = lanes->own_difference, *m = lanes->m;
      T* plane[kClasses];
      T a[kClasses], b[kClasses];
      for (int k = 0; k < kClasses; ++k) {
        plane[k] = planes + (c + k) * shape.pitch;
        a[k] = kDot ? slopes.a[c + k] : T(0);
        b[k] = kDot ? slopes.b[c + k] : T(0);
      }
      const int32_t first = static_cast<int32_t>(c);
      for (int64_t begin = 0; begin < shape.count; begin += kFetched) {
        const int64_t end = shape.count - begin < kFetched ? shape.count : begin + kFetched;
        for (int k = 0; k < kClasses; ++k) ahead.fetch(c + k, begin, end);
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) {
          ExponentialStep step{lanes->largest[i], others[i], own[i],
                               own_difference[i], m[i],      label[i]};
          step.add(plane[0] + i, first, a[0], b[0]);
          if constexpr (kClasses == 4) {
            step.add(plane[1] + i, first + 1, a[1], b[1]);
            step.add(plane[2] + i, first + 2, a[2], b[2]);
            step.add(plane[3] + i, first + 3, a[3], b[3]);
          }
          others[i] = step.others;
          own[i] = step.own;
          if constexpr (kDifference) own_difference[i] = step.own_difference;
          if constexpr (kDot) m[i] = step.dot;
        }
      }
    }
  };

  // planes = exp(planes - largest); what belongs to labels into their lanes, and with kDot
  // m = sum_c e_c (a_c t_c + b_c).
  template <bool kStore, bool kDifference, bool kDot>
  FL_VECTOR_CLONES static void exponentials(T* planes, PlaneShape shape, const int32_t* label,
                                            SlopePlanes<T> slopes, TileAhead ahead,
                                            SoftmaxLanes<T>* lanes) {
    using Step = ExponentialStep<kStore, kDifference, kDot>;
    ClassSum<T> others(lanes->others, shape);
    std::fill_n(lanes->own, shape.count, T(0));
    if (kDifference) std::fill_n(lanes->own_difference, shape.count, T(0));
    if (kDot) std::fill_n(lanes->m, shape.count, T(0));
    int64_t c = 0;
    for (; c + 4 <= shape.classes; c += 4) {
      Step::template run<4>(planes, shape, c, label, slopes, ahead, lanes, others.partial);
      others.end_class(c + 3);
    }
    for (; c < shape.classes; ++c) {
      Step::template run<1>(planes, shape, c, label, slopes, ahead, lanes, others.partial);
      others.end_class(c);
    }
  }

  // Sum of w_c (x_c - largest) but for the label's, where smoothing; a class of weight 0 is left
  // out whatever its logit is.
  FL_VECTOR_CLONES static void dots(const T* planes, PlaneShape shape, const int32_t* label,
                                    const T* class_weight, SoftmaxLanes<T>* lanes) {
    ClassSum<T> dot(lanes->dot, shape);
    for (int64_t c = 0; c < shape.classes; ++c) {
      const T* plane = planes + c * shape.pitch;
      const T w = class_weight != nullptr ? class_weight[c] : T(1);
      const int32_t number = static_cast<int32_t>(c);
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        const bool counts = w != T(0) && label[i] != number;
        dot.partial[i] += zero_unless(counts, w * (plane[i] - lanes->largest[i]));
      }
      dot.end_class(c);
    }
  }
};

}  // namespace fusedloss::cpu
