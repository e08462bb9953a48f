// From the partial sums of all chunks to pools, loss, statistics and slopes.
#pragma once

#include "cuda/block_reduce.cuh"
#include "cuda/overlap_call.h"
#include "cuda/overlap_table.cuh"

namespace fusedloss::cuda {

// Adds up the chunks of each item of each sample, one warp for each. The grid shares the work, or
// (blocks = 1) one block does it all.
inline __device__ __noinline__ void fold_chunks(const PoolCall& call, int64_t block,
                                                int64_t blocks) {
  const int64_t per_sample = call.chunks_per_sample();
  const int64_t count = call.samples * call.items();
#pragma unroll 1
  for (int64_t i = block * kWarps + threadIdx.x / 32; i < count; i += blocks * kWarps) {
    double sum = 0;
#pragma unroll 4
    for (int64_t chunk = threadIdx.x % 32; chunk < per_sample; chunk += 32) {
      sum += call.partials[i * per_sample + chunk];
    }
#pragma unroll
    for (int delta = 16; delta > 0; delta /= 2) sum += __shfl_down_sync(0xffffffffu, sum, delta);
    if (threadIdx.x % 32 == 0) call.folded[i] = sum;
  }
}

// What one block does when `folded` is there.
class OverlapFinish {
 public:
  __device__ __forceinline__ explicit OverlapFinish(const PoolCall& call)
      : call_(call), rules_(call.rules), layout_(call.rules.layout()) {}

  __device__ __forceinline__ void run() const {
    double selected[4] = {};  // elements and samples of the pools, the same of the pointwise part
#pragma unroll 1
    for (int64_t sample = threadIdx.x; sample < call_.samples; sample += kThreads) {
      const double of_pools = tally(sample, kDiceSelected), of_part = tally(sample, kSelected);
      selected[0] += of_pools;
      selected[1] += of_pools != 0 ? 1 : 0;
      selected[2] += of_part;
      selected[3] += of_part != 0 ? 1 : 0;
    }
    block_sum(selected);
    const double pools = rules_.part * finish_pools(static_cast<int64_t>(selected[1]));
    const double part =
        call_.pointwise ? call_.pointwise.part * finish_part(static_cast<int64_t>(selected[3])) : 0;
    if (threadIdx.x != 0) return;
    call_.sums[layout_.selected()] = call_.pointwise ? selected[2] : selected[0];
    if (rules_.reduction == Reduction::kNone) return;
    store_number(call_.loss.data, call_.loss.dtype, 0, call_.pointwise ? pools + part : pools);
  }

 private:
  __device__ __forceinline__ double folded(int64_t sample, int64_t item) const {
    return call_.folded[sample * call_.items() + item];
  }
  __device__ __forceinline__ double tally(int64_t sample, int k) const {
    return folded(sample, 3 * call_.params.classes + k);
  }

  // Step (first, stride) of adding up the classes and samples of a pool.
  __device__ __forceinline__ void add_members(int64_t pool, int64_t first, int64_t stride,
                                              double (&counts)[3]) const {
    const Pools& pools = rules_.pools;
    const int64_t columns = pools.columns();
    const int64_t row = pool / columns, column = pool - row * columns;
    const int64_t sample = pools.by_sample() ? row : 0;
    const int64_t samples = pools.by_sample() ? 1 : call_.samples;
    const int64_t c = pools.first_class() + (pools.by_class() ? column : 0);
    const int64_t classes = pools.by_class() ? 1 : pools.classes - pools.first_class();
#pragma unroll 1
    for (int64_t i = first; i < samples * classes; i += stride) {
      const int64_t of_sample = i / classes, of_class = c + i - of_sample * classes;
      const double weight = number_at(call_.weight, of_class, 1);
      if (weight == 0) continue;
      const double factor = pools.by_class() ? 1 : weight;
#pragma unroll
      for (int k = 0; k < 3; ++k) {
        counts[k] += factor * folded(sample + of_sample, 3 * of_class + k);
      }
    }
  }

  // The loss of a pool and its share beside others, and the slopes as far as it knows them.
  __device__ __forceinline__ void begin_pool(int64_t pool, const double (&counts)[3]) const {
    double* sums = call_.sums;
    sums[layout_.intersection(pool)] = counts[0];
    sums[layout_.input_sum(pool)] = counts[1];
    sums[layout_.target_sum(pool)] = counts[2];
    const SettledPool settled = settle(pool, 1);
    call_.pools[2 * pool] = settled.value;
    call_.pools[2 * pool + 1] = settled.share;
    if (rules_.reduction == Reduction::kNone) {
      store_number(call_.loss.data, call_.loss.dtype, pool * call_.loss.stride, settled.value);
    }
  }

