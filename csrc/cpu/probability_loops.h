// The loops of the class losses over a tile of planes whose target gives every class a probability.
#pragma once

#include "cpu/class_tile.h"
#include "cpu/label_weighting.h"
#include "losses/classwise.h"

namespace fusedloss::cpu {

// Per position of a tile.
template <class T>
struct ProbabilityTile {
  alignas(64) T largest[kMaxLanes], sum[kMaxLanes], log_sum[kMaxLanes], rest[kMaxLanes];
  alignas(64) T value[kMaxLanes];    // sum of a_c cost_c
  alignas(64) T shared[kMaxLanes];   // sum of a_c shared_c
  alignas(64) T counted[kMaxLanes];  // how many a_c are not 0
};

// What the target's probabilities become: a_c = w_c ((1 - e) t_c + e / C), 0 where w_c is 0.
template <class T>
struct Smoothing {
  T keep, spread;
};

template <class Loss, class T>
struct ProbabilityLoops {
  // sum of w_c t_c of each position.
  FL_VECTOR_CLONES static void weights(const T* target, PlaneShape shape, const T* class_weight,
                                       T* result) {
    ClassSum<T> sum(result, shape);
    for (int64_t c = 0; c < shape.classes; ++c) {
      const T* t = target + c * shape.pitch;
      const T w = class_weight != nullptr ? class_weight[c] : T(1);
      const bool counts = w != T(0);
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) sum.partial[i] += zero_unless(counts, w * t[i]);
      sum.end_class(c);
    }
  }

  // Sums of exp(x - largest), or of x itself, with and without the largest ones.
  FL_VECTOR_CLONES static void sums(const T* planes, PlaneShape shape, ProbabilityTile<T>* tile) {
    ClassSum<T> sum(tile->sum, shape), rest(tile->rest, shape);
    for (int64_t c = 0; c < shape.classes; ++c) {
      const T* x = planes + c * shape.pitch;
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        T z = x[i];
        if constexpr (Loss::kSums == ClassSums::kExponentials) {
          z = math::exp(x[i] - tile->largest[i]);
        }
        sum.partial[i] += z;
        rest.partial[i] += zero_unless(x[i] != tile->largest[i], z);
      }
      sum.end_class(c);
      rest.end_class(c);
    }
    if constexpr (Loss::kSums == ClassSums::kExponentials) {
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) tile->log_sum[i] = math::log(tile->sum[i]);
    }
  }

  // Values and what the gradient takes: planes = z, target = a_c own_c.
  FL_VECTOR_CLONES static void classes(const Loss& functor, Smoothing<T> smoothing, T* planes,
                                       T* target, PlaneShape shape, const T* class_weight,
                                       ProbabilityTile<T>* tile) {
    const Loss loss = functor;
    ClassSum<T> value(tile->value, shape), shared(tile->shared, shape);
    std::fill_n(tile->counted, shape.count, T(0));
    for (int64_t c = 0; c < shape.classes; ++c) {
      T *x = planes + c * shape.pitch, *t = target + c * shape.pitch;
      const T w = class_weight != nullptr ? class_weight[c] : T(1);
      const bool counts = w != T(0);
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        const T a = w * (smoothing.keep * t[i] + smoothing.spread);
        const ClassResult<T> result =
            loss.of_class({x[i], tile->largest[i], tile->sum[i], tile->log_sum[i], tile->rest[i]});
        value.partial[i] += zero_unless(counts, a * result.cost);
        shared.partial[i] += zero_unless(counts, a * result.shared);
        tile->counted[i] += counts && a != T(0) ? T(1) : T(0);
        x[i] = result.z;
        t[i] = zero_unless(counts, a * result.own);
      }
      value.end_class(c);
      shared.end_class(c);
    }
  }

  // value = w x value; a position none of whose weighted probabilities count is left out.
  FL_VECTOR_CLONES static void finish(const T* w, bool has_class_weights, int64_t count,
                                      ProbabilityTile<T>* tile) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const bool lives = w[i] != T(0) && (!has_class_weights || tile->counted[i] != T(0));
      tile->value[i] = zero_unless(lives, w[i] * tile->value[i]);
    }
  }

  // planes = the gradient.
  FL_VECTOR_CLONES static void gradient(T* planes, const T* target, PlaneShape shape,
                                        const T* weight, bool has_class_weights,
                                        const ProbabilityTile<T>& tile) {
    for (int64_t c = 0; c < shape.classes; ++c) {
      T* plane = planes + c * shape.pitch;
      const T* own = target + c * shape.pitch;
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        const bool lives = weight[i] != T(0) && (!has_class_weights || tile.counted[i] != T(0));
        plane[i] = zero_unless(lives, weight[i] * (tile.shared[i] * plane[i] - own[i]));
      }
    }
  }
};

}  // namespace fusedloss::cpu
