// Dice, Jaccard or Tversky of inputs or of their sigmoid, alone or beside an elementwise loss of
// the same inputs, on one tile: class by class.
//
// `Part` is a functor of losses/elementwise.h, or NoPart.
#pragma once

#include "cpu/elementwise_loops.h"
#include "cpu/overlap_element_loops.h"
#include "cpu/softmax_stage.h"

namespace fusedloss::cpu {

template <class Part, class T>
class ElementStage : public OverlapStage<T> {
  using Base = OverlapStage<T>;
  static constexpr bool kHasPart = !std::is_same_v<Part, NoPart>;

 public:
  struct Scratch {
    typename OverlapWeighting<T>::Scratch weighting;
    alignas(64) T x[kMaxLanes], t[kMaxLanes], pos_weight[kMaxLanes], part[kMaxLanes];
    std::vector<T> planes, target;
  };

  ElementStage(const Part& part, const OverlapParams& params, ParallelFor parallel_for)
      : Base(params, parallel_for),
        part_(part),
        pos_weight_(params.pointwise.pos_weight, params.extents, params.classes),
        input_in_rows_(in_rows(input)),
        target_in_rows_(!params.has_labels && in_rows(weighting.target())) {}

  void prepare(Scratch& scratch) const {
    weighting.prepare(scratch.weighting);
    scratch.planes.resize(params.classes * pitch);
    if (target_in_rows_) scratch.target.resize(params.classes * pitch);
  }

  bool foretells() const { return false; }  // P is needed
  void add_known(const ClassTile&, const Scratch&, SoftCounts*) const {}
  void run_at_once(const ClassTile&, Scratch&, const StageSlopes<T>&, SoftCounts*,
                   OverlapSums*) const {}

  void add_counts(const ClassTile& tile, Scratch& scratch, SoftCounts* counts,
                  OverlapSums* sums) const {
    load_rows(tile, scratch);
    for (int64_t c = 0; c < params.classes; ++c) {
      if (!shown[c]) continue;
      const ElementTile<T> at = element_tile(tile, c, scratch);
      if (classes.counts[c]) {
        with_loops(at, [&](auto loops) { counts[c].add(decltype(loops)::counts(at)); });
      }
      if constexpr (kHasPart) {
        const double weight = part_weight(c);
        if (weight == 0) continue;
        const ElementwiseTile<T> part = part_tile(tile, c, at, scratch);
        sums->pointwise.total += weight * reduce<Wants::kValue>(part);
      }
    }
  }

  void write_gradient(const ClassTile& tile, Scratch& scratch, const StageSlopes<T>& slopes) const {
    if (!slopes.any()) return Base::store_zeros(tile, scratch.planes.data());
    load_rows(tile, scratch);
    for (int64_t c = 0; c < params.classes; ++c) write_class(tile, c, scratch, slopes);
    Base::store_gradient(tile, scratch.planes.data());
  }

  using Base::classes, Base::class_weights, Base::input, Base::params, Base::pitch, Base::shown,
      Base::weighting;

 private:
  // Classes side by side are transposed a tile at a time.
  static bool in_rows(const ClassStream& stream) {
    return stream.class_stride == 1 && stream.classes > 1;
  }
  void load_rows(const ClassTile& tile, Scratch& scratch) const {
    if (input_in_rows_) load_planes(input, tile.begin, tile.count, scratch.planes.data(), pitch);
    if (target_in_rows_) {
      load_planes(weighting.target(), tile.begin, tile.count, scratch.target.data(), pitch);
    }
  }

  ElementTile<T> element_tile(const ClassTile& tile, int64_t c, Scratch& scratch) const {
    ElementTile<T> result{};
    result.count = tile.count;
    result.next = scratch.weighting.backwards ? -tile.count : tile.count;
    result.x = input_in_rows_ ? &scratch.planes[c * pitch]
                              : load(input.plane(c), tile.begin, tile.count, scratch.x);
    if (params.has_labels) {
      ElementLoops<T>::one_hot(scratch.weighting.positions.label, c, tile.count, scratch.t);
      result.t = scratch.t;
    } else {
      result.t = target_in_rows_
                     ? &scratch.target[c * pitch]
                     : load(weighting.target().plane(c), tile.begin, tile.count, scratch.t);
    }
    result.w = weighting.is_plain() ? nullptr : scratch.weighting.weights.w_of(c);
    return result;
  }

