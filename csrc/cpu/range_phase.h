// The phase before everything else: the smallest and largest finite value of every map that a
// weight source normalises, per sample, masked or not. No map is kept; what the weights add up to
// is, where that follows.
#pragma once

#include <vector>

#include "cpu/parallel.h"
#include "cpu/program_evaluator.h"

namespace fusedloss::cpu {

// Whether the instructions before a kNormalize yield the same for all samples.
inline bool is_the_same_for_all_samples(const Program& program, int normalize,
                                        const Bindings& bindings) {
  for (int i = program.instruction[normalize].extent; i < normalize; ++i) {
    const Instruction& instruction = program.instruction[i];
    if (!reads_image(instruction.opcode)) return false;
    if (bindings.image[instruction.source].sample_stride != 0) return false;
  }
  return true;
}

// Gives `evaluator` its ranges. Returns the sum of the source's values over each sample's elements,
// or nothing where it is unknown.
template <class T>
class RangePhase {
 public:
  RangePhase(ProgramEvaluator<T>& evaluator, const Bindings& bindings, const Extents& extents,
             ParallelFor parallel_for)
      : evaluator_(evaluator),
        program_(evaluator.program()),
        bindings_(bindings),
        samples_(bindings.places.samples),
        elements_(extents.elements()),
        tiling_(split(extents, samples_), evaluator.reads_channels()),
        parallel_for_(parallel_for) {}

  std::vector<double> run() {
    const ValueRange<T> nothing{0, 0};
    std::vector<Normaliser<T>> ranges(bindings_.ranges * samples_, Normaliser<T>(nothing));
    const std::optional<AffineSource> affine = affine_source<T>(program_, bindings_);
    std::vector<double> sums;
    if (affine && tiling_.keeps_positions() && elements_ > 0) {
      sums.assign(samples_, affine->constant * static_cast<double>(elements_ / samples_));
    }
    for (int i = 0; i < program_.length && elements_ > 0; ++i) {
      if (program_.instruction[i].opcode != Opcode::kNormalize) continue;
      const std::vector<MapSummary<T>> maps = summaries(i);
      const int range = program_.instruction[i].source;
      for (int64_t sample = 0; sample < samples_; ++sample) {
        const MapSummary<T>& map = maps[std::min<int64_t>(sample, maps.size() - 1)];
        const Normaliser<T> normaliser(map.range.finished());
        ranges[range * samples_ + sample] = normaliser;
        if (sums.empty()) continue;
        const double scale = static_cast<double>(normaliser.inverse) *
                             static_cast<double>(evaluator_.elements_per_value(i));
        if (affine->factor[range] != 0) {
          sums[sample] += affine->factor[range] * scale * map.sum_above(normaliser.low);
        }
      }
    }
    evaluator_.set_ranges(std::move(ranges));
    for (const double sum : sums) {
      if (!std::isfinite(sum)) return {};
    }
    return sums;
  }

 private:
  static Extents split(Extents extents, int64_t samples) {
    extents.samples = samples;
    return extents;
  }

  // Of every sample, or one for all.
  std::vector<MapSummary<T>> summaries(int normalize) const {
    const bool repeats = is_the_same_for_all_samples(program_, normalize, bindings_);
    std::vector<MapSummary<T>> blocks(repeats ? tiling_.blocks_per_sample() : tiling_.blocks());
    const int64_t grain =
        std::max<int64_t>(1, 32768 / std::max<int64_t>(1, tiling_.elements_per_block()));
    parallel_for_(blocks.size(), grain, [&](int64_t begin, int64_t end) {
      ProgramWork<T> work;
      typename ProgramEvaluator<T>::Slots slots;
      for (int64_t block = begin; block < end; ++block) {
        tiling_.for_each_tile(block, [&](const TileRange& tile) {
          blocks[block].combine(evaluator_.summary(tile, normalize, work, slots));
        });
      }
    });
    std::vector<MapSummary<T>> result(repeats ? 1 : samples_);
    for (size_t block = 0; block < blocks.size(); ++block) {
      result[block / tiling_.blocks_per_sample()].combine(blocks[block]);
    }
    return result;
  }

  ProgramEvaluator<T>& evaluator_;
  const Program& program_;
  const Bindings& bindings_;
  const int64_t samples_, elements_;
  const Tiling tiling_;
  const ParallelFor parallel_for_;
};

}  // namespace fusedloss::cpu
