// Sums over a block and the last-block ticket: fixed order, so the bits depend on nothing but the
// values.
//
//     double sums[2] = {...};
//     block_sum(sums);                       // every thread has both totals
//     if (is_last_block(&ticket)) finish();  // every other block's earlier writes are visible
#pragma once

#include <cuda_runtime.h>

namespace fusedloss::cuda {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// Shuffles within a warp, then the warps in order. Called by all threads of the block.
template <int kCount>
__device__ __forceinline__ void block_sum(double (&values)[kCount]) {
  __shared__ double warp_sums[kWarps][kCount];
#pragma unroll
  for (int delta = 16; delta > 0; delta /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] += __shfl_down_sync(0xffffffffu, values[i], delta);
    }
  }
  __syncthreads();  // the array may still be read from the last call
  if (threadIdx.x % 32 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) warp_sums[threadIdx.x / 32][i] = values[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    values[i] = warp_sums[0][i];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) values[i] += warp_sums[warp][i];
  }
}

// Whether this block is the last of the grid to arrive; then what the others wrote before arriving
// may be read. `ticket` starts at 0. Called by all threads; only thread 0's writes are published,
// so a block's result must have been written by thread 0.
__device__ __forceinline__ bool is_last_block(unsigned* ticket) {
  __shared__ bool is_last;
  __syncthreads();  // the flag may still be read from the last call
  if (threadIdx.x == 0) {
    __threadfence();
    is_last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  return is_last;
}

}  // namespace fusedloss::cuda
