// The overlap ops over emulated kernels, for Python: as bindings.cpp does for the elementwise ops.
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "core/overlap_problem.h"
#include "cuda/overlap.h"
#include "runtime/bind.h"
#include "tensor_arguments.h"

namespace py = pybind11;

namespace fusedloss {
namespace {

// The arguments of the ops, and their results.
struct Arguments {
  std::string call;
  std::vector<double> numbers;
  int64_t ignore_index = 0;
  Tensor input, target;
  std::vector<Tensor> others;
  std::vector<int64_t> region, weight_source;
  std::optional<Tensor> grad_output, grad_input, loss;
  uintptr_t sums = 0;
};

// `allocate(bytes)` gives the address of a workspace.
void overlap(const Arguments& a, const std::function<uintptr_t(size_t)>& allocate) {
  const OverlapCall call = parse_overlap_call(a.call);
  OverlapTensors tensors;
  tensors.input = view(a.input);
  tensors.target = view(a.target);
  tensors.grad_output = view(a.grad_output);
  tensors.grad_input = view(a.grad_input);
  tensors.loss = view(a.loss);
  for (const Tensor& other : a.others) tensors.others[tensors.count++] = view(other);
  OverlapParams params;
  params.sums = reinterpret_cast<double*>(a.sums);
  lay_out(call, tensors, {a.region, a.weight_source}, a.numbers, a.ignore_index, &params);
  cuda::LaunchContext context;
  if (const size_t bytes = cuda::overlap_workspace_bytes(params); bytes > 0) {
    context.workspace = reinterpret_cast<void*>(allocate(bytes));
  }
  cuda::overlap(params, context);
}

}  // namespace
}  // namespace fusedloss

PYBIND11_MODULE(emulated_overlap, m) {
  using fusedloss::Arguments;
  emulator::bind(m);
  py::class_<Arguments>(m, "Arguments")
      .def(py::init<>())
      .def_readwrite("call", &Arguments::call)
      .def_readwrite("numbers", &Arguments::numbers)
      .def_readwrite("ignore_index", &Arguments::ignore_index)
      .def_readwrite("input", &Arguments::input)
      .def_readwrite("target", &Arguments::target)
      .def_readwrite("others", &Arguments::others)
      .def_readwrite("region", &Arguments::region)
      .def_readwrite("weight_source", &Arguments::weight_source)
      .def_readwrite("grad_output", &Arguments::grad_output)
      .def_readwrite("grad_input", &Arguments::grad_input)
      .def_readwrite("loss", &Arguments::loss)
      .def_readwrite("sums", &Arguments::sums);
  m.def("overlap", &fusedloss::overlap);
}
