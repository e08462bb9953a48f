// One launch of an overlap kernel as plain data: a space of positions, cut as call_frame.h says,
// and beside it the space that mask, map and programs lie over. What the kernel works out first:
//
//     partials   [sample][item][chunk of the sample]    items: 3 soft counts of each class, tallies
//     folded     [sample][item]                         the same, over all chunks
//     pools      (loss, share) of each pool
#pragma once

#include "core/overlap_params.h"
#include "cuda/call_frame.h"
#include "cuda/one_of.h"
#include "losses/elementwise.h"

namespace fusedloss::cuda {

// What region and weight source are evaluated with: the `params` of a call, as program_eval.cuh and
// value_ranges.cuh know them.
struct WeightingParams {
  Extents extents;
  int64_t classes = 1;
  ClassOperand input;  // the channels of a position
  Operand target;
  Operand weight_map;
  Program region, weight_source;
  Bindings bindings;
};

// A tensor of one value per class or pool, or of one value.
struct Vector {
  void* data = nullptr;
  DType dtype = DType::kFloat;
  int64_t stride = 0;

  FL_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
};

// How a tensor lies along a plane: the positions of one class of a row.
struct PlaneView {
  const void* data = nullptr;
  DType dtype = DType::kFloat;
  bool is_run = false;  // contiguous; else one number for all positions
  int64_t row_stride = 0, class_stride = 0;

  FL_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
};

// What the kernels for planes and for staged rows need to know of the rows of the space.
struct PlaneViews {
  int64_t input_row_stride = 0, gradient_row_stride = 0;
  bool target_is_like_input = false;  // of its dtype, contiguous and aligned
  PlaneView target, pos_weight;
  PlaneView weight_map, tensor[Bindings::kMaxTensors];  // of the programs
};

using ElementLoss =
    OneOf<BinaryCrossEntropyWithLogitsLoss, SigmoidFocalLoss<false>, SigmoidFocalLoss<true>>;

struct PointwiseCall {
  PointwiseKind kind = PointwiseKind::kNone;
  double part = 1;
  double gamma = 0;  // kSoftmaxFocal
  double label_smoothing = 0;
  Vector class_weight;
  ClassOperand pos_weight;
  Normalizer normalizer = Normalizer::kWeights;
  Vector given_normalizer;
  double given_number = 1;

  FL_HOST_DEVICE explicit operator bool() const { return kind != PointwiseKind::kNone; }
  FL_HOST_DEVICE bool is_classwise() const { return fusedloss::is_classwise(kind); }
};

struct PoolCall : CallFrame {
  WeightingParams params;
  bool per_element = false;  // mask and map are those of an element
  int pitch = 0;             // of a row in shared memory, overlap_staged.cuh
  int64_t samples = 1;       // that sums are kept of
  Extents extents;           // of the positions
  ClassOperand input, target, grad_input;
  bool has_labels = false;
  bool ignores = false;
  int64_t ignore_index = 0;
  Activation activation = Activation::kNone;
  OverlapRules rules;
  Vector weight;
  PointwiseCall pointwise;
  Vector grad_output, loss;
  PlaneViews planes;
  double* sums = nullptr;
  double *folded = nullptr, *pools = nullptr;

  FL_HOST_DEVICE int64_t items() const;
};

// The order of the tallies after the soft counts: the first five are of the pointwise part.
enum OverlapTally : int { kDiceSelected = kPartials, kTallies };

static_assert(sizeof(PoolCall) + sizeof(ElementLoss) <= 4090,
              "kernel parameters are limited to 4 KiB");

FL_HOST_DEVICE int64_t PoolCall::items() const { return 3 * params.classes + kTallies; }

}  // namespace fusedloss::cuda
