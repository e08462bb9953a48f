// The class kernels for any strides and dtypes, and the choice among all of them.
#include "cuda/classwise_launch.cuh"

namespace fusedloss::cuda {

size_t classwise_workspace_bytes(const ClasswiseParams& params) {
  // Chunks are cut alike for all losses.
  const ClassPlan plan = ClassPlanner(params, pass_of(params), ClassSums::kNone).plan();
  return Workspace(plan.call, params.bindings.ranges).bytes();
}

void classwise(const char* loss, const double* options, const ClasswiseParams& params,
               const LaunchContext& context) {
  const NamedClassLoss named{loss, options};
  const ClassPlan plan = ClassPlanner(params, pass_of(params), named.sums(params)).plan();
  if (plan.kernel == ClassKernel::kStrided) {
    return computes_in_double(params) ? launch_class_strided<double>(plan, named, context)
                                      : launch_class_strided<float>(plan, named, context);
  }
  switch (params.input.positions.dtype) {
    case DType::kHalf:
      return launch_class_typed<Half>(plan, named, context);
    case DType::kBFloat16:
      return launch_class_typed<BFloat16>(plan, named, context);
    case DType::kFloat:
      return launch_class_typed<float>(plan, named, context);
    default:
      return launch_class_typed<double>(plan, named, context);
  }
}

}  // namespace fusedloss::cuda
