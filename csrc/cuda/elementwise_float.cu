// The vector kernels for float input.
#include "cuda/elementwise_launch.cuh"

namespace fusedloss::cuda {

template void elementwise_forward<float>(const char*, const double*, const ElementwiseParams&,
                                         const LaunchContext&);
template void elementwise_backward<float>(const char*, const double*, const ElementwiseParams&,
                                          const LaunchContext&);

}  // namespace fusedloss::cuda
