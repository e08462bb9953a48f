// The classes of a position as one thread sees them (class_position.cuh says what of them is
// asked).
//
//     StridedCells   any strides and dtypes: one access per class and use
//     ColumnCells    of one type; a thread's logits stay in shared memory where they fit there
//     StagedCells    of one type, in shared memory, moved there by the whole block
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

  __device__ __forceinline__ TargetCells(const ClassCall& call, const ElementIndex& element)
      : target(call.params.target), offset(element.offset(target.positions)) {}

  template <class O>
  __device__ __forceinline__ O load(int64_t c) const {
    const Operand& operand = target.positions;
    return load_number<O>(operand.data, operand.dtype, offset + c * target.class_stride);
  }
  template <class O, int kSize>
  __device__ __forceinline__ Pack<O, kSize> load_each(int64_t c, Span span) const {
    Pack<O, kSize> values{};
#pragma unroll 1
    for (int i = span.begin; i < span.end; ++i) {
      const O value = load<O>(c + i);
#pragma unroll
      for (int lane = 0; lane < kSize; ++lane)
        values.at[lane] = lane == i ? value : values.at[lane];
    }
    return values;
  }
};

// sum of w_c t_c.
template <class O>
__device__ __noinline__ O target_weight(const ClassCall& call, int64_t index) {
  const TargetCells target(call, ElementIndex{call.params.extents, index});
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
template <class Index_>
struct AllClasses {
  using Index = Index_;
  static constexpr int kPack = 4;
  Index classes;

  __device__ __forceinline__ explicit AllClasses(const ClassCall& call)
      : classes(static_cast<Index>(call.params.classes)) {}
  __device__ __forceinline__ Index first() const { return 0; }
  __device__ __forceinline__ Index step() const { return kPack; }
  __device__ __forceinline__ Span span(Index c) const {
    return {0, classes - c < kPack ? static_cast<int>(classes - c) : kPack};
  }
};

template <class O_>
class StridedCells : public AllClasses<int64_t> {
 public:
  using O = O_;
  using Values = Pack<O, kPack>;

  __device__ __forceinline__ StridedCells(const ClassCall& call, const ElementIndex& element)
      : AllClasses(call),
        p_(call.params),
        target_(call, element),
        input_(element.offset(p_.input.positions)),
        gradient_(element.offset(p_.grad_input.positions)) {}

  __device__ __forceinline__ O at(int64_t c) const {
    const Operand& operand = p_.input.positions;
    return load_number<O>(operand.data, operand.dtype, input_ + c * p_.input.class_stride);
  }
  __device__ __forceinline__ Values targets(int64_t c, Span span) const {
    return target_.template load_each<O, kPack>(c, span);
  }

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

// Classes apart: neighbouring threads have neighbouring positions, and each may keep its logits in
// a column of `tile`, the block's shared memory.
template <class T_>
class ColumnCells : public AllClasses<int> {
 public:
  using T = T_;
  using O = std::conditional_t<std::is_same_v<T, double>, double, float>;
  using Values = Pack<O, kPack>;

  __device__ __forceinline__ ColumnCells(const ClassCall& call, const ElementIndex& element,
                                         T* tile)
      : AllClasses(call),
        p_(call.params),
        target_(call, element),
        input_(static_cast<const T*>(p_.input.positions.data) + element.offset(p_.input.positions)),
        gradient_(static_cast<T*>(p_.grad_input.positions.data) +
                  element.offset(p_.grad_input.positions)),
        kept_(call.kept ? tile + threadIdx.x : nullptr) {}

  // Fills the column: several loads are on their way at a time.
  __device__ __forceinline__ void fetch() {
    constexpr int kAhead = 8;
    if (kept_ == nullptr) return;
    const int64_t stride = p_.input.class_stride;
    const T* from = input_;
    T* to = kept_;
#pragma unroll 1
    for (int c = 0; c < classes; c += kAhead) {
      T ahead[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (c + i < classes) ahead[i] = load_pack<T, 1>(from).at[0];
        from += stride;
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (c + i < classes) to[i * kThreads] = ahead[i];
      }
      to += kAhead * kThreads;
    }
  }

  __device__ __forceinline__ O at(int c) const {
    return convert<O>(load_pack<T, 1>(input_ + c * p_.input.class_stride).at[0]);
  }
  __device__ __forceinline__ Values targets(int c, Span span) const {
    return target_.template load_each<O, kPack>(c, span);
  }

  __device__ __forceinline__ Values load(int c, Span span) const {
    Values values{};
    if (kept_ != nullptr) {
      const T* kept = kept_ + c * kThreads;
#pragma unroll
      for (int lane = 0; lane < kPack; ++lane) {
        if (span.has(lane)) values.at[lane] = convert<O>(kept[lane * kThreads]);
      }
      return values;
    }
#pragma unroll
    for (int lane = 0; lane < kPack; ++lane) {
      if (span.has(lane)) values.at[lane] = at(c + lane);
    }
    return values;
  }
  __device__ __forceinline__ Values reload(int c, Span span) const { return load(c, span); }

  __device__ __forceinline__ void store(int c, Span span, const Values& values) {
    const int64_t stride = p_.grad_input.class_stride;
    T* to = gradient_ + c * stride;
#pragma unroll
    for (int lane = 0; lane < kPack; ++lane) {
      if (span.has(lane)) to[lane * stride] = convert<T>(values.at[lane]);
    }
  }

 private:
  const ClasswiseParams& p_;
  const TargetCells target_;
  const T* const input_;
  T* const gradient_;
  T* const kept_;
};

// Classes side by side: a row of the block's tile, which the block fills from memory, and from
// which it writes the gradient.
template <class T_>
class StagedCells : public AllClasses<int> {
 public:
  using T = T_;
  using O = std::conditional_t<std::is_same_v<T, double>, double, float>;
  using Values = Pack<O, kPack>;

  __device__ __forceinline__ StagedCells(const ClassCall& call, const ElementIndex& element,
                                         T* tile)
      : AllClasses(call),
        target_(call, element),
        input_(static_cast<const T*>(call.params.input.positions.data) +
               element.offset(call.params.input.positions)),
        kept_(tile + static_cast<int>(threadIdx.x) * call.pitch) {}

  __device__ __forceinline__ O at(int c) const {
    return convert<O>(load_pack<T, 1>(input_ + c).at[0]);
  }
  __device__ __forceinline__ Values targets(int c, Span span) const {
    return target_.template load_each<O, kPack>(c, span);
  }

  __device__ __forceinline__ Values load(int c, Span span) const {
    Values values{};
#pragma unroll
    for (int lane = 0; lane < kPack; ++lane) {
      if (span.has(lane)) values.at[lane] = convert<O>(kept_[c + lane]);
    }
    return values;
  }
  __device__ __forceinline__ Values reload(int c, Span span) const { return load(c, span); }

  __device__ __forceinline__ void store(int c, Span span, const Values& values) {
#pragma unroll
    for (int lane = 0; lane < kPack; ++lane) {
      if (span.has(lane)) kept_[c + lane] = convert<T>(values.at[lane]);
    }
  }

 private:
  const TargetCells target_;
  const T* const input_;
  T* const kept_;
};

}  // namespace fusedloss::cuda
