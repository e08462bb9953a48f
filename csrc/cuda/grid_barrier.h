// Waits for every thread of the grid, and makes their writes visible. Cooperative launches only.
#pragma once

#include <cuda_runtime.h>

#if !defined(FL_EMULATED)
#include <cooperative_groups.h>
#endif

namespace fusedloss::cuda {

__device__ __forceinline__ void grid_barrier() {
#if defined(FL_EMULATED)
  emulator::grid_barrier();
#else
  cooperative_groups::this_grid().sync();
#endif
}

}  // namespace fusedloss::cuda
