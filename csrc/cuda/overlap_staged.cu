// The overlap kernels for positions whose classes lie side by side, of float and 16-bit types.
#include "cuda/overlap_launch.cuh"

namespace fusedloss::cuda {

void launch_staged(const OverlapPlan& plan, const ElementLoss& loss, const LaunchContext& context) {
  launch_weighted<StagedCells>(plan, loss, context);
}

}  // namespace fusedloss::cuda
