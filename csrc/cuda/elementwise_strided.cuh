// The general elementwise kernel: any strides, any mixture of dtypes, any broadcast, one element
// per thread at a time. What it loses to the vector kernel is bandwidth, never correctness.
//
// A slot is an element in memory order, or a position whose channels are visited in turn: where the
// mask is the same for all of them, or where the largest of their mask values is asked for.
#pragma once

#include "cuda/any_loss.h"
#include "cuda/element_source.cuh"
#include "cuda/elementwise_element.cuh"
#include "cuda/phases.cuh"
#include "cuda/region_eval.cuh"

namespace fusedloss::cuda {

template <class Loss, class T, bool kPrograms>
class StridedBlock {
 public:
  using O = T;
  static constexpr bool kHasPhases = true;
  static constexpr bool kHasSums = true;
  static constexpr bool kHasRanges = kPrograms;
  static constexpr int kSums = kPartials;
  using Tally = cuda::Tally<O, kSums>;

  __device__ StridedBlock(const KernelCall& call, const Loss& loss)
      : call_(call), p_(call.params), loss_(loss) {}

  __device__ __forceinline__ void visit(int64_t row, int64_t first, bool sums_only,
                                        Tally& tally) const {
    O scale = O(0);
    if (call_.pass != Pass::kForward && !sums_only) {
      scale = static_cast<O>(scale_of_sample(call_, row / call_.rows_per_sample));
    }
#pragma unroll 1
    for (int64_t i = threadIdx.x; i < call_.slots_per_chunk; i += kThreads) {
      if (first + i >= call_.inner) break;
      visit_channels(row * call_.inner + first + i, scale, sums_only, tally);
    }
  }

 private:
  // `slot` counts elements or positions from the start of the whole space.
  __device__ __forceinline__ void visit_channels(int64_t slot, O scale, bool sums_only,
                                                 Tally& tally) const {
    int64_t index = slot;
    if (call_.channels > 1) {
      const int64_t outer = slot / p_.extents.inner;
      index += outer * (call_.channels - 1) * p_.extents.inner;
    }
    O mask = O(1), weight = O(1), largest = O(0);
#pragma unroll 1
    for (int64_t channel = 0; channel < call_.channels; ++channel) {
      const int64_t element = index + channel * p_.extents.inner;
      const Coordinates coordinates(p_.extents, element);
      if constexpr (kPrograms) {
        evaluate(channel, element, mask, weight);
      } else if (p_.region && (channel == 0 || !call_.region_repeats)) {
        const ElementSource<O, ElementwiseParams> source{p_, coordinates};
        mask = region_values<O, 1>(p_.region, p_.bindings, source).at[0];
      }
      if (p_.weight && (channel == 0 || !call_.weight_repeats)) {
        weight = coordinates.load<O>(p_.weight);
      }
      const O factor = mask_times_weight(mask, weight);
      tally.sum[kMask] += mask;
      tally.sum[kWeights] += factor;
      tally.sum[kSelected] += static_cast<O>(mask != O(0));
      largest = channel == 0 ? mask : mask_or(mask, largest);
      if (!sums_only) compute(coordinates, factor, scale, tally);
      tally.step();
    }
    tally.sum[kPositions] += largest;
  }

  // A weight that nobody needs is not worked out.
  __device__ __forceinline__ void evaluate(int64_t channel, int64_t element, O& mask,
                                           O& weight) const {
    const Program &region = p_.region, &source = p_.weight_source;
    if (region && (channel == 0 || !call_.region_repeats)) {
      mask = element_values<O>(call_, region, 0, region.length, element);
    }
    const bool is_shared = call_.weight_repeats && !call_.region_repeats;
    if (source && (channel == 0 || !call_.weight_repeats) && (mask != O(0) || is_shared)) {
      weight = element_values<O>(call_, source, 0, source.length, element);
    }
  }

  __device__ __forceinline__ void compute(const Coordinates& coordinates, O factor, O scale,
                                          Tally& tally) const {
    with_loss(loss_, [&](const auto& loss) { compute(loss, coordinates, factor, scale, tally); });
  }

  template <class Own>
  __device__ __forceinline__ void compute(const Own& loss, const Coordinates& coordinates, O factor,
                                          O scale, Tally& tally) const {
    const bool none = p_.reduction == Reduction::kNone;
    O value = O(0), gradient = O(0);
    if (factor != O(0)) {
      const O x = coordinates.load<O>(p_.input), t = coordinates.load<O>(p_.target);
      const O pos_weight = p_.pos_weight ? coordinates.load<O>(p_.pos_weight) : O(1);
      if (call_.pass != Pass::kBackward) {
        assert_valid_input<Own>(is_valid_input<Own>(x, factor));
        value = factor * element_value(loss, x, t, pos_weight);
      }
      if (call_.pass != Pass::kForward && !is_empty_scale(scale)) {
        O weighted = factor * scale;
        if (call_.pass == Pass::kBackward && none) weighted *= coordinates.load<O>(p_.grad_output);
        const O slope = element_derivative(loss, x, t, pos_weight);
        gradient =
            call_.pass == Pass::kBackward ? weighted * slope : stored_gradient(-weighted, slope);
      }
    }
    if (call_.pass == Pass::kBackward) return store(p_.grad_input, coordinates, gradient);
    tally.sum[kTotal] += value;
    if (none) store(p_.loss, coordinates, value);
    if (call_.pass == Pass::kForwardGradient) store(p_.grad_input, coordinates, gradient);
  }

  __device__ __forceinline__ static void store(const Operand& operand,
                                               const Coordinates& coordinates, O value) {
    store_number(operand.data, operand.dtype, coordinates.offset(operand), value);
  }

  const KernelCall& call_;
  const ElementwiseParams& p_;
  const Loss& loss_;
};

// T is the type of the arithmetic.
template <class Loss, class T, bool kPrograms>
__global__ void __launch_bounds__(kThreads, 2)
    elementwise_strided(const __grid_constant__ KernelCall call,
                        const __grid_constant__ Loss loss) {
  run_phases(StridedBlock<Loss, T, kPrograms>(call, loss), call);
}

}  // namespace fusedloss::cuda
