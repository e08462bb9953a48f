// One element of the index space, whatever the strides and dtypes of its tensors: where it lies,
// and what programs read there. `Params` is a family's params struct; where its operands have
// classes, the elements are positions.
#pragma once

#include "core/classwise_params.h"
#include "cuda/program_eval.cuh"
#include "cuda/vector_access.cuh"

namespace fusedloss::cuda {

// index / size; a 64-bit division costs several times a 32-bit one.
__device__ __forceinline__ int64_t quotient_of(int64_t index, int64_t size) {
  const bool is_small = ((index | size) >> 31) == 0;
  return is_small ? static_cast<int64_t>(static_cast<uint32_t>(index) / static_cast<uint32_t>(size))
                  : index / size;
}

// The index of an element along each axis; registers, because every loop over it is unrolled.
struct Coordinates {
  int64_t at[kMaxRank];

  __device__ __forceinline__ Coordinates(const Extents& extents, int64_t index) {
#pragma unroll
    for (int axis = kMaxRank - 1; axis > 0; --axis) {
      at[axis] = 0;
      if (axis >= extents.rank) continue;
      const int64_t quotient = quotient_of(index, extents.size[axis]);
      at[axis] = index - quotient * extents.size[axis];
      index = quotient;
    }
    at[0] = index;
  }

  __device__ __forceinline__ int64_t offset(const Operand& operand) const {
    int64_t result = 0;
#pragma unroll
    for (int axis = 0; axis < kMaxRank; ++axis) result += at[axis] * operand.stride[axis];
    return result;
  }

  template <class O>
  __device__ __forceinline__ O load(const Operand& operand) const {
    return load_number<O>(operand.data, operand.dtype, offset(operand));
  }
};

// The same, worked out anew for every operand: few registers, for a kernel that looks at few of
// them.
struct ElementIndex {
  const Extents& extents;
  int64_t index;

  __device__ __forceinline__ int64_t offset(const Operand& operand) const {
    int64_t result = 0, rest = index;
#pragma unroll 1
    for (int axis = extents.rank - 1; axis > 0; --axis) {
      const int64_t quotient = quotient_of(rest, extents.size[axis]);
      result += (rest - quotient * extents.size[axis]) * operand.stride[axis];
      rest = quotient;
    }
    return result + rest * operand.stride[0];
  }

  template <class O>
  __device__ __forceinline__ O load(const Operand& operand) const {
    return load_number<O>(operand.data, operand.dtype, offset(operand));
  }
};

// m w, or exactly 0 where an element does not exist: what is multiplied by it is selected, too.
template <class O>
__device__ __forceinline__ O mask_times_weight(O mask, O weight) {
  return mask == O(0) || weight == O(0) ? O(0) : mask * weight;
}

// The operand of an element.
__device__ __forceinline__ const Operand& at_elements(const Operand& operand) { return operand; }
__device__ __forceinline__ const Operand& at_elements(const ClassOperand& operand) {
  return operand.positions;
}

// Whether a family's channels may be beside its index space; one over elements has them in it.
template <class Params>
constexpr bool kAside = requires(const Params& params) { params.classes; };

// Where the channels of an element's position lie in the input.
struct ChannelOffsets {
  int64_t count, first, stride;

  template <class Params>
  __device__ __forceinline__ ChannelOffsets(const Params& params, int64_t index) {
    const Extents& extents = params.extents;
    const Operand& input = at_elements(params.input);
    const ChannelsAside& aside = params.bindings.input_channels;
    if (kAside<Params> && aside.count != 1) {
      count = aside.count;
      stride = aside.stride;
    } else {
      count = extents.channels;
      index -= index / extents.inner % count * extents.inner;
      stride = count == 1
                   ? 0
                   : input.offset(extents, index + extents.inner) - input.offset(extents, index);
    }
    first = input.offset(extents, index);
  }
};

template <class O, class Params, class Where = Coordinates>
struct ElementSource {
  static constexpr bool kChannelsAside = kAside<Params>;

  const Params& params;
  const Where& coordinates;
  int64_t target_shift = 0;  // to one of the target's channels aside

  __device__ __forceinline__ Pack<O, 1> mask(int tensor) const {
    const Operand& operand = params.bindings.tensor[tensor];
    return {as_mask(coordinates.template load<O>(operand), operand.dtype)};
  }
  __device__ __forceinline__ Pack<O, 1> target() const {
    const Operand& target = at_elements(params.target);
    return {load_number<O>(target.data, target.dtype, target_offset(target))};
  }
  __device__ __forceinline__ bool has(int) const { return true; }
  __device__ __forceinline__ int64_t target_integer(int) const {
    const Operand& target = at_elements(params.target);
    return load_integer(target.data, target.dtype, target_offset(target));
  }

 private:
  __device__ __forceinline__ int64_t target_offset(const Operand& target) const {
    if constexpr (!kChannelsAside) return coordinates.offset(target);
    return coordinates.offset(target) + target_shift;
  }
};

// The same for programs of all terms.
template <class O, class Params>
struct IndexedSource : ElementSource<O, Params> {
  int64_t element;

  __device__ __forceinline__ IndexedSource(const Params& params, const Coordinates& coordinates,
                                           int64_t index)
      : ElementSource<O, Params>{params, coordinates}, element(index) {}

  __device__ __forceinline__ int64_t index() const { return element; }
  __device__ __forceinline__ Span span() const { return {0, 1}; }
  __device__ __forceinline__ Pack<O, 1> weight(int tensor) const {
    return {this->coordinates.template load<O>(this->params.bindings.tensor[tensor])};
  }
  __device__ __forceinline__ Pack<O, 1> variance(const Instruction& instruction) const {
    const Params& p = this->params;
    const ChannelOffsets channel(p, element);
    return {static_cast<O>(variance_holds_at(p.bindings, instruction, at_elements(p.input),
                                             channel.count, channel.first, channel.stride))};
  }
};

// The values of a program at the element with this index. Not inlined: the kernels of all losses
// share it.
template <class O, class Call>
__device__ __noinline__ O element_values(const Call& call, const Program& program, int begin,
                                         int end, int64_t index) {
  using Params = std::decay_t<decltype(call.params)>;
  const Coordinates coordinates(call.params.extents, index);
  return program_values<O, 1>(call, program, begin, end,
                              IndexedSource<O, Params>(call.params, coordinates, index))
      .at[0];
}

}  // namespace fusedloss::cuda
