// Host-side launch: the C++ templates of the toolkit's <cuda_runtime.h>, bound to the emulator.
//
// A launch runs to its end before cudaLaunchKernelEx returns. Errors that a device would report
// asynchronously (an assert, a deadlock) make the call return an error too.
#pragma once

#include <tuple>
#include <utility>

namespace emulator {

// Runs the grid; `entry(arguments)` is the body of one thread. `arguments` may be read by any
// thread.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void (*entry)(void*),
                   void* arguments, size_t arguments_size);
cudaError_t occupancy(int* blocks, int block_size, size_t dynamic_shared);

// Tells the runtime where a dynamic shared array lies, so that its end can be checked.
struct DynamicShared {
  explicit DynamicShared(const void* address);
};

template <class... Parameters>
struct Call {
  void (*kernel)(Parameters...);
  std::tuple<std::remove_cv_t<Parameters>...> arguments;

  template <size_t... I>
  __attribute__((always_inline)) void apply(std::index_sequence<I...>) {
    kernel(std::get<I>(arguments)...);
  }
  static void run(void* self) {
    static_cast<Call*>(self)->apply(std::index_sequence_for<Parameters...>{});
  }
};

}  // namespace emulator

// Gives storage to an `extern __shared__ T name[]` of the surrounding namespace; 48 KiB is what a
// kernel gets without opting in to more.
#define EMULATOR_DYNAMIC_SHARED(type, name)                      \
  alignas(128) thread_local type name[48 * 1024 / sizeof(type)]; \
  static const emulator::DynamicShared emulator_dynamic_shared_##name { &name }

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  emulator::Call<Parameters...> call{kernel, {std::forward<Arguments>(arguments)...}};
  return emulator::launch(*config, reinterpret_cast<const void*>(kernel),
                          &emulator::Call<Parameters...>::run, &call, sizeof(call));
}

template <class... Parameters>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*)(Parameters...),
                                                          int block_size, size_t dynamic_shared) {
  return emulator::occupancy(blocks, block_size, dynamic_shared);
}

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*)(Parameters...), cudaFuncAttribute, int) {
  return cudaSuccess;
}
