// The fast elementwise kernel: region, weight, loss, sums and gradient from 16-byte loads and
// stores.
//
// A thread takes one slot at a time: the 16 bytes of input that start at a 16-byte border. The
// first and last slot of a row may be partial; their elements are accessed one by one. For planar
// walks the mask and weight of a slot stay in registers while its channels go by.
//
// Reads each byte of input and target once and writes the gradient once; mask and weight once,
// twice where the gradient's scale waits for their sums. With Factors::kPrograms mask and weight
// are known first, and the input and target of a slot that they leave nothing of are not read; one
// such kernel serves all losses and passes.
#pragma once

#include "cuda/any_loss.h"
#include "cuda/elementwise_element.cuh"
#include "cuda/phases.cuh"
#include "cuda/region_eval.cuh"
#include "cuda/slot_source.cuh"
#include "cuda/vector_access.cuh"

namespace fusedloss::cuda {

template <class Loss, class T, bool kBackward, Factors kFactors>
class VectorBlock {
 public:
  using O = std::conditional_t<std::is_same_v<T, double>, double, float>;
  static constexpr int kLanes = 16 / sizeof(T);
  // What is worked on at once: few enough lanes that 16-bit types need no more registers than
  // float.
  static constexpr int kWidth = kLanes < 4 ? kLanes : 4;
  static constexpr int kParts = kLanes / kWidth;
  static constexpr bool kMasked = kFactors != Factors::kNone;
  static constexpr bool kHasSums = !kBackward;
  static constexpr bool kHasRanges = kFactors == Factors::kPrograms;
  static constexpr bool kHasPhases = kMasked && !kBackward;
  static constexpr int kSums = kMasked ? kPositions : 1;
  using Tally = cuda::Tally<O, kSums>;
  // 16 bytes as they come from memory: 16-bit elements are not spread over registers of their own.
  using Words = Pack<unsigned, 4>;
  static constexpr int kPartWords = 4 / kParts;
  using Values = Pack<O, kWidth>;

  __device__ VectorBlock(const KernelCall& call, const Loss& loss)
      : call_(call), p_(call.params), loss_(loss) {}

  __device__ __forceinline__ void visit(int64_t row, int64_t first, bool sums_only,
                                        Tally& tally) const {
    O scale = O(0);
    if (call_.pass != Pass::kForward && !sums_only) {
      scale = static_cast<O>(scale_of_sample(call_, row / call_.rows_per_sample));
    }
    // A row that starts within 16 bytes is walked from the border before it.
    const int64_t start = row * call_.channels * call_.inner;
    const auto lane = reinterpret_cast<uintptr_t>(p_.input.data) / sizeof(T) + start;
    const int64_t shift = static_cast<int64_t>(lane % kLanes);
    const int64_t past = (first + call_.slots_per_chunk) * kLanes - shift;
    const int64_t end = past < call_.inner ? past : call_.inner;
    Slot slot{row, 0, (first + threadIdx.x) * kLanes - shift, {}};
#pragma unroll 1
    for (; slot.position < end; slot.position += kThreads * kLanes) {
      slot.span.begin = slot.position < 0 ? static_cast<int>(-slot.position) : 0;
      const int64_t rest = call_.inner - slot.position;
      slot.span.end = rest < kLanes ? static_cast<int>(rest) : kLanes;
      if constexpr (kFactors == Factors::kPrograms) {
        visit_selected(slot, scale, sums_only, tally);
      } else {
        visit_channels(slot, scale, sums_only, tally);
      }
    }
  }

 private:
  struct Terms {
    Values x, t, factor;
  };
  // Mask and weight of a slot, kept while its channels go by.
  struct Masks {
    Values mask[kParts], weight[kParts];
  };

