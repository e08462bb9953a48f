// gradient *= grad_output in place, 16 bytes at a time; see elementwise.h.
#pragma once

#include "core/stored_gradient.h"
#include "cuda/block_reduce.cuh"
#include "cuda/elementwise.h"
#include "cuda/launch.h"
#include "cuda/vector_access.cuh"

namespace fusedloss::cuda {

template <class T>
struct ScaleCall {
  T* gradient;
  int64_t elements;
  const void* grad_output;
  DType grad_output_dtype;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    scale_gradient_kernel(const __grid_constant__ ScaleCall<T> call) {
  using O = std::conditional_t<std::is_same_v<T, double>, double, float>;
  constexpr int kLanes = 16 / sizeof(T);
  const O factor = load_number<O>(call.grad_output, call.grad_output_dtype, 0);
  if (factor == O(1)) return;
  const int64_t shift =
      static_cast<int64_t>(reinterpret_cast<uintptr_t>(call.gradient) / sizeof(T) % kLanes);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t slot = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
       slot * kLanes - shift < call.elements; slot += step) {
    const int64_t position = slot * kLanes - shift, rest = call.elements - position;
    const Span span{position < 0 ? static_cast<int>(-position) : 0,
                    rest < kLanes ? static_cast<int>(rest) : kLanes};
    Pack<T, kLanes> values{};
    if (span.is_full<kLanes>()) {
      values = bit_cast<Pack<T, kLanes>>(*reinterpret_cast<const uint4*>(call.gradient + position));
    } else {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        if (span.has(lane)) values.at[lane] = call.gradient[position + lane];
      }
    }
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      values.at[lane] = convert<T>(scaled_gradient(convert<O>(values.at[lane]), factor));
    }
    store_span(call.gradient + position, values, span);
  }
}

template <class T>
void launch_scale_gradient(const Operand& gradient, int64_t elements, const Operand& grad_output,
                           const LaunchContext& context) {
  const int64_t per_block = kThreads * (16 / static_cast<int64_t>(sizeof(T)));
  const LaunchShape shape{.blocks = std::min<int64_t>(elements / per_block + 2, 1 << 16),
                          .threads = kThreads,
                          .stream = context.stream};
  launch(
      shape, scale_gradient_kernel<T>,
      ScaleCall<T>{static_cast<T*>(gradient.data), elements, grad_output.data, grad_output.dtype});
}

}  // namespace fusedloss::cuda
