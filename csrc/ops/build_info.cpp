// build_info: what this library was built with and what this machine would use, as JSON.
#include <torch/csrc/stable/library.h>

#include <string>

namespace fusedloss::ops {
namespace {

#if !defined(FL_VERSION)
#define FL_VERSION "unknown"
#endif
#if !defined(FL_CUDA_VERSION)
#define FL_CUDA_VERSION ""
#endif
#if !defined(FL_CUDA_ARCHS)
#define FL_CUDA_ARCHS ""
#endif

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
constexpr const char* kSimd = "[\"default\", \"x86-64-v3\", \"x86-64-v4\"]";

const char* simd_in_use() {
  __builtin_cpu_init();
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return v4 ? "x86-64-v4" : v3 ? "x86-64-v3" : "default";
}
#else
constexpr const char* kSimd = "[\"default\"]";
const char* simd_in_use() { return "default"; }
#endif

std::string build_info() {
#if defined(FL_WITH_CUDA)
  const std::string cuda = "true";
#else
  const std::string cuda = "false";
#endif
  return "{\"version\": \"" FL_VERSION "\", \"cuda\": " + cuda +
         ", \"cuda_version\": \"" FL_CUDA_VERSION "\", \"archs\": \"" FL_CUDA_ARCHS
         "\", \"compiler\": \"" __VERSION__ "\", \"simd\": " +
         kSimd + ", \"simd_in_use\": \"" + simd_in_use() + "\"}";
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusedloss, library) { library.def("build_info() -> str"); }

STABLE_TORCH_LIBRARY_IMPL(fusedloss, CompositeExplicitAutograd, library) {
  library.impl("build_info", TORCH_BOX(&build_info));
}

}  // namespace fusedloss::ops
