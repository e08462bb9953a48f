// The overlap kernels for planes of half.
#include "cuda/overlap_launch.cuh"

namespace fusedloss::cuda {

template void launch_planar<Half>(const OverlapPlan&, const ElementLoss&, const LaunchContext&);

}  // namespace fusedloss::cuda
