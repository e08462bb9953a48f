// From the partial sums of all chunks to the loss, the statistics and the gradient's scale; and the
// frame that every kernel runs in: chunks, partial sums, last-block finish, phases. `Call` is a
// family's CallFrame with its params.
#pragma once

#include "cuda/block_reduce.cuh"
#include "cuda/call_frame.h"
#include "cuda/grid_barrier.h"
#include "cuda/value_ranges.cuh"
#include "cuda/vector_access.cuh"

namespace fusedloss::cuda {

// Running sums of one thread, in two levels: the first is emptied into the second every so often,
// so the error grows with the square root of the number of additions at most.
template <class O, int kCount>
struct Tally {
  static constexpr int kSteps = 32;
  O sum[kCount] = {};
  O flushed[kCount] = {};
  int steps = 0;

  __device__ __forceinline__ void step() {
    if (++steps < kSteps) return;
    steps = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      flushed[i] += sum[i];
      sum[i] = O(0);
    }
  }
  // All of it, in double.
  __device__ __forceinline__ double total(int i) const {
    return static_cast<double>(flushed[i]) + static_cast<double>(sum[i]);
  }
};

// The same of a thread that adds few numbers to a chunk.
template <class O, int kCount>
struct ShortTally {
  O sum[kCount] = {};

  __device__ __forceinline__ double total(int i) const { return static_cast<double>(sum[i]); }
};

template <class Params>
__device__ __forceinline__ double given_number(const Params& p) {
  if (!p.given_normalizer) return p.given_number;
  return load_number<double>(p.given_normalizer.data, p.given_normalizer.dtype, 0);
}

// The sums of a sample in which every element takes part with weight 1.
__device__ __forceinline__ Sums unmasked_sums(const Extents& extents) {
  Sums sums;
  sums.selected = extents.elements_per_sample();
  sums.mask = sums.weights = static_cast<double>(sums.selected);
  sums.positions = static_cast<double>(extents.positions_per_sample());
  return sums;
}

// Step (tid, stride) of adding up the chunks of one sample.
template <class Call>
__device__ __forceinline__ void add_chunks(const Call& call, int64_t sample, int64_t first,
                                           int64_t stride, double (&values)[kPartials]) {
  const int64_t begin = sample * call.chunks_per_sample();
#pragma unroll 1
  for (int64_t i = first; i < call.chunks_per_sample(); i += stride) {
#pragma unroll
    for (int k = 0; k < kPartials; ++k) {
      const bool written = k == kTotal || (k == kPositions ? call.counts_positions : call.masked);
      if (written) values[k] += call.partials[k * call.chunks + begin + i];
    }
  }
}

// Writes total and normalizer of a sample; its number of selected elements is returned.
template <class Call>
__device__ __forceinline__ double finish_sample(const Call& call, int64_t sample,
                                                const double (&values)[kPartials]) {
  const auto& p = call.params;
  Sums sums;
  if (call.masked) {
    sums = {values[kTotal], values[kWeights], values[kMask],
            call.counts_positions
                ? values[kPositions]
                : divide_or_zero(values[kMask], static_cast<double>(p.extents.channels)),
            static_cast<int64_t>(values[kSelected])};
  } else {
    sums = unmasked_sums(p.extents);
    sums.total = values[kTotal];
  }
  const SumsLayout layout{p.extents.samples};
  const double all = static_cast<double>(p.extents.elements_per_sample());
  p.sums[layout.total(sample)] = sums.total;
  p.sums[layout.normalizer(sample)] = denominator(sums, p.normalizer, all, given_number(p));
  return static_cast<double>(sums.selected);
}

