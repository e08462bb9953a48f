// A slot of the vector kernel: what one thread loads at once, and what programs read there.
#pragma once

#include "cuda/element_source.cuh"
#include "cuda/elementwise_call.h"
#include "cuda/program_eval.cuh"
#include "cuda/vector_access.cuh"

namespace fusedloss::cuda {

// Where a thread is: elements [position, position + lanes) of a channel of a row, those in span.
struct Slot {
  int64_t row, channel, position;
  Span span;
};

// The slot's values of a tensor that is not dense in the input's type. Lanes outside span are 0.
template <class O, int kLanes>
__device__ __forceinline__ Pack<O, kLanes> load_view(const View& view, const Slot& slot,
                                                     int64_t channels_inside) {
  const int64_t base = slot.row * view.row_stride + slot.channel * view.channel_stride;
  const bool is_run = view.access == Access::kRun, is_uniform = view.access == Access::kUniform;
  if (is_run && slot.span.is_full<kLanes>()) {
    const int64_t first = base + slot.position;
    const auto wide = [&](auto element, Pack<O, kLanes>& result) {
      using Element = decltype(element);
      const Element* memory = static_cast<const Element*>(view.data) + first;
      if (!is_aligned<Element, kLanes>(memory)) return false;
      result = convert_pack<O>(load_pack<Element, kLanes>(memory));
      return true;
    };
    Pack<O, kLanes> result;
    const DType dtype = view.dtype;
    if (dtype <= DType::kUInt8 && wide(uint8_t{}, result)) return result;
    if (dtype == DType::kFloat && wide(float{}, result)) return result;
    if (dtype == DType::kHalf && wide(Half{}, result)) return result;
    if (dtype == DType::kBFloat16 && wide(BFloat16{}, result)) return result;
    if (sizeof(O) == 8 && dtype == DType::kDouble && wide(double{}, result)) return result;
  }
  Pack<O, kLanes> result{};
#pragma unroll 1
  for (int i = slot.span.begin; i < slot.span.end; ++i) {
    const int64_t at = slot.position + i;
    const int64_t offset = is_run ? at : is_uniform ? 0 : at / channels_inside;
    const O value = load_number<O>(view.data, view.dtype, base + offset);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      if (is_uniform || lane == i) result.at[lane] = value;
    }
    if (is_uniform) break;
  }
  return result;
}

// The same, not inlined.
template <class O, int kLanes>
__device__ __noinline__ Pack<O, kLanes> load_view_once(const View& view, Slot slot,
                                                       int64_t channels_inside) {
  return load_view<O, kLanes>(view, slot, channels_inside);
}

// What a region program reads at a slot.
template <class O, int kLanes>
struct SlotSource {
  const KernelCall& call;
  const Slot& slot;
  const Pack<O, kLanes>& target_values;

  __device__ __forceinline__ Pack<O, kLanes> mask(int tensor) const {
    const View& view = call.tensor[tensor];
    Pack<O, kLanes> values = load_view<O, kLanes>(view, slot, call.channels_inside);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      values.at[lane] = as_mask(values.at[lane], view.dtype);
    }
    return values;
  }
  __device__ __forceinline__ const Pack<O, kLanes>& target() const { return target_values; }
  __device__ __forceinline__ bool has(int lane) const { return slot.span.has(lane); }
  __device__ __forceinline__ int64_t target_integer(int lane) const {
    const View& view = call.target;
    const int64_t base = slot.row * view.row_stride + slot.channel * view.channel_stride;
    const int64_t along = view.access == Access::kRun ? slot.position + lane : 0;
    return load_integer(view.data, view.dtype, base + along);
  }
};

// The same for programs of all terms. T is the input's element type.
template <class T, class O, int kLanes>
struct ProgramSource : SlotSource<O, kLanes> {
  using Values = Pack<O, kLanes>;

  __device__ __forceinline__ ProgramSource(const KernelCall& call, const Slot& slot,
                                           const Values& target)
      : SlotSource<O, kLanes>{call, slot, target} {}

  __device__ __forceinline__ int64_t index() const { return index_of(this->slot.channel); }
  __device__ __forceinline__ const Span& span() const { return this->slot.span; }
  __device__ __forceinline__ Values mask(int tensor) const {
    Values values = weight(tensor);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      values.at[lane] = as_mask(values.at[lane], this->call.tensor[tensor].dtype);
    }
    return values;
  }
  __device__ __forceinline__ Values weight(int tensor) const {
    return load_view_once<O, kLanes>(this->call.tensor[tensor], this->slot,
                                     this->call.channels_inside);
  }

  __device__ __forceinline__ Values variance(const Instruction& instruction) const {
    const KernelCall& call = this->call;
    if (call.channels > 1 && call.channels <= kKeptChannels) return kept_variance(instruction);
    Values result{};
#pragma unroll 1
    for (int i = span().begin; i < span().end; ++i) {
      const ChannelOffsets channel(call.params, index() + i);
      const bool holds = variance_holds_at(call.params.bindings, instruction, call.params.input,
                                           channel.count, channel.first, channel.stride);
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        if (lane == i) result.at[lane] = static_cast<O>(holds);
      }
    }
    return result;
  }

 private:
  using V = std::conditional_t<std::is_same_v<T, double>, double, float>;
  static constexpr int kKeptChannels = 8;

  __device__ __forceinline__ int64_t index_of(int64_t channel) const {
    const Slot& slot = this->slot;
    return (slot.row * this->call.channels + channel) * this->call.inner + slot.position;
  }

  // Few channels are loaded once, 16 bytes at a time, and kept.
  __device__ __forceinline__ Values kept_variance(const Instruction& instruction) const {
    const KernelCall& call = this->call;
    Pack<V, kLanes> kept[kKeptChannels];
#pragma unroll 1
    for (int c = 0; c < call.channels; ++c) {
      const T* memory = static_cast<const T*>(call.params.input.data) + index_of(c);
      kept[c] = convert_pack<V>(load_span<T, kLanes>(memory, span()));
    }
    Values result{};
#pragma unroll 1
    for (int i = 0; i < kLanes; ++i) {
      const bool holds = variance_holds<V>(instruction, call.params.bindings, call.channels,
                                           [&](int64_t c) { return kept[c].at[i]; });
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        if (lane == i) result.at[lane] = static_cast<O>(holds);
      }
    }
    return result;
  }
};

// The values of a program at a slot. Not inlined: the kernels of all losses share it.
template <class T, class O, int kLanes>
__device__ __noinline__ void slot_values(const KernelCall& call, const Program& program, Slot slot,
                                         Pack<O, kLanes> target, Pack<O, kLanes>* values) {
  const ProgramSource<T, O, kLanes> source(call, slot, target);
  *values = program_values<O, kLanes>(call, program, 0, program.length, source);
}

}  // namespace fusedloss::cuda
