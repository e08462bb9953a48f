// The elementwise losses as dispatcher ops: tensors in, a torch-free ElementwiseParams to a driver.
//
// fusedloss/autograd.py calls these; shapes, dtypes and options have been checked there. One
// function serves both devices and branches once, at the driver.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <sstream>
#include <string>
#include <tuple>

#include "core/elementwise_problem.h"
#include "cpu/elementwise.h"
#include "ops/driver_call.h"
#include "ops/elementwise_cuda.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {
namespace {

// What both ops are told.
struct Arguments {
  std::vector<double> numbers;
  Tensor input, target;
  std::vector<Tensor> others;
  std::vector<int64_t> region, weight_source;
};

// Adds the arguments' tensors to those that the op made, and fills `params`; returns the options.
const double* make_params(const ElementwiseCall& call, const Arguments& arguments,
                          ElementwiseTensors& tensors, ElementwiseParams* params) {
  tensors.input = view(arguments.input);
  tensors.target = view(arguments.target);
  if (arguments.others.size() > std::size(tensors.others)) {
    throw std::invalid_argument(
        "fusedloss: these expressions have more tensors than a program may have");
  }
  for (const Tensor& other : arguments.others) tensors.others[tensors.count++] = view(other);
  return lay_out(call, tensors, {arguments.region, arguments.weight_source}, arguments.numbers,
                 params);
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
  message << "input of binary_cross_entropy must lie in [0, 1] where it takes part, got "
          << bad.value << " at position "
          << index_at(view(input), params.input.offset(params.extents, bad.index))
          << "; logits go to binary_cross_entropy_with_logits";
  throw std::invalid_argument(message.str());
}

std::tuple<Tensor, Tensor, Tensor> elementwise_forward(std::string words,
                                                       std::vector<double> numbers, Tensor input,
                                                       Tensor target, std::vector<Tensor> others,
                                                       std::vector<int64_t> region,
                                                       std::vector<int64_t> weight_source) {
  const ElementwiseCall call = parse_call(words);
  const Arguments arguments{std::move(numbers), std::move(input),  std::move(target),
                            std::move(others),  std::move(region), std::move(weight_source)};
  const ScalarType type = arguments.input.scalar_type();
  const ScalarType result_type = call.float_result ? ScalarType::Float : type;
  const bool per_sample = call.reduction == Reduction::kSampleMean && arguments.input.dim() >= 2;
  const SumsLayout layout{per_sample ? arguments.input.sizes()[0] : 1};

  Tensor loss = call.reduction == Reduction::kNone ? allocate_like(arguments.input, result_type)
                                                   : allocate_scalar(arguments.input, result_type);
  Tensor gradient = call.wants_gradient ? allocate_gradient(arguments.input)
                                        : allocate_vector(arguments.input, 0, type);
  Tensor sums = allocate_vector(arguments.input, layout.length(), ScalarType::Double);

  ElementwiseTensors tensors;
  tensors.loss = view(loss);
  if (call.wants_gradient) tensors.grad_input = view(gradient);
  ElementwiseParams params;
  const double* options = make_params(call, arguments, tensors, &params);
  params.sums = static_cast<double*>(sums.mutable_data_ptr());
  if (arguments.input.is_cuda()) {
    cuda_elementwise_forward(call.loss, options, params, arguments.input);
  } else {
    const auto forward = computes_in_double(params) ? cpu::elementwise_forward<double>
                                                    : cpu::elementwise_forward<float>;
    check(forward(call.loss.c_str(), options, params, parallel_for), arguments.input, params);
  }
  return {loss, gradient, sums};
}

Tensor elementwise_backward(std::string words, std::vector<double> numbers, Tensor input,
                            Tensor target, std::vector<Tensor> others, std::vector<int64_t> region,
                            std::vector<int64_t> weight_source, Tensor grad_output, Tensor sums) {
  const ElementwiseCall call = parse_call(words);
  const Arguments arguments{std::move(numbers), std::move(input),  std::move(target),
                            std::move(others),  std::move(region), std::move(weight_source)};
  Tensor gradient = allocate_gradient(arguments.input);
  ElementwiseTensors tensors;
  tensors.grad_output = view(grad_output);
  tensors.grad_input = view(gradient);
  ElementwiseParams params;
  const double* options = make_params(call, arguments, tensors, &params);
  params.sums = const_cast<double*>(static_cast<const double*>(sums.const_data_ptr()));
  if (arguments.input.is_cuda()) {
    cuda_elementwise_backward(call.loss, options, params, arguments.input);
  } else {
    const auto backward = computes_in_double(params) ? cpu::elementwise_backward<double>
                                                     : cpu::elementwise_backward<float>;
    backward(call.loss.c_str(), options, params, parallel_for);
  }
  return gradient;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusedloss, library) {
  library.def(
      "elementwise_forward(str call, float[] numbers, Tensor input, Tensor target, "
      "Tensor[] others, int[] region, int[] weight_source) -> (Tensor loss, Tensor gradient, "
      "Tensor sums)");
  library.def(
      "elementwise_backward(str call, float[] numbers, Tensor input, Tensor target, "
      "Tensor[] others, int[] region, int[] weight_source, Tensor grad_output, Tensor sums) -> "
      "Tensor");
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
