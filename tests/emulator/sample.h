// The sample kernel as plain functions, so that its binding needs no CUDA header.
#pragma once

#include <cstdint>

namespace sample {

struct Arguments {
  uintptr_t input, target, mask, grad_input;
  long long size;
  uintptr_t partials, ticket, loss;
  int blocks;
};

// dtype: 0 float32, 1 float16, 2 bfloat16. Returns the cudaError_t.
int run(const Arguments& arguments, int dtype, bool cooperative);

int run_intrinsics(uintptr_t rows, uintptr_t counters, uintptr_t accumulator, int shared_bytes);

}  // namespace sample
