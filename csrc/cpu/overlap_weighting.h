// Mask, weight and labels of a tile of positions, for losses whose weights may differ between the
// channels of a position.
//
//     weigh(tile, scratch)       fills scratch; returns a label out of range, or -1
//     add_sums(tile, scratch)    who is selected, and the normalizers of the pointwise part
//
// Weights are lanes of positions (`pitch` 0: all classes share them) or planes of elements. A label
// or an element that is ignored is masked out. Knows no logits.
#pragma once

#include <vector>

#include "core/overlap_params.h"
#include "cpu/label_weighting.h"
#include "cpu/tile_ahead.h"

namespace fusedloss::cpu {

// Class c has its weights at `data + c * pitch`.
template <class T>
struct PlaneWeights {
  const T *mask, *w;
  int64_t pitch;

  const T* mask_of(int64_t c) const { return mask + c * pitch; }
  const T* w_of(int64_t c) const { return w + c * pitch; }
};

// What a segment of the positions adds to the sums of its sample.
struct OverlapSums {
  Sums pointwise;
  int64_t selected = 0;  // elements that may be in a pool
};

template <class T>
struct ElementWeightLoops {
  FL_VECTOR_CLONES static void hide_ignored(const T* t, T ignored, int64_t count, T* mask, T* w) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const bool kept = t[i] != ignored;
      mask[i] = zero_unless(kept, mask[i]);
      w[i] = zero_unless(kept, w[i]);
    }
  }
  FL_VECTOR_CLONES static void hide_ignored(const int32_t* label, int32_t ignored, int64_t count,
                                            T* mask, T* w) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const bool kept = label[i] != ignored;
      mask[i] = zero_unless(kept, mask[i]);
      w[i] = zero_unless(kept, w[i]);
    }
  }
  // any[i] becomes 1 where w[i] is not 0.
  FL_VECTOR_CLONES static void find_active(const T* w, int64_t count, T* any) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) any[i] = w[i] != T(0) ? T(1) : any[i];
  }
};

template <class T>
class OverlapWeighting {
 public:
  struct Scratch {
    typename Weighting<T>::Scratch weighting;
    alignas(64) int64_t label[kMaxLanes];
    alignas(64) T any[kMaxLanes], t[kMaxLanes];
    PositionTile<T> positions;  // lanes; `class_weight` and w of the pointwise part are in `own`
    PositionTile<T> own;        // where it has class weights
    std::vector<T> mask, w;     // planes
    PlaneWeights<T> weights;
    bool backwards = false;  // tiles come from the last to the first
  };

  // `shown` tells which classes count anywhere; where none does, labels are not looked at.
  OverlapWeighting(const OverlapParams& params, const ClassWeights<T>& class_weights,
                   const std::vector<char>& shown, int64_t pitch, ParallelFor parallel_for)
      : params_(params),
        class_weights_(class_weights),
        shown_(shown),
        pitch_(pitch),
        weighting_({.region = params.region,
                    .weight_source = params.weight_source,
                    .bindings = params.bindings,
                    .weight = params.weight_map,
                    .input = params.seen_input,
                    .target = params.seen_target,
                    .extents = params.weighting,
                    .normalizer = Normalizer::kWeights},
                   parallel_for),
        target_(params.target, params.extents, params.has_labels ? 1 : params.classes),
        ignores_elements_(params.ignores && !params.has_labels && matches_ignored()),
        ignored_(ignored_value()) {
    for (const char is_shown : shown) any_shown_ = any_shown_ || is_shown;
  }

  void prepare(Scratch& scratch) const {
    if (is_plain()) {  // and stays so, but for labels
      std::fill_n(scratch.positions.mask, kMaxLanes, T(1));
      std::fill_n(scratch.positions.w, kMaxLanes, T(1));
    }
    if (!has_planes()) return;
    scratch.mask.resize(params_.classes * pitch_);
    scratch.w.resize(params_.classes * pitch_);
  }

  // Whether every weight is 1.
  bool is_plain() const { return !weighting_.is_weighted() && !params_.ignores; }
  bool has_planes() const { return params_.per_element || ignores_elements_; }
  const ClassStream& target() const { return target_; }

  int64_t weigh(const ClassTile& tile, Scratch& scratch) const {
    if (params_.per_element) {
      weigh_elements(tile, scratch);
    } else {
      const int64_t bad = weigh_positions(tile, scratch);
      if (bad >= 0) return bad;
    }
    if (ignores_elements_) hide_ignored_elements(tile, scratch);
    scratch.weights = has_planes()
                          ? PlaneWeights<T>{scratch.mask.data(), scratch.w.data(), pitch_}
                          : PlaneWeights<T>{scratch.positions.mask, scratch.positions.w, 0};
    return params_.per_element && params_.has_labels ? check_element_labels(tile, scratch) : -1;
  }

