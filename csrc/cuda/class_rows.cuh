// The class kernel for long rows: classes side by side, more of them than a tile holds. A warp, or
// for the longest rows a block, goes over a row by 16-byte loads: once for the sums, and once more
// (from the cache, as far as it reaches) for the gradient.
//
// A chunk is a few rows. Its threads first weigh a row each; then the rows are taken in turn.
#pragma once

#include "cuda/class_block.cuh"

namespace fusedloss::cuda {

constexpr int kMostRows = 128;  // of a chunk

// A warp, or all warps of a block; see class_sums.cuh.
struct ThreadGroup {
  bool is_block;

  __device__ __forceinline__ int size() const { return is_block ? kThreads : 32; }
  __device__ __forceinline__ int rank() const {
    return static_cast<int>(is_block ? threadIdx.x : threadIdx.x % 32);
  }

  template <class O>
  __device__ __forceinline__ O largest(O value) const {
    O values[1] = {value};
    combine(values, [](O a, O b) { return b > a ? b : a; });
    return values[0];
  }
  template <class O, int kCount>
  __device__ __forceinline__ void sum(O (&values)[kCount]) const {
    combine(values, [](O a, O b) { return a + b; });
  }
  template <class F>
  __device__ __forceinline__ auto once(F&& f) const {
    decltype(f()) values[1] = {0};
    if (rank() == 0) values[0] = f();
    sum(values);
    return values[0];
  }

 private:
  template <class O, int kCount, class F>
  __device__ __forceinline__ void combine(O (&values)[kCount], F&& f) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
#pragma unroll
      for (int delta = 16; delta > 0; delta /= 2) {
        values[i] = f(values[i], __shfl_down_sync(0xffffffffu, values[i], delta));
      }
      values[i] = __shfl_sync(0xffffffffu, values[i], 0);
    }
    if (is_block) combine_warps(values, f);
  }

  template <class O, int kCount, class F>
  __device__ __forceinline__ static void combine_warps(O (&values)[kCount], F&& f) {
    __shared__ O of_warp[kWarps][kCount];
    __syncthreads();  // the array may still be read from the last call
    if (threadIdx.x % 32 == 0) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) of_warp[threadIdx.x / 32][i] = values[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      values[i] = of_warp[0][i];
#pragma unroll 1
      for (int warp = 1; warp < kWarps; ++warp) values[i] = f(values[i], of_warp[warp][i]);
    }
  }
};

// The row from `input` on, 16 bytes for each thread of a group in turn.
template <class T>
class RowCells {
 public:
  using O = std::conditional_t<std::is_same_v<T, double>, double, float>;
  static constexpr int kPack = 16 / sizeof(T);
  using Index = int;
  using Values = Pack<O, kPack>;

  __device__ __forceinline__ RowCells(const ClassCall& call, int64_t index,
                                      const ThreadGroup& group)
      : classes_(static_cast<int>(call.params.classes)),
        p_(call.params),
        target_(call, ElementIndex{p_.extents, index}) {
    const ElementIndex element{p_.extents, index};
    input_ = static_cast<const T*>(p_.input.positions.data) + element.offset(p_.input.positions);
    gradient_ =
        static_cast<T*>(p_.grad_input.positions.data) + element.offset(p_.grad_input.positions);
    first_ = group.rank() * kPack - lane_of(input_);
    step_ = group.size() * kPack;
    is_alike_ = lane_of(gradient_) == lane_of(input_);
  }

  __device__ __forceinline__ int first() const { return first_; }
  __device__ __forceinline__ int step() const { return step_; }
  __device__ __forceinline__ Span span(int c) const {
    return {c < 0 ? -c : 0, classes_ - c < kPack ? classes_ - c : kPack};
  }

  __device__ __forceinline__ O at(int c) const { return convert<O>(input_[c]); }
  __device__ __forceinline__ Values targets(int c, Span span) const {
    const Operand& operand = target_.target.positions;
    const T* row = static_cast<const T*>(operand.data) + target_.offset;
    const bool is_alike = operand.dtype == p_.input.positions.dtype &&
                          target_.target.class_stride == 1 && lane_of(row) == lane_of(input_);
    if (!is_alike) return target_.template load_each<O, kPack>(c, span);
    return convert_pack<O>(load_span<T, kPack>(row + c, span));
  }
  __device__ __forceinline__ Values load(int c, Span span) const {
    return convert_pack<O>(load_span<T, kPack>(input_ + c, span));
  }
  __device__ __forceinline__ Values reload(int c, Span span) const { return load(c, span); }

  __device__ __forceinline__ void store(int c, Span span, const Values& values) const {
    const Pack<T, kPack> stored = convert_pack<T>(values);
    if (is_alike_) return store_span(gradient_ + c, stored, span);
#pragma unroll
    for (int lane = 0; lane < kPack; ++lane) {
      if (span.has(lane)) gradient_[c + lane] = stored.at[lane];
    }
  }

 private:
  __device__ __forceinline__ static int lane_of(const T* memory) {
    return static_cast<int>(reinterpret_cast<uintptr_t>(memory) / sizeof(T) % kPack);
  }

  const int classes_;
  const ClasswiseParams& p_;
  const TargetCells target_;
  const T* input_;
  T* gradient_;
  int first_, step_;
  bool is_alike_;
};

template <class T, bool kPlain>
class RowsBlock : public ClassBlock<typename RowCells<T>::O, kPlain> {
  using Base = ClassBlock<typename RowCells<T>::O, kPlain>;

 public:
  using typename Base::O, typename Base::Tally;

  __device__ __forceinline__ RowsBlock(const ClassCall& call, const AnyClassLoss<O>& loss)
      : Base(call, loss) {}

  __device__ __forceinline__ void visit(int64_t row, int64_t first, bool sums_only,
                                        Tally& tally) const {
    __shared__ PositionFactors<O> factors[kMostRows];
    __shared__ O weight[kMostRows], value[kMostRows];
    const int count = Base::slots_from(first);
    const int64_t begin = row * call_.inner + first;
    const int own = static_cast<int>(threadIdx.x);
    const O scale = Base::scale_of_row(row, sums_only);
    if (!sums_only) __syncthreads();  // the arrays may still be read from the last chunk
    if (own < count) {
      const PositionFactors<O> at = Base::weigh(begin + own, tally);
      if (!sums_only) {
        factors[own] = at;
        weight[own] = Base::gradient_weight(at.w, scale, begin + own);
      }
    }
    if (sums_only) return;
    __syncthreads();
    const ThreadGroup group{call_.by_block};
    const PositionWork<O, RowCells<T>, ThreadGroup, kPlain> work(call_, loss_, prepared_, group);
#pragma unroll 1
    for (int i = group.is_block ? 0 : own / 32; i < count; i += group.is_block ? 1 : kWarps) {
      RowCells<T> cells(call_, begin + i, group);
      const O result = work.run(cells, factors[i], weight[i]);
      if (group.rank() == 0) value[i] = result;
    }
    __syncthreads();
    if (own < count) Base::add_value(value[own], begin + own, tally);
  }

 private:
  using Base::call_, Base::loss_, Base::prepared_;
};

template <class T, bool kPlain>
__global__ void __launch_bounds__(kThreads, kPlain ? kPlainBlocks<T> : 2)
    class_rows(const __grid_constant__ ClassCall call,
               const __grid_constant__ AnyClassLoss<typename RowCells<T>::O> loss) {
  run_phases(RowsBlock<T, kPlain>(call, loss), call);
}

}  // namespace fusedloss::cuda
