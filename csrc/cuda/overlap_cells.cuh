// The positions that one thread works on, with all their classes: logits and targets in, factors
// from mask and map, the gradient out.
//
//     StridedCells<O>   one position, any strides, any dtypes
//     PlanarCells<T>    kPlanarLanes positions side by side in planes of T
//
//     cells.input(c), cells.target(c), cells.pos_weight(c), cells.store(c, values)
//     cells.labels(to)                 an integer target of the positions
//     cells.mask(c), cells.weight(c)   of an element, or (c = 0) of a position
//
// overlap_staged.cuh has cells that need something done by the whole block before and after.
#pragma once

#include "cuda/element_source.cuh"
#include "cuda/overlap_call.h"
#include "cuda/overlap_plan.h"
#include "cuda/vector_access.cuh"

namespace fusedloss::cuda {

template <class O_>
class StridedCells {
 public:
  using O = O_;
  static constexpr bool kWeighted = true;
  static constexpr bool kHasElements = true;    // mask and map may be those of an element
  static constexpr bool kFetchesAhead = false;  // a logit while the one before it is worked on
  static constexpr int kLanes = 1;
  using Values = Pack<O, 1>;

  __device__ __forceinline__ StridedCells(const PoolCall& call, int64_t row, int64_t position)
      : call_(call), index_(row * call.inner + position) {
    const Coordinates at(call.extents, index_);
    input_ = at.offset(call.input.positions);
    target_ = at.offset(call.target.positions);
    if (call.grad_input) gradient_ = at.offset(call.grad_input.positions);
    if (call.pointwise.pos_weight) pos_weight_ = at.offset(call.pointwise.pos_weight.positions);
  }

  // Nothing is fetched ahead.
  __device__ __forceinline__ static void fetch(const PoolCall&, int64_t, int64_t, int, bool) {}
  __device__ __forceinline__ static void deliver(const PoolCall&, int64_t, int64_t, int) {}

  __device__ __forceinline__ Values input(int64_t c) const {
    const void* data = call_.input.positions.data;
    const int64_t at = input_ + c * call_.input.class_stride;
    switch (call_.input.positions.dtype) {  // four of the types that load_number knows
      case DType::kHalf:
        return {convert<O>(static_cast<const Half*>(data)[at])};
      case DType::kBFloat16:
        return {convert<O>(static_cast<const BFloat16*>(data)[at])};
      case DType::kFloat:
        return {convert<O>(static_cast<const float*>(data)[at])};
      default:
        return {convert<O>(static_cast<const double*>(data)[at])};
    }
  }
  __device__ __forceinline__ Values target(int64_t c) const { return of(call_.target, target_, c); }
  __device__ __forceinline__ Values pos_weight(int64_t c) const {
    return of(call_.pointwise.pos_weight, pos_weight_, c);
  }
  __device__ __forceinline__ void labels(Pack<int64_t, 1>& label) const {
    const Operand& target = call_.target.positions;
    label.at[0] = load_integer(target.data, target.dtype, target_);
  }
  __device__ __forceinline__ void store(int64_t c, const Values& values) const {
    const Operand& gradient = call_.grad_input.positions;
    store_number(gradient.data, gradient.dtype, gradient_ + c * call_.grad_input.class_stride,
                 values.at[0]);
  }

  __device__ __forceinline__ Values mask(int64_t c) const {
    const Program& region = call_.params.region;
    if (!region) return {O(1)};
    return {element_values<O>(call_, region, 0, region.length, weighting_index(c))};
  }
  __device__ __forceinline__ Values weight(int64_t c) const {
    const WeightingParams& params = call_.params;
    const int64_t index = weighting_index(c);
    if (params.weight_map) {
      return {Coordinates(params.extents, index).template load<O>(params.weight_map)};
    }
    const Program& source = params.weight_source;
    if (!source) return {O(1)};
    return {element_values<O>(call_, source, 0, source.length, index)};
  }

