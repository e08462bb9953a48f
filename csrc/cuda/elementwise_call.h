// One launch of an elementwise kernel as plain data: how the index space is cut (call_frame.h), and
// how its tensors lie along a row of `inner` elements (or positions).
#pragma once

#include "core/elementwise_params.h"
#include "cuda/call_frame.h"

namespace fusedloss::cuda {

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

struct KernelCall : CallFrame {
  ElementwiseParams params;

  int64_t channels = 1;         // visited in turn within a slot
  int64_t channels_inside = 1;  // Access::kPerPosition

  bool region_repeats = false;  // over the channels of a slot: evaluated for the first one
  bool weight_repeats = false;
  bool region_reads_target = false;
  bool programs_read_target = false;

  bool target_is_dense = false;  // of the input's type
  View target, weight, pos_weight, grad_output;
  View tensor[Bindings::kMaxTensors];  // of the programs

  Factors factors = Factors::kNone;
};

static_assert(sizeof(KernelCall) <= 4000, "kernel parameters are limited to 4 KiB");

}  // namespace fusedloss::cuda
