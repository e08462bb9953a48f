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
  static constexpr const char* kWishes[] = {"gradient", "sums", "float_result"};
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
      const int wish = parse_word<int>(word, kWishes, "wish");
      (wish == 0 ? call.wants_gradient : wish == 1 ? call.wants_sums : call.float_result) = true;
    }
  }
  return call;
}

// The code of fusedloss/regions.py: four integers per instruction, see regions/program.h.
inline void parse_region(const std::vector<int64_t>& code, const std::vector<double>& constants,
                         size_t tensors, Program* program) {
  if (code.size() > 4 * Program::kMaxLength || tensors > Program::kMaxTensors) {
    throw std::invalid_argument("fusedloss: this region is longer than a program may be");
  }
  program->length = static_cast<int>(code.size() / 4);
  program->tensors = static_cast<int>(tensors);
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
        instruction.constant = constants.at(word[3]);
      }
    }
  }
}

// The tensors of a call; those that it does not have stay empty.
struct ElementwiseTensors {
  TensorView input, target, weight, pos_weight, given_normalizer, grad_output, grad_input, loss;
  const TensorView* region = nullptr;  // as many as the program says
};

// `params->region` has been parsed; fills in the rest but `sums` and `given_number`.
inline void lay_out(const ElementwiseCall& call, const ElementwiseTensors& tensors,
                    ElementwiseParams* params) {
  params->reduction = call.reduction;
  params->normalizer = call.normalizer;
  params->wants_sums = call.wants_sums;

  Program& region = params->region;
  ProblemBuilder builder(tensors.input);
  builder.add(&params->input, tensors.input);
  builder.add(&params->target, tensors.target);
  builder.add(&params->weight, tensors.weight);
  builder.add(&params->pos_weight, tensors.pos_weight);
  builder.add(&params->given_normalizer, tensors.given_normalizer);
  builder.add(&params->grad_output, tensors.grad_output);
  builder.add(&params->grad_input, tensors.grad_input);
  builder.add(&params->loss, tensors.loss);
  for (int i = 0; i < region.tensors; ++i) builder.add(&region.tensor[i], tensors.region[i]);
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
}

}  // namespace fusedloss
