// What the blocks of all class kernels have in common: the class weights' sum, a position's factors
// into the running sums, and what its gradient is multiplied by.
#pragma once

#include "cuda/class_cells.cuh"
#include "cuda/class_position.cuh"
#include "cuda/phases.cuh"

namespace fusedloss::cuda {

// Blocks on a multiprocessor: as many as leave a plain kernel all the registers that it asks for.
template <class T>
constexpr int kPlainBlocks = sizeof(T) == 8 ? 2 : 3;

// Called by all threads of the block.
template <class O, bool kPlain>
__device__ __forceinline__ ClassPreparation<O> prepare_classes(const ClassCall& call) {
  const ClasswiseParams& p = call.params;
  if (kPlain || !sums_class_weights(p)) return {static_cast<O>(p.classes), true};
  double sums[2] = {0, 0};  // of the weights; how many are not 0
#pragma unroll 1
  for (int64_t c = threadIdx.x; c < p.classes; c += kThreads) {
    const O weight = class_weight<O>(p, c);
    sums[0] += static_cast<double>(weight);
    sums[1] += weight != O(0) ? 1 : 0;
  }
  block_sum(sums);
  return {static_cast<O>(sums[0]), sums[1] == 0};
}

// kPlain: the factors are plain (position_factors.cuh) and the class weights need not be added up.
// The kernels that are used most have nothing else in them.
template <class O_, bool kPlain>
class ClassBlock {
 public:
  using O = O_;
  static constexpr bool kHasPhases = true;
  static constexpr bool kHasSums = true;
  static constexpr bool kHasRanges = !kPlain;
  static constexpr int kSums = kPositions;
  using Tally = ShortTally<O, kSums>;  // at most Cut::kMostSteps positions

 protected:
  __device__ __forceinline__ ClassBlock(const ClassCall& call, const AnyClassLoss<O>& loss)
      : call_(call), p_(call.params), loss_(loss), prepared_(prepare_classes<O, kPlain>(call)) {}

  __device__ __forceinline__ PositionFactors<O> weigh(int64_t index, Tally& tally) const {
    PositionFactors<O> at = position_factors<O, kPlain>(call_, index, prepared_.needs_own);
    if constexpr (!kPlain) {
      if (call_.weighs_targets && at.w != O(0)) at.class_weight = target_weight<O>(call_, index);
    }
    tally.sum[kMask] += at.mask;
    tally.sum[kSelected] += static_cast<O>(at.mask != O(0));
    if (at.w != O(0)) tally.sum[kWeights] += at.w * at.class_weight;
    return at;
  }

  // How many positions a chunk has whose first is `first` of its row.
  __device__ __forceinline__ int slots_from(int64_t first) const {
    const int64_t left = call_.inner - first;
    return static_cast<int>(left < call_.slots_per_chunk ? left : call_.slots_per_chunk);
  }

  __device__ __forceinline__ O scale_of_row(int64_t row, bool sums_only) const {
    if (call_.pass == Pass::kForward || sums_only) return O(0);
    return static_cast<O>(scale_of_sample(call_, row / call_.rows_per_sample));
  }

  // What the gradient of a position is multiplied by.
  __device__ __forceinline__ O gradient_weight(O w, O scale, int64_t index) const {
    if (call_.pass == Pass::kForward || w == O(0)) return O(0);
    if (call_.pass == Pass::kBackward && p_.reduction == Reduction::kNone) {
      return w * ElementIndex{p_.extents, index}.template load<O>(p_.grad_output);
    }
    return is_empty_scale(scale) ? O(0) : w * scale;
  }

  __device__ __forceinline__ void add_value(O value, int64_t index, Tally& tally) const {
    if (call_.pass == Pass::kBackward) return;
    tally.sum[kTotal] += value;
    if (p_.reduction != Reduction::kNone) return;
    const ElementIndex element{p_.extents, index};
    store_number(p_.loss.data, p_.loss.dtype, element.offset(p_.loss), value);
  }

  const ClassCall& call_;
  const ClasswiseParams& p_;
  const AnyClassLoss<O>& loss_;
  const ClassPreparation<O> prepared_;
};

}  // namespace fusedloss::cuda
