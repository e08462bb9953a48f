// The driver behind cpu/overlap.h; instantiated once per operation type.
//
// Positions are cut into segments, whose sums are added up in order: bits do not depend on the
// number of threads, nor on whether samples are finished one by one.
#pragma once

#include <mutex>
#include <vector>

#include "cpu/element_stage.h"
#include "cpu/overlap.h"
#include "cpu/overlap_totals.h"
#include "cpu/softmax_stage.h"
#include "losses/class_registry.h"

namespace fusedloss::cpu {

template <class Stage, class T>
class OverlapDriver {
  using Scratch = typename Stage::Scratch;

 public:
  OverlapDriver(const Stage& stage, const OverlapParams& params, ParallelFor parallel_for)
      : stage_(stage),
        params_(params),
        parallel_for_(parallel_for),
        samples_(params.extents.samples),
        segments_(std::min(stage.tiling.blocks_per_sample(), kSegments)),
        totals_(params, stage.classes, segments_) {}

  NotAClass forward() {
    totals_.begin();
    const bool wants_gradient = static_cast<bool>(params_.grad_input);
    if (wants_gradient && stage_.foretells()) return run_at_once();
    if (wants_gradient && finishes_samples()) return run_sample_by_sample();
    run(0, samples_, [&](int64_t segment, Scratch& scratch) { count(segment, true, scratch); });
    if (bad_.index >= 0) return bad_;
    totals_.settle();
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
  // From the last to the first: after a pass forward the last ones are still in the caches.
  template <class Visit>
  void for_each_tile_backwards(int64_t segment, Visit&& visit) const {
    const int64_t blocks = stage_.tiling.blocks_per_sample();
    const int64_t sample = segment / segments_, own = segment % segments_;
    const int64_t first = sample * blocks + own * blocks / segments_;
    ClassTile tiles[ClassTiling::kTilesPerBlock];
    for (int64_t block = sample * blocks + (own + 1) * blocks / segments_ - 1; block >= first;
         --block) {
      int64_t count = 0;
      stage_.tiling.for_each_tile(block, [&](const ClassTile& tile) { tiles[count++] = tile; });
      while (count > 0) visit(tiles[--count]);
    }
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
    SoftCounts* counts = &totals_.counts[segment * params_.classes];
    for_each_tile(segment, [&](const ClassTile& tile) {
      if (!weigh(tile, scratch)) return;
      if (adds_sums) stage_.weighting.add_sums(tile, scratch.weighting, &totals_.sums[segment]);
      stage_.add_counts(tile, scratch, counts, &totals_.sums[segment]);
    });
  }

  void write_gradient(int64_t segment, const StageSlopes<T>& slopes, Scratch& scratch) {
    scratch.weighting.backwards = true;
    for_each_tile_backwards(segment, [&](const ClassTile& tile) {
      if (weigh(tile, scratch)) stage_.write_gradient(tile, scratch, slopes);
    });
    scratch.weighting.backwards = false;
  }

  // body(segment, scratch) for those of the samples [begin, end); kBackwards: from the last one.
  template <bool kBackwards = false, class Body>
  void run(int64_t begin, int64_t end, Body&& body) const {
    const int64_t per_segment = stage_.tiling.elements_per_block() *
                                stage_.tiling.blocks_per_sample() / std::max<int64_t>(segments_, 1);
    const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(per_segment, 1));
    const int64_t all = (end - begin) * segments_;
    parallel_for_(all, grain, [&](int64_t first, int64_t last) {
      Scratch scratch;
      stage_.prepare(scratch);
      for (int64_t i = first; i < last; ++i) {
        body(begin * segments_ + (kBackwards ? all - 1 - i : i), scratch);
      }
      finish_streaming();
    });
  }

  void write_gradients(const Operand* grad_output) {
    const std::vector<StageSlopes<T>> slopes = totals_.slopes_of_samples(grad_output);
    run<true>(0, samples_, [&](int64_t segment, Scratch& scratch) {
      write_gradient(segment, slopes[segment / segments_], scratch);
    });
  }

  // ---- before all logits are read ---------------------------------------------------------------

