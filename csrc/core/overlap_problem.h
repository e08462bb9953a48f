// From an op's arguments to OverlapParams: what ops/ and the emulator's bindings have in common.
//
// Torch-free. As in elementwise_problem.h an op is told in one line of words and a list of numbers:
//
//     "dice_loss mean weights"    function, reduction, normalizer of the pointwise part, then
//     sigmoid, softmax            the activation
//     sample_class, class, batch  the pools; else per sample
//     squared, skip_absent, foreground (no pool of channel 0), ignores (ignore_index counts)
//     cross_entropy, softmax_focal, binary_cross_entropy, sigmoid_focal     the pointwise part
//     sums, float_result, labels, gradient                                  as classwise_problem.h
//     weight, class_weight, pos_weight, weight_map, normalizer              these tensors are there
//
// The other tensors are those, in that order (weight: per class, of the pools; class_weight: of the
// pointwise part), as far as they are there, then those of the programs. The numbers are the
// programs' constants, then smooth, smooth_below, alpha, beta, gamma, part, and of a compound part,
// label_smoothing, the pointwise loss's options, and the normalizer where it is a given number.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "core/classwise_problem.h"
#include "core/overlap_params.h"

namespace fusedloss {

struct OverlapCall : CallWords {
  bool sigmoid = false, softmax = false;
  bool by_sample_class = false, by_class = false, by_batch = false;
  bool squared = false, skip_absent = false, foreground = false, ignores = false;
  bool cross_entropy = false, softmax_focal = false;
  bool binary_cross_entropy = false, sigmoid_focal = false;
  bool wants_sums = false, float_result = false, has_labels = false, wants_gradient = false;
  bool has_weight = false, has_class_weight = false, has_pos_weight = false;
  bool has_weight_map = false, has_normalizer = false;