  __device__ __forceinline__ void visit_channels(Slot& slot, O scale, bool sums_only,
                                                 Tally& tally) const {
    const bool none = p_.reduction == Reduction::kNone;
    Masks masks;
#pragma unroll 1
    for (slot.channel = 0; slot.channel < call_.channels; ++slot.channel) {
      const int64_t index =
          (slot.row * call_.channels + slot.channel) * call_.inner + slot.position;
      Words x{}, t{}, result{};
      if (!sums_only) x = load(p_.input, index, slot.span);
      if (call_.target_is_dense && (!sums_only || call_.region_reads_target)) {
        t = load(p_.target, index, slot.span);
      }
#pragma unroll 1
      for (int part = 0; part < kParts; ++part) {
        const Slot few = part_of(slot, part);
        Terms terms;
        load_target(few, t, part, sums_only, terms.t);
        load_masks(few, part, masks, terms, tally);
        if (sums_only) continue;
        terms.x = select_part(x, part);
        if (kBackward && none) scale_each(few, terms.factor);
        put_part(compute(few, terms, scale, tally), part, result);
      }
      tally.step();
      if (sums_only) continue;
      if (kBackward || call_.pass != Pass::kForward) {
        store(p_.grad_input, index, result, slot.span);
      } else if (none) {
        store(p_.loss, index, result, slot.span);
      }
    }
  }

  // The same where programs tell which elements take part.
  __device__ __forceinline__ void visit_selected(Slot& slot, O scale, bool sums_only,
                                                 Tally& tally) const {
    const bool none = p_.reduction == Reduction::kNone;
    Masks masks;
#pragma unroll 1
    for (slot.channel = 0; slot.channel < call_.channels; ++slot.channel) {
      const int64_t index =
          (slot.row * call_.channels + slot.channel) * call_.inner + slot.position;
      Words x{}, t{}, result{};
      if (call_.target_is_dense && call_.programs_read_target)
        t = load(p_.target, index, slot.span);
      bool takes_part = false;
#pragma unroll 1
      for (int part = 0; part < kParts; ++part) {
        const Slot few = part_of(slot, part);
        evaluate(few, part, t, masks);
        const Values factor = factors(few, part, masks);
        tally_masks(few, part, masks, factor, tally);
#pragma unroll
        for (int lane = 0; lane < kWidth; ++lane) takes_part |= factor.at[lane] != O(0);
      }
      if (takes_part && !sums_only) {
        x = load(p_.input, index, slot.span);
        if (call_.target_is_dense && !call_.programs_read_target) {
          t = load(p_.target, index, slot.span);
        }
#pragma unroll 1
        for (int part = 0; part < kParts; ++part) {
          const Slot few = part_of(slot, part);
          Terms terms;
          load_target(few, t, part, false, terms.t);
          terms.factor = factors(few, part, masks);
          terms.x = select_part(x, part);
          if (is_backward() && none) scale_each(few, terms.factor);
          put_part(compute(few, terms, scale, tally), part, result);
        }
      }
      tally.step();
      if (sums_only) continue;
      if (call_.pass != Pass::kForward) {
        store(p_.grad_input, index, result, slot.span);
      } else if (none) {
        store(p_.loss, index, result, slot.span);
      }
    }
  }

  // Mask and weight by their programs; a weight that nobody needs is not worked out. They stay in
  // local memory: no registers are kept for them while the programs run.
  __device__ __forceinline__ void evaluate(const Slot& few, int part, const Words& t,
                                           Masks& masks) const {
    const bool first = few.channel == 0;
    if (!first && call_.region_repeats && call_.weight_repeats) return;
    Values target{};
    if (call_.programs_read_target) load_target(few, t, part, false, target);
    Values &mask = masks.mask[part], &weight = masks.weight[part];
    if (first || !call_.region_repeats) evaluate(p_.region, few, target, mask);
    if (!first && call_.weight_repeats) return;
    bool is_needed = call_.weight_repeats && !call_.region_repeats;
#pragma unroll
    for (int lane = 0; lane < kWidth; ++lane) {
      is_needed |= few.span.has(lane) && mask.at[lane] != O(0);
    }
    if (is_needed && call_.weight) {
      weight = load_view_once<O, kWidth>(call_.weight, few, call_.channels_inside);
    } else if (is_needed) {
      evaluate(p_.weight_source, few, target, weight);
    } else {
      weight = everywhere<O, kWidth>(O(1));
    }
  }

  // 1 where there is no program.
  __device__ __forceinline__ void evaluate(const Program& program, const Slot& few,
                                           const Values& target, Values& values) const {
    if (program) {
      slot_values<T, O, kWidth>(call_, program, few, target, &values);
    } else {
      values = everywhere<O, kWidth>(O(1));
    }
  }

