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
// they are there, then the region's. The numbers come as one list too: the region's constants, the
// loss's options, and the normalizer where it is a given number.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "core/elementwise_params.h"
#include "core/problem.h"

namespace fusedloss {

struct ElementwiseCall {
  std::string loss;
  Reduction reduction = Reduction::kMean;
  Normalizer normalizer = Normalizer::kWeights;
  bool wants_gradient = false, wants_sums = false, float_result = false;
  bool has_weight = false, has_pos_weight = false, has_normalizer = false;
};

template <class Enum, size_t kCount>
Enum parse_word(const std::string& word, const char* const (&words)[kCount], const char* what) {
  for (size_t i = 0; i < kCount; ++i) {
    if (word == words[i]) return static_cast<Enum>(i);
  }
  throw std::invalid_argument("fusedloss: unknown " + std::string(what) + " '" + word + "'");
}

inline ElementwiseCall parse_call(const std::string& line) {
  static constexpr const char* kReductions[] = {"none", "sum", "mean", "sample_mean"};
  static constexpr const char* kNormalizers[] = {"weights", "selected", "positions", "all",
                                                 "given"};
  static constexpr const char* kFlags[] = {"gradient", "sums",       "float_result",
                                           "weight",   "pos_weight", "normalizer"};
  ElementwiseCall call;
  size_t begin = 0;
  for (int position = 0; begin < line.size(); ++position) {
    const size_t end = std::min(line.find(' ', begin), line.size());
    const std::string word = line.substr(begin, end - begin);
    begin = end + 1;
    if (position == 0) {
      call.loss = word;
    } else if (position == 1) {
      call.reduction = parse_word<Reduction>(word, kReductions, "reduction");
    } else if (position == 2) {
      call.normalizer = parse_word<Normalizer>(word, kNormalizers, "normalizer");
    } else {
      bool* const flags[] = {&call.wants_gradient, &call.wants_sums,     &call.float_result,
                             &call.has_weight,     &call.has_pos_weight, &call.has_normalizer};
      *flags[parse_word<int>(word, kFlags, "flag")] = true;
    }
  }
  return call;
}

// The code of fusedloss/regions.py: four integers per instruction, see regions/program.h. Returns
// how many of `numbers` it uses.
inline size_t parse_region(const std::vector<int64_t>& code, const std::vector<double>& numbers,
                           Program* program) {
  if (code.size() > 4 * Program::kMaxLength) {
    throw std::invalid_argument("fusedloss: this region is longer than a program may be");
  }
  size_t constants = 0;
  program->length = static_cast<int>(code.size() / 4);
  for (int i = 0; i < program->length; ++i) {
    const int64_t* word = &code[4 * i];
    Instruction& instruction = program->instruction[i];
    instruction.opcode = static_cast<Opcode>(word[0]);
    if (instruction.opcode == Opcode::kTensor) {
      instruction.tensor = static_cast<int32_t>(word[1]);
    } else if (instruction.opcode == Opcode::kTargetCompare) {
      instruction.comparison = static_cast<Comparison>(word[1]);
      instruction.domain = static_cast<CompareDomain>(word[2]);
      if (instruction.domain == CompareDomain::kInt64) {
        instruction.integer_constant = word[3];
      } else {
        instruction.constant = numbers.at(word[3]);
        ++constants;
      }
    }
  }
  return constants;
}

// The tensors of a call; those that it does not have stay empty.
struct ElementwiseTensors {
  TensorView input, target, grad_output, grad_input, loss;
  int count = 0;
  TensorView others[Program::kMaxTensors + 3];  // weight, pos_weight, normalizer, the region's
};

// Fills `params` but for `sums`; returns the loss's options.
inline const double* lay_out(const ElementwiseCall& call, const ElementwiseTensors& tensors,
                             const std::vector<int64_t>& region_code,
                             const std::vector<double>& numbers, ElementwiseParams* params) {
  params->reduction = call.reduction;
  params->normalizer = call.normalizer;
  params->wants_sums = call.wants_sums;
  Program& region = params->region;
  const double* options = numbers.data() + parse_region(region_code, numbers, &region);
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
  region.tensors = static_cast<int>(tensors.others + tensors.count - other);
  for (int i = 0; i < region.tensors; ++i) builder.add(&region.tensor[i], other[i]);
  builder.build({.keep_samples = call.reduction == Reduction::kSampleMean,
                 .keep_channels = call.normalizer == Normalizer::kPositions},
                &params->extents);

  for (int i = 0; i < region.length; ++i) {
    if (region.instruction[i].opcode == Opcode::kTensor) {
      const Operand& tensor = region.tensor[region.instruction[i].tensor];
      region.is_positional = region.is_positional && !tensor.varies_over_channels;
      region.is_binary = region.is_binary && !is_floating(tensor.dtype);
    } else if (region.instruction[i].opcode <= Opcode::kTargetIsFinite) {
      region.is_positional = false;
    }
  }
  return options;
}

}  // namespace fusedloss
