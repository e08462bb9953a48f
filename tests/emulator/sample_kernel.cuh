// The emulator's own sample: a masked mean squared error, forward, with every device feature that
// the project's kernels use. One launch; two variants of the same sum:
//
//   masked_mse       blocks write partials, the last one to take a ticket adds them up
//   masked_mse_grid  cooperative: a grid-wide barrier instead of the ticket, then also the gradient
//
// tests/emulator/test_runtime.py breaks it in ten ways and expects every one to be found.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace sample {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

struct Sum {
  float total;
  float count;
};

template <class T>
struct Params {
  const T* input;
  const T* target;
  const bool* mask;
  T* grad_input;  // masked_mse_grid only
  long long size;
  long long head;    // elements before the first 16-byte border, the same for input and target
  bool mask_packed;  // the mask's bytes of a pack are aligned too
  Sum* partials;     // one per block
  unsigned* ticket;
  float* loss;
};

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
template <class T>
__device__ inline T from_float(float x) {
  return static_cast<T>(x);
}

template <class T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T data[kSize];
};

// The mask bytes of a pack: one load, if they are aligned.
template <int kSize>
struct alignas(kSize) MaskPack {
  bool data[kSize];
};

template <class T>
__device__ inline void accumulate(Sum& sum, T input, T target, bool mask) {
  const float difference = mask ? to_float(input) - to_float(target) : 0.0f;
  sum.total += difference * difference;
  sum.count += mask ? 1.0f : 0.0f;
}

// The thread's share: 16-byte loads between a scalar head and tail.
template <class T>
__device__ inline Sum thread_sum(const Params<T>& p) {
  using Vec = Pack<T>;
  Sum sum{0.0f, 0.0f};
  const long long thread = blockIdx.x * (long long)kThreads + threadIdx.x;
  const long long threads = gridDim.x * (long long)kThreads;
  const long long packs = (p.size - p.head) / Vec::kSize;
  const Vec* input = reinterpret_cast<const Vec*>(p.input + p.head);
  const Vec* target = reinterpret_cast<const Vec*>(p.target + p.head);
  for (long long i = thread; i < packs; i += threads) {
    const Vec x = __ldg(input + i);
    const Vec t = __ldg(target + i);
    const bool* bytes = p.mask + p.head + i * Vec::kSize;
    MaskPack<Vec::kSize> mask;
    if (p.mask_packed) {
      mask = *reinterpret_cast<const MaskPack<Vec::kSize>*>(bytes);
    } else {
      for (int j = 0; j < Vec::kSize; ++j) mask.data[j] = bytes[j];
    }
    for (int j = 0; j < Vec::kSize; ++j) accumulate(sum, x.data[j], t.data[j], mask.data[j]);
  }
  const long long body = packs * Vec::kSize;
  for (long long i = thread; i < p.size - body; i += threads) {
    const long long at = i < p.head ? i : i + body;
    accumulate(sum, p.input[at], p.target[at], p.mask[at]);
  }
  return sum;
}

// The block's sum, in every thread. Between two calls the caller has a barrier for other reasons.
__device__ inline Sum block_sum(Sum sum) {
  __shared__ Sum warp_sums[kWarps];
  for (int delta = 16; delta > 0; delta /= 2) {
    sum.total += __shfl_down_sync(0xffffffffu, sum.total, delta);
    sum.count += __shfl_down_sync(0xffffffffu, sum.count, delta);
  }
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = warp_sums[0];
  for (int i = 1; i < kWarps; ++i) {
    sum.total += warp_sums[i].total;
    sum.count += warp_sums[i].count;
  }
  return sum;
}

// All partials in a fixed order; every thread of the block takes part.
template <class T>
__device__ inline Sum grid_sum(const Params<T>& p) {
  Sum sum{0.0f, 0.0f};
  for (unsigned i = threadIdx.x; i < gridDim.x; i += kThreads) {
    sum.total += p.partials[i].total;
    sum.count += p.partials[i].count;
  }
  return block_sum(sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads) masked_mse(const Params<T> p) {
  __shared__ bool is_last;
  const Sum sum = block_sum(thread_sum(p));
  if (threadIdx.x == 0) {
    p.partials[blockIdx.x] = sum;
    __threadfence();  // the partial before the ticket
    is_last = atomicInc(p.ticket, gridDim.x - 1) == gridDim.x - 1;
    __threadfence();  // the ticket before the others' partials
  }
  __syncthreads();  // for is_last, and for warp_sums
  if (!is_last) return;
  const Sum all = grid_sum(p);
  if (threadIdx.x == 0) *p.loss = all.count > 0.0f ? all.total / all.count : 0.0f;
}

template <class T>
__global__ void __launch_bounds__(kThreads) masked_mse_grid(const Params<T> p) {
  const Sum sum = block_sum(thread_sum(p));
  if (threadIdx.x == 0) p.partials[blockIdx.x] = sum;
  emulator::grid_barrier();
  const Sum all = grid_sum(p);
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    *p.loss = all.count > 0.0f ? all.total / all.count : 0.0f;
  }
  const float scale = all.count > 0.0f ? 2.0f / all.count : 0.0f;
  const long long first = blockIdx.x * (long long)kThreads + threadIdx.x;
  for (long long i = first; i < p.size; i += gridDim.x * (long long)kThreads) {
    const float difference = to_float(p.input[i]) - to_float(p.target[i]);
    p.grad_input[i] = from_float<T>(p.mask[i] ? scale * difference : 0.0f);
  }
}

}  // namespace sample
