// What all segments of a call add up to: pools, results, and the slopes of every sample.
//
//     OverlapTotals<T> totals(params, classes, segments);
//     totals.counts[...], totals.sums[...]     // of segments, added to by tiles
//     totals.settle();                         // params.sums and the loss
//     totals.slopes_of_samples(nullptr)        // for the gradient that forward stores
//
// Segments are added up in order, so bits do not depend on the number of threads.
#pragma once

#include <vector>

#include "cpu/finish_sums.h"
#include "cpu/overlap_stage.h"

namespace fusedloss::cpu {

// What finish_sums.h takes, of the pointwise part.
struct PointwiseFinish {
  Extents extents;  // `samples` alone
  Reduction reduction;
  Normalizer normalizer;
  Operand given_normalizer;
  double given_number;
  double* sums;
};

template <class T>
class OverlapTotals {
 public:
  OverlapTotals(const OverlapParams& params, const PoolClasses& classes, int64_t segments)
      : params_(params),
        classes_(classes),
        rules_(params.rules),
        layout_(params.rules.layout()),
        samples_(params.extents.samples),
        segments_(segments) {}

  std::vector<SoftCounts> counts;  // of every segment and class
  std::vector<OverlapSums> sums;   // of every segment

  // Forward; backward reads params.sums alone.
  void begin() {
    counts.assign(samples_ * segments_ * params_.classes, SoftCounts());
    sums.assign(samples_ * segments_, OverlapSums());
    std::fill_n(params_.sums, layout_.length(), 0.0);
  }

  // All results from all counts.
  void settle() const {
    std::fill_n(params_.sums, layout_.length(), 0.0);
    for (int64_t sample = 0; sample < samples_; ++sample) fold(sample);
    finish();
  }

  void finish() const {
    double* results = params_.sums;
    std::vector<double> pools(layout_.pools);
    double loss = finish_pools(
        rules_, [&](int64_t c) { return weight_of(c); }, sample_count(), results, pools.data());
    if (params_.pointwise) {
      loss += params_.pointwise.part * finish_pointwise();
    } else {
      int64_t selected = 0;
      for (const OverlapSums& segment : sums) selected += segment.selected;
      results[layout_.selected()] = static_cast<double>(selected);
    }
    if (!params_.loss) return;
    if (rules_.reduction == Reduction::kNone) {
      store(vector_stream(params_.loss), 0, layout_.pools, pools.data());
    } else {
      store(vector_stream(params_.loss), 0, 1, &loss);
    }
  }

  // Fills total, normalizer, scale and selected; returns the loss of the part.
  double finish_pointwise() const {
    std::vector<Sums> results(layout_.results);
    for (int64_t i = 0; i < static_cast<int64_t>(sums.size()); ++i) {
      results[layout_.results == 1 ? 0 : i / segments_].combine(sums[i].pointwise);
    }
    const PointwiseParams& part = params_.pointwise;
    PointwiseFinish finish{Extents(),         rules_.reduction,
                           part.normalizer,   part.given_normalizer,
                           part.given_number, params_.sums};
    finish.extents.samples = layout_.results;
    const double elements = static_cast<double>(params_.extents.positions()) *
                            (is_classwise(part.kind) ? 1.0 : static_cast<double>(params_.classes));
    const double all = elements / static_cast<double>(std::max<int64_t>(layout_.results, 1));
    const double loss = finish_sums(finish, results, all);
    for (int64_t i = 0; i < layout_.results; ++i) params_.sums[layout_.scale(i)] *= part.part;
    return loss;
  }

  // Whether a NaN has come to a pool, whose gradients it spoils.
  bool is_spoiled() const {
    for (int64_t pool = 0; pool < layout_.pools; ++pool) {
      const double known = params_.sums[layout_.input_sum(pool)];
      if (known != known) return true;
    }
    return false;
  }

  std::vector<StageSlopes<T>> slopes_of_samples(const Operand* grad_output) const {
    std::vector<StageSlopes<T>> slopes;
    for (int64_t sample = 0; sample < samples_; ++sample) {
      slopes.push_back(slopes_of_sample(sample, grad_output));
    }
    return slopes;
  }

