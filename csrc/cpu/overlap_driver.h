// The driver behind cpu/overlap.h; instantiated once per operation type.
//
// Positions are cut into segments, whose sums are added up in order: bits do not depend on the
// number of threads, nor on whether samples are finished one by one.
#pragma once

#include <mutex>
#include <vector>

#include "cpu/element_stage.h"
#include "cpu/finish_sums.h"
#include "cpu/overlap.h"
#include "cpu/softmax_stage.h"
#include "losses/class_registry.h"

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

template <class Stage, class T>
class OverlapDriver {
  using Scratch = typename Stage::Scratch;

 public:
  OverlapDriver(const Stage& stage, const OverlapParams& params, ParallelFor parallel_for)
      : stage_(stage),
        params_(params),
        rules_(params.rules),
        layout_(params.rules.layout()),
        parallel_for_(parallel_for),
        samples_(params.extents.samples),
        segments_(std::min(stage.tiling.blocks_per_sample(), kSegments)) {}

  NotAClass forward() {
    counts_.resize(samples_ * segments_ * params_.classes);
    sums_.resize(samples_ * segments_);
    const bool wants_gradient = static_cast<bool>(params_.grad_input);
    if (wants_gradient && stage_.foretells()) return run_at_once();
    if (wants_gradient && finishes_samples()) return run_sample_by_sample();
    run(0, samples_, [&](int64_t segment, Scratch& scratch) { count(segment, true, scratch); });
    if (bad_.index >= 0) return bad_;
    settle();
    if (wants_gradient) write_gradients(nullptr);
    return bad_;
  }

  void backward() {
    if (params_.grad_input) write_gradients(&params_.grad_output);
  }

 private:
  static constexpr int64_t kSegments = 64;  // of a sample
  // A sample of this size stays in the cache of a core, whose thread then does all of it.
  static constexpr int64_t kCachedBytes = int64_t{1} << 20;

  // ---- one segment ------------------------------------------------------------------------------

  template <class Visit>
  void for_each_tile(int64_t segment, Visit&& visit) const {
    const int64_t blocks = stage_.tiling.blocks_per_sample();
    const int64_t sample = segment / segments_, own = segment % segments_;
    const int64_t first = sample * blocks + own * blocks / segments_;
    const int64_t last = sample * blocks + (own + 1) * blocks / segments_;
    for (int64_t block = first; block < last; ++block) stage_.tiling.for_each_tile(block, visit);
  }

  bool weigh(const ClassTile& tile, Scratch& scratch) {
    const int64_t bad = stage_.weighting.weigh(tile, scratch.weighting);
    if (bad < 0) return true;
    const std::lock_guard<std::mutex> guard(bad_mutex_);
    if (bad_.index < 0 || bad < bad_.index) bad_.index = bad;
    return false;
  }

  // `adds_sums`: who is selected is not known yet.
  void count(int64_t segment, bool adds_sums, Scratch& scratch) {
    SoftCounts* counts = &counts_[segment * params_.classes];
    for_each_tile(segment, [&](const ClassTile& tile) {
      if (!weigh(tile, scratch)) return;
      if (adds_sums) stage_.weighting.add_sums(tile, scratch.weighting, &sums_[segment]);
      stage_.add_counts(tile, scratch, counts, &sums_[segment]);
    });
  }

  void write_gradient(int64_t segment, const StageSlopes<T>& slopes, Scratch& scratch) {
    for_each_tile(segment, [&](const ClassTile& tile) {
      if (weigh(tile, scratch)) stage_.write_gradient(tile, scratch, slopes);
    });
  }

