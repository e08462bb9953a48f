// The exponentials of a thread's positions: one pass over the classes for the largest logit, which
// brings the logits into the cache, and one for the sums.
#pragma once

#include "core/math.h"
#include "cuda/overlap_position.cuh"

namespace fusedloss::cuda {

template <class O, int kLanes>
struct Exponentials {
  using Values = Pack<O, kLanes>;
  Values largest, sum, inverse;  // 1 / sum

  // each(c, x, e) with e = exp(x - largest) for every class.
  template <class Cells, class F>
  __device__ __forceinline__ void run(const Cells& cells, int64_t classes, F&& each) {
    largest = everywhere<O, kLanes>(-O(HUGE_VAL));
    sum = everywhere<O, kLanes>(O(0));
#pragma unroll 4
    for (int64_t c = 0; c < classes; ++c) {
      const Values x = cells.input(c);
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        largest.at[lane] = math::max(largest.at[lane], x.at[lane]);
      }
    }
#pragma unroll 1
    for (int64_t c = 0; c < classes; ++c) {
      const Values x = cells.input(c), e = of(x);
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) sum.at[lane] += e.at[lane];
      each(c, x, e);
    }
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) inverse.at[lane] = O(1) / sum.at[lane];
  }

  __device__ __forceinline__ Values of(const Values& x) const {
    Values e;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) e.at[lane] = math::exp(x.at[lane] - largest.at[lane]);
    return e;
  }
};

// p of class c.
template <class O, int kLanes>
__device__ __forceinline__ Pack<O, kLanes> activated(Activation activation,
                                                     const Exponentials<O, kLanes>& at,
                                                     const Pack<O, kLanes>& x) {
  if (activation == Activation::kNone) return x;
  Pack<O, kLanes> p;
  if (activation == Activation::kSigmoid) {
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) p.at[lane] = math::Logistic<O>(x.at[lane]).sigmoid();
    return p;
  }
  const Pack<O, kLanes> e = at.of(x);
#pragma unroll
  for (int lane = 0; lane < kLanes; ++lane) p.at[lane] = e.at[lane] * at.inverse.at[lane];
  return p;
}

}  // namespace fusedloss::cuda
