// Shadow of the toolkit's <cuda_runtime.h>: first on the include path, it lets g++ compile
// unmodified CUDA kernel headers and runs them as fibers on the CPU.
//
// May be relied on: FL_EMULATED is defined (by the build); __CUDACC__ and __CUDA_ARCH__ are not.
// Types come from the toolkit (float4, dim3, cudaLaunchConfig_t, ...); the runtime behind the
// declarations is in ../runtime and is never instrumented. Smallest example:
//
//   template <class P> __global__ void kernel(const P params) { params.out[threadIdx.x] = 1; }
//   cudaLaunchConfig_t config{dim3(1), dim3(32)};
//   cudaLaunchKernelEx(&config, kernel<P>, params);
#pragma once

#ifndef FL_EMULATED
#error "the shadow cuda_runtime.h is for builds with -DFL_EMULATED"
#endif

#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda_runtime_api.h"
#include "vector_functions.h"
#include "vector_types.h"

// A block-scope thread_local is static, keeps `extern` legal, and costs no change of source; the
// runtime answers __tls_get_addr with the memory of the running block.
#undef __shared__
#define __shared__ thread_local

// nvcc's words that the toolkit leaves undefined for a host compiler; they change no meaning here.
#undef __launch_bounds__
#define __launch_bounds__(...)
// Empty, because libstdc++ writes __attribute__((__noinline__)).
#undef __noinline__
#define __noinline__

// Globals, not macros: a macro would break the fields of cudaLaunchConfig_t.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
constexpr int warpSize = 32;

#include "emulator/device.h"
#include "emulator/launch.h"
#include "emulator/math.h"
