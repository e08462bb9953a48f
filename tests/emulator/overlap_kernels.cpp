// A small selection of the overlap kernels, in float32, for the tests that trace them or rebuild
// them many times with a bug in. Everything else is built from csrc/cuda/overlap_*.cu.
#include "cuda/overlap_launch.cuh"

namespace fusedloss::cuda {

size_t overlap_workspace_bytes(const OverlapParams& params) {
  return OverlapWorkspace(plan_overlap(params).call).bytes();
}

void overlap(const OverlapParams& params, const LaunchContext& context) {
  const OverlapPlan plan = plan_overlap(params);
  const ElementLoss loss = element_loss(params.pointwise);
  if (plan.walk == Walk::kPlanar) return launch_planar<float>(plan, loss, context);
  if (plan.walk == Walk::kStaged) return launch_weighted<StagedCells>(plan, loss, context);
  launch_overlap<StridedCells<float>, OverlapKernel::kGeneral>(plan.call, loss, context);
}

}  // namespace fusedloss::cuda
