// What a block knows of each class before it looks at positions: in shared memory, since every
// thread asks for it at every class.
#pragma once

#include "core/stored_gradient.h"
#include "cuda/block_reduce.cuh"
#include "cuda/overlap_call.h"
#include "cuda/overlap_plan.h"
#include "cuda/vector_access.cuh"

namespace fusedloss::cuda {

template <class O>
struct alignas(4 * sizeof(O)) ClassEntry {
  O by_intersection, by_input_sum;  // slopes of the gradient
  O weight;                         // of the pointwise part
  BitsOf<O> flags;                  // as wide as the others: one load brings all four

  // It is in a pool, and its class weight is not 0.
  __device__ __forceinline__ bool exists() const { return (flags & 1) != 0; }
  // The slopes count.
  __device__ __forceinline__ bool is_live() const { return (flags & 2) != 0; }
};

__device__ __forceinline__ double number_at(const Vector& vector, int64_t i, double absent) {
  if (!vector) return absent;
  return load_number<double>(vector.data, vector.dtype, i * vector.stride);
}

// `with_slopes`: the pools are finished. Not inlined: the work of a few threads.
template <class O>
__device__ __noinline__ void make_entry(const PoolCall& call, int64_t sample, int64_t c,
                                        bool with_slopes, ClassEntry<O>* to) {
  const int64_t pool = call.rules.pools.of(sample, c);
  const double weight = number_at(call.weight, c, 1);
  ClassEntry<O>& entry = *to;
  entry.by_intersection = entry.by_input_sum = O(0);
  entry.flags = 0;
  entry.weight = static_cast<O>(number_at(call.pointwise.class_weight, c, 1));
  if (pool < 0 || weight == 0) return;
  entry.flags = 1;
  if (!with_slopes) return;
  const ClassSlopes slopes =
      slopes_of(call.rules, pool, weight, number_at(call.grad_output, pool, 1), call.sums);
  entry.by_intersection = static_cast<O>(slopes.by_intersection);
  entry.by_input_sum = static_cast<O>(slopes.by_input_sum);
  if (slopes.is_live) entry.flags |= 2;
}

// The classes of one sample; those beyond the table are worked out where they are asked for.
template <class O, bool kGeneral>
class ClassTable {
 public:
  using Memory = ClassEntry<O>[kTableClasses];

  __device__ __forceinline__ ClassTable(const PoolCall& call, Memory& memory)
      : call_(call), memory_(memory) {}

  // Called by all threads of the block.
  __device__ __forceinline__ void fill(int64_t sample, bool with_slopes) {
    sample_ = sample;
    with_slopes_ = with_slopes;
    __syncthreads();  // the last entries may still be read
    const int64_t classes = call_.params.classes;
#pragma unroll 1
    for (int64_t c = threadIdx.x; c < (classes < kTableClasses ? classes : kTableClasses);
         c += kThreads) {
      make_entry(call_, sample, c, with_slopes, &memory_[c]);
    }
    __syncthreads();
  }

  __device__ __forceinline__ ClassEntry<O> at(int64_t c) const {
    if constexpr (kGeneral) {
      if (c >= kTableClasses) {
        ClassEntry<O> entry;
        make_entry(call_, sample_, c, with_slopes_, &entry);
        return entry;
      }
    }
    return memory_[c];
  }

 private:
  const PoolCall& call_;
  Memory& memory_;
  int64_t sample_ = 0;
  bool with_slopes_ = false;
};

// What the gradient of a sample's pointwise part is multiplied by, besides mask and weights.
__device__ __forceinline__ double pointwise_scale(const PoolCall& call, int64_t sample) {
  const OverlapSumsLayout layout = call.rules.layout();
  const double scale = call.sums[layout.scale(layout.results == 1 ? 0 : sample)];
  return scale == 0 ? 0 : scale * number_at(call.grad_output, 0, 1);
}

}  // namespace fusedloss::cuda
