// The overlap kernels for any strides, and the choice among all of them.
#include "cuda/overlap_launch.cuh"

namespace fusedloss::cuda {

extern template void launch_planar<float>(const OverlapPlan&, const ElementLoss&,
                                          const LaunchContext&);
extern template void launch_planar<Half>(const OverlapPlan&, const ElementLoss&,
                                         const LaunchContext&);
extern template void launch_planar<BFloat16>(const OverlapPlan&, const ElementLoss&,
                                             const LaunchContext&);

size_t overlap_workspace_bytes(const OverlapParams& params) {
  return OverlapWorkspace(plan_overlap(params).call).bytes();
}

void overlap(const OverlapParams& params, const LaunchContext& context) {
  const OverlapPlan plan = plan_overlap(params);
  const ElementLoss loss = element_loss(params.pointwise);
  if (plan.walk == Walk::kStaged) return launch_staged(plan, loss, context);
  if (plan.walk == Walk::kStrided) {
    constexpr auto kKernel = OverlapKernel::kGeneral;
    return computes_in_double(params)
               ? launch_overlap<StridedCells<double>, kKernel>(plan.call, loss, context)
               : launch_overlap<StridedCells<float>, kKernel>(plan.call, loss, context);
  }
  switch (params.input.positions.dtype) {
    case DType::kHalf:
      return launch_planar<Half>(plan, loss, context);
    case DType::kBFloat16:
      return launch_planar<BFloat16>(plan, loss, context);
    default:
      return launch_planar<float>(plan, loss, context);
  }
}

}  // namespace fusedloss::cuda