  // The kernel of programs knows its pass at run time, too.
  __device__ __forceinline__ bool is_backward() const {
    return kBackward || (kFactors == Factors::kPrograms && call_.pass == Pass::kBackward);
  }

  __device__ __forceinline__ Values view_values(const View& view, const Slot& few) const {
    if constexpr (kFactors == Factors::kPrograms) {
      return load_view_once<O, kWidth>(view, few, call_.channels_inside);
    } else {
      return load_view<O, kWidth>(view, few, call_.channels_inside);
    }
  }

  // mask * weight, 0 in the lanes that do not exist.
  __device__ __forceinline__ Values factors(const Slot& few, int part, const Masks& masks) const {
    Values result;
#pragma unroll
    for (int lane = 0; lane < kWidth; ++lane) {
      const O factor = mask_times_weight(masks.mask[part].at[lane], masks.weight[part].at[lane]);
      result.at[lane] = few.span.has(lane) ? factor : O(0);
    }
    return result;
  }

  __device__ __forceinline__ void tally_masks(const Slot& few, int part, const Masks& masks,
                                              const Values& factor, Tally& tally) const {
    if constexpr (kHasSums) {
#pragma unroll
      for (int lane = 0; lane < kWidth; ++lane) {
        const O own = few.span.has(lane) ? masks.mask[part].at[lane] : O(0);
        tally.sum[kMask] += own;
        tally.sum[kWeights] += factor.at[lane];
        tally.sum[kSelected] += static_cast<O>(own != O(0));
      }
    }
  }

  __device__ __forceinline__ static Slot part_of(const Slot& slot, int part) {
    if constexpr (kParts == 1) return slot;
    const int first = part * kWidth;
    const Span span{::max(slot.span.begin - first, 0), ::min(slot.span.end - first, kWidth)};
    return {slot.row, slot.channel, slot.position + first, span};
  }

