// The class losses as dispatcher ops: tensors in, a torch-free ClasswiseParams to a driver.
//
// fusedloss/_classwise_autograd.py calls these; shapes, dtypes and options have been checked there,
// labels are checked here, or by the device. One function serves both devices and branches once, at
// the driver.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <string>
#include <tuple>

#include "core/classwise_problem.h"
#include "cpu/classwise.h"
#include "ops/bad_label.h"
#include "ops/classwise_cuda.h"
#include "ops/driver_call.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {
namespace {

// What both ops are told.
struct Arguments {
  std::vector<double> numbers;
  int64_t ignore_index;
  Tensor input, target;
  std::vector<Tensor> others;
  std::vector<int64_t> region, weight_source;
};

// Adds the arguments' tensors to those that the op made, and fills `params`; returns the options.
const double* make_params(const ClasswiseCall& call, const Arguments& arguments,
                          ClasswiseTensors& tensors, ClasswiseParams* params) {
  tensors.input = view(arguments.input);
  tensors.target = view(arguments.target);
  if (arguments.others.size() > std::size(tensors.others)) {
    throw std::invalid_argument(
        "fusedloss: these expressions have more tensors than a program may have");
  }
  for (const Tensor& other : arguments.others) tensors.others[tensors.count++] = view(other);
  return lay_out(call, tensors, {arguments.region, arguments.weight_source}, arguments.numbers,
                 arguments.ignore_index, params);
}

void check(const cpu::NotAClass& bad, const std::string& loss, const Arguments& arguments,
           const ClasswiseParams& params) {
  if (bad.index < 0) return;
  const std::string text = bad_label_text(loss, arguments.input, params.target.positions,
                                          params.extents, params.classes, bad.index);
  throw std::out_of_range(text + "; mask such positions, or mark them by ignore_index (" +
                          std::to_string(params.ignore_index) + ")");
}

Tensor allocate_positions(const Tensor& input, ScalarType type) {
  int64_t sizes[TensorView::kMaxDims], strides[TensorView::kMaxDims], stride = 1;
  int rank = 0;
  for (int axis = 0; axis < input.dim(); ++axis) {
    if (axis != 1 && input.dim() > 1) sizes[rank++] = input.sizes()[axis];
  }
  for (int axis = rank - 1; axis >= 0; --axis) {
    strides[axis] = stride;
    stride *= std::max<int64_t>(sizes[axis], 1);
  }
  return allocate(input, rank, sizes, strides, type);
}

std::tuple<Tensor, Tensor, Tensor> classwise_forward(std::string words, std::vector<double> numbers,
                                                     int64_t ignore_index, Tensor input,
                                                     Tensor target, std::vector<Tensor> others,
                                                     std::vector<int64_t> region,
                                                     std::vector<int64_t> weight_source) {
  const ClasswiseCall call = parse_class_call(words);
  const Arguments arguments{std::move(numbers),      ignore_index,      std::move(input),
                            std::move(target),       std::move(others), std::move(region),
                            std::move(weight_source)};
  const ScalarType type = arguments.input.scalar_type();
  const ScalarType result_type = call.float_result ? ScalarType::Float : type;
  const bool per_sample = call.reduction == Reduction::kSampleMean && arguments.input.dim() >= 2;
  const SumsLayout layout{per_sample ? arguments.input.sizes()[0] : 1};

  Tensor loss = call.reduction == Reduction::kNone
                    ? allocate_positions(arguments.input, result_type)
                    : allocate_scalar(arguments.input, result_type);
  Tensor gradient = call.wants_gradient ? allocate_gradient(arguments.input)
                                        : allocate_vector(arguments.input, 0, type);
  Tensor sums = allocate_vector(arguments.input, layout.length(), ScalarType::Double);

  ClasswiseTensors tensors;
  tensors.loss = view(loss);
  if (call.wants_gradient) tensors.grad_input = view(gradient);
  ClasswiseParams params;
  const double* options = make_params(call, arguments, tensors, &params);
  params.sums = static_cast<double*>(sums.mutable_data_ptr());
  if (arguments.input.is_cuda()) {
    cuda_classwise(call.loss, options, params, arguments.input);
  } else {
    const auto forward =
        computes_in_double(params) ? cpu::classwise_forward<double> : cpu::classwise_forward<float>;
    check(forward(call.loss.c_str(), options, params, parallel_for), call.loss, arguments, params);
  }
  return {loss, gradient, sums};
}

Tensor classwise_backward(std::string words, std::vector<double> numbers, int64_t ignore_index,
                          Tensor input, Tensor target, std::vector<Tensor> others,
                          std::vector<int64_t> region, std::vector<int64_t> weight_source,
                          Tensor grad_output, Tensor sums) {
  const ClasswiseCall call = parse_class_call(words);
  const Arguments arguments{std::move(numbers),      ignore_index,      std::move(input),
                            std::move(target),       std::move(others), std::move(region),
                            std::move(weight_source)};
  Tensor gradient = allocate_gradient(arguments.input);
  ClasswiseTensors tensors;
  tensors.grad_output = view(grad_output);
  tensors.grad_input = view(gradient);
  ClasswiseParams params;
  const double* options = make_params(call, arguments, tensors, &params);
  params.sums = const_cast<double*>(static_cast<const double*>(sums.const_data_ptr()));
  if (arguments.input.is_cuda()) {
    cuda_classwise(call.loss, options, params, arguments.input);
  } else {
    const auto backward = computes_in_double(params) ? cpu::classwise_backward<double>
                                                     : cpu::classwise_backward<float>;
    backward(call.loss.c_str(), options, params, parallel_for);
  }
  return gradient;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusedloss, library) {
  library.def(
      "classwise_forward(str call, float[] numbers, int ignore_index, Tensor input, "
      "Tensor target, Tensor[] others, int[] region, int[] weight_source) -> (Tensor loss, "
      "Tensor gradient, Tensor sums)");
  library.def(
      "classwise_backward(str call, float[] numbers, int ignore_index, Tensor input, "
      "Tensor target, Tensor[] others, int[] region, int[] weight_source, Tensor grad_output, "
      "Tensor sums) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fusedloss, CPU, library) {
  library.impl("classwise_forward", TORCH_BOX(&classwise_forward));
  library.impl("classwise_backward", TORCH_BOX(&classwise_backward));
}

#if defined(FL_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(fusedloss, CUDA, library) {
  library.impl("classwise_forward", TORCH_BOX(&classwise_forward));
  library.impl("classwise_backward", TORCH_BOX(&classwise_backward));
}
#endif

}  // namespace fusedloss::ops
