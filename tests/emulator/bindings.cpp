// The elementwise ops over emulated kernels, for Python: the arguments of the ops in csrc/ops, with
// a tensor as (address, dtype, sizes, strides), results preallocated, and the workspace from a
// callback.
#include "cuda/elementwise.h"

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "core/elementwise_problem.h"
#include "runtime/bind.h"
#include "tensor_arguments.h"

namespace py = pybind11;

namespace fusedloss {
namespace {

// The arguments of the ops, and their results.
struct Arguments {
  std::string call;
  std::vector<double> numbers;
  Tensor input, target;
  std::vector<Tensor> others;
  std::vector<int64_t> region, weight_source;
  std::optional<Tensor> grad_output, grad_input, loss;
  uintptr_t sums = 0;
};

const double* make_params(const Arguments& a, const ElementwiseCall& call,
                          ElementwiseParams* params) {
  ElementwiseTensors tensors;
  tensors.input = view(a.input);
  tensors.target = view(a.target);
  tensors.grad_output = view(a.grad_output);
  tensors.grad_input = view(a.grad_input);
  tensors.loss = view(a.loss);
  for (const Tensor& other : a.others) tensors.others[tensors.count++] = view(other);
  params->sums = reinterpret_cast<double*>(a.sums);
  return lay_out(call, tensors, {a.region, a.weight_source}, a.numbers, params);
}

template <class T>
void run(const ElementwiseCall& call, const double* options, const ElementwiseParams& params,
         const cuda::LaunchContext& context) {
  if (params.grad_output) {
    return cuda::elementwise_backward<T>(call.loss.c_str(), options, params, context);
  }
  cuda::elementwise_forward<T>(call.loss.c_str(), options, params, context);
}

// `allocate(bytes)` gives the address of a workspace.
void elementwise(const Arguments& a, const std::function<uintptr_t(size_t)>& allocate) {
  const ElementwiseCall call = parse_call(a.call);
  ElementwiseParams params;
  const double* options = make_params(a, call, &params);
  cuda::LaunchContext context;
  if (const size_t bytes = cuda::elementwise_workspace_bytes(params); bytes > 0) {
    context.workspace = reinterpret_cast<void*>(allocate(bytes));
  }
  switch (params.input.dtype) {
    case DType::kFloat:
      return run<float>(call, options, params, context);
    case DType::kDouble:
      return run<double>(call, options, params, context);
    case DType::kHalf:
      return run<Half>(call, options, params, context);
    case DType::kBFloat16:
      return run<BFloat16>(call, options, params, context);
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
      .def_readwrite("numbers", &Arguments::numbers)
      .def_readwrite("input", &Arguments::input)
      .def_readwrite("target", &Arguments::target)
      .def_readwrite("others", &Arguments::others)
      .def_readwrite("region", &Arguments::region)
      .def_readwrite("weight_source", &Arguments::weight_source)
      .def_readwrite("grad_output", &Arguments::grad_output)
      .def_readwrite("grad_input", &Arguments::grad_input)
      .def_readwrite("loss", &Arguments::loss)
      .def_readwrite("sums", &Arguments::sums);
  m.def("elementwise", &fusedloss::elementwise);
  m.def("scale", &fusedloss::scale);
}
