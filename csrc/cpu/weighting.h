// Mask and weight of a tile, and what they add to the normalizers. Knows no loss: all families use
// it.
//
//     Weighting<float> weighting({.region = ..., .weight = ..., ...}, parallel_for);
//     weighting.for_each_run(tile, scratch, [&](int64_t index, const Weights<float>& weights)
//     {...}); weighting.add_sums(tile, scratch, sums);
//
// What does not vary over channels is worked out once per tile and handed to every channel's run.
// Where a run is masked out its weight is not even looked at, and `Weights::parts` tells the caller
// what to leave alone.
#pragma once

#include "cpu/active_parts.h"
#include "cpu/program_evaluator.h"
#include "cpu/range_phase.h"
#include "cpu/stream.h"
#include "cpu/tiling.h"
#include "reductions/sums.h"

namespace fusedloss::cpu {

// What decides mask and weight; `weight` and `weight_source` are never both there.
struct WeightingInputs {
  const Program& region;
  const Program& weight_source;
  const Bindings& bindings;
  const Operand& weight;
  const Operand& input;
  const Operand& target;
  const Extents& extents;
  Normalizer normalizer;
};

template <class T>
struct Weights {
  const T* mask = nullptr;             // nullptr: 1
  const T* w = nullptr;                // mask * weight, nullptr: 1
  const ActiveParts* parts = nullptr;  // where w is not 0; nullptr: anywhere
};

template <class T>
class Weighting {
 public:
  struct Scratch {
    ProgramWork<T> work;
    typename ProgramEvaluator<T>::Slots region, source;
    bool source_is_prepared;
    ActiveParts parts;
    alignas(64) T weight[kTile], w[kTile], largest[kTile];
  };

  Weighting(const WeightingInputs& in, ParallelFor parallel_for)
      : extents_(in.extents),
        region_(in.region, in.bindings, in.input, in.target, in.extents),
        source_(in.weight_source, in.bindings, in.input, in.target, in.extents),
        tiling_(in.extents, in.normalizer == Normalizer::kPositions || region_.reads_channels() ||
                                source_.reads_channels()),
        weight_(in.weight, in.extents),
        normalizer_(in.normalizer),
        has_region_(in.region),
        has_source_(in.weight_source),
        is_binary_(in.region.is_binary),
        counts_positions_(in.normalizer == Normalizer::kPositions),
        shared_(in.extents.channels == 1 ||
                (in.region.is_positional && in.weight_source.is_positional &&
                 !in.weight.varies_over_channels)) {
    if (const auto inside = positions_in_box(in.region, in.bindings)) {
      positions_in_box_ = *inside * in.bindings.places.samples;
    }
    if (in.bindings.ranges == 0) return;
    source_sums_ = RangePhase<T>(source_, in.bindings, in.extents, parallel_for).run();
  }

  const Tiling& tiling() const { return tiling_; }
  bool is_weighted() const { return has_region_ || has_source_ || weight_; }
  // Whether `known_sums` needs no pass over the data.
  bool knows_sums() const {
    if (!is_weighted()) return true;
    if (has_region_) return positions_in_box_ >= 0 && !weight_ && !has_source_;
    return (normalizer_ != Normalizer::kWeights || !source_sums_.empty());
  }
  // Whether tiles that are masked out stay unread, so that nothing may be fetched ahead.
  bool leaves_unread() const { return has_region_ && region_.is_closed_form(); }

  // Calls visit(index, weights) for the run of each channel of the tile.
  template <class Visit>
  void for_each_run(const TileRange& tile, Scratch& scratch, Visit&& visit) const {
    begin(tile, scratch);
    Weights<T> weights;
    if (shared_ && is_weighted()) weights = at(tile, tile.begin, true, scratch);
    for (int64_t channel = 0; channel < tile.channels; ++channel) {
      const int64_t index = tile.begin + channel * tile.channel_stride;
      if (!shared_ && is_weighted()) weights = at(tile, index, true, scratch);
      visit(index, weights);
    }
  }

  // Adds what the tile contributes to the normalizers.
  void add_sums(const TileRange& tile, Scratch& scratch, Sums& sums) const {
    begin(tile, scratch);
    if (shared_) return add(at(tile, tile.begin, false, scratch), tile, 0, scratch, sums);
    for (int64_t channel = 0; channel < tile.channels; ++channel) {
      const int64_t index = tile.begin + channel * tile.channel_stride;
      add(at(tile, index, false, scratch), tile, channel, scratch, sums);
    }
  }

  // Adds what one run contributes; where the weights are shared, `channel` 0 stands for all.
  void add(const Weights<T>& weights, const TileRange& tile, int64_t channel, Scratch& scratch,
           Sums& sums) const {
    if (shared_ && channel > 0) return;
    add_masks(weights, tile.count, shared_ ? tile.channels : 1, sums);
    if (!counts_positions_) return;
    if (extents_.channels == 1 || (shared_ && tiling_.planar())) {
      sums.positions += weights.mask == nullptr ? static_cast<double>(tile.count)
                                                : SumLoops<T>::sum(weights.mask, tile.count);
    } else if (weights.mask != nullptr) {
      add_positions(weights.mask, tile, channel, scratch, sums);
    } else if (tiling_.planar()) {
      sums.positions += channel == 0 ? static_cast<double>(tile.count) : 0.0;
    } else {
      sums.positions += static_cast<double>(tile.count / extents_.channels);
    }
  }