 private:
  // Of an element in the space of mask and map.
  __device__ __forceinline__ int64_t weighting_index(int64_t c) const {
    if (!call_.per_element) return index_;
    const int64_t per_sample = call_.inner * call_.rows_per_sample;
    return index_ + (quotient_of(index_, per_sample) * (call_.params.classes - 1) + c) * per_sample;
  }
  __device__ __forceinline__ static Values of(const ClassOperand& operand, int64_t offset,
                                              int64_t c) {
    return {load_number<O>(operand.positions.data, operand.positions.dtype,
                           offset + c * operand.class_stride)};
  }

  const PoolCall& call_;
  const int64_t index_;
  int64_t input_, target_, gradient_ = 0, pos_weight_ = 0;
};

// All lanes of a tensor in a plane of its own dtype.
template <class O>
__device__ __forceinline__ Pack<O, kPlanarLanes> load_plane(const PlaneView& view, int64_t row,
                                                            int64_t c, int64_t position) {
  constexpr int kSize = kPlanarLanes;
  const int64_t base = row * view.row_stride + c * view.class_stride;
  Pack<O, kSize> result;
  if (!view.is_run) {
    const O value = load_number<O>(view.data, view.dtype, base);
#pragma unroll
    for (int lane = 0; lane < kSize; ++lane) result.at[lane] = value;
    return result;
  }
  visit_dtype(view.dtype, [&](auto element) {
    using Element = decltype(element);
    const Element* memory = static_cast<const Element*>(view.data) + base + position;
    if (is_aligned<Element, kSize>(memory)) {
      const auto values = load_pack<Element, kSize>(memory);
#pragma unroll
      for (int lane = 0; lane < kSize; ++lane) result.at[lane] = convert<O>(values.at[lane]);
    } else {
#pragma unroll
      for (int lane = 0; lane < kSize; ++lane) result.at[lane] = convert<O>(memory[lane]);
    }
  });
  return result;
}

// The same, not inlined.
template <class O>
__device__ __noinline__ Pack<O, kPlanarLanes> load_plane_once(const PlaneView& view, int64_t row,
                                                              int64_t c, int64_t position) {
  return load_plane<O>(view, row, c, position);
}

// What programs read at kPlanarLanes positions.
template <class O>
struct PlanarSource {
  using Values = Pack<O, kPlanarLanes>;

  const PoolCall& call;
  const int64_t row, position;

  __device__ __forceinline__ int64_t index() const { return row * call.inner + position; }
  __device__ __forceinline__ Span span() const { return {0, kPlanarLanes}; }
  __device__ __forceinline__ bool has(int) const { return true; }
  __device__ __forceinline__ Values weight(int tensor) const {
    return load_plane_once<O>(call.planes.tensor[tensor], row, 0, position);
  }
  __device__ __forceinline__ Values mask(int tensor) const {
    Values values = weight(tensor);
#pragma unroll
    for (int lane = 0; lane < kPlanarLanes; ++lane) {
      values.at[lane] = as_mask(values.at[lane], call.planes.tensor[tensor].dtype);
    }
    return values;
  }
  __device__ __forceinline__ Values target() const {
    return load_plane_once<O>(call.planes.target, row, 0, position);
  }
  __device__ __forceinline__ int64_t target_integer(int lane) const {
    const PlaneView& view = call.planes.target;
    return load_integer(view.data, view.dtype,
                        row * view.row_stride + (view.is_run ? position + lane : 0));
  }
  __device__ __forceinline__ Values variance(const Instruction& instruction) const {
    const WeightingParams& params = call.params;
    Values result;
#pragma unroll 1
    for (int i = 0; i < kPlanarLanes; ++i) {
      const ChannelOffsets channel(params, index() + i);
      const bool holds = variance_holds_at(params.bindings, instruction, params.input.positions,
                                           channel.count, channel.first, channel.stride);
#pragma unroll
      for (int lane = 0; lane < kPlanarLanes; ++lane) {
        if (lane == i) result.at[lane] = static_cast<O>(holds);
      }
    }
    return result;
  }
};

template <class O>
__device__ __noinline__ Pack<O, kPlanarLanes> planar_values(const PoolCall& call,
                                                            const Program& program, int64_t row,
                                                            int64_t position) {
  const PlanarSource<O> source{call, row, position};
  return program_values<O, kPlanarLanes>(call, program, 0, program.length, source);
}

// Class indices of all lanes.
__device__ __forceinline__ void load_labels(const PlaneView& view, int64_t row, int64_t position,
                                            Pack<int64_t, kPlanarLanes>& label) {
  visit_dtype(view.dtype, [&](auto element) {
    using Element = decltype(element);
    if constexpr (std::is_integral_v<Element>) {
      const Element* memory = static_cast<const Element*>(view.data) + row * view.row_stride;
      memory += view.is_run ? position : 0;
      if (view.is_run && is_aligned<Element, kPlanarLanes>(memory)) {
        label = convert_pack<int64_t>(load_pack<Element, kPlanarLanes>(memory));
      } else {
#pragma unroll
        for (int lane = 0; lane < kPlanarLanes; ++lane) {
          label.at[lane] = static_cast<int64_t>(memory[view.is_run ? lane : 0]);
        }
      }
    }
  });
}

// kWeighted_: mask, map, pos_weight, or a soft target that is not like the input. They are read by
// calls; where there are none, everything stays in registers.
template <class T, bool kWeighted_>
class PlanarCells {
 public:
  using O = float;
  static constexpr bool kWeighted = kWeighted_;
  static constexpr bool kHasElements = false;
  static constexpr bool kFetchesAhead = true;
  static constexpr int kLanes = kPlanarLanes;
  using Values = Pack<O, kLanes>;

