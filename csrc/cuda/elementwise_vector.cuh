// The fast elementwise kernel: region, weight, loss, sums and gradient from 16-byte loads and
// stores.
//
// A thread takes one slot at a time: the 16 bytes of input that start at a 16-byte border. The
// first and last slot of a row may be partial; their elements are accessed one by one. For planar
// walks the mask and weight of a slot stay in registers while its channels go by.
//
// Reads each byte of input and target once and writes the gradient once; mask and weight once,
// twice where the gradient's scale waits for their sums.
#pragma once

#include "cuda/elementwise_element.cuh"
#include "cuda/elementwise_finish.cuh"
#include "cuda/region_eval.cuh"
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

// What a region program reads at a slot.
template <class O, int kLanes>
struct SlotSource {
  const ElementwiseCall& call;
  const Slot& slot;
  const Pack<O, kLanes>& target_values;

  __device__ __forceinline__ Pack<O, kLanes> mask(int tensor) const {
    const View& view = call.region[tensor];
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

template <class Loss, class T, Pass kPass, bool kMasked>
class VectorBlock {
 public:
  using O = std::conditional_t<std::is_same_v<T, double>, double, float>;
  static constexpr int kLanes = 16 / sizeof(T);
  static constexpr int kRegionLanes = kLanes < 4 ? kLanes : 4;
  static constexpr bool kHasSums = kPass != Pass::kBackward;
  static constexpr bool kHasPhases = kMasked && kPass == Pass::kForwardGradient;
  static constexpr int kSums = kMasked ? kPositions : 1;
  using Tally = cuda::Tally<O, kSums>;
  using Values = Pack<O, kLanes>;

  __device__ VectorBlock(const ElementwiseCall& call, const Loss& loss)
      : call_(call), p_(call.params), loss_(loss) {}

  __device__ __forceinline__ void visit(int64_t row, int64_t first, bool sums_only,
                                        Tally& tally) const {
    O scale = O(0);
    if (kPass != Pass::kForward && !sums_only) {
      scale = static_cast<O>(scale_of_sample(call_, row / call_.rows_per_sample));
    }
    // A row that starts within 16 bytes is walked from the border before it.
    const int64_t start = row * call_.channels * call_.inner;
    const auto lane = reinterpret_cast<uintptr_t>(p_.input.data) / sizeof(T) + start;
    const int64_t shift = static_cast<int64_t>(lane % kLanes);
#pragma unroll 1
    for (int64_t i = threadIdx.x; i < call_.slots_per_chunk; i += kThreads) {
      Slot slot{row, 0, (first + i) * kLanes - shift, {}};
      if (slot.position >= call_.inner) break;
      slot.span.begin = slot.position < 0 ? static_cast<int>(-slot.position) : 0;
      const int64_t rest = call_.inner - slot.position;
      slot.span.end = rest < kLanes ? static_cast<int>(rest) : kLanes;
      visit_channels(slot, scale, sums_only, tally);
    }
  }

 private:
  __device__ __forceinline__ void visit_channels(Slot& slot, O scale, bool sums_only,
                                                 Tally& tally) const {
    Values mask, weight;
#pragma unroll 1
    for (slot.channel = 0; slot.channel < call_.channels; ++slot.channel) {
      const int64_t index =
          (slot.row * call_.channels + slot.channel) * call_.inner + slot.position;
      Pack<T, kLanes> x{};
      if (!sums_only)
        x = load_span<T, kLanes>(static_cast<const T*>(p_.input.data) + index, slot.span);
      Values t{};
      if (!sums_only || call_.region_reads_target) t = load_target(slot, index);
      if constexpr (kMasked) {
        load_masks(slot, t, mask, weight);
        if (kHasSums && call_.has_sums) count(mask, weight, tally);
      }
      if (sums_only) {
        tally.step();
        continue;
      }
      Values factor;
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        factor.at[lane] = kMasked ? mask_times_weight(mask.at[lane], weight.at[lane])
                                  : static_cast<O>(slot.span.has(lane));
      }
      compute(slot, index, {convert_pack<O>(x), t, factor}, scale, tally);
      tally.step();
    }
  }

  __device__ __forceinline__ Values load_target(const Slot& slot, int64_t index) const {
    if (call_.target_is_dense) {
      const T* memory = static_cast<const T*>(p_.target.data) + index;
      return convert_pack<O>(load_span<T, kLanes>(memory, slot.span));
    }
    return load_view<O, kLanes>(call_.target, slot, call_.channels_inside);
  }

  __device__ __forceinline__ void load_masks(const Slot& slot, const Values& t, Values& mask,
                                             Values& weight) const {
    if (slot.channel == 0 || !call_.region_repeats) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) mask.at[lane] = O(1);
      if (p_.region) {
#pragma unroll 1
        for (int part = 0; part < kLanes / kRegionLanes; ++part) load_region(slot, t, part, mask);
      }
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        if (!slot.span.has(lane)) mask.at[lane] = O(0);
      }
    }
    if (slot.channel == 0 || !call_.weight_repeats) {
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) weight.at[lane] = O(1);
      if (call_.weight) weight = load_view<O, kLanes>(call_.weight, slot, call_.channels_inside);
    }
  }

  // A region is evaluated for a few lanes at a time: its value stack is what costs registers.
  __device__ __forceinline__ void load_region(const Slot& slot, const Values& t, int part,
                                              Values& mask) const {
    const int first = part * kRegionLanes;
    Slot few = slot;
    few.position += first;
    few.span = {::max(slot.span.begin - first, 0), ::min(slot.span.end - first, kRegionLanes)};
    Pack<O, kRegionLanes> target;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      if (lane / kRegionLanes == part) target.at[lane % kRegionLanes] = t.at[lane];
    }
    const SlotSource<O, kRegionLanes> source{call_, few, target};
    const Pack<O, kRegionLanes> values = region_values<O, kRegionLanes>(p_.region, source);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      if (lane / kRegionLanes == part) mask.at[lane] = values.at[lane % kRegionLanes];
    }
  }

  __device__ __forceinline__ static void count(const Values& mask, const Values& weight,
                                               Tally& tally) {
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      tally.sum[kMask] += mask.at[lane];
      tally.sum[kWeights] += mask_times_weight(mask.at[lane], weight.at[lane]);
      tally.sum[kSelected] += static_cast<O>(mask.at[lane] != O(0));
    }
  }

  struct Terms {
    Values x, t, factor;
  };

  __device__ __forceinline__ void compute(const Slot& slot, int64_t index, const Terms& terms,
                                          O scale, Tally& tally) const {
    Values pos_weight, grad_output, value, gradient;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) pos_weight.at[lane] = grad_output.at[lane] = O(1);
    if constexpr (has_pos_weight<Loss>) {
      if (call_.pos_weight) {
        pos_weight = load_view<O, kLanes>(call_.pos_weight, slot, call_.channels_inside);
      }
    }
    const bool none = p_.reduction == Reduction::kNone;
    if (kPass == Pass::kBackward && none) grad_output = load_grad_output(slot, index);
    O sum = O(0);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      const O x = terms.x.at[lane], t = terms.t.at[lane], q = pos_weight.at[lane];
      const O factor = terms.factor.at[lane];
      if constexpr (kPass != Pass::kBackward) {
        check_input<Loss>(x, factor);
        value.at[lane] = factor == O(0) ? O(0) : factor * element_value(loss_, x, t, q);
        sum += value.at[lane];
      }
      if constexpr (kPass != Pass::kForward) {
        const O weighted = factor * scale * grad_output.at[lane];
        const bool exists = factor != O(0) && scale != O(0);
        gradient.at[lane] = exists ? weighted * element_derivative(loss_, x, t, q) : O(0);
      }
    }
    if (kPass != Pass::kBackward) tally.sum[kTotal] += sum;
    if (kPass != Pass::kBackward && none) store(p_.loss, index, value, slot.span);
    if (kPass != Pass::kForward) store(p_.grad_input, index, gradient, slot.span);
  }

  __device__ __forceinline__ Values load_grad_output(const Slot& slot, int64_t index) const {
    if (call_.grad_output_is_dense) {
      const T* memory = static_cast<const T*>(p_.grad_output.data) + index;
      return convert_pack<O>(load_span<T, kLanes>(memory, slot.span));
    }
    return load_view<O, kLanes>(call_.grad_output, slot, call_.channels_inside);
  }

  __device__ __forceinline__ void store(const Operand& operand, int64_t index, const Values& values,
                                        Span span) const {
    store_span(static_cast<T*>(operand.data) + index, convert_pack<T>(values), span);
  }

  const ElementwiseCall& call_;
  const ElementwiseParams& p_;
  const Loss& loss_;
};

template <class Loss, class T, Pass kPass, bool kMasked>
__global__ void __launch_bounds__(kThreads, 2)
    elementwise_vector(const __grid_constant__ ElementwiseCall call,
                       const __grid_constant__ Loss loss) {
  run_phases(VectorBlock<Loss, T, kPass, kMasked>(call, loss), call);
}

}  // namespace fusedloss::cuda
