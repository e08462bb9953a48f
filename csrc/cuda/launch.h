// The one way kernels are launched: no <<<>>>, so that the emulator runs the same host code, and
// every launch is followed by its check. Errors become std::runtime_error.
//
//     launch({.blocks = n, .threads = 256, .stream = stream}, kernel<T>, params);
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace fusedloss::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("fusedloss: ") + what + ": " + cudaGetErrorString(error));
}

struct LaunchShape {
  int64_t blocks = 1;
  int threads = 256;
  int64_t shared_bytes = 0;  // dynamic
  bool cooperative = false;  // all blocks resident at once: the kernel may call grid_barrier()
  cudaStream_t stream = nullptr;
};

template <class... Parameters, class... Arguments>
void launch(const LaunchShape& shape, void (*kernel)(Parameters...), Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = shape.stream;
  config.attrs = &attribute;
  config.numAttrs = shape.cooperative ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...),
        "kernel launch");
}

// How many blocks of `kernel` the device holds at once.
template <class... Parameters>
int64_t resident_blocks(void (*kernel)(Parameters...), int threads, int64_t shared_bytes,
                        int device) {
  int per_multiprocessor = 0, multiprocessors = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel, threads,
                                                      static_cast<size_t>(shared_bytes)),
        "occupancy");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "device attribute");
  return static_cast<int64_t>(per_multiprocessor) * multiprocessors;
}

}  // namespace fusedloss::cuda