  // body(segment, scratch) for those of the samples [begin, end).
  template <class Body>
  void run(int64_t begin, int64_t end, Body&& body) const {
    const int64_t per_segment = stage_.tiling.elements_per_block() *
                                stage_.tiling.blocks_per_sample() / std::max<int64_t>(segments_, 1);
    const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(per_segment, 1));
    parallel_for_((end - begin) * segments_, grain, [&](int64_t first, int64_t last) {
      Scratch scratch;
      stage_.prepare(scratch);
      for (int64_t i = first; i < last; ++i) body(begin * segments_ + i, scratch);
      finish_streaming();
    });
  }

  // ---- sums -------------------------------------------------------------------------------------

  double weight_of(int64_t c) const { return stage_.classes.weight[c]; }

  // The counts of a sample into its pools.
  void fold(int64_t sample) const {
    for (int64_t c = 0; c < params_.classes; ++c) {
      SoftCounts total;
      for (int64_t segment = sample * segments_; segment < (sample + 1) * segments_; ++segment) {
        total.add(counts_[segment * params_.classes + c]);
      }
      add_class(rules_, sample, c, weight_of(c), total, params_.sums);
    }
  }

  // How many samples have an element that takes part.
  int64_t sample_count() const {
    int64_t count = 0;
    for (int64_t sample = 0; sample < samples_; ++sample) {
      int64_t selected = 0;
      for (int64_t i = 0; i < segments_; ++i) selected += sums_[sample * segments_ + i].selected;
      count += selected != 0 ? 1 : 0;
    }
    return count;
  }

  void finish() const {
    double* sums = params_.sums;
    std::vector<double> pools(layout_.pools);
    double loss = finish_pools(
        rules_, [&](int64_t c) { return weight_of(c); }, sample_count(), sums, pools.data());
    if (params_.pointwise) {
      loss += params_.pointwise.part * finish_pointwise();
    } else {
      int64_t selected = 0;
      for (const OverlapSums& segment : sums_) selected += segment.selected;
      sums[layout_.selected()] = static_cast<double>(selected);
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
    for (int64_t i = 0; i < static_cast<int64_t>(sums_.size()); ++i) {
      results[layout_.results == 1 ? 0 : i / segments_].combine(sums_[i].pointwise);
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

  Stream vector_stream(const Operand& operand) const {
    Extents extents;
    if (rules_.reduction == Reduction::kNone) extents.size[0] = std::max<int64_t>(layout_.pools, 1);
    return Stream(operand, extents);
  }

  // ---- gradients --------------------------------------------------------------------------------

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

  double value_at(const Operand& operand, int64_t i) const {
    double value;
    return *load(vector_stream(operand), i, 1, &value);
  }

  std::vector<StageSlopes<T>> slopes_of_samples(const Operand* grad_output) const {
    std::vector<StageSlopes<T>> slopes;
    for (int64_t sample = 0; sample < samples_; ++sample) {
      slopes.push_back(slopes_of_sample(sample, grad_output));
    }
    return slopes;
  }

  void write_gradients(const Operand* grad_output) {
    const std::vector<StageSlopes<T>> slopes = slopes_of_samples(grad_output);
    run(0, samples_, [&](int64_t segment, Scratch& scratch) {
      write_gradient(segment, slopes[segment / segments_], scratch);
    });
  }

  // ---- before all logits are read ---------------------------------------------------------------

  // Sums of labels, mask and map alone.
  void sum_first() {
    run(0, samples_, [&](int64_t segment, Scratch& scratch) {
      SoftCounts* counts = &counts_[segment * params_.classes];
      for_each_tile(segment, [&](const ClassTile& tile) {
        if (!weigh(tile, scratch)) return;
        stage_.weighting.add_sums(tile, scratch.weighting, &sums_[segment]);
        if (stage_.foretells()) stage_.add_known(tile, scratch, counts);
      });
    });
  }

  // Counts and gradient from one read of the logits, where the slopes are known before.
  NotAClass run_at_once() {
    const bool adds_sums = stage_.weighting.is_plain() &&
                           rules_.reduction != Reduction::kSampleMean && !params_.pointwise;
    if (adds_sums) {
      const double weight = static_cast<double>(params_.extents.positions_per_sample());
      for (int64_t sample = 0; segments_ > 0 && sample < samples_; ++sample) {
        counts_[sample * segments_ * params_.classes] = {0, weight, weight};
      }
    } else {
      sum_first();
      if (bad_.index >= 0) return bad_;
    }
    settle();
    const std::vector<StageSlopes<T>> slopes = slopes_of_samples(nullptr);
    std::fill(counts_.begin(), counts_.end(), SoftCounts());
    run(0, samples_, [&](int64_t segment, Scratch& scratch) {
      SoftCounts* counts = &counts_[segment * params_.classes];
      for_each_tile(segment, [&](const ClassTile& tile) {
        if (!weigh(tile, scratch)) return;
        if (adds_sums) stage_.weighting.add_sums(tile, scratch.weighting, &sums_[segment]);
        stage_.run_at_once(tile, scratch, slopes[tile.sample], counts, &sums_[segment]);
      });
    });
    if (bad_.index >= 0) return bad_;
    settle();
    for (int64_t pool = 0; pool < layout_.pools; ++pool) {
      const double known = params_.sums[layout_.input_sum(pool)];
      if (known == known) continue;  // NaN spoils the gradients of its whole pool
      write_gradients(nullptr);
      break;
    }
    return bad_;
  }

  // All results from all counts.
  void settle() const {
    std::fill_n(params_.sums, layout_.length(), 0.0);
    for (int64_t sample = 0; sample < samples_; ++sample) fold(sample);
    finish();
  }

  // ---- sample by sample -------------------------------------------------------------------------

  int64_t bytes_per_sample() const {
    return params_.extents.positions_per_sample() * params_.classes * int64_t{sizeof(T)};
  }
  // Whether what the samples share is known without all logits, and it pays.
  bool finishes_samples() const {
    return rules_.pools.by_sample() && samples_ > 1 && !rules_.skip_absent &&
           samples_ * bytes_per_sample() > kCachedBytes;
  }
  bool needs_sums_first() const {
    return params_.pointwise || rules_.reduction == Reduction::kSampleMean;
  }

  // All shares of a result, as finish_pools adds them up.
  double known_normalizer() const {
    double normalizer = 0;
    const bool per_sample = rules_.reduction == Reduction::kSampleMean;
    for (int64_t row = 0; row < (per_sample ? 1 : rules_.pools.rows()); ++row) {
      for (int64_t column = 0; column < rules_.pools.columns(); ++column) {
        normalizer += share_of(rules_, weight_of(rules_.pools.first_class() + column), 1);
      }
    }
    return normalizer;
  }

  StageSlopes<T> finish_sample(int64_t sample, double scale) const {
    fold(sample);
    const int64_t columns = rules_.pools.columns();
    for (int64_t column = 0; column < columns; ++column) {
      settle_pool(rules_, sample * columns + column, weight_of(rules_.pools.first_class() + column),
                  scale, params_.sums);
    }
    return slopes_of_sample(sample, nullptr);
  }

  NotAClass run_sample_by_sample() {
    std::fill_n(params_.sums, layout_.length(), 0.0);
    const bool sums_first = needs_sums_first();
    if (sums_first) {
      sum_first();
      if (bad_.index >= 0) return bad_;
      if (params_.pointwise) finish_pointwise();
    }
    const double scale = pool_scale(rules_, known_normalizer(), sample_count());
    if (bytes_per_sample() <= kCachedBytes) {
      run_whole_samples(scale, !sums_first);
    } else {
      for (int64_t sample = 0; sample < samples_ && bad_.index < 0; ++sample) {
        run(sample, sample + 1,
            [&](int64_t segment, Scratch& scratch) { count(segment, !sums_first, scratch); });
        const StageSlopes<T> slopes = finish_sample(sample, scale);
        run(sample, sample + 1,
            [&](int64_t segment, Scratch& scratch) { write_gradient(segment, slopes, scratch); });
      }
    }
    if (bad_.index < 0) finish();
    return bad_;
  }

  void run_whole_samples(double scale, bool adds_sums) {
    const int64_t bytes = std::max<int64_t>(bytes_per_sample(), 1);
    parallel_for_(samples_, std::max<int64_t>(1, (32768 * sizeof(T)) / bytes),
                  [&](int64_t begin, int64_t end) {
                    Scratch scratch;
                    stage_.prepare(scratch);
                    for (int64_t sample = begin; sample < end; ++sample) {
                      const int64_t first = sample * segments_, last = first + segments_;
                      for (int64_t i = first; i < last; ++i) count(i, adds_sums, scratch);
                      const StageSlopes<T> slopes = finish_sample(sample, scale);
                      for (int64_t i = first; i < last; ++i) write_gradient(i, slopes, scratch);
                    }
                    finish_streaming();
                  });
  }

  const Stage& stage_;
  const OverlapParams& params_;
  const OverlapRules& rules_;
  const OverlapSumsLayout layout_;
  const ParallelFor parallel_for_;
  const int64_t samples_, segments_;
  std::vector<SoftCounts> counts_;  // of every segment and class
  std::vector<OverlapSums> sums_;   // of every segment
  NotAClass bad_;
  std::mutex bad_mutex_;
};

}  // namespace fusedloss::cpu