  // Sums of labels, mask and map alone.
  void sum_first() {
    run(0, samples_, [&](int64_t segment, Scratch& scratch) {
      SoftCounts* counts = &totals_.counts[segment * params_.classes];
      for_each_tile(segment, [&](const ClassTile& tile) {
        if (!weigh(tile, scratch)) return;
        stage_.weighting.add_sums(tile, scratch.weighting, &totals_.sums[segment]);
        if (stage_.foretells()) stage_.add_known(tile, scratch, counts);
      });
    });
  }

  // Counts and gradient from one read of the logits, where the slopes are known before.
  NotAClass run_at_once() {
    const bool adds_sums = stage_.weighting.is_plain() &&
                           params_.rules.reduction != Reduction::kSampleMean && !params_.pointwise;
    if (adds_sums) {
      const double weight = static_cast<double>(params_.extents.positions_per_sample());
      for (int64_t sample = 0; segments_ > 0 && sample < samples_; ++sample) {
        totals_.counts[sample * segments_ * params_.classes] = {0, weight, weight};
      }
    } else {
      sum_first();
      if (bad_.index >= 0) return bad_;
    }
    totals_.settle();
    const std::vector<StageSlopes<T>> slopes = totals_.slopes_of_samples(nullptr);
    std::fill(totals_.counts.begin(), totals_.counts.end(), SoftCounts());
    run(0, samples_, [&](int64_t segment, Scratch& scratch) {
      SoftCounts* counts = &totals_.counts[segment * params_.classes];
      for_each_tile(segment, [&](const ClassTile& tile) {
        if (!weigh(tile, scratch)) return;
        if (adds_sums) stage_.weighting.add_sums(tile, scratch.weighting, &totals_.sums[segment]);
        stage_.run_at_once(tile, scratch, slopes[tile.sample], counts, &totals_.sums[segment]);
      });
    });
    if (bad_.index >= 0) return bad_;
    totals_.settle();
    if (totals_.is_spoiled()) write_gradients(nullptr);
    return bad_;
  }

  // ---- sample by sample -------------------------------------------------------------------------

  int64_t bytes_per_sample() const {
    return params_.extents.positions_per_sample() * params_.classes * int64_t{sizeof(T)};
  }
  // Whether what the samples share is known without all logits, and it pays.
  bool finishes_samples() const {
    return params_.rules.pools.by_sample() && samples_ > 1 && !params_.rules.skip_absent &&
           samples_ * bytes_per_sample() > kCachedBytes;
  }
  bool needs_sums_first() const {
    return params_.pointwise || params_.rules.reduction == Reduction::kSampleMean;
  }

  NotAClass run_sample_by_sample() {
    const bool sums_first = needs_sums_first();
    if (sums_first) {
      sum_first();
      if (bad_.index >= 0) return bad_;
      if (params_.pointwise) totals_.finish_pointwise();
    }
    const double scale = totals_.known_scale();
    if (bytes_per_sample() <= kCachedBytes) {
      run_whole_samples(scale, !sums_first);
    } else {
      for (int64_t sample = 0; sample < samples_ && bad_.index < 0; ++sample) {
        run(sample, sample + 1,
            [&](int64_t segment, Scratch& scratch) { count(segment, !sums_first, scratch); });
        const StageSlopes<T> slopes = totals_.finish_sample(sample, scale);
        run(sample, sample + 1,
            [&](int64_t segment, Scratch& scratch) { write_gradient(segment, slopes, scratch); });
      }
    }
    if (bad_.index < 0) totals_.finish();
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
                      const StageSlopes<T> slopes = totals_.finish_sample(sample, scale);
                      for (int64_t i = last; i-- > first;) write_gradient(i, slopes, scratch);
                    }
                    finish_streaming();
                  });
  }

  const Stage& stage_;
  const OverlapParams& params_;
  const ParallelFor parallel_for_;
  const int64_t samples_, segments_;
  OverlapTotals<T> totals_;
  NotAClass bad_;
  std::mutex bad_mutex_;
};

}  // namespace fusedloss::cpu