  Per per() const {
    if (by_batch) return Per::kBatch;
    if (by_class) return Per::kClass;
    return by_sample_class ? Per::kSampleClass : Per::kSample;
  }
  Activation activation() const {
    if (softmax) return Activation::kSoftmax;
    return sigmoid ? Activation::kSigmoid : Activation::kNone;
  }
  PointwiseKind pointwise() const {
    if (cross_entropy) return PointwiseKind::kCrossEntropy;
    if (softmax_focal) return PointwiseKind::kSoftmaxFocal;
    if (binary_cross_entropy) return PointwiseKind::kBinaryCrossEntropy;
    return sigmoid_focal ? PointwiseKind::kSigmoidFocal : PointwiseKind::kNone;
  }
};

inline OverlapCall parse_overlap_call(const std::string& line) {
  static constexpr const char* kFlags[] = {"sigmoid",
                                           "softmax",
                                           "sample_class",
                                           "class",
                                           "batch",
                                           "squared",
                                           "skip_absent",
                                           "foreground",
                                           "ignores",
                                           "cross_entropy",
                                           "softmax_focal",
                                           "sigmoid_focal",
                                           "binary_cross_entropy",
                                           "sums",
                                           "float_result",
                                           "labels",
                                           "gradient",
                                           "weight",
                                           "class_weight",
                                           "pos_weight",
                                           "weight_map",
                                           "normalizer"};
  OverlapCall call;
  bool* const flags[] = {&call.sigmoid,
                         &call.softmax,
                         &call.by_sample_class,
                         &call.by_class,
                         &call.by_batch,
                         &call.squared,
                         &call.skip_absent,
                         &call.foreground,
                         &call.ignores,
                         &call.cross_entropy,
                         &call.softmax_focal,
                         &call.sigmoid_focal,
                         &call.binary_cross_entropy,
                         &call.wants_sums,
                         &call.float_result,
                         &call.has_labels,
                         &call.wants_gradient,
                         &call.has_weight,
                         &call.has_class_weight,
                         &call.has_pos_weight,
                         &call.has_weight_map,
                         &call.has_normalizer};
  static_cast<CallWords&>(call) = parse_words(line, kFlags, flags);
  return call;
}

// The pools of a call on an input of these sizes.
inline Pools pools_of(const OverlapCall& call, int64_t samples, int64_t classes) {
  return {call.per(), samples, classes, !call.foreground};
}

// weight, class_weight, pos_weight, weight_map, normalizer; `grad_output` and `loss` have the pools
// in one dim, or no dims.
using OverlapTensors = CallTensors<5>;

// A tensor that is not laid over the positions.
inline void add_vector(const TensorView& tensor, Operand* operand) {
  if (!tensor) return;
  operand->data = tensor.data;
  operand->dtype = tensor.dtype;
  operand->stride[0] = tensor.rank > 0 ? tensor.stride[0] : 0;
}

// A tensor that broadcasts from the right, with as many dims as the input.
inline TensorView with_dims(const TensorView& tensor, int rank) {
  TensorView result = tensor;
  result.rank = rank;
  const int missing = rank - tensor.rank;
  for (int axis = rank - 1; axis >= 0; --axis) {
    const bool own = axis >= missing;
    result.size[axis] = own ? tensor.size[axis - missing] : 1;
    result.stride[axis] = own && result.size[axis] != 1 ? tensor.stride[axis - missing] : 0;
  }
  return result;
}

namespace overlap_problem {

// Whether mask and map may differ between the channels of a position.
inline bool varies(const OverlapParams& params, const TensorView* first_of_programs,
                   const TensorView& weight_map, const TensorView& target) {
  if (params.classes == 1) return false;
  const bool compares_positions = params.bindings.target_channels.count != 1;
  if (weight_map && weight_map.size[1] != 1) return true;
  for (const Program* program : {&params.region, &params.weight_source}) {
    for (int i = 0; i < program->length; ++i) {
      const Instruction& instruction = program->instruction[i];
      const Opcode opcode = instruction.opcode;
      if (reads_target(opcode) && target.size[1] != 1 && !compares_positions) return true;
      if (opcode == Opcode::kLengths && params.bindings.places.spatial == 0) return true;
      if (opcode != Opcode::kTensor && opcode != Opcode::kWeight) continue;
      const TensorView& tensor = first_of_programs[instruction.source];
      if (tensor.rank > 1 && tensor.size[1] != 1) return true;
    }
  }
  return false;
}

// Whether nothing tells the channels of a position apart, so that they may count as positions: one
// pool holds them all alike, and p is of each element alone.
inline bool has_like_channels(const OverlapCall& call, const TensorView& input,
                              ProblemBuilder::Needs needs) {
  const bool pools_channels = call.per() == Per::kSample || call.per() == Per::kBatch;
  return pools_channels && !call.softmax && !is_classwise(call.pointwise()) && !call.has_labels &&
         !call.has_weight && !call.has_class_weight && !call.foreground && !needs.keep_places &&
         !needs.keep_channels && call.normalizer != Normalizer::kPositions && input.size[1] != 1 &&
         input.rank < kMaxRank;
}

inline bool compares_target(const OverlapParams& params) {
  for (const Program* program : {&params.region, &params.weight_source}) {
    for (int i = 0; i < program->length; ++i) {
      if (reads_target(program->instruction[i].opcode)) return true;
    }
  }
  return false;
}

// The channels that terms of the programs read all at once: of the input, and of soft targets where
// one value stands for a position, so that a comparison has to hold for every channel.
inline void set_channels_aside(const OverlapCall& call, const TensorView& input,
                               const TensorView& target, OverlapParams* params) {
  params->bindings.input_channels = {input.size[1], input.stride[1]};
  const bool is_positional = call.softmax || is_classwise(call.pointwise());
  if (is_positional && !call.has_labels && compares_target(*params)) {
    params->bindings.target_channels = {target.size[1], target.stride[1]};
  }
}

// The channels among the positions: (N, C, ...) becomes (N, 1, C, ...).
inline void merge_channels(const OverlapCall& call, OverlapTensors* tensors) {
  const int rank = tensors->input.rank;
  const auto insert = [&](TensorView& tensor) {
    if (tensor.rank == rank) tensor = with_channels(tensor, rank + 1);
  };
  if (call.has_pos_weight) tensors->others[0] = with_dims(tensors->others[0], rank);
  for (int i = 0; i < tensors->count; ++i) insert(tensors->others[i]);
  for (TensorView* tensor : {&tensors->target, &tensors->grad_input, &tensors->input}) {
    insert(*tensor);
  }
}

// Lays mask, map and what the programs read over elements: samples x channels x positions.
inline void lay_out_elements(const TensorView& input, const TensorView& target,
                             const TensorView& weight_map, const TensorView* first,
                             const TensorView* end, ProblemBuilder::Needs needs,
                             OverlapParams* params) {
  TensorView order = input;  // decides the order of the axes alone
  order.stride[1] = std::numeric_limits<int64_t>::max();
  ProblemBuilder builder(order);
  builder.add(&params->seen_input, input);
  builder.add(&params->seen_target, target);
  builder.add(&params->weight_map, weight_map);
  bind(first, end, &builder, &params->bindings);
  needs.keep_samples = needs.keep_channels = true;
  builder.build(needs, &params->weighting);
}

inline void lay_out_positions(const TensorView& input, const TensorView& target,
                              const OverlapTensors& tensors, const TensorView& pos_weight,
                              ProblemBuilder* builder, OverlapParams* params) {
  add_classes(input, builder, &params->input);
  add_classes(target, builder, &params->target);
  if (tensors.grad_input) add_classes(tensors.grad_input, builder, &params->grad_input);
  if (!pos_weight) return;
  const TensorView aligned = with_dims(pos_weight, input.rank);
  add_classes(aligned, builder, &params->pointwise.pos_weight);
}

inline void set_rules(const OverlapCall& call, const TensorView& input, OverlapParams* params) {
  OverlapRules& rules = params->rules;
  rules.loss.kind = call.loss == "jaccard_loss"   ? OverlapKind::kJaccard
                    : call.loss == "tversky_loss" ? OverlapKind::kTversky
                                                  : OverlapKind::kDice;
  rules.pools = pools_of(call, input.size[0], input.size[1]);
  rules.reduction = call.reduction;
  rules.squared = call.squared;
  rules.skip_absent = call.skip_absent;
  params->classes = input.size[1];
  params->has_labels = call.has_labels;
  params->ignores = call.ignores;
  params->activation = call.activation();
  params->pointwise.kind = call.pointwise();
  params->pointwise.normalizer = call.normalizer;
}

inline void set_numbers(const OverlapCall& call, const double* own, const double* last,
                        OverlapParams* params) {
  OverlapRules& rules = params->rules;
  rules.loss.smooth = own[0];
  rules.loss.smooth_below = own[1];
  rules.loss.alpha = own[2];
  rules.loss.beta = own[3];
  rules.loss.gamma = own[4];
  rules.part = own[5];
  if (!params->pointwise) return;
  params->pointwise.part = own[6];
  params->pointwise.label_smoothing = own[7];
  params->pointwise.options = own + 8;
  if (call.normalizer == Normalizer::kGiven && !call.has_normalizer) {
    params->pointwise.given_number = *last;
  }
}

}  // namespace overlap_problem

// Fills `params` but for `sums`; `numbers` must outlive it. The input has two dims or more.
inline void lay_out(const OverlapCall& call, const OverlapTensors& given,
                    const ProgramCodes& programs, const std::vector<double>& numbers,
                    int64_t ignore_index, OverlapParams* params) {
  using namespace overlap_problem;
  const int spatial = given.input.rank - 2;
  Program &region = params->region, &weight_source = params->weight_source;
  ProgramParser parser(given.input, numbers, &params->bindings);
  parser.parse(programs.region, &region);
  parser.parse(programs.weight_source, &weight_source);
  const double* own = numbers.data() + parser.finish(&region, &weight_source);
  const ProblemBuilder::Needs needs = needs_of(region, spatial) | needs_of(weight_source, spatial);
  OverlapTensors tensors = given;
  if (has_like_channels(call, given.input, needs)) merge_channels(call, &tensors);
  const TensorView& input = tensors.input;
  const TensorView target = with_channels(tensors.target, input.rank);
  set_rules(call, input, params);
  params->ignore_index = ignore_index;
  set_numbers(call, own, numbers.data() + numbers.size() - 1, params);

  const TensorView *other = tensors.others, *end = tensors.others + tensors.count;
  TensorView pos_weight, weight_map;
  if (call.has_weight) add_vector(*other++, &params->weight);
  if (call.has_class_weight) add_vector(*other++, &params->pointwise.class_weight);
  if (call.has_pos_weight) pos_weight = *other++;
  if (call.has_weight_map) weight_map = *other++;
  if (call.has_normalizer) add_vector(*other++, &params->pointwise.given_normalizer);
  add_vector(tensors.grad_output, &params->grad_output);
  add_vector(tensors.loss, &params->loss);

  params->bindings.places.spatial = spatial;
  set_channels_aside(call, input, target, params);
  params->per_element = varies(*params, other, weight_map, target);
  TensorView positions = input;
  positions.size[1] = 1;
  ProblemBuilder builder(positions);
  lay_out_positions(input, target, tensors, pos_weight, &builder, params);
  if (params->per_element) {
    lay_out_elements(input, target, weight_map, other, end, needs, params);
  } else {
    builder.add(&params->weight_map, weight_map);
    bind(other, end, &builder, &params->bindings);
  }
  ProblemBuilder::Needs of_positions = needs;
  of_positions.keep_samples = params->per_element || params->rules.pools.by_sample();
  builder.build(of_positions, &params->extents);
  if (!params->per_element) {
    params->weighting = params->extents;
    params->seen_input = params->input.positions;
    params->seen_target = params->target.positions;
  }
  if (needs.keep_places) params->bindings.places = places_of(input, params->weighting);
  describe(&region, params->bindings, spatial);
  describe(&weight_source, params->bindings, spatial);
}

}  // namespace fusedloss
