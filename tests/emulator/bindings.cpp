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

#include "core/elementwise_problem.h"
#include "runtime/bind.h"

namespace py = pybind11;

namespace fusedloss {
namespace {

using Tensor = std::tuple<uintptr_t, int, std::vector<int64_t>, std::vector<int64_t>>;

// The arguments of the ops, and their results.
struct Arguments {
  std::string call;
  std::vector<double> options;
  Tensor input, target;
  std::optional<Tensor> weight, pos_weight, given_normalizer, grad_output, grad_input, result;
  std::vector<Tensor> region_tensors;
  std::vector<int64_t> region_code;
  std::vector<double> region_constants;
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

ElementwiseParams make_params(const Arguments& a, const ElementwiseCall& call) {
  ElementwiseParams params;
  parse_region(a.region_code, a.region_constants, a.region_tensors.size(), &params.region);
  std::vector<TensorView> region;
  for (const Tensor& tensor : a.region_tensors) region.push_back(view(tensor));
  ElementwiseTensors tensors;
  tensors.input = view(a.input);
  tensors.target = view(a.target);
  tensors.weight = view(a.weight);
  tensors.pos_weight = view(a.pos_weight);
  tensors.given_normalizer = view(a.given_normalizer);
  tensors.grad_output = view(a.grad_output);
  tensors.grad_input = view(a.grad_input);
  tensors.loss = view(a.result);
  tensors.region = region.data();
  lay_out(call, tensors, &params);
  params.sums = reinterpret_cast<double*>(a.sums);
  if (call.normalizer == Normalizer::kGiven && !a.given_normalizer) {
    params.given_number = a.options.back();
  }
  return params;
}

template <class T>
void run(const Arguments& a, const char* loss, const ElementwiseParams& params,
         const cuda::LaunchContext& context) {
  if (params.grad_output) {
    return cuda::elementwise_backward<T>(loss, a.options.data(), params, context);
  }
  cuda::elementwise_forward<T>(loss, a.options.data(), params, context);
}

// `allocate(bytes)` gives the address of a workspace.
void elementwise(const Arguments& a, const std::function<uintptr_t(size_t)>& allocate) {
  const ElementwiseCall call = parse_call(a.call);
  const ElementwiseParams params = make_params(a, call);
  cuda::LaunchContext context;
  if (!params.grad_output) {
    context.workspace =
        reinterpret_cast<void*>(allocate(cuda::elementwise_workspace_bytes(params)));
  }
  switch (params.input.dtype) {
    case DType::kFloat:
      return run<float>(a, call.loss.c_str(), params, context);
    case DType::kDouble:
      return run<double>(a, call.loss.c_str(), params, context);
    case DType::kHalf:
      return run<Half>(a, call.loss.c_str(), params, context);
    case DType::kBFloat16:
      return run<BFloat16>(a, call.loss.c_str(), params, context);
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
      .def_readwrite("call", &Arguments::call)
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
      .def_readwrite("sums", &Arguments::sums);
  m.def("elementwise", &fusedloss::elementwise);
  m.def("scale", &fusedloss::scale);
}
