// The class kernels with a thread for each position.
//
//     class_strided   any strides, any mixture of dtypes
//     class_tile      logits of one type. Classes apart (NCHW): neighbouring threads read
//                     neighbouring positions, and a thread keeps its logits in shared memory.
//                     Classes side by side (channels_last, rows): the block moves whole runs of
//                     positions between memory and its tile, 16 bytes at a time.
//
// Where the tile is used, logits are read once and the gradient is written once.
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
      : tile_(tile),
        classes_(static_cast<int>(call.params.classes)),
        pitch_(static_cast<int>(call.pitch)) {}

  __device__ __forceinline__ void fill(const T* memory, int count) const {
    constexpr int kAhead = 4;
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

template <class Cells>
class PositionsBlock : public ClassBlock<typename Cells::O> {
  using Base = ClassBlock<typename Cells::O>;

 public:
  using typename Base::O, typename Base::Tally;

  __device__ __forceinline__ PositionsBlock(const ClassCall& call, const AnyClassLoss<O>& loss)
      : Base(call, loss) {}

  __device__ __forceinline__ void visit(int64_t row, int64_t first, bool sums_only,
                                        Tally& tally) const {
    const O scale = Base::scale_of_row(row, sums_only);
    const int64_t past = first + call_.slots_per_chunk;
    const int64_t end = past < call_.inner ? past : call_.inner;
#pragma unroll 1
    for (int64_t begin = first; begin < end; begin += kThreads) {
      const int64_t left = end - begin;
      const int count = left < kThreads ? static_cast<int>(left) : kThreads;
      const int64_t index = row * call_.inner + begin + threadIdx.x;
      const bool has_position = static_cast<int>(threadIdx.x) < count;
      PositionFactors<O> at{};
      if (has_position) at = Base::weigh(index, tally);
      if (!sums_only) {
        const O weight = Base::gradient_weight(at.w, scale, index);
        if constexpr (Cells::kTiles) {
          visit_tile(row * call_.inner + begin, count, at, weight, tally);
        } else if (has_position) {
          Cells cells(call_, Coordinates(p_.extents, index));
          Base::add_value(work().run(cells, at, weight), index, tally);
        }
      }
      tally.step();
    }
  }

 private:
  using Base::call_, Base::p_, Base::loss_, Base::prepared_;
  static constexpr OneThread kAlone{};

  __device__ __forceinline__ PositionWork<O, Cells, OneThread> work() const {
    return {call_, loss_, prepared_, kAlone};
  }

  // The positions [begin, begin + count); this thread's has the factors `at`.
  __device__ __forceinline__ void visit_tile(int64_t begin, int count, const PositionFactors<O>& at,
                                             O weight, Tally& tally) const {
    using T = typename Cells::T;
    T* tile = reinterpret_cast<T*>(class_tile_memory);
    const RowStage<T> stage(tile, call_);
    const bool is_read = at.w != O(0) && call_.sums != ClassSums::kNone &&
                         (call_.pass != Pass::kBackward || weight != O(0));
    if (call_.staged) {
      // The barrier also ends the last tile's way out.
      if (__syncthreads_or(is_read)) {
        stage.fill(static_cast<const T*>(p_.input.positions.data) + begin * p_.classes, count);
      }
      __syncthreads();
    }
    if (static_cast<int>(threadIdx.x) < count) {
      const int64_t index = begin + threadIdx.x;
      Cells cells(call_, Coordinates(p_.extents, index), tile);
      if (is_read) cells.fetch();
      Base::add_value(work().run(cells, at, weight), index, tally);
    }
    if (call_.staged && call_.pass != Pass::kForward) {
      __syncthreads();
      stage.empty(static_cast<T*>(p_.grad_input.positions.data) + begin * p_.classes, count);
    }
  }
};

template <class O>
__global__ void __launch_bounds__(kThreads, 2)
    class_strided(const __grid_constant__ ClassCall call,
                  const __grid_constant__ AnyClassLoss<O> loss) {
  run_phases(PositionsBlock<StridedCells<O>>(call, loss), call);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    class_tile(const __grid_constant__ ClassCall call,
               const __grid_constant__ AnyClassLoss<typename TileCells<T>::O> loss) {
  run_phases(PositionsBlock<TileCells<T>>(call, loss), call);
}

}  // namespace fusedloss::cuda
