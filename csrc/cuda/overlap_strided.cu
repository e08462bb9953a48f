// The overlap kernels for any strides, and the choice among all of them.
#include "cuda/overlap_launch.cuh"

namespace fusedloss::cuda {

extern template void launch_planar<float>(const PoolCall&, bool, const ElementLoss&,
                                          const LaunchContext&);
extern template void launch_planar<Half>(const PoolCall&, bool, const ElementLoss&,
                                         const LaunchContext&);
extern template void launch_planar<BFloat16>(const PoolCall&, bool, const ElementLoss&,
                                             const LaunchContext&);

size_t overlap_workspace_bytes(const OverlapParams& params) {
  return OverlapWorkspace(plan_overlap(params).call).bytes();
}

void overlap(const OverlapParams& params, const LaunchContext& context) {
  const OverlapPlan plan = plan_overlap(params);
  const PoolCall& call = plan.call;
  const ElementLoss loss = element_loss(params.pointwise);
  if (!plan.planar) {
    return computes_in_double(params)
               ? launch_overlap<StridedCells<double>, OverlapKernel::kGeneral>(call, loss, context)
               : launch_overlap<StridedCells<float>, OverlapKernel::kGeneral>(call, loss, context);
  }
  switch (params.input.positions.dtype) {
    case DType::kHalf:
      return launch_planar<Half>(call, plan.is_weighted, loss, context);
    case DType::kBFloat16:
      return launch_planar<BFloat16>(call, plan.is_weighted, loss, context);
    default:
      return launch_planar<float>(call, plan.is_weighted, loss, context);
  }
}

}  // namespace fusedloss::cuda
