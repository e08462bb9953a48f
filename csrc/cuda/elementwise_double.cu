// The vector kernels for double input.
#include "cuda/elementwise_launch.cuh"

namespace fusedloss::cuda {

template void elementwise_forward<double>(const char*, const double*, const ElementwiseParams&,
                                          const LaunchContext&);
template void elementwise_backward<double>(const char*, const double*, const ElementwiseParams&,
                                           const LaunchContext&);

}  // namespace fusedloss::cuda
