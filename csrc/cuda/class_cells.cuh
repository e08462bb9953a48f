// The classes of a position as one thread sees them (class_position.cuh says what of them is
// asked).
//
//     StridedCells   any strides and dtypes: one access per class and use
//     TileCells      of one type; a thread's logits stay in shared memory where they fit there
#pragma once

#include "cuda/block_reduce.cuh"
#include "cuda/class_sums.cuh"
#include "cuda/element_source.cuh"
#include "cuda/vector_access.cuh"

namespace fusedloss::cuda {

// Where the probabilities of a position are.
struct TargetCells {
  const ClassOperand& target;
  const int64_t offset;

  __device__ __forceinline__ TargetCells(const ClassCall& call, const Coordinates& coordinates)
      : target(call.params.target), offset(coordinates.offset(target.positions)) {}

  template <class O>
  __device__ __forceinline__ O load(int64_t c) const {
    const Operand& operand = target.positions;
    return load_number<O>(operand.data, operand.dtype, offset + c * target.class_stride);
  }
};

// sum of w_c t_c.
template <class O>
__device__ __noinline__ O target_weight(const ClassCall& call, int64_t index) {
  const TargetCells target(call, Coordinates(call.params.extents, index));
  LongSum<O> sum;
#pragma unroll 1
  for (int64_t c = 0; c < call.params.classes; ++c) {
    const O w = class_weight<O>(call.params, c);
    if (w != O(0)) sum.running += w * target.template load<O>(c);
    if ((c + 1) % 64 == 0) sum.flush();
  }
  return sum.total();
}

// One thread goes over all classes, four at a time.
struct AllClasses {
  static constexpr int kPack = 4;
  int64_t classes;

  __device__ __forceinline__ int64_t first() const { return 0; }
  __device__ __forceinline__ int64_t step() const { return kPack; }
  __device__ __forceinline__ Span span(int64_t c) const {
    return {0, classes - c < kPack ? static_cast<int>(classes - c) : kPack};
  }
};

template <class O_>
class StridedCells : public AllClasses {
 public:
  using O = O_;
  using Values = Pack<O, kPack>;
  static constexpr bool kTiles = false;

  __device__ __forceinline__ StridedCells(const ClassCall& call, const Coordinates& coordinates)
      : AllClasses{call.params.classes},
        p_(call.params),
        target_(call, coordinates),
        input_(coordinates.offset(p_.input.positions)),
        gradient_(coordinates.offset(p_.grad_input.positions)) {}

  __device__ __forceinline__ O at(int64_t c) const {
    const Operand& operand = p_.input.positions;
    return load_number<O>(operand.data, operand.dtype, input_ + c * p_.input.class_stride);
  }
  __device__ __forceinline__ O target(int64_t c) const { return target_.template load<O>(c); }

  __device__ __forceinline__ Values load(int64_t c, Span span) const {
    Values values{};
#pragma unroll 1
    for (int i = 0; i < span.end; ++i) {
      const O value = at(c + i);
#pragma unroll
      for (int lane = 0; lane < kPack; ++lane) {
        if (lane == i) values.at[lane] = value;
      }
    }
    return values;
  }
  __device__ __forceinline__ Values reload(int64_t c, Span span) const { return load(c, span); }

  __device__ __forceinline__ void store(int64_t c, Span span, const Values& values) const {
    const Operand& operand = p_.grad_input.positions;
#pragma unroll
    for (int lane = 0; lane < kPack; ++lane) {
      if (!span.has(lane)) continue;
      store_number(operand.data, operand.dtype, gradient_ + (c + lane) * p_.grad_input.class_stride,
                   values.at[lane]);
    }
  }

 private:
  const ClasswiseParams& p_;
  const TargetCells target_;
  const int64_t input_, gradient_;
};

template <class T_>
class TileCells : public AllClasses {
 public:
  using T = T_;
  using O = std::conditional_t<std::is_same_v<T, double>, double, float>;
  using Values = Pack<O, kPack>;
  static constexpr bool kTiles = true;

  // `tile` is the block's: a column for each thread, or a row.
  __device__ __forceinline__ TileCells(const ClassCall& call, const Coordinates& coordinates,
                                       T* tile)
      : AllClasses{call.params.classes}, call_(call), target_(call, coordinates) {
    const ClasswiseParams& p = call.params;
    input_ = static_cast<const T*>(p.input.positions.data) + coordinates.offset(p.input.positions);
    gradient_ =
        static_cast<T*>(p.grad_input.positions.data) + coordinates.offset(p.grad_input.positions);
    kept_ = tile + threadIdx.x * (call.staged ? call.pitch : 1);
    kept_stride_ = call.staged ? 1 : kThreads;
  }

  // Fills a column: several loads are on their way at a time.
  __device__ __forceinline__ void fetch() {
    constexpr int kAhead = 8;
    if (!call_.kept || call_.sums == ClassSums::kNone) return;
#pragma unroll 1
    for (int64_t c = 0; c < classes; c += kAhead) {
      T ahead[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (c + i < classes) ahead[i] = from_memory(c + i);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (c + i < classes) kept_[(c + i) * kept_stride_] = ahead[i];
      }
    }
  }

  __device__ __forceinline__ O at(int64_t c) const { return convert<O>(from_memory(c)); }
  __device__ __forceinline__ O target(int64_t c) const { return target_.template load<O>(c); }

  __device__ __forceinline__ Values load(int64_t c, Span span) const {
    const bool is_kept = call_.kept || call_.staged;
    Values values{};
#pragma unroll
    for (int lane = 0; lane < kPack; ++lane) {
      if (!span.has(lane)) continue;
      const T value = is_kept ? kept_[(c + lane) * kept_stride_] : from_memory(c + lane);
      values.at[lane] = convert<O>(value);
    }
    return values;
  }
  __device__ __forceinline__ Values reload(int64_t c, Span span) const { return load(c, span); }

  __device__ __forceinline__ void store(int64_t c, Span span, const Values& values) {
    T* to = call_.staged ? kept_ : gradient_;
    const int64_t stride = call_.staged ? 1 : call_.params.grad_input.class_stride;
#pragma unroll
    for (int lane = 0; lane < kPack; ++lane) {
      if (span.has(lane)) to[(c + lane) * stride] = convert<T>(values.at[lane]);
    }
  }

 private:
  __device__ __forceinline__ T from_memory(int64_t c) const {
    return load_pack<T, 1>(input_ + c * call_.params.input.class_stride).at[0];
  }

  const ClassCall& call_;
  const TargetCells target_;
  const T* input_;
  T* gradient_;
  T* kept_;
  int64_t kept_stride_;
};

}  // namespace fusedloss::cuda
