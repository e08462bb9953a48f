// The overlap kernels for planes of float.
#include "cuda/overlap_launch.cuh"

namespace fusedloss::cuda {

template void launch_planar<float>(const OverlapPlan&, const ElementLoss&, const LaunchContext&);

}  // namespace fusedloss::cuda
