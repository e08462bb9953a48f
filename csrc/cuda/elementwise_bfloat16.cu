// The vector kernels for bfloat16 input.
#include "cuda/elementwise_launch.cuh"

namespace fusedloss::cuda {

template void elementwise_forward<BFloat16>(const char*, const double*, const ElementwiseParams&,
                                            const LaunchContext&);
template void elementwise_backward<BFloat16>(const char*, const double*, const ElementwiseParams&,
                                             const LaunchContext&);

}  // namespace fusedloss::cuda
