// The elementwise losses as dispatcher ops: tensors in, a torch-free ElementwiseParams to a driver.
//
// fusedloss/autograd.py calls these; shapes, dtypes and options have been checked there. One
// function serves both devices and branches once, at the driver.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <functional>
#include <sstream>
#include <string>
#include <tuple>

#include "cpu/elementwise.h"
#include "ops/elementwise_cuda.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {
namespace {

// What both ops are told about the loss, the mask and the reduction.
struct Call {
  std::string loss;
  std::vector<double> options;
  Tensor input, target;
  std::optional<Tensor> weight, pos_weight;
  std::vector<Tensor> region_tensors;
  std::vector<int64_t> region_code;
  std::vector<double> region_constants;
  std::string reduction;
};

Reduction parse_reduction(const std::string& name) {
  if (name == "none") return Reduction::kNone;
  if (name == "sum") return Reduction::kSum;
  if (name == "mean") return Reduction::kMean;
  if (name == "sample_mean") return Reduction::kSampleMean;
  throw std::invalid_argument("fusedloss: unknown reduction " + name);
}

Normalizer parse_normalizer(const std::string& name) {
  if (name == "weights") return Normalizer::kWeights;
  if (name == "selected") return Normalizer::kSelected;
  if (name == "positions") return Normalizer::kPositions;
  if (name == "all") return Normalizer::kAll;
  if (name == "given") return Normalizer::kGiven;
  throw std::invalid_argument("fusedloss: unknown normalizer " + name);
}

// The code of fusedloss/regions.py: four integers per instruction, see regions/program.h.
Program parse_region(const Call& call) {
  Program program;
  program.length = static_cast<int>(call.region_code.size() / 4);
  program.tensors = static_cast<int>(call.region_tensors.size());
  if (program.length > Program::kMaxLength || program.tensors > Program::kMaxTensors) {
    throw std::invalid_argument("fusedloss: this region is longer than a program may be");
  }
  for (int i = 0; i < program.length; ++i) {
    const int64_t* code = &call.region_code[4 * i];
    Instruction& instruction = program.instruction[i];
    instruction.opcode = static_cast<Opcode>(code[0]);
    if (instruction.opcode == Opcode::kTensor) {
      instruction.tensor = static_cast<int32_t>(code[1]);
    } else if (instruction.opcode == Opcode::kTargetCompare) {
      instruction.comparison = static_cast<Comparison>(code[1]);
      instruction.domain = static_cast<CompareDomain>(code[2]);
      if (instruction.domain == CompareDomain::kInt64) {
        instruction.integer_constant = code[3];
      } else {
        instruction.constant = call.region_constants.at(code[3]);
      }
    }
  }
  return program;
}

struct Outputs {
  std::optional<Tensor> grad_output, gradient, loss, given_normalizer;
};

ElementwiseParams make_params(const Call& call, Normalizer normalizer, const Outputs& outputs) {
  ElementwiseParams params;
  params.reduction = parse_reduction(call.reduction);
  params.normalizer = normalizer;
  params.region = parse_region(call);

  const TensorView input = view(call.input);
  ProblemBuilder builder(input);
  builder.add(&params.input, input);
  builder.add(&params.target, view(call.target));
  builder.add(&params.weight, view(call.weight));
  builder.add(&params.pos_weight, view(call.pos_weight));
  for (int i = 0; i < params.region.tensors; ++i) {
    builder.add(&params.region.tensor[i], view(call.region_tensors[i]));
  }
  builder.add(&params.grad_output, view(outputs.grad_output));
  builder.add(&params.grad_input, view(outputs.gradient));
  builder.add(&params.loss, view(outputs.loss));
  builder.add(&params.given_normalizer, view(outputs.given_normalizer));
  builder.build({.keep_samples = params.reduction == Reduction::kSampleMean,
                 .keep_channels = normalizer == Normalizer::kPositions},
                &params.extents);

  Program& region = params.region;
  for (int i = 0; i < region.length; ++i) {
    if (region.instruction[i].opcode == Opcode::kTensor) {
      const Operand& tensor = region.tensor[region.instruction[i].tensor];
      region.is_positional = region.is_positional && !tensor.varies_over_channels;
      region.is_binary = region.is_binary && !is_floating(tensor.dtype);
    } else if (region.instruction[i].opcode <= Opcode::kTargetIsFinite) {
      region.is_positional = false;
    }
  }
  return params;
}

bool is_double(const std::optional<Tensor>& tensor) {
  return tensor.has_value() && tensor->scalar_type() == ScalarType::Double;
}

bool computes_in_double(const Call& call) {
  if (is_double(call.input) || is_double(call.target) || is_double(call.weight) ||
      is_double(call.pos_weight)) {
    return true;
  }
  for (const Tensor& tensor : call.region_tensors) {
    if (is_double(tensor)) return true;
  }
  return false;
}

void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= grain) return count > 0 ? body(0, count) : void();
  torch::stable::parallel_for(0, count, grain, body);
}

// "(0, 2, 5)" of the element of `input` that lies at `offset`.
std::string index_at(const TensorView& input, int64_t offset) {
  int64_t index[TensorView::kMaxDims] = {0};
  for (const int axis : memory_order(input, 0)) {
    if (input.stride[axis] == 0 || input.size[axis] == 1) continue;
    index[axis] = offset / input.stride[axis];
    offset %= input.stride[axis];
  }
  std::ostringstream text;
  for (int axis = 0; axis < input.rank; ++axis) text << (axis ? ", " : "(") << index[axis];
  text << (input.rank == 0 ? "()" : input.rank == 1 ? ",)" : ")");
  return text.str();
}