  // The lanes of the class loss of a compound.
  const PositionTile<T>& of_class_loss(const Scratch& scratch) const {
    return class_weights_.data() != nullptr ? scratch.own : scratch.positions;
  }

  void add_sums(const ClassTile& tile, Scratch& scratch, OverlapSums* sums) const {
    const Pools& pools = params_.rules.pools;
    const PlaneWeights<T>& weights = scratch.weights;
    const int64_t first = pools.first_class(), classes = params_.classes;
    if (is_plain()) {
      sums->selected += tile.count * (classes - first);
    } else if (weights.pitch == 0) {
      const int64_t selected = SumLoops<T>::count_nonzero(weights.mask, tile.count);
      sums->selected += selected * (classes - first);
    } else {
      for (int64_t c = first; c < classes; ++c) {
        sums->selected += SumLoops<T>::count_nonzero(weights.mask_of(c), tile.count);
      }
    }
    if (!params_.pointwise) return;
    if (is_classwise(params_.pointwise.kind)) {
      add_class_sums(tile, scratch, sums->pointwise);
    } else {
      add_element_sums(tile, scratch, sums->pointwise);
    }
  }

 private:
  using Loops = PositionLoops<T>;
  using ElementLoops = ElementWeightLoops<T>;

  Weights<T> position_weights(const ClassTile& tile, Scratch& scratch) const {
    Weights<T> weights;
    weighting_.for_each_run(TileRange{tile.sample, tile.begin, tile.count, 1, 0}, scratch.weighting,
                            [&](int64_t, const Weights<T>& found) { weights = found; });
    return weights;
  }

  static void copy_or_ones(const T* from, int64_t count, T* to) {
    if (from == nullptr) {
      std::fill_n(to, count, T(1));
    } else {
      std::copy_n(from, count, to);
    }
  }

  int64_t weigh_positions(const ClassTile& tile, Scratch& scratch) const {
    PositionTile<T>& result = scratch.positions;
    if (is_plain() && !params_.has_labels) return -1;
    const Weights<T> weights = position_weights(tile, scratch);
    if (!params_.has_labels) {
      copy_or_ones(weights.mask, tile.count, result.mask);
      copy_or_ones(weights.w, tile.count, result.w);
      return -1;
    }
    const int64_t* labels = load_labels(tile, scratch, result.label);
    const T* weight = weights.w == weights.mask ? nullptr : weights.w;
    const auto weigh = weights.mask != nullptr
                           ? (weight != nullptr ? Loops::template weigh<true, true>
                                                : Loops::template weigh<true, false>)
                           : (weight != nullptr ? Loops::template weigh<false, true>
                                                : Loops::template weigh<false, false>);
    const int64_t bad = weigh(weights.mask, weight, tile.count, &result);
    if (bad != 0 && checks_labels()) return tile.begin + first_bad(labels, result.w, tile.count);
    if (class_weights_.data() != nullptr && is_classwise(params_.pointwise.kind)) {
      std::copy_n(result.w, tile.count, scratch.own.w);
      std::copy_n(result.label, tile.count, scratch.own.label);
      const bool needs_own = params_.pointwise.label_smoothing == 0 || !class_weights_.any;
      Loops::look_up(class_weights_.data(), needs_own, tile.count, &scratch.own);
    }
    return -1;
  }

  const int64_t* load_labels(const ClassTile& tile, Scratch& scratch, int32_t* narrowed) const {
    const int64_t* labels = load(target_.positions, tile.begin, tile.count, scratch.label);
    TileAhead(target_, tile, scratch.backwards).fetch(0, 0, tile.count);
    Loops::narrow(labels, params_.ignore_index, params_.ignores && matches_ignored(),
                  params_.classes, tile.count, narrowed);
    return labels;
  }

  bool checks_labels() const { return any_shown_ || is_classwise(params_.pointwise.kind); }

