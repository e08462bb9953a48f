// Where a driver's kernels run, and their device memory. This header needs no CUDA toolkit.
#pragma once

struct CUstream_st;

namespace fusedloss::cuda {

struct LaunchContext {
  CUstream_st* stream = nullptr;
  int device = 0;
  void* workspace = nullptr;  // aligned to 16 bytes; not read before it is written
};

}  // namespace fusedloss::cuda
