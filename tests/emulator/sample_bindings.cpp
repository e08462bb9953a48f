// The sample's Python module: tensors arrive as addresses.
#include <pybind11/pybind11.h>

#include "runtime/bind.h"
#include "sample.h"

PYBIND11_MODULE(emulated_sample, m) {
  emulator::bind(m);
  m.def("run", [](uintptr_t input, uintptr_t target, uintptr_t mask, uintptr_t grad_input,
                  long long size, uintptr_t partials, uintptr_t ticket, uintptr_t loss, int blocks,
                  int dtype, bool cooperative) {
    return sample::run({input, target, mask, grad_input, size, partials, ticket, loss, blocks},
                       dtype, cooperative);
  });
  m.def("run_intrinsics", &sample::run_intrinsics);
}
