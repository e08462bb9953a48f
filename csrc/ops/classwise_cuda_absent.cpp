// Stands in for ops/classwise_cuda.cpp in a build without CUDA kernels.
#if !defined(FL_WITH_CUDA)
#include "ops/classwise_cuda.h"

namespace fusedloss::ops {

void cuda_classwise(const std::string&, const double*, const ClasswiseParams&, const Tensor&) {
  throw std::runtime_error("fusedloss was built without CUDA kernels");
}

}  // namespace fusedloss::ops
#endif
