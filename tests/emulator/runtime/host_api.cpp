// The host API of the toolkit that kernels' launchers call, answered by the session's options.
#include <cstring>

#include "memory.h"
#include "rendezvous.h"

namespace emulator {

namespace {
cudaError_t last_error = cudaSuccess;

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}
}  // namespace

Session& session() {
  static Session only;
  return only;
}

void Session::begin(const Options& wanted) {
  *this = Session{};
  options = wanted;
  random = Random(wanted.seed);
  const double chance = wanted.preempt < 0 ? 0 : wanted.preempt > 1 ? 1 : wanted.preempt;
  preempt_threshold = uint32_t(chance * 4294967295.0);
  last_error = cudaSuccess;
}

void Session::error(const char* kind, std::string text, std::vector<const void*> pcs) {
  for (Error& known : errors) {
    if (known.kind == kind &&
        (known.pcs.empty() ? known.text == text : !pcs.empty() && known.pcs[0] == pcs[0])) {
      ++known.count;
      return;
    }
  }
  errors.push_back({kind, std::move(text), std::move(pcs)});
}

cudaError_t occupancy(int* blocks, int block_size, size_t) {
  *blocks = session().options.blocks_per_multiprocessor;
  return block_size >= 1 && block_size <= 1024 ? cudaSuccess : remember(cudaErrorInvalidValue);
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void (*entry)(void*),
                   void* arguments, size_t arguments_size) {
  const Options& options = session().options;
  const dim3 g = config.gridDim, b = config.blockDim;
  LaunchRecord record{kernel, {g.x, g.y, g.z}, {b.x, b.y, b.z}, false, config.dynamicSmemBytes};
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    if (config.attrs[i].id == cudaLaunchAttributeCooperative) {
      record.cooperative = config.attrs[i].val.cooperative != 0;
    }
  }
  const uint64_t threads = uint64_t(b.x) * b.y * b.z, blocks = uint64_t(g.x) * g.y * g.z;
  if (threads == 0 || threads > 1024 || b.z > 64 || blocks == 0 || g.x > 0x7fffffffu ||
      g.y > 65535 || g.z > 65535) {
    return remember(cudaErrorInvalidConfiguration);
  }
  if (config.dynamicSmemBytes > 48 * 1024) return remember(cudaErrorInvalidValue);
  const uint64_t places = uint64_t(options.multiprocessors) * options.blocks_per_multiprocessor;
  if (record.cooperative && blocks > places) return remember(cudaErrorCooperativeLaunchTooLarge);
  session().launches.push_back(record);
  return remember(run_grid(record, entry, arguments, arguments_size));
}

}  // namespace emulator

using namespace emulator;

extern "C" {

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaSuccess ? "cudaSuccess" : "cudaError";
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorCooperativeLaunchTooLarge:
      return "too many blocks in cooperative launch";
    case cudaErrorAssert:
      return "device-side assert triggered";
    case cudaErrorLaunchTimeout:
      return "the launch timed out and was terminated (deadlock)";
    default:
      return "unspecified launch failure";
  }
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : remember(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return last_error; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return last_error; }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = session().options.multiprocessors;
      return cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
      *value = 1;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 2048;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = 32;
      return cudaSuccess;
    case cudaDevAttrMaxGridDimX:
      *value = 0x7fffffff;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = 48 * 1024;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = 32 << 20;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 8;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    default:
      return remember(cudaErrorInvalidValue);
  }
}

cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t) {
  ++session().memsets;
  if (!host_writes(address, bytes)) return remember(cudaErrorInvalidValue);
  std::memset(address, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  if (!host_writes(to, bytes)) return remember(cudaErrorInvalidValue);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

}  // extern "C"
