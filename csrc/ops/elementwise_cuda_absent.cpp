// Stands in for ops/elementwise_cuda.cpp in a build without CUDA kernels.
#if !defined(FL_WITH_CUDA)
#include "ops/elementwise_cuda.h"

namespace fusedloss::ops {

void cuda_elementwise_forward(const std::string&, const double*, const ElementwiseParams&,
                              const Tensor&) {
  throw std::runtime_error("fusedloss was built without CUDA kernels");
}
void cuda_elementwise_backward(const std::string&, const double*, const ElementwiseParams&,
                               const Tensor&) {
  throw std::runtime_error("fusedloss was built without CUDA kernels");
}
void cuda_scale_gradient(const Tensor&, const Tensor&) {
  throw std::runtime_error("fusedloss was built without CUDA kernels");
}

}  // namespace fusedloss::ops
#endif
