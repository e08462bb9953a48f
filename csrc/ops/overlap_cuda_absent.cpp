// Stands in for ops/overlap_cuda.cpp in a build without CUDA kernels.
#if !defined(FL_WITH_CUDA)
#include "ops/overlap_cuda.h"

namespace fusedloss::ops {

void cuda_overlap(const OverlapParams&, const Tensor&) {
  throw std::runtime_error("fusedloss was built without CUDA kernels");
}

}  // namespace fusedloss::ops
#endif
