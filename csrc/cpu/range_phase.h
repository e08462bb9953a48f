// The phase before everything else: the smallest and largest finite value of every map that a
// weight source normalises, per sample, masked or not. No map is kept.
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

// Gives `evaluator` its ranges.
template <class T>
void find_ranges(ProgramEvaluator<T>& evaluator, const Bindings& bindings, const Extents& extents,
                 ParallelFor parallel_for) {
  const Program& program = evaluator.program();
  const int64_t samples = bindings.places.samples;
  Extents per_sample = extents;
  per_sample.samples = samples;
  const Tiling tiling(per_sample, evaluator.reads_channels());
  std::vector<Normaliser<T>> result(bindings.ranges * samples, Normaliser<T>(ValueRange<T>{0, 0}));
  for (int i = 0; i < program.length; ++i) {
    if (program.instruction[i].opcode != Opcode::kNormalize) continue;
    const bool repeats = is_the_same_for_all_samples(program, i, bindings);
    std::vector<ValueRange<T>> blocks(
        repeats ? std::min(tiling.blocks(), tiling.blocks_per_sample()) : tiling.blocks());
    const int64_t grain =
        std::max<int64_t>(1, 32768 / std::max<int64_t>(1, tiling.elements_per_block()));
    parallel_for(blocks.size(), grain, [&](int64_t begin, int64_t end) {
      ProgramWork<T> work;
      typename ProgramEvaluator<T>::Slots slots;
      for (int64_t block = begin; block < end; ++block) {
        tiling.for_each_tile(block, [&](const TileRange& tile) {
          blocks[block].combine(evaluator.range(tile, i, work, slots));
        });
      }
    });
    for (int64_t sample = 0; sample < samples && !blocks.empty(); ++sample) {
      ValueRange<T> range;
      const int64_t first = repeats ? 0 : sample * tiling.blocks_per_sample();
      for (int64_t block = 0; block < tiling.blocks_per_sample(); ++block) {
        range.combine(blocks[first + block]);
      }
      result[program.instruction[i].source * samples + sample] = Normaliser<T>(range.finished());
    }
  }
  evaluator.set_ranges(std::move(result));
}

}  // namespace fusedloss::cpu
