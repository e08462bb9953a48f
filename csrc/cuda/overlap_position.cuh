// What is known of a thread's positions before their classes are visited, and what mask, map and
// target say of each element.
#pragma once

#include <cassert>

#include "core/math.h"
#include "cuda/overlap_cells.cuh"
#include "cuda/overlap_table.cuh"

namespace fusedloss::cuda {

// Mask and mask x map, 0 where the label is ignored. Where they belong to elements: 1, or 0 there.
template <class O, int kLanes>
struct CellPosition {
  Pack<O, kLanes> mask{}, w{};
  int label[kLanes] = {};  // -1: not a class

  __device__ __forceinline__ bool any_selected() const {
    bool any = false;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) any |= mask.at[lane] != O(0);
    return any;
  }
};

template <class O, int kLanes>
struct CellElement {
  Pack<O, kLanes> mask, w;
};

// A class of the positions.
template <class O, int kLanes>
struct ClassOfCells {
  int64_t c;
  ClassEntry<O> entry;
  Pack<O, kLanes> x, t;
  CellElement<O, kLanes> own;
};

template <class Cells>
class CellFactors {
 public:
  using O = typename Cells::O;
  static constexpr int kLanes = Cells::kLanes;
  using Values = Pack<O, kLanes>;
  using Position = CellPosition<O, kLanes>;
  using Element = CellElement<O, kLanes>;

  __device__ __forceinline__ CellFactors(const PoolCall& call, const Cells& cells)
      : call_(call), cells_(cells) {}

  __device__ __forceinline__ Position position() const {
    Position at;
    bool keep[kLanes];
    read_labels(at, keep);
    Values mask = everywhere<O, kLanes>(O(1)), weight = mask;
    const bool masked = Cells::kWeighted && call_.masked && !has_elements();
    if constexpr (Cells::kWeighted) {
      if (masked) mask = cells_.mask(0);
    }
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) at.mask.at[lane] = keep[lane] ? mask.at[lane] : O(0);
    if constexpr (Cells::kWeighted) {
      if (masked && at.any_selected()) weight = cells_.weight(0);
    }
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      at.w.at[lane] = mask_times_weight(at.mask.at[lane], weight.at[lane]);
    }
    return at;
  }

  // t of class c: whether it is the label's, or the target itself.
  __device__ __forceinline__ Values target(const Position& at, int64_t c) const {
    if (!call_.has_labels) return cells_.target(c);
    Values t;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) t.at[lane] = static_cast<O>(at.label[lane] == c);
    return t;
  }

  __device__ __forceinline__ Element element(const Position& at, const Values& t, int64_t c) const {
    Element result{at.mask, at.w};
    if constexpr (Cells::kHasElements) {
      if (has_elements()) read_factors(at, c, result);
    }
    if (call_.ignores && !call_.has_labels) leave_ignored_out(t, result);
    return result;
  }

 private:
  __device__ __forceinline__ bool has_elements() const {
    return Cells::kHasElements && call_.per_element;
  }

  __device__ __forceinline__ void read_labels(Position& at, bool (&keep)[kLanes]) const {
    Pack<int64_t, kLanes> label{};
    if (call_.has_labels) cells_.labels(label);
    const bool ignores = call_.has_labels && call_.ignores;
    const auto classes = static_cast<uint64_t>(call_.params.classes);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      keep[lane] = !(ignores && label.at[lane] == call_.ignore_index);
      const bool is_class = static_cast<uint64_t>(label.at[lane]) < classes;
      at.label[lane] = is_class ? static_cast<int>(label.at[lane]) : -1;
    }
  }

  __device__ __forceinline__ void read_factors(const Position& at, int64_t c,
                                               Element& result) const {
    const Values mask = cells_.mask(c);
    bool any = false;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      result.mask.at[lane] = at.mask.at[lane] == O(0) ? O(0) : mask.at[lane];
      any |= result.mask.at[lane] != O(0);
    }
    const Values weight = any ? cells_.weight(c) : mask;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      result.w.at[lane] = mask_times_weight(result.mask.at[lane], weight.at[lane]);
    }
  }

  // Callers refuse an integer that the arithmetic does not hold exactly.
  __device__ __forceinline__ void leave_ignored_out(const Values& t, Element& result) const {
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      const bool ignored = t.at[lane] == static_cast<O>(call_.ignore_index);
      if (ignored) result.mask.at[lane] = result.w.at[lane] = O(0);
    }
  }

  const PoolCall& call_;
  const Cells& cells_;
};

template <class Cells>
using PositionOf = typename CellFactors<Cells>::Position;

template <class Cells>
__device__ __noinline__ PositionOf<Cells> position_once(const PoolCall& call, int64_t row,
                                                        int64_t slot) {
  const Cells cells(call, row, slot);
  return CellFactors<Cells>(call, cells).position();
}

// The positions of a slot, before anything else is known of them: mask and map call functions, and
// nothing is kept across those calls.
template <class Cells>
__device__ __forceinline__ PositionOf<Cells> position_at(const PoolCall& call, int64_t row,
                                                         int64_t slot) {
  if constexpr (Cells::kWeighted) return position_once<Cells>(call, row, slot);
  const Cells cells(call, row, slot);
  return CellFactors<Cells>(call, cells).position();
}

}  // namespace fusedloss::cuda
