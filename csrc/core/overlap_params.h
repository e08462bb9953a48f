// One call of an overlap loss or a compound, as plain data: what ops/ hands to the drivers.
//
//     forward   loss (and sums), and with `grad_input` also the gradient for grad_output = 1
//     backward  grad_input from grad_output and the slopes in `sums`, recomputed from the inputs
//
// As in core/classwise_params.h the index space holds positions alone. Mask, map and terms of the
// programs lie over `weighting`: the positions themselves, or, where one of them differs between
// the channels of a position (`per_element`), samples x channels x positions of a sample, so that
// element (sample, class, i) has the flat index (sample * classes + class) * per_sample + i. Then
// the positions are always split by samples.
#pragma once

#include "core/classwise_params.h"
#include "reductions/overlap_pools.h"

namespace fusedloss {

enum class Activation : int32_t { kNone, kSigmoid, kSoftmax };
enum class PointwiseKind : int32_t {
  kNone,
  kCrossEntropy,
  kSoftmaxFocal,        // options: gamma
  kBinaryCrossEntropy,  // with logits
  kSigmoidFocal         // options: alpha, gamma
};

FL_HOST_DEVICE constexpr bool is_classwise(PointwiseKind kind) {
  return kind == PointwiseKind::kCrossEntropy || kind == PointwiseKind::kSoftmaxFocal;
}

// The pointwise part of a compound: a loss of losses/classwise.h at each position, or one of
// losses/elementwise.h at each element.
struct PointwiseParams {
  PointwiseKind kind = PointwiseKind::kNone;
  double part = 1;  // what it is multiplied by
  const double* options = nullptr;
  double label_smoothing = 0;
  Operand class_weight;     // one value per class: stride[0] is between classes
  ClassOperand pos_weight;  // per element
  Normalizer normalizer = Normalizer::kWeights;
  Operand given_normalizer;  // kGiven: a 0-d tensor, or else the number below
  double given_number = 1;

  FL_HOST_DEVICE explicit operator bool() const { return kind != PointwiseKind::kNone; }
};

struct OverlapParams {
  Extents extents;    // of the positions
  Extents weighting;  // that mask, map and programs are laid over
  bool per_element = false;
  int64_t classes = 1;
  ClassOperand input;
  ClassOperand target;  // labels (no class stride), or t itself
  bool has_labels = false;
  bool ignores = false;  // an element whose target is `ignore_index` takes no part
  int64_t ignore_index = 0;
  Activation activation = Activation::kNone;
  OverlapRules rules;
  Operand weight;      // of the rules, one value per class: stride[0] is between classes
  Operand weight_map;  // over `weighting`
  Operand seen_input, seen_target;  // what the programs read, over `weighting`
  Program region, weight_source;
  Bindings bindings;
  PointwiseParams pointwise;

  Operand grad_output;      // backward only: 0-d, or a vector of pools: stride[0] is between pools
  ClassOperand grad_input;  // present when the gradient is asked for
  Operand loss;             // 0-d, or a vector of pools for kNone

  // float64, layout `OverlapSumsLayout`: written by forward, read by backward.
  double* sums = nullptr;
};

// Whether the arithmetic is in double: any floating operand whose values count is.
inline bool computes_in_double(const OverlapParams& params) {
  return is_double(params.input.positions) || is_double(params.target.positions) ||
         is_double(params.weight) || is_double(params.weight_map) ||
         is_double(params.pointwise.class_weight) ||
         is_double(params.pointwise.pos_weight.positions) || holds_doubles(params.bindings);
}

}  // namespace fusedloss
