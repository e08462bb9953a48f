// Labels, mask, map and class weights of a tile of positions, and what they add to the normalizers.
//
// A position that is ignored is masked out; one that is masked out, or whose map is 0, takes no
// part: its label is not looked at. Knows no logits: the sums can be had before those are read.
#pragma once

#include <algorithm>
#include <vector>

#include "core/classwise_params.h"
#include "cpu/class_tile.h"
#include "cpu/weighting.h"

namespace fusedloss::cpu {

// What is known of the positions of a tile before a logit is read.
template <class T>
struct PositionTile {
  alignas(64) T mask[kMaxLanes];          // 0 where ignored
  alignas(64) T w[kMaxLanes];             // mask x map; 0 also where class weights leave nothing
  alignas(64) T class_weight[kMaxLanes];  // of the label; 0 where w is 0
  alignas(64) int32_t label[kMaxLanes];   // in [0, C); 0 where w is 0
};

// The class weights as T; without any, each is 1.
template <class T>
struct ClassWeights {
  std::vector<T> values;  // empty: none
  T total = 0;            // sum over the classes
  bool any = true;        // whether one of them is not 0

  ClassWeights(const Operand& weight, int64_t classes) : total(static_cast<T>(classes)) {
    if (!weight) return;
    values.resize(classes);
    double sum = 0;
    any = false;
    visit_dtype(weight.dtype, [&](auto element) {
      using S = decltype(element);
      for (int64_t c = 0; c < classes; ++c) {
        const T value = convert<T>(static_cast<const S*>(weight.data)[c * weight.stride[0]]);
        values[c] = value;
        sum += static_cast<double>(value);
        any = any || value != T(0);
      }
    });
    total = static_cast<T>(sum);
  }

  const T* data() const { return values.empty() ? nullptr : values.data(); }
};

template <class T>
struct PositionLoops {
  static constexpr int32_t kIgnored = -1, kBad = -2;

  // The hardware sees a stream of labels too late among those of the classes.
  static constexpr int64_t kAhead = 1024;

  // Labels as int32, kIgnored, or kBad outside [0, C).
  FL_VECTOR_CLONES static void narrow(const int64_t* label, int64_t ignored, bool matches,
                                      int64_t classes, int64_t count, int32_t* result) {
    const int64_t no_label = matches ? 0 : 1;
    for (int64_t i = 0; i < count; i += kLineBytes / 8) prefetch(label + i + kAhead);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const bool in_range = static_cast<uint64_t>(label[i]) < static_cast<uint64_t>(classes);
      const int64_t known = in_range ? label[i] : int64_t{kBad};
      result[i] = static_cast<int32_t>(((label[i] ^ ignored) | no_label) == 0 ? kIgnored : known);
    }
  }
  // Fills the tile, whose `label` are narrow ones, from mask and weight (without either: 1);
  // returns how many labels are out of range where they count.
  template <bool kMask, bool kWeight>
  FL_VECTOR_CLONES static int64_t weigh(const T* mask, const T* weight, int64_t count,
                                        PositionTile<T>* tile) {
    int32_t bad = 0;
#pragma omp simd reduction(+ : bad)
    for (int64_t i = 0; i < count; ++i) {
      const int32_t label = tile->label[i];
      const T m = zero_unless(label != kIgnored, kMask ? mask[i] : T(1));
      const T w = zero_unless(label != kIgnored, kWeight ? weight[i] : m);
      tile->mask[i] = m;
      tile->w[i] = w;
      tile->class_weight[i] = zero_unless(w != T(0), T(1));
      tile->label[i] = w != T(0) && label >= 0 ? label : 0;
      bad += w != T(0) && label == kBad ? 1 : 0;
    }
    return bad;
  }
  FL_VECTOR_CLONES static void scale(const T* w, T factor, T* result, int64_t count) {
    for (int64_t i = 0; i < count; ++i) result[i] = w[i] * factor;
  }
  // `needs_own`: a position whose label has weight 0 has no part in the loss either.
  FL_VECTOR_CLONES static void look_up(const T* class_weight, bool needs_own, int64_t count,
                                       PositionTile<T>* tile) {
    for (int64_t i = 0; i < count; ++i) {
      const T own = tile->w[i] != T(0) ? class_weight[tile->label[i]] : T(0);
      tile->class_weight[i] = own;
      tile->w[i] = zero_unless(!needs_own || own != T(0), tile->w[i]);
    }
  }
  FL_VECTOR_CLONES static double sum_of_products(const T* a, const T* b, int64_t count) {
    double total = 0;
    for (int64_t begin = 0; begin < count; begin += kFlush) {
      const int64_t end = count - begin < kFlush ? count : begin + kFlush;
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = begin; i < end; ++i) sum += zero_unless(a[i] != T(0), a[i] * b[i]);
      total += static_cast<double>(sum);
    }
    return total;
  }
};