void check(const cpu::NotAProbability& bad, const Call& call, const ElementwiseParams& params) {
  if (bad.index < 0) return;
  std::ostringstream message;
  message << call.loss << ": input must lie in [0, 1] where it takes part, got " << bad.value
          << " at index "
          << index_at(view(call.input), params.input.offset(params.extents, bad.index));
  throw std::invalid_argument(message.str());
}

std::tuple<Tensor, Tensor, Tensor> elementwise_forward(
    std::string loss, std::vector<double> options, Tensor input, Tensor target,
    std::optional<Tensor> weight, std::optional<Tensor> pos_weight,
    std::vector<Tensor> region_tensors, std::vector<int64_t> region_code,
    std::vector<double> region_constants, std::string reduction, std::string normalizer,
    double given_number, std::optional<Tensor> given_normalizer, bool wants_sums,
    bool wants_gradient, bool float_result) {
  const Call call{std::move(loss),           std::move(options),     std::move(input),
                  std::move(target),         std::move(weight),      std::move(pos_weight),
                  std::move(region_tensors), std::move(region_code), std::move(region_constants),
                  std::move(reduction)};
  const bool none = call.reduction == "none";
  const ScalarType type = call.input.scalar_type();
  const ScalarType result_type = float_result ? ScalarType::Float : type;
  const bool per_sample = call.reduction == "sample_mean" && call.input.dim() >= 2;
  const SumsLayout layout{per_sample ? call.input.sizes()[0] : 1};

  Tensor result =
      none ? allocate_like(call.input, result_type) : allocate_scalar(call.input, result_type);
  Tensor gradient =
      wants_gradient ? allocate_like(call.input, type) : allocate_vector(call.input, 0, type);
  Tensor sums = allocate_vector(call.input, layout.length(), ScalarType::Double);

  Outputs outputs{.loss = result, .given_normalizer = std::move(given_normalizer)};
  if (wants_gradient) outputs.gradient = gradient;
  ElementwiseParams params = make_params(call, parse_normalizer(normalizer), outputs);
  params.given_number = given_number;
  params.wants_sums = wants_sums;
  params.sums = static_cast<double*>(sums.mutable_data_ptr());
  if (call.input.is_cuda()) {
    cuda_elementwise_forward(call.loss, call.options, params, call.input);
  } else if (computes_in_double(call)) {
    check(cpu::elementwise_forward<double>(call.loss.c_str(), call.options.data(), params,
                                           parallel_for),
          call, params);
  } else {
    check(cpu::elementwise_forward<float>(call.loss.c_str(), call.options.data(), params,
                                          parallel_for),
          call, params);
  }
  return {result, gradient, sums};
}

Tensor elementwise_backward(std::string loss, std::vector<double> options, Tensor input,
                            Tensor target, std::optional<Tensor> weight,
                            std::optional<Tensor> pos_weight, std::vector<Tensor> region_tensors,
                            std::vector<int64_t> region_code, std::vector<double> region_constants,
                            std::string reduction, Tensor grad_output, Tensor sums) {
  const Call call{std::move(loss),           std::move(options),     std::move(input),
                  std::move(target),         std::move(weight),      std::move(pos_weight),
                  std::move(region_tensors), std::move(region_code), std::move(region_constants),
                  std::move(reduction)};
  Tensor gradient = allocate_like(call.input, call.input.scalar_type());
  ElementwiseParams params =
      make_params(call, Normalizer::kWeights, {.grad_output = grad_output, .gradient = gradient});
  params.sums = const_cast<double*>(static_cast<const double*>(sums.const_data_ptr()));
  if (call.input.is_cuda()) {
    cuda_elementwise_backward(call.loss, call.options, params, call.input);
  } else if (computes_in_double(call)) {
    cpu::elementwise_backward<double>(call.loss.c_str(), call.options.data(), params, parallel_for);
  } else {
    cpu::elementwise_backward<float>(call.loss.c_str(), call.options.data(), params, parallel_for);
  }
  return gradient;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusedloss, library) {
  library.def(
      "elementwise_forward(str loss, float[] options, Tensor input, Tensor target, "
      "Tensor? weight, Tensor? pos_weight, Tensor[] region_tensors, int[] region_code, "
      "float[] region_constants, str reduction, str normalizer, float given_number, "
      "Tensor? given_normalizer, bool wants_sums, bool wants_gradient, bool float_result) -> "
      "(Tensor loss, Tensor gradient, Tensor sums)");
  library.def(
      "elementwise_backward(str loss, float[] options, Tensor input, Tensor target, "
      "Tensor? weight, Tensor? pos_weight, Tensor[] region_tensors, int[] region_code, "
      "float[] region_constants, str reduction, Tensor grad_output, Tensor sums) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fusedloss, CPU, library) {
  library.impl("elementwise_forward", TORCH_BOX(&elementwise_forward));
  library.impl("elementwise_backward", TORCH_BOX(&elementwise_backward));
}

#if defined(FL_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(fusedloss, CUDA, library) {
  library.impl("elementwise_forward", TORCH_BOX(&elementwise_forward));
  library.impl("elementwise_backward", TORCH_BOX(&elementwise_backward));
}
#endif

}  // namespace fusedloss::ops
