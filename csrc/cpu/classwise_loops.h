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

template <class T>
struct ShareLoops {
  // The value of each position's label, and the sum of the others.
  FL_VECTOR_CLONES static void sums(const T* planes, PlaneShape shape, const int32_t* label, T* own,
                                    T* others) {
    ClassSum<T> sum(others, shape);
    std::fill_n(own, shape.count, T(0));
    for (int64_t c = 0; c < shape.classes; ++c) {
      const T* plane = planes + c * shape.pitch;
      const int32_t number = static_cast<int32_t>(c);
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        const bool is_own = label[i] == number;
        own[i] = is_own ? plane[i] : own[i];
        sum.partial[i] += zero_unless(!is_own, plane[i]);
      }
      sum.end_class(c);
    }
  }
};

template <class Loss, class T>
struct ClasswiseLoops {
  // The loss of each position, and with kGradient the coefficients of its gradient. `weight` is
  // positions.w times the scale of the gradient.
  template <bool kGradient>
  static void positions(const Loss& loss, const PositionTile<T>& positions, const T* weight,
                        int64_t count, LabelTile<T>* tile) {
    if constexpr (requires { loss.spread; }) {
      if (loss.spread != T(0)) {
        return positions_of<kGradient, true>(loss, positions, weight, count, tile);
      }
    }
    positions_of<kGradient, false>(loss, positions, weight, count, tile);
  }

  // A loss that does not smooth labels is said so, lest the loop works out both ways.
  template <bool kGradient, bool kSmooths>
  FL_VECTOR_CLONES static void positions_of(const Loss& functor, const PositionTile<T>& positions,
                                            const T* weight, int64_t count, LabelTile<T>* tile) {
    Loss loss = functor;
    if constexpr (!kSmooths && requires { loss.spread; }) loss.spread = T(0);
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

  // The plane of class c, exponentials with kAll, becomes the gradient; exactly 0 where `weight` is
  // 0, whatever stood there.
  template <bool kAll, bool kBase>
  FL_VECTOR_CLONES static void gradient(T* plane, int64_t c, int64_t count, const int32_t* label,
                                        const LabelTile<T>& tile, const T* weight,
                                        const T* class_weight) {
    const T v = class_weight != nullptr ? class_weight[c] : T(1);
    const int32_t number = static_cast<int32_t>(c);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const bool is_own = label[i] == number;
      T slope = kAll ? zero_unless(!is_own, tile.all[i] * plane[i]) : T(0);
      if constexpr (kBase) slope -= tile.base[i] * v;
      slope -= zero_unless(is_own, tile.label[i]);
      plane[i] = zero_unless(weight[i] != T(0), slope);
    }
  }
};

}  // namespace fusedloss::cpu
