// One launch of an elementwise kernel as plain data: how the index space is cut, and what to write.
//
// The space is cut into rows of `inner` elements (or positions), a row into slots (what one thread
// loads at once), slots into chunks. A chunk is one entry of the partial sums. All borders depend
// on the problem alone, so the sums have the same bits for every grid.
#pragma once

#include "core/elementwise_params.h"

namespace fusedloss::cuda {

enum class Pass : int32_t { kForward, kForwardGradient, kBackward };

// Where mask and weight come from, as far as it makes a kernel of its own.
enum class Factors : int32_t {
  kNone,     // both are 1
  kTensors,  // region of tensors and target comparisons, a weight tensor
  kPrograms  // every term and every weight source
};

// How a tensor lies along a row, for the kernel that loads several elements at once.
enum class Access : int32_t {
  kRun,         // contiguous: element p of the row is at p
  kUniform,     // the same element everywhere
  kPerPosition  // channels innermost and none of its own: element p is at p / channels_inside
};

struct View {
  const void* data = nullptr;
  DType dtype = DType::kFloat;
  Access access = Access::kUniform;
  int64_t row_stride = 0;
  int64_t channel_stride = 0;

  FL_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
};

struct KernelCall {
  ElementwiseParams params;
  Pass pass = Pass::kForward;

  int64_t rows = 1;
  int64_t rows_per_sample = 1;
  int64_t channels = 1;  // visited in turn within a slot
  int64_t inner = 1;
  int64_t channels_inside = 1;  // Access::kPerPosition
  int64_t slots_per_chunk = 1;
  int64_t chunks_per_row = 1;
  int64_t chunks = 1;

  bool masked = false;          // factors != kNone
  bool region_repeats = false;  // over the channels of a slot: evaluated for the first one
  bool weight_repeats = false;
  bool region_reads_target = false;
  bool counts_positions = false;  // Sums::positions is not a multiple of Sums::mask
  bool has_sums = false;          // partial sums are kept and finished
  bool sums_first = false;        // the gradient's scale needs a pass over mask and weight

  bool target_is_dense = false;  // of the input's type
  View target, weight, pos_weight, grad_output;
  View tensor[Bindings::kMaxTensors];  // of the programs

  // Device memory: kPartials arrays of `chunks` numbers, then one ticket for each phase.
  double* partials = nullptr;
  unsigned* tickets = nullptr;

  Factors factors = Factors::kNone;
  bool programs_read_target = false;

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

static_assert(sizeof(KernelCall) <= 4000, "kernel parameters are limited to 4 KiB");

}  // namespace fusedloss::cuda
