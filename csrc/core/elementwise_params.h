// One call of an elementwise loss, as plain data: what ops/ hands to the drivers.
//
//     forward   loss (and sums), and with `grad_input` also the gradient for grad_output = 1
//     backward  grad_input = grad_output * scale * m w dl/dx, recomputed from the inputs
//
// An absent tensor is an Operand without data; its weight, mask value or pos_weight is 1.
#pragma once

#include "core/extents.h"
#include "reductions/sums.h"
#include "regions/program.h"

namespace fusedloss {

struct ElementwiseParams {
  Extents extents;
  Operand input, target, weight, pos_weight;
  Program region, weight_source;
  Bindings bindings;  // what the two programs read

  Operand grad_output;  // backward only: 0-d (all strides 0), or the loss's shape for kNone
  Operand grad_input;   // present when the gradient is asked for
  Operand loss;         // 0-d, or the input's shape for kNone

  Reduction reduction = Reduction::kMean;
  Normalizer normalizer = Normalizer::kWeights;
  Operand given_normalizer;  // kGiven: a 0-d tensor, or else the number below
  double given_number = 1;
  bool wants_sums = false;  // sums are asked for although the reduction does not need them

  // float64, layout `SumsLayout`: written by forward, read by backward.
  double* sums = nullptr;
};

// Whether the arithmetic is in double: any floating operand of an element is.
inline bool computes_in_double(const ElementwiseParams& params) {
  return is_double(params.input) || is_double(params.target) || is_double(params.weight) ||
         is_double(params.pos_weight) || holds_doubles(params.bindings);
}

}  // namespace fusedloss