// Run by one block when all partial sums are there.
template <class Call>
__device__ __noinline__ void finish(const Call& call) {
  const auto& p = call.params;
  const SumsLayout layout{p.extents.samples};
  double counts[2] = {0, 0};  // selected elements, samples that have one
  const bool by_thread = call.chunks_per_sample() < 32;
#pragma unroll 1
  for (int64_t i = by_thread ? threadIdx.x : 0; i < layout.samples; i += by_thread ? kThreads : 1) {
    double values[kPartials] = {};
    add_chunks(call, i, by_thread ? 0 : threadIdx.x, by_thread ? 1 : kThreads, values);
    if (!by_thread) block_sum(values);
    if (by_thread || threadIdx.x == 0) {
      const double selected = finish_sample(call, i, values);
      counts[0] += selected;
      counts[1] += selected != 0 ? 1 : 0;
    }
  }
  block_sum(counts);  // and what finish_sample wrote becomes visible to the block
  const bool by_sample = p.reduction == Reduction::kSampleMean;
  const int64_t sample_count = by_sample ? static_cast<int64_t>(counts[1]) : 1;
  double loss[1] = {0};
#pragma unroll 1
  for (int64_t i = threadIdx.x; i < layout.samples; i += kThreads) {
    const double scale = gradient_scale(p.reduction, p.sums[layout.normalizer(i)], sample_count);
    p.sums[layout.scale(i)] = scale;
    loss[0] += loss_share(p.reduction, p.sums[layout.total(i)], p.sums[layout.normalizer(i)],
                          sample_count);
  }
  block_sum(loss);
  if (threadIdx.x != 0) return;
  p.sums[layout.selected()] = counts[0];
  if (p.reduction != Reduction::kNone) store_number(p.loss.data, p.loss.dtype, 0, loss[0]);
}

// What the derivatives of a sample are multiplied by, besides mask and weight.
template <class Call>
__device__ __forceinline__ double scale_of_sample(const Call& call, int64_t sample) {
  const auto& p = call.params;
  const SumsLayout layout{p.extents.samples};
  if (call.pass == Pass::kBackward) {
    if (p.reduction == Reduction::kNone) return 1;
    const double scale = p.reduction == Reduction::kSum ? 1 : p.sums[layout.scale(sample)];
    const double grad_output = load_number<double>(p.grad_output.data, p.grad_output.dtype, 0);
    return is_empty_scale(scale) ? scale : scale * grad_output;
  }
  if (call.sums_first) return p.sums[layout.scale(sample)];
  const double all = static_cast<double>(p.extents.elements_per_sample());
  const double divisor = denominator(unmasked_sums(p.extents), p.normalizer, all, given_number(p));
  const bool by_sample = p.reduction == Reduction::kSampleMean;
  return gradient_scale(p.reduction, divisor, by_sample && all != 0 ? p.extents.samples : 1);
}

// `Block` has its `Tally` (of the first kSums partial sums) and visit(row, first slot, sums_only,
// tally) for one chunk.
template <class Block, class Call>
__device__ __forceinline__ void run_chunks(const Block& block, const Call& call, bool sums_only) {
#pragma unroll 1
  for (int64_t chunk = blockIdx.x; chunk < call.chunks; chunk += gridDim.x) {
    typename Block::Tally tally;
    const int64_t row = chunk / call.chunks_per_row;
    const int64_t first = (chunk - row * call.chunks_per_row) * call.slots_per_chunk;
    block.visit(row, first, sums_only, tally);
    if constexpr (Block::kHasSums) {
      if (!call.has_sums) continue;
      double sums[Block::kSums];
#pragma unroll
      for (int k = 0; k < Block::kSums; ++k) sums[k] = tally.total(k);
      block_sum(sums);
      if (threadIdx.x != 0) continue;
#pragma unroll
      for (int k = 0; k < Block::kSums; ++k) call.partials[k * call.chunks + chunk] = sums[k];
    }
  }
}

// The whole of a kernel. Two phases where a gradient must wait for the sums of mask and weight, and
// one before them where weights are normalised by their range.
template <class Block, class Call>
__device__ __forceinline__ void run_phases(const Block& block, const Call& call) {
  if constexpr (Block::kHasRanges) {
    if (call.range_samples > 0) {
      find_ranges<typename Block::O>(call);
      grid_barrier();
    }
  }
#pragma unroll 1
  for (int phase = Block::kHasPhases && call.sums_first ? 0 : 1; phase < 2; ++phase) {
    run_chunks(block, call, phase == 0);
    if (Block::kHasSums && call.has_sums && is_last_block(call.tickets + phase)) finish(call);
    if (Block::kHasPhases && phase == 0) grid_barrier();
  }
}

}  // namespace fusedloss::cuda
