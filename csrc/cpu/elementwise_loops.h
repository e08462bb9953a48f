// The loss functors over a tile: value, gradient or both, with or without a weight tile.
//
// The four ways through one formula; each is one vectorised loop. `w` is mask times weight; an
// element with w == 0 does not exist: its value never enters the sum and its gradient is exactly 0.
#pragma once

#include "core/stored_gradient.h"
#include "cpu/streaming_store.h"
#include "cpu/tile_loops.h"
#include "losses/registry.h"

namespace fusedloss::cpu {

template <class T>
struct ElementwiseTile {
  const T* x;
  const T* t;
  const T* pos_weight;  // used by losses that have one, when present
  const T* w;           // absent: nullptr
  T* gradient;          // kValue: unused
  T* value;             // map only
  bool streamed;        // the gradient goes past the caches
  T scale;              // gradient = w * scale * dl/dx
  int64_t count;
  int64_t next;  // where the next tile begins, from x and t: fetched meanwhile
};

enum class Wants { kValue, kGradient, kBoth };

template <class Loss, class T, bool kWeighted, bool kPosWeighted>
struct ElementwiseLoops {
  using Tile = ElementwiseTile<T>;

  // Returns sum of w l (0 under kGradient); writes the gradient unless kValue.
  template <Wants kWants>
  static double reduce(const Loss& loss, const Tile& tile) {
    constexpr bool kWrites = kWants != Wants::kValue;
    alignas(64) T slopes[kFlush];
    double total = 0;
    for (int64_t begin = 0; begin < tile.count; begin += kFlush) {
      const int64_t count = std::min(kFlush, tile.count - begin);
      T* gradient = kWrites ? tile.gradient + begin : nullptr;
      const bool streamed = kWrites && tile.streamed;
      total +=
          static_cast<double>(run<kWants>(loss, tile, begin, count, streamed ? slopes : gradient));
      if (streamed) stream(slopes, gradient, count * sizeof(T));
    }
    return total;
  }

  // reduction="none": w l of each element into tile.value.
  FL_VECTOR_CLONES static void map(const Loss& functor, const Tile& tile) {
    const Loss loss = functor;
#pragma omp simd
    for (int64_t i = 0; i < tile.count; ++i) {
      const T weight = kWeighted ? tile.w[i] : T(1);
      const T pos_weight = kPosWeighted ? tile.pos_weight[i] : T(1);
      const T weighted = weight * value(loss, tile.x[i], tile.t[i], pos_weight);
      tile.value[i] = kWeighted ? zero_unless(weight != T(0), weighted) : weighted;
    }
  }

 private:
  template <Wants kWants>
  FL_VECTOR_CLONES static T run(const Loss& functor, const Tile& tile, int64_t begin, int64_t count,
                                T* gradient) {
    const Loss loss = functor;
    const T *x = tile.x + begin, *t = tile.t + begin;
    const T* pos_weights = kPosWeighted ? tile.pos_weight + begin : nullptr;
    const T* w = kWeighted ? tile.w + begin : nullptr;
    const T scale = tile.scale;
    for (int64_t i = 0; i < count; i += kLineBytes / sizeof(T)) {
      prefetch(x + tile.next + i);
      prefetch(t + tile.next + i);
    }
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i) {
      const T weight = kWeighted ? w[i] : T(1);
      const T pos_weight = kPosWeighted ? pos_weights[i] : T(1);
      if constexpr (kWants != Wants::kGradient) {
        const T weighted = weight * value(loss, x[i], t[i], pos_weight);
        sum += kWeighted ? zero_unless(weight != T(0), weighted) : weighted;
      }
      if constexpr (kWants != Wants::kValue) {
        const T dl_dx = derivative(loss, x[i], t[i], pos_weight);
        const T slope = kWants == Wants::kBoth ? stored_gradient(weight * -scale, dl_dx)
                                               : weight * scale * dl_dx;
        gradient[i] = kWeighted ? zero_unless(weight != T(0), slope) : slope;
      }
    }
    return sum;
  }

  FL_HOST_DEVICE static T value(const Loss& loss, T x, T t, T pos_weight) {
    if constexpr (kPosWeighted) return loss.value(x, t, pos_weight);
    return loss.value(x, t);
  }
  FL_HOST_DEVICE static T derivative(const Loss& loss, T x, T t, T pos_weight) {
    if constexpr (kPosWeighted) return loss.derivative(x, t, pos_weight);
    return loss.derivative(x, t);
  }
};

// The first element that takes part and is not a probability (NaN passes), or -1.
template <class T>
int64_t find_non_probability(const T* x, const T* w, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if ((x[i] < T(0) || x[i] > T(1)) && (w == nullptr || w[i] != T(0))) return i;
  }
  return -1;
}

}  // namespace fusedloss::cpu
