// One launch of a loss kernel as plain data, as far as all families have it in common: how the
// index space is cut, which sums are kept, and which phases there are. A family's call adds its
// params and where its tensors lie:
//
//     struct KernelCall : CallFrame { ElementwiseParams params; ... };
//
// The space is cut into rows, a row into slots (what one thread takes at a time), slots into
// chunks. A chunk is one entry of the partial sums. All borders depend on the problem alone, so the
// sums have the same bits for every grid.
#pragma once

#include <algorithm>

#include "core/problem.h"
#include "core/program_problem.h"

namespace fusedloss::cuda {

enum class Pass : int32_t { kForward, kForwardGradient, kBackward };

struct CallFrame {
  Pass pass = Pass::kForward;

  int64_t rows = 1;
  int64_t rows_per_sample = 1;
  int64_t inner = 1;  // elements or positions of a row
  int64_t slots_per_chunk = 1;
  int64_t chunks_per_row = 1;
  int64_t chunks = 1;

  bool masked = false;            // not everything takes part with weight 1
  bool counts_positions = false;  // Sums::positions is not a multiple of Sums::mask
  bool has_sums = false;          // partial sums are kept and finished
  bool sums_first = false;        // the gradient's scale needs a pass over mask and weight

  // Device memory: kPartials arrays of `chunks` numbers, then one ticket for each phase.
  double* partials = nullptr;
  unsigned* tickets = nullptr;

  // The phase that finds the range of each kNormalize: a sample is cut into chunks of positions.
  int64_t range_samples = 0;    // 0: there is no such phase
  int64_t range_positions = 0;  // of a sample
  int64_t elements_per_range = 1;
  int64_t range_slots = 0;
  int64_t range_chunks = 0;          // of a sample
  unsigned repeating_ranges = 0;     // bit k: the values of range k are the same for all channels
  double* range_partials = nullptr;  // (low, high) for each range, sample and chunk
  double* ranges = nullptr;          // (low, high) for each range and sample

  FL_HOST_DEVICE int64_t chunks_per_sample() const { return chunks_per_row * rows_per_sample; }
};

// Tickets 0 and 1 are those of the two phases of run_phases.
constexpr int kRangeTicket = 2;

// The order of the partial sums.
enum Partial : int { kTotal, kWeights, kMask, kSelected, kPositions, kPartials };

// ---- what a family's planner does on the host ---------------------------------------------------

struct Cut {
  static constexpr int64_t kBlockThreads = 256;
  static constexpr int64_t kEnoughChunks = 2048;  // several blocks for every multiprocessor
  static constexpr int64_t kMostSteps = 16;       // of a block within a chunk

  static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

  // Cuts rows of so many slots, of which a block takes `per_step` at a time.
  static void rows(int64_t slots_per_row, int64_t per_step, int64_t most_steps, CallFrame* frame) {
    const int64_t steps_per_row = divide_up(slots_per_row, per_step);
    const int64_t steps = steps_per_row * frame->rows / kEnoughChunks;
    const int64_t per_chunk = std::clamp<int64_t>(steps, 1, std::max<int64_t>(1, most_steps));
    frame->slots_per_chunk = per_chunk * per_step;
    frame->chunks_per_row = divide_up(steps_per_row, per_chunk);
    frame->chunks = frame->chunks_per_row * frame->rows;
  }

  // The phase of the ranges, for params with `extents`, `bindings` and `weight_source`.
  template <class Params>
  static void ranges(const Params& p, CallFrame* frame) {
    const Extents& extents = p.extents;
    if (p.bindings.ranges == 0 || extents.elements() == 0) return;
    frame->range_samples = p.bindings.places.samples;  // the outermost axis, if there are several
    frame->range_positions = extents.positions() / frame->range_samples;
    frame->elements_per_range = extents.elements() / frame->range_samples;
    const int64_t steps = divide_up(frame->range_positions, kBlockThreads);
    const int64_t per_chunk =
        std::clamp<int64_t>(steps * frame->range_samples / kEnoughChunks, 1, kMostSteps);
    frame->range_slots = per_chunk * kBlockThreads;
    frame->range_chunks = divide_up(steps, per_chunk);
    for (int i = 0; i < p.weight_source.length; ++i) {
      const Instruction& normalize = p.weight_source.instruction[i];
      if (normalize.opcode != Opcode::kNormalize) continue;
      bool repeats = true;
      for (int k = normalize.extent; k < i; ++k) {
        repeats = repeats && !varies_over_channels(p.weight_source.instruction[k], p.bindings,
                                                   p.bindings.places.spatial);
      }
      if (repeats) frame->repeating_ranges |= 1u << normalize.source;
    }
  }
};

}  // namespace fusedloss::cuda
