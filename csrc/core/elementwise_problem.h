// From an op's arguments to ElementwiseParams: what ops/ and the emulator's bindings have in
// common.
//
// Torch-free. An op tells all that is not a tensor or a number in one line of words, so that a
// traced graph reads well and a small call stays cheap:
//
//     "smooth_l1_loss mean weights"        loss, reduction, normalizer, then any of
//     gradient      the forward pass also writes the gradient for grad_output = 1
//     sums          total, normalizer and selected are asked for whatever the reduction
//     float_result  the loss is float32 although the input is 16-bit (autocast)
//     weight, pos_weight, normalizer       these tensors are there
//
// The tensors beside input and target come as one list: weight, pos_weight, normalizer, as far as
// they are there, then those of the region and the weight source (program_problem.h). The numbers
// come as one list too: the programs' constants, the loss's options, and the normalizer where it is
// a given number.
#pragma once

#include <string>
#include <vector>

#include "core/call_words.h"
#include "core/elementwise_params.h"
#include "core/program_problem.h"

namespace fusedloss {

struct ElementwiseCall : CallWords {
  bool wants_gradient = false, wants_sums = false, float_result = false;
  bool has_weight = false, has_pos_weight = false, has_normalizer = false;
};

inline ElementwiseCall parse_call(const std::string& line) {
  static constexpr const char* kFlags[] = {"gradient", "sums",       "float_result",
                                           "weight",   "pos_weight", "normalizer"};
  ElementwiseCall call;
  bool* const flags[] = {&call.wants_gradient, &call.wants_sums,     &call.float_result,
                         &call.has_weight,     &call.has_pos_weight, &call.has_normalizer};
  static_cast<CallWords&>(call) = parse_words(line, kFlags, flags);
  return call;
}

using ElementwiseTensors = CallTensors<3>;  // weight, pos_weight, normalizer

// Fills `params` but for `sums`; returns the loss's options.
inline const double* lay_out(const ElementwiseCall& call, const ElementwiseTensors& tensors,
                             const ProgramCodes& programs, const std::vector<double>& numbers,
                             ElementwiseParams* params) {
  params->reduction = call.reduction;
  params->normalizer = call.normalizer;
  params->wants_sums = call.wants_sums;
  Program &region = params->region, &weight_source = params->weight_source;
  ProgramParser parser(tensors.input, numbers, &params->bindings);
  parser.parse(programs.region, &region);
  parser.parse(programs.weight_source, &weight_source);
  const double* options = numbers.data() + parser.finish(&region, &weight_source);
  if (call.normalizer == Normalizer::kGiven && !call.has_normalizer) {
    params->given_number = numbers.back();
  }

  ProblemBuilder builder(tensors.input);
  builder.add(&params->input, tensors.input);
  builder.add(&params->target, tensors.target);
  builder.add(&params->grad_output, tensors.grad_output);
  builder.add(&params->grad_input, tensors.grad_input);
  builder.add(&params->loss, tensors.loss);
  const TensorView* other = tensors.others;
  if (call.has_weight) builder.add(&params->weight, *other++);
  if (call.has_pos_weight) builder.add(&params->pos_weight, *other++);
  if (call.has_normalizer) builder.add(&params->given_normalizer, *other++);
  bind(other, tensors.others + tensors.count, &builder, &params->bindings);

  const int spatial = std::max(0, tensors.input.rank - 2);
  ProblemBuilder::Needs needs = needs_of(region, spatial) | needs_of(weight_source, spatial);
  needs.keep_samples = call.reduction == Reduction::kSampleMean;
  needs.keep_channels = needs.keep_channels || call.normalizer == Normalizer::kPositions;
  builder.build(needs, &params->extents);
  if (needs.keep_places) {
    params->bindings.places = places_of(tensors.input, params->extents);
  }
  describe(&region, params->bindings, spatial);
  describe(&weight_source, params->bindings, spatial);
  return options;
}

}  // namespace fusedloss
