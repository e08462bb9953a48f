// One warp-sized question per intrinsic, answered by every thread of a block of 64: the rows of the
// output are compared with what CUDA's manual says, in test_runtime.py.
#pragma once

#include <cuda_runtime.h>

namespace sample {

struct IntrinsicsParams {
  int* rows;               // 16 x 64
  unsigned* counters;      // 4, zero
  long long* accumulator;  // 1, zero
};

extern __shared__ int scratch[];

__global__ void intrinsics(const IntrinsicsParams p) {
  const int thread = int(threadIdx.x), lane = thread % 32;
  const unsigned all = 0xffffffffu;
  int row = 0;
  const auto answer = [&](int value) { p.rows[64 * row++ + thread] = value; };

  answer(__shfl_sync(all, thread, 5));
  answer(__shfl_sync(all, thread, 3, 8));
  answer(__shfl_up_sync(all, thread, 2));
  answer(__shfl_down_sync(all, thread, 3, 16));
  answer(__shfl_xor_sync(all, thread, 1));
  answer(int(__shfl_xor_sync(all, 1.5 * thread, 16) * 2));
  answer(int(__ballot_sync(all, lane % 4 == 0)));
  answer(__any_sync(all, thread == 40));
  answer(__all_sync(all, thread < 32));
  // Halves of a warp on their own.
  answer(__shfl_sync(lane < 16 ? 0x0000ffffu : 0xffff0000u, thread, lane < 16 ? 1 : 17));
  answer(__syncthreads_count(thread % 3 == 0));
  answer(__syncthreads_or(thread == 63));
  answer(__syncthreads_and(thread != 63));

  scratch[thread] = thread;
  __syncthreads();
  answer(scratch[63 - thread]);

  atomicAdd(&p.counters[0], 2u);
  atomicMax(&p.counters[1], unsigned(thread));
  atomicInc(&p.counters[2], 9u);
  atomicCAS(&p.counters[3], 0u, 7u);
  atomicAdd(reinterpret_cast<unsigned long long*>(p.accumulator), 1ull << 32);
  answer(__popc(unsigned(thread)) + __clz(thread) + __ffs(thread));
  answer(__float_as_int(__int_as_float(thread)));
}

}  // namespace sample
