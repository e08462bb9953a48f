// The elementwise ops over emulated kernels, for Python: the arguments of the ops in csrc/ops, with
// a tensor as (address, dtype, sizes, strides), results preallocated, and the workspace from a
// callback.
#include "cuda/elementwise.h"

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/problem.h"
#include "runtime/bind.h"

namespace py = pybind11;

namespace fusedloss {
namespace {

using Tensor = std::tuple<uintptr_t, int, std::vector<int64_t>, std::vector<int64_t>>;

// Everything that make_params needs, as the ops get it.
struct Arguments {
  std::string loss;
  std::vector<double> options;
  Tensor input, target;
  std::optional<Tensor> weight, pos_weight, given_normalizer, grad_output, grad_input, result;
  std::vector<Tensor> region_tensors;
  std::vector<int64_t> region_code;
  std::vector<double> region_constants;
  int reduction = 0, normalizer = 0;
  double given_number = 1;
  bool wants_sums = false;
  uintptr_t sums = 0;
};

TensorView view(const std::optional<Tensor>& tensor) {
  TensorView result;
  if (!tensor) return result;
  const auto& [address, dtype, sizes, strides] = *tensor;
  result.data = reinterpret_cast<void*>(address);
  result.dtype = static_cast<DType>(dtype);
  result.rank = static_cast<int>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), result.size);
  std::copy(strides.begin(), strides.end(), result.stride);
  return result;
}

void parse_region(const Arguments& a, Program* program) {
  program->length = static_cast<int>(a.region_code.size() / 4);
  program->tensors = static_cast<int>(a.region_tensors.size());
  for (int i = 0; i < program->length; ++i) {
    const int64_t* code = &a.region_code[4 * i];
    Instruction& instruction = program->instruction[i];
    instruction.opcode = static_cast<Opcode>(code[0]);
    if (instruction.opcode == Opcode::kTensor) instruction.tensor = static_cast<int>(code[1]);
    if (instruction.opcode != Opcode::kTargetCompare) continue;
    instruction.comparison = static_cast<Comparison>(code[1]);
    instruction.domain = static_cast<CompareDomain>(code[2]);
    if (instruction.domain == CompareDomain::kInt64) {
      instruction.integer_constant = code[3];
    } else {
      instruction.constant = a.region_constants.at(code[3]);
    }
  }
}

ElementwiseParams make_params(const Arguments& a) {
  ElementwiseParams params;
  params.reduction = static_cast<Reduction>(a.reduction);
  params.normalizer = static_cast<Normalizer>(a.normalizer);
  params.given_number = a.given_number;
  params.wants_sums = a.wants_sums;
  params.sums = reinterpret_cast<double*>(a.sums);
  parse_region(a, &params.region);
  ProblemBuilder builder(view(a.input));
  builder.add(&params.input, view(a.input));
  builder.add(&params.target, view(a.target));
  builder.add(&params.weight, view(a.weight));
  builder.add(&params.pos_weight, view(a.pos_weight));
  for (int i = 0; i < params.region.tensors; ++i) {
    builder.add(&params.region.tensor[i], view(a.region_tensors[i]));
  }
  builder.add(&params.grad_output, view(a.grad_output));
  builder.add(&params.grad_input, view(a.grad_input));
  builder.add(&params.loss, view(a.result));
  builder.add(&params.given_normalizer, view(a.given_normalizer));
  builder.build({.keep_samples = params.reduction == Reduction::kSampleMean,
                 .keep_channels = params.normalizer == Normalizer::kPositions},
                &params.extents);
  for (int i = 0; i < params.region.length; ++i) {
    const Instruction& instruction = params.region.instruction[i];
    if (instruction.opcode > Opcode::kTargetIsFinite) continue;
    const bool repeats = instruction.opcode == Opcode::kTensor &&
                         !params.region.tensor[instruction.tensor].varies_over_channels;
    params.region.is_positional = params.region.is_positional && repeats;
  }
  return params;
}

template <class T>
void run(const Arguments& a, const ElementwiseParams& params, const cuda::LaunchContext& context) {
  if (params.grad_output) {
    return cuda::elementwise_backward<T>(a.loss.c_str(), a.options.data(), params, context);
  }
  cuda::elementwise_forward<T>(a.loss.c_str(), a.options.data(), params, context);
}

// `allocate(bytes)` gives the address of a workspace.
void elementwise(const Arguments& a, const std::function<uintptr_t(size_t)>& allocate) {
  const ElementwiseParams params = make_params(a);
  cuda::LaunchContext context;
  if (!params.grad_output) {
    context.workspace =
        reinterpret_cast<void*>(allocate(cuda::elementwise_workspace_bytes(params)));
  }
  switch (params.input.dtype) {
    case DType::kFloat:
      return run<float>(a, params, context);
    case DType::kDouble:
      return run<double>(a, params, context);
    case DType::kHalf:
      return run<Half>(a, params, context);
    case DType::kBFloat16:
      return run<BFloat16>(a, params, context);
    default:
      throw std::invalid_argument("no kernel for this dtype");
  }
}

void scale(const Tensor& gradient, int64_t elements, const Tensor& grad_output) {
  Operand operand, factor;
  operand.data = view(gradient).data;
  operand.dtype = view(gradient).dtype;
  factor.data = view(grad_output).data;
  factor.dtype = view(grad_output).dtype;
  cuda::scale_gradient(operand, elements, factor, {});
}

}  // namespace
}  // namespace fusedloss

PYBIND11_MODULE(emulated_elementwise, m) {
  using fusedloss::Arguments;
  emulator::bind(m);
  py::class_<Arguments>(m, "Arguments")
      .def(py::init<>())
      .def_readwrite("loss", &Arguments::loss)
      .def_readwrite("options", &Arguments::options)
      .def_readwrite("input", &Arguments::input)
      .def_readwrite("target", &Arguments::target)
      .def_readwrite("weight", &Arguments::weight)
      .def_readwrite("pos_weight", &Arguments::pos_weight)
      .def_readwrite("given_normalizer", &Arguments::given_normalizer)
      .def_readwrite("grad_output", &Arguments::grad_output)
      .def_readwrite("grad_input", &Arguments::grad_input)
      .def_readwrite("result", &Arguments::result)
      .def_readwrite("region_tensors", &Arguments::region_tensors)
      .def_readwrite("region_code", &Arguments::region_code)
      .def_readwrite("region_constants", &Arguments::region_constants)
      .def_readwrite("reduction", &Arguments::reduction)
      .def_readwrite("normalizer", &Arguments::normalizer)
      .def_readwrite("given_number", &Arguments::given_number)
      .def_readwrite("wants_sums", &Arguments::wants_sums)
      .def_readwrite("sums", &Arguments::sums);
  m.def("elementwise", &fusedloss::elementwise);
  m.def("scale", &fusedloss::scale);
}