template <class T>
class LabelWeighting {
 public:
  struct Scratch {
    typename Weighting<T>::Scratch weighting;
    alignas(64) int64_t label[kMaxLanes];
  };

  LabelWeighting(const ClasswiseParams& params, const ClassWeights<T>& class_weights,
                 ParallelFor parallel_for)
      : params_(params),
        class_weights_(class_weights),
        weighting_({.region = params.region,
                    .weight_source = params.weight_source,
                    .bindings = params.bindings,
                    .weight = params.weight_map,
                    .input = params.input.positions,
                    .target = params.target.positions,
                    .extents = params.extents,
                    .normalizer = Normalizer::kWeights},
                   parallel_for),
        labels_(params.target.positions, params.extents) {}

  // Returns the index of the first label out of range where it counts, or -1.
  int64_t weigh(const ClassTile& tile, Scratch& scratch, PositionTile<T>* result) const {
    Weights<T> weights;
    weighting_.for_each_run(TileRange{tile.sample, tile.begin, tile.count, 1, 0}, scratch.weighting,
                            [&](int64_t, const Weights<T>& found) { weights = found; });
    const int64_t* labels = load(labels_, tile.begin, tile.count, scratch.label);
    using Loops = PositionLoops<T>;
    Loops::narrow(labels, params_.ignore_index, params_.matches_ignored, params_.classes,
                  tile.count, result->label);
    const T* weight = weights.w == weights.mask ? nullptr : weights.w;
    const auto weigh = weights.mask != nullptr
                           ? (weight != nullptr ? Loops::template weigh<true, true>
                                                : Loops::template weigh<true, false>)
                           : (weight != nullptr ? Loops::template weigh<false, true>
                                                : Loops::template weigh<false, false>);
    const int64_t bad = weigh(weights.mask, weight, tile.count, result);
    if (bad != 0) return tile.begin + first_bad(labels, weights, tile.count);
    if (class_weights_.data() != nullptr) {
      const bool needs_own = params_.label_smoothing == 0 || !class_weights_.any;
      PositionLoops<T>::look_up(class_weights_.data(), needs_own, tile.count, result);
    }
    return -1;
  }

  // The same for targets that have no labels: `class_weight` is left to the caller.
  void weigh_positions(const ClassTile& tile, Scratch& scratch, PositionTile<T>* result) const {
    const Weights<T> weights = weights_of(tile, scratch);
    for (const auto& [from, to] : {std::pair(weights.mask, result->mask), {weights.w, result->w}}) {
      if (from == nullptr) {
        std::fill_n(to, tile.count, T(1));
      } else {
        std::copy_n(from, tile.count, to);
      }
    }
  }

  void add_sums(const PositionTile<T>& tile, int64_t count, Sums& sums) const {
    const double mask = SumLoops<T>::sum(tile.mask, count);
    sums.selected += SumLoops<T>::count_nonzero(tile.mask, count);
    sums.mask += mask;
    sums.positions += mask;
    sums.weights += PositionLoops<T>::sum_of_products(tile.w, tile.class_weight, count);
  }

 private:
  Weights<T> weights_of(const ClassTile& tile, Scratch& scratch) const {
    Weights<T> weights;
    weighting_.for_each_run(TileRange{tile.sample, tile.begin, tile.count, 1, 0}, scratch.weighting,
                            [&](int64_t, const Weights<T>& found) { weights = found; });
    return weights;
  }

  int64_t first_bad(const int64_t* labels, const Weights<T>& weights, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) {
      const bool kept = !(params_.matches_ignored && labels[i] == params_.ignore_index);
      const bool active = kept && (weights.w == nullptr || weights.w[i] != T(0));
      const bool in_range =
          static_cast<uint64_t>(labels[i]) < static_cast<uint64_t>(params_.classes);
      if (active && !in_range) return i;
    }
    return 0;
  }

  const ClasswiseParams& params_;
  const ClassWeights<T>& class_weights_;
  const Weighting<T> weighting_;
  const Stream labels_;
};

}  // namespace fusedloss::cpu
