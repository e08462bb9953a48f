// The overlap kernels for planes of bfloat16.
#include "cuda/overlap_launch.cuh"

namespace fusedloss::cuda {

template void launch_planar<BFloat16>(const OverlapPlan&, const ElementLoss&, const LaunchContext&);

}  // namespace fusedloss::cuda