  // What is known of a sample's sums, as far as the normalizer asks for them.
  Sums known_sums(int64_t sample) const {
    Sums sums;
    const int64_t positions =
        has_region_ ? positions_in_box_ / extents_.samples : extents_.positions_per_sample();
    sums.selected = positions * extents_.channels;
    sums.mask = sums.weights = static_cast<double>(sums.selected);
    sums.positions = static_cast<double>(positions);
    if (source_sums_.empty()) return sums;
    const int64_t own = static_cast<int64_t>(source_sums_.size()) / extents_.samples;
    sums.weights = 0;
    for (int64_t i = 0; i < own; ++i) sums.weights += source_sums_[sample * own + i];
    return sums;
  }

 private:
  void begin(const TileRange& tile, Scratch& scratch) const {
    scratch.source_is_prepared = false;
    if (has_region_) region_.prepare(tile, scratch.work, scratch.region);
  }

  // Of the run of the tile that starts at `index`. Parts are looked for where it may be worth it.
  Weights<T> at(const TileRange& tile, int64_t index, bool wants_parts, Scratch& scratch) const {
    Weights<T> result;
    if (has_region_) {
      const Values<T> mask = region_.evaluate(tile, index, scratch.work, scratch.region, 0);
      result.w = result.mask = mask.in_memory(scratch.work.stack[0], tile.count);
      if (mask.is(T(0))) {
        scratch.parts.count = 0;
        result.parts = &scratch.parts;
        return result;
      }
      if (wants_parts && region_.depends_on_place()) {
        scratch.parts.find(result.mask, tile.count);
        result.parts = &scratch.parts;
      }
    }
    if (!weight_ && !has_source_) return result;
    const T* weight = weight_ ? load(weight_, index, tile.count, scratch.weight)
                              : source_values(tile, index, scratch);
    if (has_region_) {
      BinaryLoops<Both, T>::run(result.mask, weight, scratch.w, tile.count);
      weight = scratch.w;
    }
    result.w = weight;
    return result;
  }

  const T* source_values(const TileRange& tile, int64_t index, Scratch& scratch) const {
    if (!scratch.source_is_prepared) source_.prepare(tile, scratch.work, scratch.source);
    scratch.source_is_prepared = true;
    return source_.evaluate(tile, index, scratch.work, scratch.source, 1)
        .in_memory(scratch.weight, tile.count);
  }

  // Adds the mask and weight of `count` elements, each standing for `repeats`.
  void add_masks(const Weights<T>& weights, int64_t count, int64_t repeats, Sums& sums) const {
    const double factor = static_cast<double>(repeats);
    int64_t selected = count;
    double mask = static_cast<double>(count);
    if (weights.mask != nullptr) {
      selected = SumLoops<T>::count_nonzero(weights.mask, count);
      mask = is_binary_ ? static_cast<double>(selected) : SumLoops<T>::sum(weights.mask, count);
    }
    sums.selected += selected * repeats;
    sums.mask += mask * factor;
    sums.weights +=
        weights.w == weights.mask ? mask * factor : SumLoops<T>::sum(weights.w, count) * factor;
  }

  // The largest mask value of each position, summed: only for masks that differ between channels.
  void add_positions(const T* mask, const TileRange& tile, int64_t channel, Scratch& scratch,
                     Sums& sums) const {
    if (tiling_.planar()) {
      if (channel == 0) {
        std::copy_n(mask, tile.count, scratch.largest);
      } else {
        RegionLoops<T>::raise_to(scratch.largest, mask, tile.count);
      }
      if (channel == extents_.channels - 1) {
        sums.positions += SumLoops<T>::sum(scratch.largest, tile.count);
      }
      return;
    }
    const int64_t inner = extents_.inner, per_outer = extents_.channels * inner;
    for (int64_t row = 0; row < tile.count; row += per_outer) {
      for (int64_t i = 0; i < inner; ++i) {
        T largest = mask[row + i];
        for (int64_t j = inner; j < per_outer; j += inner) {
          largest = mask_or(mask[row + i + j], largest);
        }
        sums.positions += static_cast<double>(largest);
      }
    }
  }

  const Extents extents_;
  const ProgramEvaluator<T> region_;
  ProgramEvaluator<T> source_;
  const Tiling tiling_;
  const Stream weight_;
  std::vector<double> source_sums_;  // of the weight source, per index of dim 0; empty: unknown
  int64_t positions_in_box_ = -1;    // in all, of a region that is a box
  const Normalizer normalizer_;
  const bool has_region_, has_source_, is_binary_, counts_positions_;
  const bool shared_;  // all channels of a position have the same mask and weight
};

}  // namespace fusedloss::cpu
