// The one translation unit of the sample that holds device code: compiled plain, traced, sanitised.
#include "sample.h"
#include "sample_intrinsics.cuh"
#include "sample_kernel.cuh"

namespace sample {

EMULATOR_DYNAMIC_SHARED(int, scratch);

int run_intrinsics(uintptr_t rows, uintptr_t counters, uintptr_t accumulator, int shared_bytes) {
  const IntrinsicsParams params{reinterpret_cast<int*>(rows), reinterpret_cast<unsigned*>(counters),
                                reinterpret_cast<long long*>(accumulator)};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(64);
  config.dynamicSmemBytes = size_t(shared_bytes);
  return cudaLaunchKernelEx(&config, intrinsics, params);
}

template <class T>
int run_as(const Arguments& a, bool cooperative) {
  const auto misaligned = static_cast<long long>(a.input % 16 / sizeof(T));
  long long head = misaligned ? 16 / (long long)sizeof(T) - misaligned : 0;
  head = head < a.size ? head : a.size;
  const Params<T> params{reinterpret_cast<const T*>(a.input),
                         reinterpret_cast<const T*>(a.target),
                         reinterpret_cast<const bool*>(a.mask),
                         reinterpret_cast<T*>(a.grad_input),
                         a.size,
                         head,
                         (a.mask + head) % (16 / sizeof(T)) == 0,
                         reinterpret_cast<Sum*>(a.partials),
                         reinterpret_cast<unsigned*>(a.ticket),
                         reinterpret_cast<float*>(a.loss)};
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = cooperative;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(a.blocks));
  config.blockDim = dim3(kThreads);
  config.attrs = &attribute;
  config.numAttrs = 1;
  if (cooperative) return cudaLaunchKernelEx(&config, masked_mse_grid<T>, params);
  return cudaLaunchKernelEx(&config, masked_mse<T>, params);
}

int run(const Arguments& arguments, int dtype, bool cooperative) {
#ifndef EMULATOR_SAMPLE_FLOAT_ONLY
  if (dtype == 1) return run_as<__half>(arguments, cooperative);
  if (dtype == 2) return run_as<__nv_bfloat16>(arguments, cooperative);
#endif
  return run_as<float>(arguments, cooperative);
}

}  // namespace sample
