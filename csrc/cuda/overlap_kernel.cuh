// The kernel of an overlap call: all phases in one launch.
//
//     ranges      of weights that are normalised                        barrier
//     sums        soft counts and the pointwise part, by chunks         barrier, where a gradient
//     fold        the chunks of each class; the last block finishes     follows, twice
//     gradient    pools and pointwise part together, written once
//
// Without a gradient nothing waits: the last block to arrive folds and finishes.
#pragma once

#include "cuda/grid_barrier.h"
#include "cuda/overlap_finish.cuh"
#include "cuda/overlap_gradient.cuh"

namespace fusedloss::cuda {

template <class Cells, OverlapKernel kKernel>
__device__ __forceinline__ void find_sums(const PoolCall& call,
                                          const SumsBlock<Cells, kKernel>& block) {
  block.run();
  const bool waits = call.pass == Pass::kForwardGradient;
  if (waits) {
    grid_barrier();
    fold_chunks(call, blockIdx.x, gridDim.x);
  }
  if (is_last_block(call.tickets)) {
    if (!waits) {
      fold_chunks(call, 0, 1);
      __syncthreads();
    }
    finish_overlap(call);
  }
  if (waits) grid_barrier();
}

template <class Cells, OverlapKernel kKernel>
__global__ void __launch_bounds__(kThreads, 2)
    overlap_kernel(const __grid_constant__ PoolCall call,
                   const __grid_constant__ ElementLoss loss) {
  using O = typename Cells::O;
  using Sums = SumsBlock<Cells, kKernel>;
  __shared__ typename Sums::Table::Memory entries;
  __shared__ GroupCounts<O> counts;
  if constexpr (Cells::kWeighted) {
    if (call.range_samples > 0) {
      find_ranges<O>(call);
      grid_barrier();
    }
  }
  typename Sums::Table table(call, entries);
  const auto prepared = prepare_pointwise<O>(call);
  if (call.pass != Pass::kBackward) find_sums(call, Sums(call, loss, table, counts, prepared));
  if (call.pass == Pass::kForward) return;
  GradientBlock<Cells, kKernel>(call, loss, table, prepared).run();
}

}  // namespace fusedloss::cuda