  // `grad_output` is nullptr for the gradient that forward stores.
  StageSlopes<T> slopes_of_sample(int64_t sample, const Operand* grad_output) const {
    StageSlopes<T> result;
    result.a.assign(params_.classes, T(0));
    result.b.assign(params_.classes, T(0));
    result.live.assign(params_.classes, 0);
    result.marked = grad_output == nullptr;
    const bool per_pool = rules_.reduction == Reduction::kNone;
    for (int64_t c = 0; c < params_.classes; ++c) {
      const int64_t pool = rules_.pools.of(sample, c);
      if (pool < 0) continue;
      const double factor =
          grad_output == nullptr ? 1 : value_at(*grad_output, per_pool ? pool : 0);
      const ClassSlopes slopes = slopes_of(rules_, pool, weight_of(c), factor, params_.sums);
      result.a[c] = static_cast<T>(slopes.by_intersection);
      result.b[c] = static_cast<T>(slopes.by_input_sum);
      result.live[c] = slopes.is_live;
      result.any_live = result.any_live || slopes.is_live;
    }
    if (!params_.pointwise) return result;
    const double scale = params_.sums[layout_.scale(layout_.results == 1 ? 0 : sample)];
    result.has_pointwise = scale != 0;
    const double factor = grad_output == nullptr ? 1 : value_at(*grad_output, 0);
    result.pointwise = static_cast<T>(result.has_pointwise ? scale * factor : 0);
    return result;
  }

  // ---- sample by sample -------------------------------------------------------------------------

  // What finish_pools makes of the shares, where no pool can be absent.
  double known_scale() const {
    double normalizer = 0;
    const bool per_sample = rules_.reduction == Reduction::kSampleMean;
    for (int64_t row = 0; row < (per_sample ? 1 : rules_.pools.rows()); ++row) {
      for (int64_t column = 0; column < rules_.pools.columns(); ++column) {
        normalizer += share_of(rules_, weight_of(rules_.pools.first_class() + column), 1);
      }
    }
    return pool_scale(rules_, normalizer, sample_count());
  }

  // The slopes of a sample from its own counts.
  StageSlopes<T> finish_sample(int64_t sample, double scale) const {
    fold(sample);
    const int64_t columns = rules_.pools.columns();
    for (int64_t column = 0; column < columns; ++column) {
      settle_pool(rules_, sample * columns + column, weight_of(rules_.pools.first_class() + column),
                  scale, params_.sums);
    }
    return slopes_of_sample(sample, nullptr);
  }

 private:
  double weight_of(int64_t c) const { return classes_.weight[c]; }

  // The counts of a sample into its pools.
  void fold(int64_t sample) const {
    for (int64_t c = 0; c < params_.classes; ++c) {
      SoftCounts total;
      for (int64_t segment = sample * segments_; segment < (sample + 1) * segments_; ++segment) {
        total.add(counts[segment * params_.classes + c]);
      }
      add_class(rules_, sample, c, weight_of(c), total, params_.sums);
    }
  }

  // How many samples have an element that takes part.
  int64_t sample_count() const {
    int64_t count = 0;
    for (int64_t sample = 0; sample < samples_; ++sample) {
      int64_t selected = 0;
      for (int64_t i = 0; i < segments_; ++i) selected += sums[sample * segments_ + i].selected;
      count += selected != 0 ? 1 : 0;
    }
    return count;
  }

  Stream vector_stream(const Operand& operand) const {
    Extents extents;
    if (rules_.reduction == Reduction::kNone) extents.size[0] = std::max<int64_t>(layout_.pools, 1);
    return Stream(operand, extents);
  }

  double value_at(const Operand& operand, int64_t i) const {
    double value;
    return *load(vector_stream(operand), i, 1, &value);
  }

  const OverlapParams& params_;
  const PoolClasses& classes_;
  const OverlapRules& rules_;
  const OverlapSumsLayout layout_;
  const int64_t samples_, segments_;
};

}  // namespace fusedloss::cpu
