// Adds the session's functions (begin, register_buffer, report) to a project's pybind11 module:
//
//   PYBIND11_MODULE(emulated, m) { emulator::bind(m); m.def("mse", ...); }
#pragma once

#include <pybind11/pybind11.h>

namespace emulator {
void bind(pybind11::module_& module);
}  // namespace emulator