  __device__ __forceinline__ static Values select_part(const Words& words, int part) {
    Pack<unsigned, kPartWords> result{};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i / kPartWords == part) result.at[i % kPartWords] = words.at[i];
    }
    return convert_pack<O>(bit_cast<Pack<T, kWidth>>(result));
  }
  __device__ __forceinline__ static void put_part(const Values& values, int part, Words& words) {
    const auto from = bit_cast<Pack<unsigned, kPartWords>>(convert_pack<T>(values));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i / kPartWords == part) words.at[i] = from.at[i % kPartWords];
    }
  }

  __device__ __forceinline__ void load_target(const Slot& few, const Words& t, int part,
                                              bool sums_only, Values& target) const {
    if (call_.target_is_dense) {
      target = select_part(t, part);
    } else if (!sums_only || call_.region_reads_target) {
      target = view_values(call_.target, few);
    }
  }

  // terms.factor = mask * weight, 0 in the lanes that do not exist.
  __device__ __forceinline__ void load_masks(const Slot& few, int part, Masks& masks, Terms& terms,
                                             Tally& tally) const {
    Values mask, weight;
#pragma unroll
    for (int lane = 0; lane < kWidth; ++lane) {
      mask.at[lane] = static_cast<O>(few.span.has(lane));
      weight.at[lane] = O(1);
    }
    if constexpr (kFactors == Factors::kTensors) {
      if (few.channel != 0 && call_.region_repeats) {
        select(masks.mask, part, mask);
      } else if (p_.region) {
        const SlotSource<O, kWidth> source{call_, few, terms.t};
        const Values values = region_values<O, kWidth>(p_.region, p_.bindings, source);
#pragma unroll
        for (int lane = 0; lane < kWidth; ++lane) {
          if (few.span.has(lane)) mask.at[lane] = values.at[lane];
        }
      }
      if (few.channel != 0 && call_.weight_repeats) {
        select(masks.weight, part, weight);
      } else if (call_.weight) {
        weight = view_values(call_.weight, few);
      }
      keep(mask, part, masks.mask);
      keep(weight, part, masks.weight);
    }
#pragma unroll
    for (int lane = 0; lane < kWidth; ++lane) {
      terms.factor.at[lane] = mask_times_weight(mask.at[lane], weight.at[lane]);
      if constexpr (kMasked && kHasSums) {
        tally.sum[kMask] += mask.at[lane];
        tally.sum[kWeights] += terms.factor.at[lane];
        tally.sum[kSelected] += static_cast<O>(mask.at[lane] != O(0));
      }
    }
  }

  __device__ __forceinline__ static void select(const Values (&from)[kParts], int part,
                                                Values& to) {
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      if (i == part) to = from[i];
    }
  }
  __device__ __forceinline__ static void keep(const Values& from, int part, Values (&to)[kParts]) {
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      if (i == part) to[i] = from;
    }
  }

  // By the grad_output of each element.
  __device__ __forceinline__ void scale_each(const Slot& few, Values& factor) const {
    const Values values = view_values(call_.grad_output, few);
#pragma unroll
    for (int lane = 0; lane < kWidth; ++lane) {
      factor.at[lane] = mask_times_weight(factor.at[lane], values.at[lane]);
    }
  }

  __device__ __forceinline__ Values compute(const Slot& few, const Terms& terms, O scale,
                                            Tally& tally) const {
    if constexpr (kFactors == Factors::kPrograms) {
      Values result;
      loss_.visit([&](const auto& loss) { result = compute(loss, few, terms, scale, tally); });
      return result;
    } else {
      return compute(loss_, few, terms, scale, tally);
    }
  }

  // Values (and their sum), or derivatives where a gradient is asked for. What both need, an
  // exponential mostly, is worked out once.
  template <class Own>
  __device__ __forceinline__ Values compute(const Own& loss, const Slot& few, const Terms& terms,
                                            O scale, Tally& tally) const {
    Values pos_weight, result;
#pragma unroll
    for (int lane = 0; lane < kWidth; ++lane) pos_weight.at[lane] = O(1);
    if constexpr (has_pos_weight<Own>) {
      if (call_.pos_weight) {
        pos_weight = view_values(call_.pos_weight, few);
      }
    }
    if (!is_backward()) {
      bool valid = true;
#pragma unroll
      for (int lane = 0; lane < kWidth; ++lane) {
        const O x = terms.x.at[lane], factor = terms.factor.at[lane];
        valid = valid && is_valid_input<Own>(x, factor);
        const O value = element_value(loss, x, terms.t.at[lane], pos_weight.at[lane]);
        result.at[lane] = factor == O(0) ? O(0) : factor * value;
        tally.sum[kTotal] += result.at[lane];
      }
      assert_valid_input<Own>(valid);
      if (call_.pass == Pass::kForward) return result;
    }
#pragma unroll
    for (int lane = 0; lane < kWidth; ++lane) {
      const O factor = terms.factor.at[lane];
      const bool absent = factor == O(0) || is_empty_scale(scale);
      const O weighted = absent ? O(0) : factor * scale;
      const O slope =
          element_derivative(loss, terms.x.at[lane], terms.t.at[lane], pos_weight.at[lane]);
      const O gradient = is_backward() ? weighted * slope : stored_gradient(-weighted, slope);
      result.at[lane] = absent ? O(0) : gradient;
    }
    return result;
  }

  __device__ __forceinline__ static Words load(const Operand& operand, int64_t index, Span span) {
    const T* memory = static_cast<const T*>(operand.data) + index;
    return bit_cast<Words>(load_span<T, kLanes>(memory, span));
  }
  __device__ __forceinline__ static void store(const Operand& operand, int64_t index,
                                               const Words& words, Span span) {
    store_span(static_cast<T*>(operand.data) + index, bit_cast<Pack<T, kLanes>>(words), span);
  }

  const KernelCall& call_;
  const ElementwiseParams& p_;
  const Loss& loss_;
};

template <class Loss, class T, bool kBackward, Factors kFactors>
__global__ void __launch_bounds__(kThreads, 2)
    elementwise_vector(const __grid_constant__ KernelCall call, const __grid_constant__ Loss loss) {
  run_phases(VectorBlock<Loss, T, kBackward, kFactors>(call, loss), call);
}

}  // namespace fusedloss::cuda
