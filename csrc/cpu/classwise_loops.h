// The loops of the class losses over a tile of planes whose target holds class indices.
#pragma once

#include "cpu/class_tile.h"
#include "cpu/label_weighting.h"
#include "losses/classwise.h"

namespace fusedloss::cpu {

// Per position of a tile: what the formula takes, then what it gives.
template <class T>
struct LabelTile {
  alignas(64) T x[kMaxLanes], largest[kMaxLanes], others[kMaxLanes], dot[kMaxLanes];
  alignas(64) T value[kMaxLanes];                                   // times w
  alignas(64) T all[kMaxLanes], base[kMaxLanes], label[kMaxLanes];  // times w and the scale
};

// sum of w_c (x_c - largest) but for the label's; a class of weight 0 is left out whatever its
// logit is.
template <class T>
struct AddDot {
  const T* weight;  // per class; nullptr: 1
  const int32_t* label;
  T* dot;
  FL_HOST_DEVICE void operator()(int64_t c, int64_t i, T difference, T) const {
    const T w = weight != nullptr ? weight[c] : T(1);
    const bool counts = w != T(0) && label[i] != static_cast<int32_t>(c);
    dot[i] += zero_unless(counts, w * difference);
  }
};

template <class T>
struct ShareLoops {
  FL_VECTOR_CLONES static void sum(const T* planes, PlaneShape shape, T* result) {
    ClassSum<T> sum(result, shape);
    for (int64_t c = 0; c < shape.classes; ++c) {
      const T* plane = planes + c * shape.pitch;
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) sum.partial[i] += plane[i];
      sum.end_class(c);
    }
  }
};

template <class Loss, class T>
struct ClasswiseLoops {
  // The value of each position's label, which becomes `absent` in the planes: nothing in a sum.
  FL_VECTOR_CLONES static void take_labels(T* planes, int64_t pitch,
                                           const PositionTile<T>& positions, T absent,
                                           int64_t count, T* x) {
    for (int64_t i = 0; i < count; ++i) {
      T* own = planes + positions.label[i] * pitch + i;
      x[i] = *own;
      *own = absent;
    }
  }
  static void subtract_at_labels(T* planes, int64_t pitch, const PositionTile<T>& positions,
                                 const T* label, int64_t count) {
    for (int64_t i = 0; i < count; ++i) planes[positions.label[i] * pitch + i] -= label[i];
  }

  // The loss of each position, and with kGradient the coefficients of its gradient. `weight` is
  // positions.w times the scale of the gradient.
  template <bool kGradient>
  FL_VECTOR_CLONES static void positions(const Loss& functor, const PositionTile<T>& positions,
                                         const T* weight, int64_t count, LabelTile<T>* tile) {
    const Loss loss = functor;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const LabelResult<T> result = loss(LabelTerms<T>{
          tile->x[i], tile->largest[i], tile->others[i], tile->dot[i], positions.class_weight[i]});
      const T w = positions.w[i];
      tile->value[i] = zero_unless(w != T(0), w * result.value);
      if constexpr (kGradient) {
        tile->all[i] = weight[i] * result.all;
        tile->base[i] = weight[i] * result.base;
        tile->label[i] = zero_unless(weight[i] != T(0), weight[i] * result.label);
      }
    }
  }

  // planes = the gradient but for what is subtracted at labels; exactly 0 where `weight` is 0,
  // whatever stood there.
  template <bool kAll, bool kBase>
  FL_VECTOR_CLONES static void gradient(T* planes, PlaneShape shape, const LabelTile<T>& tile,
                                        const T* weight, const T* class_weight) {
    for (int64_t c = 0; c < shape.classes; ++c) {
      T* plane = planes + c * shape.pitch;
      const T v = class_weight != nullptr ? class_weight[c] : T(1);
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        T slope = kAll ? tile.all[i] * plane[i] : T(0);
        if constexpr (kBase) slope -= tile.base[i] * v;
        plane[i] = zero_unless(weight[i] != T(0), slope);
      }
    }
  }
};

}  // namespace fusedloss::cpu
