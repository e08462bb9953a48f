// Mask, weight, label and class weight of one position, whatever the strides and dtypes: all that
// is known before a logit is read.
//
//     const PositionFactors<O> at = position_factors<O>(call, index, true);
//     if (at.w != 0) ... at.label is a class ...
//
// `Call` is a CallFrame whose params have extents, target (a ClassOperand), has_labels, classes,
// ignore_index, matches_ignored, weight, weight_map, region, weight_source and bindings.
#pragma once

#include <cassert>

#include "cuda/element_source.cuh"

namespace fusedloss::cuda {

template <class O>
struct PositionFactors {
  O mask = O(0);          // 0 where ignored
  O w = O(0);             // mask x map; 0 also where class weights leave nothing
  O class_weight = O(0);  // of the label, or 1; 0 where w is 0 for another reason
  int64_t label = 0;      // in [0, C)
};

// The weight of class c.
template <class O, class Params>
__device__ __forceinline__ O class_weight(const Params& p, int64_t c) {
  return p.weight ? load_number<O>(p.weight.data, p.weight.dtype, c * p.weight.stride[0]) : O(1);
}

// `needs_own`: a position whose label has weight 0 has no part in the loss. Not inlined: the
// kernels of a file share it.
template <class O, class Call>
__device__ __noinline__ PositionFactors<O> position_factors(const Call& call, int64_t index,
                                                            bool needs_own) {
  const auto& p = call.params;
  const Coordinates coordinates(p.extents, index);
  PositionFactors<O> at;
  int64_t label = 0;
  if (p.has_labels) {
    const Operand& labels = p.target.positions;
    label = load_integer(labels.data, labels.dtype, coordinates.offset(labels));
    if (p.matches_ignored && label == p.ignore_index) return at;
  }
  const Program &region = p.region, &source = p.weight_source;
  at.mask = region ? element_values<O>(call, region, 0, region.length, index) : O(1);
  if (at.mask == O(0)) return at;
  O weight = O(1);
  if (p.weight_map) {
    weight = coordinates.load<O>(p.weight_map);
  } else if (source) {
    weight = element_values<O>(call, source, 0, source.length, index);
  }
  const O w = mask_times_weight(at.mask, weight);
  if (w == O(0)) return at;
  if (p.has_labels) {
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

}  // namespace fusedloss::cuda
