// The loops of the class losses over a tile of planes whose target holds class indices.
#pragma once

#include "cpu/class_tile.h"
#include "cpu/label_weighting.h"
#include "losses/classwise.h"

namespace fusedloss::cpu {

// Per position of a tile: what the formula takes, then what it gives.
template <class T>
struct LabelTile {
  alignas(64) T x[kMaxLanes], largest[kMaxLanes], sum[kMaxLanes], rest[kMaxLanes], dot[kMaxLanes];
  alignas(64) T value[kMaxLanes];                                   // times w
  alignas(64) T all[kMaxLanes], base[kMaxLanes], label[kMaxLanes];  // times w and the scale
};

// sum of w_c (x_c - largest); a class of weight 0 is left out whatever its logit is.
template <class T>
struct AddDot {
  const T* weight;  // per class; nullptr: 1
  T* dot;
  FL_HOST_DEVICE void operator()(int64_t c, int64_t i, T difference, T) const {
    const T w = weight != nullptr ? weight[c] : T(1);
    dot[i] += w != T(0) ? w * difference : T(0);
  }
};

// The sum without the largest ones: 1 - p of a large p.
template <class T>
struct AddRest {
  T* rest;
  FL_HOST_DEVICE void operator()(int64_t, int64_t i, T difference, T exponential) const {
    rest[i] += zero_unless(!(difference == T(0)), exponential);
  }
};

template <class T>
struct ShareLoops {
  FL_VECTOR_CLONES static void sums(const T* planes, PlaneShape shape, LabelTile<T>* tile) {
    ClassSum<T> sum(tile->sum, shape), rest(tile->rest, shape);
    for (int64_t c = 0; c < shape.classes; ++c) {
      const T* plane = planes + c * shape.pitch;
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        sum.partial[i] += plane[i];
        rest.partial[i] += zero_unless(plane[i] != tile->largest[i], plane[i]);
      }
      sum.end_class(c);
      rest.end_class(c);
    }
  }
};

template <class Loss, class T>
struct ClasswiseLoops {
  FL_VECTOR_CLONES static void gather_labels(const T* planes, int64_t pitch,
                                             const PositionTile<T>& positions, int64_t count,
                                             T* x) {
    for (int64_t i = 0; i < count; ++i) x[i] = planes[positions.label[i] * pitch + i];
  }
  static void subtract_at_labels(T* planes, int64_t pitch, const PositionTile<T>& positions,
                                 const T* label, const T* weight, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      if (weight[i] != T(0)) planes[positions.label[i] * pitch + i] -= label[i];
    }
  }

  // The loss of each position, and with kGradient the coefficients of its gradient. `weight` is
  // positions.w times the scale of the gradient.
  template <bool kGradient>
  FL_VECTOR_CLONES static void positions(const Loss& functor, const PositionTile<T>& positions,
                                         const T* weight, int64_t count, LabelTile<T>* tile) {
    const Loss loss = functor;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const LabelResult<T> result =
          loss(LabelTerms<T>{tile->x[i], tile->largest[i], tile->sum[i], tile->rest[i],
                             tile->dot[i], positions.class_weight[i]});
      const T w = positions.w[i];
      tile->value[i] = zero_unless(w != T(0), w * result.value);
      if constexpr (kGradient) {
        tile->all[i] = weight[i] * result.all;
        tile->base[i] = weight[i] * result.base;
        tile->label[i] = weight[i] * result.label;
      }
    }
  }

  // planes = the gradient; exactly 0 where `weight` is 0, whatever stood there.
  template <bool kAll, bool kBase>
  FL_VECTOR_CLONES static void gradient(T* planes, PlaneShape shape, const LabelTile<T>& tile,
                                        const PositionTile<T>& positions, const T* weight,
                                        const T* class_weight) {
    for (int64_t c = 0; c < shape.classes; ++c) {
      T* plane = planes + c * shape.pitch;
      const T v = class_weight != nullptr ? class_weight[c] : T(1);
      const int32_t own = static_cast<int32_t>(c);
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        T slope = kAll ? tile.all[i] * plane[i] : T(0);
        if constexpr (kBase) slope -= tile.base[i] * v;
        slope -= zero_unless(positions.label[i] == own, tile.label[i]);
        plane[i] = zero_unless(weight[i] != T(0), slope);
      }
    }
  }
};

}  // namespace fusedloss::cpu