  // Where w is not 0, which it is where ignored.
  int64_t first_bad(const int64_t* labels, const T* w, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) {
      const bool in_range =
          static_cast<uint64_t>(labels[i]) < static_cast<uint64_t>(params_.classes);
      if (w[i] != T(0) && !in_range) return i;
    }
    return 0;
  }

  void weigh_elements(const ClassTile& tile, Scratch& scratch) const {
    const int64_t per_sample = params_.extents.positions_per_sample();
    const int64_t first = tile.begin + tile.sample * per_sample * (params_.classes - 1);
    int64_t c = 0;
    weighting_.for_each_run(TileRange{tile.sample, first, tile.count, params_.classes, per_sample},
                            scratch.weighting, [&](int64_t, const Weights<T>& found) {
                              copy_or_ones(found.mask, tile.count,
                                           scratch.mask.data() + c * pitch_);
                              copy_or_ones(found.w, tile.count, scratch.w.data() + c * pitch_);
                              ++c;
                            });
    if (!params_.has_labels) return;
    load_labels(tile, scratch, scratch.positions.label);
    if (!params_.ignores) return;
    for (c = 0; c < params_.classes; ++c) {
      ElementLoops::hide_ignored(scratch.positions.label, Loops::kIgnored, tile.count,
                                 scratch.mask.data() + c * pitch_, scratch.w.data() + c * pitch_);
    }
  }

  // A position takes part where one of its classes does that counts anywhere.
  int64_t check_element_labels(const ClassTile& tile, Scratch& scratch) const {
    std::fill_n(scratch.any, tile.count, T(0));
    for (int64_t c = 0; c < params_.classes; ++c) {
      if (shown_[c]) ElementLoops::find_active(scratch.weights.w_of(c), tile.count, scratch.any);
    }
    for (int64_t i = 0; i < tile.count; ++i) {
      if (scratch.positions.label[i] >= 0) continue;
      if (scratch.any[i] != T(0)) return tile.begin + i;
      scratch.positions.label[i] = 0;
    }
    return -1;
  }

  void hide_ignored_elements(const ClassTile& tile, Scratch& scratch) const {
    const PositionTile<T>& positions = scratch.positions;
    for (int64_t c = 0; c < params_.classes; ++c) {
      T *mask = scratch.mask.data() + c * pitch_, *w = scratch.w.data() + c * pitch_;
      if (!params_.per_element) {
        std::copy_n(positions.mask, tile.count, mask);
        std::copy_n(positions.w, tile.count, w);
      }
      const T* t = load(target_.plane(c), tile.begin, tile.count, scratch.t);
      ElementLoops::hide_ignored(t, ignored_, tile.count, mask, w);
    }
  }

  void add_class_sums(const ClassTile& tile, Scratch& scratch, Sums& sums) const {
    const PositionTile<T>& positions = scratch.positions;
    const double mask = SumLoops<T>::sum(positions.mask, tile.count);
    sums.selected += SumLoops<T>::count_nonzero(positions.mask, tile.count);
    sums.mask += mask;
    sums.positions += mask;
    if (params_.pointwise.normalizer != Normalizer::kWeights) return;
    if (params_.has_labels) {
      const PositionTile<T>& own = of_class_loss(scratch);
      sums.weights += Loops::sum_of_products(own.w, own.class_weight, tile.count);
      return;
    }
    for (int64_t c = 0; c < params_.classes; ++c) {
      const double weight = class_weights_.data() != nullptr ? class_weights_.values[c] : 1;
      if (weight == 0) continue;
      const T* t = load(target_.plane(c), tile.begin, tile.count, scratch.t);
      sums.weights += weight * Loops::sum_of_products(positions.w, t, tile.count);
    }
  }

  void add_element_sums(const ClassTile& tile, Scratch& scratch, Sums& sums) const {
    const PlaneWeights<T>& weights = scratch.weights;
    const bool counts_positions = params_.pointwise.normalizer == Normalizer::kPositions;
    double mask = 0, weight = 0;
    int64_t selected = 0;
    for (int64_t c = 0; c < params_.classes; ++c) {
      if (c == 0 || weights.pitch != 0) {
        mask = SumLoops<T>::sum(weights.mask_of(c), tile.count);
        weight = SumLoops<T>::sum(weights.w_of(c), tile.count);
        selected = SumLoops<T>::count_nonzero(weights.mask_of(c), tile.count);
      }
      sums.mask += mask;
      sums.selected += selected;
      const double factor = class_weights_.data() != nullptr ? class_weights_.values[c] : 1;
      if (factor != 0) sums.weights += factor * weight;
      if (!counts_positions || (c > 0 && weights.pitch == 0)) continue;
      if (c == 0) {
        std::copy_n(weights.mask, tile.count, scratch.any);
      } else {
        RegionLoops<T>::raise_to(scratch.any, weights.mask_of(c), tile.count);
      }
    }
    if (counts_positions) sums.positions += SumLoops<T>::sum(scratch.any, tile.count);
  }

  // What `ignore_index` is in a tensor of the target's dtype, which may not have it.
  bool matches_ignored() const {
    return params_.ignore_index >= 0 || params_.target.positions.dtype != DType::kUInt64;
  }
  T ignored_value() const {
    return visit_dtype(params_.target.positions.dtype, [&](auto element) {
      using S = decltype(element);
      const double value = static_cast<double>(params_.ignore_index);
      if constexpr (std::is_integral_v<S> || std::is_same_v<S, double>) {
        return static_cast<T>(value);
      } else {
        return convert<T>(convert<S>(static_cast<float>(value)));
      }
    });
  }

  const OverlapParams& params_;
  const ClassWeights<T>& class_weights_;  // of the pointwise part
  const std::vector<char>& shown_;
  const int64_t pitch_;
  const Weighting<T> weighting_;
  const ClassStream target_;
  const bool ignores_elements_;
  const T ignored_;
  bool any_shown_ = false;
};

}  // namespace fusedloss::cpu
