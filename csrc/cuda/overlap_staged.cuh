// Cells of positions whose classes lie side by side (channels_last): rows of `classes` logits, 256
// of them in shared memory, which the block fills and empties together.
//
//     Cells::fetch(call, row, first, rows, takes_part)   before the first logit
//     Cells::deliver(call, row, first, rows)             after the last store
//
// Both are called by all threads of the block.
#pragma once

#include "cuda/block_reduce.cuh"
#include "cuda/overlap_cells.cuh"

namespace fusedloss::cuda {

extern __shared__ float overlap_tile[];

// Calls f(place in the tile, place in memory) for each number of `rows` rows; neighbouring threads
// get neighbours in memory.
template <class F>
__device__ __forceinline__ void for_each_staged(int rows, int classes, int pitch, F&& f) {
  const int row_step = kThreads / classes, class_step = kThreads % classes;
  int row = threadIdx.x / classes, c = threadIdx.x % classes;
#pragma unroll 4
  for (int i = threadIdx.x; i < rows * classes; i += kThreads) {
    f(row * pitch + c, i);
    row += row_step;
    c += class_step;
    if (c >= classes) {
      c -= classes;
      ++row;
    }
  }
}

template <class F>
__device__ __forceinline__ void visit_staged_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kHalf:
      return f(Half{});
    case DType::kBFloat16:
      return f(BFloat16{});
    default:
      return f(float{});
  }
}

// `offset`: of the first row.
inline __device__ __noinline__ void fetch_staged(const PoolCall& call, int64_t offset, int rows) {
  const Operand& input = call.input.positions;
  const int classes = static_cast<int>(call.params.classes);
  visit_staged_dtype(input.dtype, [&](auto element) {
    const auto* memory = static_cast<const decltype(element)*>(input.data) + offset;
    for_each_staged(rows, classes, call.pitch,
                    [&](int place, int i) { overlap_tile[place] = convert<float>(memory[i]); });
  });
}

inline __device__ __noinline__ void deliver_staged(const PoolCall& call, int64_t offset, int rows) {
  const Operand& gradient = call.grad_input.positions;
  const int classes = static_cast<int>(call.params.classes);
  visit_staged_dtype(gradient.dtype, [&](auto element) {
    using T = decltype(element);
    T* memory = static_cast<T*>(gradient.data) + offset;
    for_each_staged(rows, classes, call.pitch,
                    [&](int place, int i) { memory[i] = convert<T>(overlap_tile[place]); });
  });
}

template <bool kWeighted_>
class StagedCells : public StridedCells<float> {
 public:
  static constexpr bool kWeighted = kWeighted_;
  static constexpr bool kHasElements = false;
  static constexpr bool kFetchesAhead = false;  // shared memory is near enough

  __device__ __forceinline__ StagedCells(const PoolCall& call, int64_t row, int64_t position)
      : StridedCells<float>(call, row, position),
        own_(overlap_tile + static_cast<int>(threadIdx.x) * call.pitch) {}

  // The tile is `rows` positions from `first` on.
  __device__ __forceinline__ static void fetch(const PoolCall& call, int64_t row, int64_t first,
                                               int rows, bool takes_part) {
    // Whatever the answer: nobody reads or writes the last tile any more.
    if (!__syncthreads_or(takes_part)) return;
    fetch_staged(call, row * call.planes.input_row_stride + first * call.params.classes, rows);
    __syncthreads();
  }
  __device__ __forceinline__ static void deliver(const PoolCall& call, int64_t row, int64_t first,
                                                 int rows) {
    __syncthreads();
    deliver_staged(call, row * call.planes.gradient_row_stride + first * call.params.classes, rows);
  }

  __device__ __forceinline__ Values input(int64_t c) const { return {own_[c]}; }
  __device__ __forceinline__ void store(int64_t c, const Values& values) const {
    own_[c] = values.at[0];
  }

 private:
  float* own_;
};

}  // namespace fusedloss::cuda
