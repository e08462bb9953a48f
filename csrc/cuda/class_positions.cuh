// The class kernels with a thread for each position.
//
//     class_strided   any strides, any mixture of dtypes
//     class_columns   classes apart (NCHW): neighbouring threads read neighbouring positions, and a
//                     thread keeps its logits in shared memory, if they fit there
//     class_staged    few classes side by side (channels_last, rows): the block moves whole runs of
//                     positions between memory and shared memory, 16 bytes at a time
//
// What is kept in shared memory is read once; the gradient is written once.
#pragma once

#include "cuda/class_block.cuh"

namespace fusedloss::cuda {

extern __shared__ uint4 class_tile_memory[];

// Between dense rows of `classes` elements, `count` of them from `memory` on, and the tile. Called
// by all threads of the block; the first and last 16 bytes may be partial.
template <class T>
class RowStage {
 public:
  static constexpr int kLanes = 16 / sizeof(T);

  __device__ __forceinline__ RowStage(T* tile, const ClassCall& call)
      : tile_(tile), classes_(static_cast<int>(call.params.classes)), pitch_(call.pitch) {}

  __device__ __forceinline__ void fill(const T* memory, int count) const {
    constexpr int kAhead = 2;
    const int size = count * classes_;
#pragma unroll 1
    for (int first = first_of(memory); first < size; first += kAhead * kStep) {
      Pack<T, kLanes> ahead[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int position = first + i * kStep;
        if (position < size)
          ahead[i] = load_span<T, kLanes>(memory + position, span(position, size));
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int position = first + i * kStep;
        if (position >= size) continue;
        const Span own = span(position, size);
        Cell cell(position + own.begin, *this);
#pragma unroll
        for (int lane = 0; lane < kLanes; ++lane) {
          if (own.has(lane)) cell.next(*this) = ahead[i].at[lane];
        }
      }
    }
  }

  __device__ __forceinline__ void empty(T* memory, int count) const {
    const int size = count * classes_;
#pragma unroll 1
    for (int first = first_of(memory); first < size; first += kStep) {
      const Span own = span(first, size);
      Cell cell(first + own.begin, *this);
      Pack<T, kLanes> values{};
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        if (own.has(lane)) values.at[lane] = cell.next(*this);
      }
      store_span(memory + first, values, own);
    }
  }

 private:
  static constexpr int kStep = kThreads * kLanes;

  // Walks the tile in the order of memory.
  struct Cell {
    int row, c;
    __device__ __forceinline__ Cell(int element, const RowStage& stage)
        : row(element / stage.classes_), c(element - row * stage.classes_) {}
    __device__ __forceinline__ T& next(const RowStage& stage) {
      T& own = stage.tile_[row * stage.pitch_ + c];
      if (++c == stage.classes_) {
        c = 0;
        ++row;
      }
      return own;
    }
  };

  // Where this thread's first 16 bytes begin.
  __device__ __forceinline__ static int first_of(const T* memory) {
    const auto lane = reinterpret_cast<uintptr_t>(memory) / sizeof(T) % kLanes;
    return static_cast<int>(threadIdx.x) * kLanes - static_cast<int>(lane);
  }
  __device__ __forceinline__ static Span span(int position, int size) {
    return {position < 0 ? -position : 0, size - position < kLanes ? size - position : kLanes};
  }

  T* const tile_;
  const int classes_, pitch_;
};

template <class Cells, bool kPlain>
class PositionsBlock : public ClassBlock<typename Cells::O, kPlain> {
  using Base = ClassBlock<typename Cells::O, kPlain>;

 public:
  using typename Base::O, typename Base::Tally;

  __device__ __forceinline__ PositionsBlock(const ClassCall& call, const AnyClassLoss<O>& loss)
      : Base(call, loss) {}

