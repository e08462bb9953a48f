// From an op's arguments to ClasswiseParams: what ops/ and the emulator's bindings have in common.
//
// Torch-free. As in elementwise_problem.h an op is told in one line of words and a list of numbers:
//
//     "cross_entropy mean weights"         loss, reduction, normalizer, then any of
//     gradient      the forward pass also writes the gradient for grad_output = 1
//     sums          total, normalizer and selected are asked for whatever the reduction
//     float_result  the loss is float32 although the input is 16-bit (autocast)
//     labels        the target holds class indices; else probabilities
//     weight, weight_map, normalizer       these tensors are there
//
// The other tensors are weight, weight_map, normalizer, as far as they are there, then those of the
// programs. The numbers are the programs' constants, the label smoothing, the loss's options, and
// the normalizer where it is a given number.
#pragma once

#include <string>
#include <vector>

#include "core/call_words.h"
#include "core/classwise_params.h"
#include "core/program_problem.h"

namespace fusedloss {

struct ClasswiseCall : CallWords {
  bool wants_gradient = false, wants_sums = false, float_result = false, has_labels = false;
  bool has_weight = false, has_weight_map = false, has_normalizer = false;
};

inline ClasswiseCall parse_class_call(const std::string& line) {
  static constexpr const char* kFlags[] = {"gradient", "sums",       "float_result", "labels",
                                           "weight",   "weight_map", "normalizer"};
  ClasswiseCall call;
  bool* const flags[] = {&call.wants_gradient, &call.wants_sums, &call.float_result,
                         &call.has_labels,     &call.has_weight, &call.has_weight_map,
                         &call.has_normalizer};
  static_cast<CallWords&>(call) = parse_words(line, kFlags, flags);
  return call;
}

using ClasswiseTensors = CallTensors<3>;  // weight, weight_map, normalizer

// A tensor of the input's dims, or of those of its positions, with two dims or more and a channel
// dim: (C,) is a batch of one.
inline TensorView with_channels(const TensorView& tensor, int input_rank) {
  TensorView result = tensor;
  const auto insert = [&](int axis) {
    for (int i = result.rank++; i > axis; --i) {
      result.size[i] = result.size[i - 1];
      result.stride[i] = result.stride[i - 1];
    }
    result.size[axis] = 1;
    result.stride[axis] = 0;
  };
  if (input_rank == 1) {
    while (result.rank < 2) insert(0);
  } else if (result.rank == input_rank - 1) {
    insert(1);
  }
  return result;
}

// Lays class 0 of `tensor` over the positions.
inline void add_classes(const TensorView& tensor, ProblemBuilder* builder, ClassOperand* operand) {
  if (!tensor) return;
  TensorView first = tensor;
  first.size[1] = 1;
  builder->add(&operand->positions, first);
  operand->class_stride = tensor.stride[1];
}

// Fills `params` but for `sums`; returns the loss's options.
inline const double* lay_out(const ClasswiseCall& call, const ClasswiseTensors& tensors,
                             const ProgramCodes& programs, const std::vector<double>& numbers,
                             int64_t ignore_index, ClasswiseParams* params) {
  params->reduction = call.reduction;
  params->normalizer = call.normalizer;
  params->wants_sums = call.wants_sums;
  params->has_labels = call.has_labels;
  params->ignore_index = ignore_index;
  params->matches_ignored = ignore_index >= 0 || tensors.target.dtype != DType::kUInt64;
  const int rank = tensors.input.rank;
  const TensorView input = with_channels(tensors.input, rank);
  params->classes = input.size[1];
  Program &region = params->region, &weight_source = params->weight_source;
  ProgramParser parser(input, numbers, &params->bindings);
  parser.parse(programs.region, &region);
  parser.parse(programs.weight_source, &weight_source);
  const double* options = numbers.data() + parser.finish(&region, &weight_source);
  params->label_smoothing = *options++;
  if (call.normalizer == Normalizer::kGiven && !call.has_normalizer) {
    params->given_number = numbers.back();
  }

  TensorView positions = input;
  positions.size[1] = 1;
  ProblemBuilder builder(positions);
  add_classes(input, &builder, &params->input);
  add_classes(with_channels(tensors.target, rank), &builder, &params->target);
  if (tensors.grad_input) {
    add_classes(with_channels(tensors.grad_input, rank), &builder, &params->grad_input);
  }
  const auto add_positions = [&](const TensorView& tensor, Operand* operand) {
    if (tensor) builder.add(operand, tensor.rank > 0 ? with_channels(tensor, rank) : tensor);
  };
  add_positions(tensors.grad_output, &params->grad_output);
  add_positions(tensors.loss, &params->loss);
  const TensorView* other = tensors.others;
  if (call.has_weight) {
    params->weight.data = other->data;
    params->weight.dtype = other->dtype;
    params->weight.stride[0] = other->stride[0];
    ++other;
  }
  if (call.has_weight_map) add_positions(*other++, &params->weight_map);
  if (call.has_normalizer) builder.add(&params->given_normalizer, *other++);
  bind(other, tensors.others + tensors.count, &builder, &params->bindings);

  params->bindings.input_channels = {params->classes, params->input.class_stride};
  if (!call.has_labels) {
    params->bindings.target_channels = {params->classes, params->target.class_stride};
  }

  const int spatial = input.rank - 2;
  ProblemBuilder::Needs needs = needs_of(region, spatial) | needs_of(weight_source, spatial);
  needs.keep_samples = call.reduction == Reduction::kSampleMean && rank >= 2;
  builder.build(needs, &params->extents);
  if (needs.keep_places) params->bindings.places = places_of(input, params->extents);
  describe(&region, params->bindings, spatial);
  describe(&weight_source, params->bindings, spatial);
  return options;
}

}  // namespace fusedloss
