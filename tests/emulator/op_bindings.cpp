// The Python module of a family's ops, whichever family it is linked with. Nothing else in the
// emulator's modules of ops holds pybind11, so that it is compiled once for all of them.
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "op_arguments.h"
#include "runtime/bind.h"

namespace py = pybind11;

PYBIND11_MODULE(emulated_ops, m) {
  using fusedloss::OpArguments;
  emulator::bind(m);
  // Local: several such modules are loaded at once, each with its own Arguments.
  py::class_<OpArguments>(m, "Arguments", py::module_local())
      .def(py::init<>())
      .def_readwrite("call", &OpArguments::call)
      .def_readwrite("numbers", &OpArguments::numbers)
      .def_readwrite("ignore_index", &OpArguments::ignore_index)
      .def_readwrite("input", &OpArguments::input)
      .def_readwrite("target", &OpArguments::target)
      .def_readwrite("others", &OpArguments::others)
      .def_readwrite("region", &OpArguments::region)
      .def_readwrite("weight_source", &OpArguments::weight_source)
      .def_readwrite("grad_output", &OpArguments::grad_output)
      .def_readwrite("grad_input", &OpArguments::grad_input)
      .def_readwrite("loss", &OpArguments::loss)
      .def_readwrite("sums", &OpArguments::sums);
  m.def("run_op", &fusedloss::run_op);
}
