// The overlap kernels for planes of half.
#include "cuda/overlap_launch.cuh"

namespace fusedloss::cuda {

template void launch_planar<Half>(const PoolCall&, bool, const ElementLoss&, const LaunchContext&);

}  // namespace fusedloss::cuda