  __device__ __forceinline__ void visit(int64_t row, int64_t first, bool sums_only,
                                        Tally& tally) const {
    const O scale = Base::scale_of_row(row, sums_only);
    const int64_t start = row * call_.inner + first;
    const int left = Base::slots_from(first);
#pragma unroll 1
    for (int done = 0; done < left; done += kThreads) {
      const int count = left - done;  // or all threads
      const bool has_position = static_cast<int>(threadIdx.x) < count;
      PositionFactors<O> at{};
      if (has_position) at = Base::weigh(start + done + threadIdx.x, tally);
      if (!sums_only) visit_positions(start + done, count, at, scale, tally);
    }
  }

 private:
  using Base::call_, Base::p_, Base::loss_, Base::prepared_;

  __device__ __forceinline__ PositionWork<O, Cells, OneThread, kPlain> work() const {
    return {call_, loss_, prepared_, OneThread()};
  }

  // The positions from `begin` on, as many as there are threads, but only `count` where that is
  // less; this thread's has the factors `at`.
  __device__ __forceinline__ void visit_positions(int64_t begin, int count,
                                                  const PositionFactors<O>& at, O scale,
                                                  Tally& tally) const {
    const int64_t index = begin + threadIdx.x;
    const O weight = Base::gradient_weight(at.w, scale, index);
    const bool has_position = static_cast<int>(threadIdx.x) < count;
    if constexpr (std::is_same_v<Cells, StridedCells<O>>) {
      if (!has_position) return;
      Cells cells(call_, ElementIndex{p_.extents, index});
      return Base::add_value(work().run(cells, at, weight), index, tally);
    } else {
      using T = typename Cells::T;
      T* tile = reinterpret_cast<T*>(class_tile_memory);
      const bool is_read = at.w != O(0) && call_.sums != ClassSums::kNone &&
                           (call_.pass != Pass::kBackward || weight != O(0));
      constexpr bool kStaged = std::is_same_v<Cells, StagedCells<T>>;
      if constexpr (kStaged) fill(tile, begin, count, is_read);
      if (has_position) {
        Cells cells(call_, ElementIndex{p_.extents, index}, tile);
        if constexpr (!kStaged) {
          if (is_read) cells.fetch();
        }
        Base::add_value(work().run(cells, at, weight), index, tally);
      }
      if constexpr (kStaged) empty(tile, begin, count);
    }
  }

  // Not where no position is looked at. The first barrier also ends the last tile's way out.
  template <class T>
  __device__ __forceinline__ void fill(T* tile, int64_t begin, int count, bool is_read) const {
    if (__syncthreads_or(is_read)) {
      const T* memory = static_cast<const T*>(p_.input.positions.data) + begin * p_.classes;
      RowStage<T>(tile, call_).fill(memory, ::min(count, kThreads));
    }
    __syncthreads();
  }
  template <class T>
  __device__ __forceinline__ void empty(T* tile, int64_t begin, int count) const {
    if (call_.pass == Pass::kForward) return;
    __syncthreads();
    T* memory = static_cast<T*>(p_.grad_input.positions.data) + begin * p_.classes;
    RowStage<T>(tile, call_).empty(memory, ::min(count, kThreads));
  }
};

template <class O>
__global__ void __launch_bounds__(kThreads, 2)
    class_strided(const __grid_constant__ ClassCall call,
                  const __grid_constant__ AnyClassLoss<O> loss) {
  run_phases(PositionsBlock<StridedCells<O>, false>(call, loss), call);
}

template <class T, bool kPlain>
__global__ void __launch_bounds__(kThreads, kPlain ? kPlainBlocks<T> : 2)
    class_columns(const __grid_constant__ ClassCall call,
                  const __grid_constant__ AnyClassLoss<typename ColumnCells<T>::O> loss) {
  run_phases(PositionsBlock<ColumnCells<T>, kPlain>(call, loss), call);
}

template <class T, bool kPlain>
__global__ void __launch_bounds__(kThreads, kPlain ? kPlainBlocks<T> : 2)
    class_staged(const __grid_constant__ ClassCall call,
                 const __grid_constant__ AnyClassLoss<typename StagedCells<T>::O> loss) {
  run_phases(PositionsBlock<StagedCells<T>, kPlain>(call, loss), call);
}

}  // namespace fusedloss::cuda
