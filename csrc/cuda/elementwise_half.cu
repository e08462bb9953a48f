// The vector kernels for half input.
#include "cuda/elementwise_launch.cuh"

namespace fusedloss::cuda {

template void elementwise_forward<Half>(const char*, const double*, const ElementwiseParams&,
                                        const LaunchContext&);
template void elementwise_backward<Half>(const char*, const double*, const ElementwiseParams&,
                                         const LaunchContext&);

}  // namespace fusedloss::cuda
