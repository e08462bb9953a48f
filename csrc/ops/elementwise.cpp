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

#include "core/elementwise_problem.h"
#include "cpu/elementwise.h"
#include "ops/elementwise_cuda.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {
namespace {

// The arguments that both ops share.
struct Arguments {
  std::string call;
  std::vector<double> options;  // of the loss, then the normalizer's number where one is given
  Tensor input, target;
  std::optional<Tensor> weight, pos_weight;
  std::vector<Tensor> region_tensors;
  std::vector<int64_t> region_code;
  std::vector<double> region_constants;
};

// Fills `params` with all that `call` and the tensors say.
void make_params(const Arguments& arguments, const ElementwiseCall& call,
                 ElementwiseTensors& tensors, ElementwiseParams* params) {
  TensorView region[Program::kMaxTensors];
  parse_region(arguments.region_code, arguments.region_constants, arguments.region_tensors.size(),
               &params->region);
  for (int i = 0; i < params->region.tensors; ++i) region[i] = view(arguments.region_tensors[i]);
  tensors.region = region;
  tensors.input = view(arguments.input);
  tensors.target = view(arguments.target);
  tensors.weight = view(arguments.weight);
  tensors.pos_weight = view(arguments.pos_weight);
  lay_out(call, tensors, params);
}

bool is_double(const std::optional<Tensor>& tensor) {
  return tensor.has_value() && tensor->scalar_type() == ScalarType::Double;
}

bool computes_in_double(const Arguments& call) {
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

void check(const cpu::NotAProbability& bad, const Tensor& input, const ElementwiseParams& params) {
  if (bad.index < 0) return;
  std::ostringstream message;
  message << "binary_cross_entropy: input must lie in [0, 1] where it takes part, got " << bad.value
          << " at index " << index_at(view(input), params.input.offset(params.extents, bad.index));
  throw std::invalid_argument(message.str());
}

std::tuple<Tensor, Tensor, Tensor> elementwise_forward(
    std::string call_line, std::vector<double> options, Tensor input, Tensor target,
    std::optional<Tensor> weight, std::optional<Tensor> pos_weight,
    std::vector<Tensor> region_tensors, std::vector<int64_t> region_code,
    std::vector<double> region_constants, std::optional<Tensor> given_normalizer) {
  const ElementwiseCall call = parse_call(call_line);
  const Arguments arguments{
      std::move(call_line),      std::move(options),     std::move(input),
      std::move(target),         std::move(weight),      std::move(pos_weight),
      std::move(region_tensors), std::move(region_code), std::move(region_constants)};
  const ScalarType type = arguments.input.scalar_type();
  const ScalarType result_type = call.float_result ? ScalarType::Float : type;
  const bool per_sample = call.reduction == Reduction::kSampleMean && arguments.input.dim() >= 2;
  const SumsLayout layout{per_sample ? arguments.input.sizes()[0] : 1};

  Tensor loss = call.reduction == Reduction::kNone ? allocate_like(arguments.input, result_type)
                                                   : allocate_scalar(arguments.input, result_type);
  Tensor gradient = call.wants_gradient ? allocate_like(arguments.input, type)
                                        : allocate_vector(arguments.input, 0, type);
  Tensor sums = allocate_vector(arguments.input, layout.length(), ScalarType::Double);

  ElementwiseTensors tensors;
  tensors.loss = view(loss);
  tensors.given_normalizer = view(given_normalizer);
  if (call.wants_gradient) tensors.grad_input = view(gradient);
  ElementwiseParams params;
  make_params(arguments, call, tensors, &params);
  params.sums = static_cast<double*>(sums.mutable_data_ptr());
  if (call.normalizer == Normalizer::kGiven && !given_normalizer) {
    params.given_number = arguments.options.back();
  }
  if (arguments.input.is_cuda()) {
    cuda_elementwise_forward(call.loss, arguments.options, params, arguments.input);
  } else if (computes_in_double(arguments)) {
    check(cpu::elementwise_forward<double>(call.loss.c_str(), arguments.options.data(), params,
                                           parallel_for),
          arguments.input, params);
  } else {
    check(cpu::elementwise_forward<float>(call.loss.c_str(), arguments.options.data(), params,
                                          parallel_for),
          arguments.input, params);
  }
  return {loss, gradient, sums};
}

Tensor elementwise_backward(std::string call_line, std::vector<double> options, Tensor input,
                            Tensor target, std::optional<Tensor> weight,
                            std::optional<Tensor> pos_weight, std::vector<Tensor> region_tensors,
                            std::vector<int64_t> region_code, std::vector<double> region_constants,
                            Tensor grad_output, Tensor sums) {
  const ElementwiseCall call = parse_call(call_line);
  const Arguments arguments{
      std::move(call_line),      std::move(options),     std::move(input),
      std::move(target),         std::move(weight),      std::move(pos_weight),
      std::move(region_tensors), std::move(region_code), std::move(region_constants)};
  Tensor gradient = allocate_like(arguments.input, arguments.input.scalar_type());
  ElementwiseTensors tensors;
  tensors.grad_output = view(grad_output);
  tensors.grad_input = view(gradient);
  ElementwiseParams params;
  make_params(arguments, call, tensors, &params);
  params.sums = const_cast<double*>(static_cast<const double*>(sums.const_data_ptr()));
  if (arguments.input.is_cuda()) {
    cuda_elementwise_backward(call.loss, arguments.options, params, arguments.input);
  } else if (computes_in_double(arguments)) {
    cpu::elementwise_backward<double>(call.loss.c_str(), arguments.options.data(), params,
                                      parallel_for);
  } else {
    cpu::elementwise_backward<float>(call.loss.c_str(), arguments.options.data(), params,
                                     parallel_for);
  }
  return gradient;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusedloss, library) {
  library.def(
      "elementwise_forward(str call, float[] options, Tensor input, Tensor target, "
      "Tensor? weight, Tensor? pos_weight, Tensor[] region_tensors, int[] region_code, "
      "float[] region_constants, Tensor? given_normalizer) -> "
      "(Tensor loss, Tensor gradient, Tensor sums)");
  library.def(
      "elementwise_backward(str call, float[] options, Tensor input, Tensor target, "
      "Tensor? weight, Tensor? pos_weight, Tensor[] region_tensors, int[] region_code, "
      "float[] region_constants, Tensor grad_output, Tensor sums) -> Tensor");
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
