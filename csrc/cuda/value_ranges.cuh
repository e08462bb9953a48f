// The phase before all others: the smallest and largest finite value of what each kNormalize takes,
// per sample, over the whole sample. Nothing is kept but these two numbers.
//
// A chunk is a run of positions of one sample; its partial results are combined by the last block.
// The order of the combination does not matter to the bits.
#pragma once

#include "cuda/block_reduce.cuh"
#include "cuda/element_source.cuh"
#include "weights/normalized.h"

namespace fusedloss::cuda {

using Range = ValueRange<double>;

// Of all threads of the block; every thread has it.
__device__ __forceinline__ Range block_range(Range range) {
  __shared__ double warp_low[kWarps], warp_high[kWarps];
#pragma unroll
  for (int delta = 16; delta > 0; delta /= 2) {
    Range other;
    other.low = __shfl_down_sync(0xffffffffu, range.low, delta);
    other.high = __shfl_down_sync(0xffffffffu, range.high, delta);
    range.combine(other);
  }
  __syncthreads();  // the arrays may still be read from the last range
  if (threadIdx.x % 32 == 0) {
    warp_low[threadIdx.x / 32] = range.low;
    warp_high[threadIdx.x / 32] = range.high;
  }
  __syncthreads();
  range = Range();
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) range.combine({warp_low[warp], warp_high[warp]});
  return range;
}

// What this thread sees of a chunk. Where all channels of a position have one value, only the first
// is looked at.
template <class O, class Call>
__device__ __forceinline__ Range chunk_range(const Call& call, const Instruction& normalize,
                                             int end, int64_t sample, int64_t chunk) {
  const Extents& extents = call.params.extents;
  const bool repeats = (call.repeating_ranges >> normalize.source & 1) != 0;
  const int64_t per_position = repeats ? 1 : extents.channels;
  const int64_t size = call.range_positions * per_position;
  const int64_t first = chunk * call.range_slots * per_position;
  const int64_t past = first + call.range_slots * per_position;
  const int64_t begin = sample * call.elements_per_range;
  ValueRange<O> range;
#pragma unroll 1
  for (int64_t i = first + threadIdx.x; i < (past < size ? past : size); i += kThreads) {
    const int64_t outer = repeats ? i / extents.inner : 0;
    const int64_t index = begin + i + outer * (extents.channels - 1) * extents.inner;
    range.include(element_values<O>(call, call.params.weight_source, normalize.extent, end, index));
  }
  return {static_cast<double>(range.low), static_cast<double>(range.high)};
}

// Run by one block when all partial results are there.
template <class Call>
__device__ __noinline__ void finish_ranges(const Call& call) {
  const int64_t count = call.params.bindings.ranges * call.range_samples;
#pragma unroll 1
  for (int64_t i = 0; i < count; ++i) {
    Range range;
#pragma unroll 1
    for (int64_t chunk = threadIdx.x; chunk < call.range_chunks; chunk += kThreads) {
      const double* partial = call.range_partials + 2 * (i * call.range_chunks + chunk);
      range.combine({partial[0], partial[1]});
    }
    range = block_range(range).finished();
    if (threadIdx.x != 0) continue;
    call.ranges[2 * i] = range.low;
    call.ranges[2 * i + 1] = range.high;
  }
}

// O is the type of the arithmetic. The grid is synchronised afterwards by the caller.
template <class O, class Call>
__device__ __noinline__ void find_ranges(const Call& call) {
  const Program& program = call.params.weight_source;
#pragma unroll 1
  for (int64_t work = blockIdx.x; work < call.range_samples * call.range_chunks;
       work += gridDim.x) {
    const int64_t sample = work / call.range_chunks, chunk = work - sample * call.range_chunks;
#pragma unroll 1
    for (int i = 0; i < program.length; ++i) {
      const Instruction& instruction = program.instruction[i];
      if (instruction.opcode != Opcode::kNormalize) continue;
      const Range range = block_range(chunk_range<O>(call, instruction, i, sample, chunk));
      if (threadIdx.x != 0) continue;
      double* partial =
          call.range_partials +
          2 * ((instruction.source * call.range_samples + sample) * call.range_chunks + chunk);
      partial[0] = range.low;
      partial[1] = range.high;
    }
  }
  if (is_last_block(call.tickets + kRangeTicket)) finish_ranges(call);
}

}  // namespace fusedloss::cuda
