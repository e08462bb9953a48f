// Mask, weight, label and class weight of one position, whatever the strides and dtypes: all that
// is known before a logit is read.
//
//     const PositionFactors<O> at = position_factors<O, false>(call, index, true);
//     if (at.w != 0) ... at.label is a class ...
//
// `Call` is a CallFrame whose params have extents, target (a ClassOperand), has_labels, classes,
// ignore_index, matches_ignored, weight, weight_map, region, weight_source and bindings.
#pragma once

#include <cassert>

#include "cuda/element_source.cuh"
#include "cuda/region_eval.cuh"

namespace fusedloss::cuda {

template <class O>
struct PositionFactors {
  O mask;          // 0 where ignored
  O w;             // mask x map; 0 also where class weights leave nothing
  O class_weight;  // of the label, or 1; 0 where w is 0 for another reason
  int64_t label;   // in [0, C)
};

// The weight of class c.
template <class O, class Params>
__device__ __forceinline__ O class_weight(const Params& p, int64_t c) {
  return p.weight ? load_number<O>(p.weight.data, p.weight.dtype, c * p.weight.stride[0]) : O(1);
}

// What a region of tensors and comparisons, or any program, yields at a position.
template <class O, bool kPlain, class Call>
__device__ __forceinline__ O region_value(const Call& call, const ElementIndex& element) {
  const auto& p = call.params;
  if (!p.region) return O(1);
  if constexpr (kPlain) {
    using Params = std::decay_t<decltype(p)>;
    const ElementSource<O, Params, ElementIndex> source{p, element};
    return region_values<O, 1>(p.region, p.bindings, source).at[0];
  } else {
    return element_values<O>(call, p.region, 0, p.region.length, element.index);
  }
}

template <class O, bool kPlain, class Call>
__device__ __forceinline__ O weight_value(const Call& call, const ElementIndex& element) {
  const auto& p = call.params;
  if (p.weight_map) return element.load<O>(p.weight_map);
  if constexpr (!kPlain) {
    const Program& source = p.weight_source;
    if (source) return element_values<O>(call, source, 0, source.length, element.index);
  }
  return O(1);
}

// `needs_own`: a position whose label has weight 0 has no part in the loss. kPlain: there are
// labels, no weight source, and no term in the region but tensors and comparisons of the target.
template <class O, bool kPlain, class Call>
__device__ __forceinline__ PositionFactors<O> plain_or_any_factors(const Call& call, int64_t index,
                                                                   bool needs_own) {
  const auto& p = call.params;
  const bool has_labels = kPlain || p.has_labels;
  const ElementIndex element{p.extents, index};
  PositionFactors<O> at{};
  int64_t label = 0;
  if (has_labels) {
    const Operand& labels = p.target.positions;
    label = load_integer(labels.data, labels.dtype, element.offset(labels));
    if (p.matches_ignored && label == p.ignore_index) return at;
  }
  at.mask = region_value<O, kPlain>(call, element);
  if (at.mask == O(0)) return at;
  const O w = mask_times_weight(at.mask, weight_value<O, kPlain>(call, element));
  if (w == O(0)) return at;
  if (has_labels) {
    const bool is_class = static_cast<uint64_t>(label) < static_cast<uint64_t>(p.classes);
    assert(is_class && "target must be a class index where it takes part");
    if (!is_class) return at;  // where asserts are compiled out
    at.label = label;
    at.class_weight = class_weight<O>(p, label);
    if (needs_own && at.class_weight == O(0)) return at;
  } else {
    at.class_weight = O(1);
  }
  at.w = w;
  return at;
}

// Not inlined: the kernels of a file share it.
template <class O, class Call>
__device__ __noinline__ PositionFactors<O> any_factors(const Call& call, int64_t index,
                                                       bool needs_own) {
  return plain_or_any_factors<O, false>(call, index, needs_own);
}

template <class O, bool kPlain, class Call>
__device__ __forceinline__ PositionFactors<O> position_factors(const Call& call, int64_t index,
                                                               bool needs_own) {
  if constexpr (kPlain) return plain_or_any_factors<O, true>(call, index, needs_own);
  return any_factors<O>(call, index, needs_own);
}

}  // namespace fusedloss::cuda
