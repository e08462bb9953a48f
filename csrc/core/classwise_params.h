// One call of a class loss, as plain data: what ops/ hands to the drivers.
//
//     forward   loss (and sums), and with `grad_input` also the gradient for grad_output = 1
//     backward  grad_input = grad_output * scale * dl/dx, recomputed from the inputs
//
// The index space holds the positions alone: labels, mask, map and loss have one value in each.
// Logits, probabilities and the gradient have `classes` of them, `class_stride` elements apart.
#pragma once

#include "core/extents.h"
#include "reductions/sums.h"
#include "regions/program.h"

namespace fusedloss {

// `positions` is class 0 over the positions.
struct ClassOperand {
  Operand positions;
  int64_t class_stride = 0;

  FL_HOST_DEVICE explicit operator bool() const { return static_cast<bool>(positions); }
};

struct ClasswiseParams {
  Extents extents;  // of the positions
  int64_t classes = 1;
  ClassOperand input;
  ClassOperand target;  // labels (no class stride) or probabilities
  bool has_labels = true;
  bool matches_ignored = true;  // false where no label of the target's dtype is `ignore_index`
  int64_t ignore_index = -100;
  Operand weight;      // one value per class: stride[0] is between classes
  Operand weight_map;  // per position
  double label_smoothing = 0;
  Program region, weight_source;
  Bindings bindings;  // what the two programs read

  Operand grad_output;      // backward only: 0-d (all strides 0), or per position for kNone
  ClassOperand grad_input;  // present when the gradient is asked for
  Operand loss;             // 0-d, or per position for kNone

  Reduction reduction = Reduction::kMean;
  Normalizer normalizer = Normalizer::kWeights;
  Operand given_normalizer;  // kGiven: a 0-d tensor, or else the number below
  double given_number = 1;
  bool wants_sums = false;  // sums are asked for although the reduction does not need them

  // float64, layout `SumsLayout`: written by forward, read by backward.
  double* sums = nullptr;
};

// Whether the arithmetic is in double: any floating operand whose values count is.
inline bool computes_in_double(const ClasswiseParams& params) {
  return is_double(params.input.positions) || is_double(params.target.positions) ||
         is_double(params.weight) || is_double(params.weight_map) || holds_doubles(params.bindings);
}

}  // namespace fusedloss