  __device__ __forceinline__ SettledPool settle(int64_t pool, double scale) const {
    const Pools& pools = rules_.pools;
    const int64_t c = pools.first_class() + pool % pools.columns();
    return settle_pool(rules_, pool, number_at(call_.weight, c, 1), scale, call_.sums);
  }

  // The loss of all pools; every thread has it.
  __device__ __forceinline__ double finish_pools(int64_t sample_count) const {
    const bool by_thread = layout_.pools >= 32;
#pragma unroll 1
    for (int64_t pool = by_thread ? threadIdx.x : 0; pool < layout_.pools;
         pool += by_thread ? kThreads : 1) {
      double counts[3] = {};
      add_members(pool, by_thread ? 0 : threadIdx.x, by_thread ? 1 : kThreads, counts);
      if (!by_thread) block_sum(counts);
      if (by_thread || threadIdx.x == 0) begin_pool(pool, counts);
    }
    __syncthreads();
    const bool by_sample = rules_.reduction == Reduction::kSampleMean;
    const int64_t per_result = layout_.results == 0 ? 0 : layout_.pools / layout_.results;
    const int64_t first = by_sample ? 0 : threadIdx.x, stride = by_sample ? 1 : kThreads;
    double loss[1] = {};
#pragma unroll 1
    for (int64_t i = by_sample ? threadIdx.x : 0; i < layout_.results;
         i += by_sample ? kThreads : 1) {
      double sums[2] = {};  // total, normalizer
#pragma unroll 1
      for (int64_t k = first; k < per_result; k += stride) {
        sums[0] += call_.pools[2 * (i * per_result + k)];
        sums[1] += call_.pools[2 * (i * per_result + k) + 1];
      }
      if (!by_sample) block_sum(sums);
      const int64_t divisor = by_sample ? sample_count : 1;
      const double scale = pool_scale(rules_, sums[1], divisor);
#pragma unroll 1
      for (int64_t k = first; scale != 1 && k < per_result; k += stride) {
        settle(i * per_result + k, scale);
      }
      if (by_sample || threadIdx.x == 0) {
        loss[0] += loss_share(rules_.reduction, sums[0], sums[1], divisor);
        write_result(i, sums[0], sums[1], 0);
      }
    }
    block_sum(loss);
    return loss[0];
  }

  __device__ __forceinline__ void write_result(int64_t i, double total, double normalizer,
                                               double scale) const {
    call_.sums[layout_.total(i)] = total;
    call_.sums[layout_.normalizer(i)] = normalizer;
    call_.sums[layout_.scale(i)] = scale;
  }

  // The loss of the pointwise part, whose sums take the place of the pools'.
  __device__ __forceinline__ double finish_part(int64_t sample_count) const {
    const bool by_sample = rules_.reduction == Reduction::kSampleMean;
    double loss[1] = {};
#pragma unroll 1
    for (int64_t i = by_sample ? threadIdx.x : 0; i < layout_.results;
         i += by_sample ? kThreads : 1) {
      double values[kPartials] = {};
#pragma unroll 1
      for (int64_t sample = by_sample ? i : threadIdx.x;
           sample < (by_sample ? i + 1 : call_.samples); sample += kThreads) {
#pragma unroll
        for (int k = 0; k < kPartials; ++k) values[k] += tally(sample, k);
      }
      if (!by_sample) block_sum(values);
      if (!by_sample && threadIdx.x != 0) continue;
      const Sums sums{values[kTotal], values[kWeights], values[kMask], values[kPositions], 0};
      const double given =
          number_at(call_.pointwise.given_normalizer, 0, call_.pointwise.given_number);
      const double divisor = denominator(sums, call_.pointwise.normalizer, all(), given);
      const int64_t count = by_sample ? sample_count : 1;
      loss[0] += loss_share(rules_.reduction, values[kTotal], divisor, count);
      write_result(i, values[kTotal], divisor,
                   call_.pointwise.part * gradient_scale(rules_.reduction, divisor, count));
    }
    block_sum(loss);
    return loss[0];
  }

  // Elements (or positions) of a result.
  __device__ __forceinline__ double all() const {
    const int64_t results = layout_.results == 0 ? 1 : layout_.results;
    const int64_t positions = call_.params.classes == 0 ? 0 : call_.extents.positions() / results;
    return static_cast<double>(call_.pointwise.is_classwise() ? positions
                                                              : positions * call_.params.classes);
  }

  const PoolCall& call_;
  const OverlapRules& rules_;
  const OverlapSumsLayout layout_;
};

inline __device__ __noinline__ void finish_overlap(const PoolCall& call) {
  OverlapFinish(call).run();
}

}  // namespace fusedloss::cuda