  template <class Visit>
  void with_loops(const ElementTile<T>& tile, Visit&& visit) const {
    if (params.activation == Activation::kSigmoid) {
      with_weights<true>(tile, visit);
    } else {
      with_weights<false>(tile, visit);
    }
  }
  template <bool kSigmoid, class Visit>
  void with_weights(const ElementTile<T>& tile, Visit&& visit) const {
    const bool squared = params.rules.squared;
    if (tile.w != nullptr) {
      squared ? visit(ElementOverlapLoops<kSigmoid, true, true, T>())
              : visit(ElementOverlapLoops<kSigmoid, true, false, T>());
    } else {
      squared ? visit(ElementOverlapLoops<kSigmoid, false, true, T>())
              : visit(ElementOverlapLoops<kSigmoid, false, false, T>());
    }
  }

  void write_class(const ClassTile& tile, int64_t c, Scratch& scratch,
                   const StageSlopes<T>& slopes) const {
    T* result = &scratch.planes[c * pitch];
    const double weight = kHasPart && slopes.has_pointwise ? part_weight(c) : 0;
    const bool has_part = weight != 0;
    if (!slopes.live[c] && !has_part) return void(std::fill_n(result, tile.count, T(0)));
    const ElementTile<T> at = element_tile(tile, c, scratch);
    if constexpr (kHasPart) {
      if (has_part) {
        ElementwiseTile<T> part = part_tile(tile, c, at, scratch);
        part.gradient = scratch.part;
        part.scale = static_cast<T>(weight) * slopes.pointwise;
        reduce<Wants::kGradient>(part);
      }
    }
    const bool marks = slopes.marked && !has_part;
    if (slopes.live[c]) {
      with_loops(at, [&](auto loops) {
        using Loops = decltype(loops);
        (marks ? Loops::template gradient<true>
               : Loops::template gradient<false>)(at, slopes.a[c], slopes.b[c], result);
      });
    } else {
      std::fill_n(result, tile.count, T(0));
    }
    if (!has_part) return;
    (slopes.marked ? ElementLoops<T>::template add<true>
                   : ElementLoops<T>::template add<false>)(scratch.part, at.w, tile.count, result);
  }

  // ---- the pointwise part -----------------------------------------------------------------------

  double part_weight(int64_t c) const {
    return class_weights.data() == nullptr ? 1 : static_cast<double>(class_weights.values[c]);
  }

  ElementwiseTile<T> part_tile(const ClassTile& tile, int64_t c, const ElementTile<T>& at,
                               Scratch& scratch) const {
    ElementwiseTile<T> result{};
    result.x = at.x;
    result.t = at.t;
    result.w = at.w;
    result.count = tile.count;
    if (pos_weight_) {
      result.pos_weight = load(pos_weight_.plane(c), tile.begin, tile.count, scratch.pos_weight);
    }
    return result;
  }

  template <Wants kWants>
  double reduce(const ElementwiseTile<T>& tile) const {
    if constexpr (has_pos_weight<Part>) {
      if (tile.pos_weight != nullptr) {
        return tile.w != nullptr
                   ? ElementwiseLoops<Part, T, true, true>::template reduce<kWants>(part_, tile)
                   : ElementwiseLoops<Part, T, false, true>::template reduce<kWants>(part_, tile);
      }
    }
    return tile.w != nullptr
               ? ElementwiseLoops<Part, T, true, false>::template reduce<kWants>(part_, tile)
               : ElementwiseLoops<Part, T, false, false>::template reduce<kWants>(part_, tile);
  }

  const Part part_;
  const ClassStream pos_weight_;
  const bool input_in_rows_, target_in_rows_;
};

}  // namespace fusedloss::cpu