  __device__ __forceinline__ PlanarCells(const PoolCall& call, int64_t row, int64_t slot)
      : call_(call), row_(row), position_(slot * kLanes) {}

  // Nothing is fetched ahead.
  __device__ __forceinline__ static void fetch(const PoolCall&, int64_t, int64_t, int, bool) {}
  __device__ __forceinline__ static void deliver(const PoolCall&, int64_t, int64_t, int) {}

  __device__ __forceinline__ Values input(int64_t c) const {
    const PlaneViews& views = call_.planes;
    return load(call_.input, views.input_row_stride, c);
  }
  __device__ __forceinline__ Values target(int64_t c) const {
    const PlaneView& view = call_.planes.target;
    if (call_.planes.target_is_like_input) return load(call_.target, view.row_stride, c);
    if constexpr (kWeighted) return load_plane_once<O>(view, row_, c, position_);
    return Values{};
  }
  __device__ __forceinline__ Values pos_weight(int64_t c) const {
    if constexpr (kWeighted) {
      return load_plane_once<O>(call_.planes.pos_weight, row_, c, position_);
    }
    return Values{};
  }
  __device__ __forceinline__ void labels(Pack<int64_t, kLanes>& label) const {
    load_labels(call_.planes.target, row_, position_, label);
  }
  __device__ __forceinline__ void store(int64_t c, const Values& values) const {
    T* memory = static_cast<T*>(call_.grad_input.positions.data) + position_ +
                row_ * call_.planes.gradient_row_stride + c * call_.grad_input.class_stride;
    using Word = typename RawWord<int(sizeof(T)) * kLanes>::type;
    __stcs(reinterpret_cast<Word*>(memory), bit_cast<Word>(convert_pack<T>(values)));
  }

  __device__ __forceinline__ Values mask(int64_t) const { return evaluate(call_.params.region); }
  __device__ __forceinline__ Values weight(int64_t) const {
    const PlaneView& map = call_.planes.weight_map;
    if (map) return load_plane_once<O>(map, row_, 0, position_);
    return evaluate(call_.params.weight_source);
  }

 private:
  __device__ __forceinline__ Values load(const ClassOperand& operand, int64_t row_stride,
                                         int64_t c) const {
    const T* memory = static_cast<const T*>(operand.positions.data) + position_;
    return convert_pack<O>(
        load_pack<T, kLanes>(memory + row_ * row_stride + c * operand.class_stride));
  }
  // 1 where there is no program.
  __device__ __forceinline__ Values evaluate(const Program& program) const {
    if (program) return planar_values<O>(call_, program, row_, position_);
    return everywhere<O, kLanes>(O(1));
  }

  const PoolCall& call_;
  const int64_t row_, position_;
};

}  // namespace fusedloss::cuda
