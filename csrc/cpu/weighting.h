// Mask and weight of a tile, and what they add to the normalizers. Knows no loss: all families use
// it.
//
//     Weighting<float> weighting(region, weight, target, extents, normalizer);
//     weighting.for_each_run(tile, scratch, [&](int64_t index, const Weights<float>& weights) { ...
//     }); weighting.add_sums(tile, scratch, sums);
//
// What does not vary over channels is worked out once per tile and handed to every channel's run.
#pragma once

#include "cpu/region_evaluator.h"
#include "cpu/stream.h"
#include "cpu/tiling.h"
#include "reductions/sums.h"

namespace fusedloss::cpu {

template <class T>
struct Weights {
  const T* mask = nullptr;  // nullptr: 1
  const T* w = nullptr;     // mask * weight, nullptr: 1
};

template <class T>
class Weighting {
 public:
  struct Scratch {
    typename RegionEvaluator<T>::Scratch region;
    alignas(64) T weight[kTile], w[kTile], largest[kTile];
  };

  Weighting(const Program& region, const Bindings& bindings, const Operand& weight,
            const Operand& target, const Extents& extents, Normalizer normalizer)
      : extents_(extents),
        tiling_(extents, normalizer == Normalizer::kPositions),
        region_(region, bindings, target, extents),
        weight_(weight, extents),
        has_region_(region),
        is_binary_(region.is_binary),
        counts_positions_(normalizer == Normalizer::kPositions),
        shared_(extents.channels == 1 ||
                ((!region || region.is_positional) && !weight.varies_over_channels)) {}

  const Tiling& tiling() const { return tiling_; }
  bool is_weighted() const { return has_region_ || weight_; }

  // Calls visit(index, weights) for the run of each channel of the tile.
  template <class Visit>
  void for_each_run(const TileRange& tile, Scratch& scratch, Visit&& visit) const {
    Weights<T> weights;
    if (shared_ && is_weighted()) weights = at(tile.begin, tile.count, scratch);
    for (int64_t channel = 0; channel < tile.channels; ++channel) {
      const int64_t index = tile.begin + channel * tile.channel_stride;
      if (!shared_ && is_weighted()) weights = at(index, tile.count, scratch);
      visit(index, weights);
    }
  }

  // Adds what the tile contributes to the normalizers.
  void add_sums(const TileRange& tile, Scratch& scratch, Sums& sums) const {
    if (shared_) return add(at(tile.begin, tile.count, scratch), tile, 0, scratch, sums);
    for (int64_t channel = 0; channel < tile.channels; ++channel) {
      const int64_t index = tile.begin + channel * tile.channel_stride;
      add(at(index, tile.count, scratch), tile, channel, scratch, sums);
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

  // The sums of a sample where nothing is masked or weighted, in closed form.
  Sums unweighted() const {
    Sums sums;
    sums.selected = extents_.elements_per_sample();
    sums.mask = sums.weights = static_cast<double>(sums.selected);
    sums.positions = static_cast<double>(extents_.positions_per_sample());
    return sums;
  }

 private:
  Weights<T> at(int64_t index, int64_t count, Scratch& scratch) const {
    Weights<T> result;
    if (has_region_) result.w = result.mask = region_.evaluate(index, count, scratch.region);
    if (weight_) {
      const T* weight = load(weight_, index, count, scratch.weight);
      if (has_region_) RegionLoops<T>::product(result.mask, weight, scratch.w, count);
      result.w = has_region_ ? scratch.w : weight;
    }
    return result;
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
  const Tiling tiling_;
  const RegionEvaluator<T> region_;
  const Stream weight_;
  const bool has_region_, is_binary_, counts_positions_;
  const bool shared_;  // all channels of a position have the same mask and weight
};

}  // namespace fusedloss::cpu
