// The class kernels for float32 alone, for the tests that look at every access and that rebuild
// them many times with a bug in. Everything else is built from csrc/cuda/classwise_*.cu.
#include "cuda/classwise_typed.cuh"

namespace fusedloss::cuda {

size_t classwise_workspace_bytes(const ClasswiseParams& params) {
  const ClassPlan plan = ClassPlanner(params, pass_of(params), ClassSums::kNone).plan();
  return Workspace(plan.call, params.bindings.ranges).bytes();
}

void classwise(const char* loss, const double* options, const ClasswiseParams& params,
               const LaunchContext& context) {
  const NamedClassLoss named{loss, options};
  const ClassPlan plan = ClassPlanner(params, pass_of(params), named.sums(params)).plan();
  if (plan.kernel == ClassKernel::kStrided) {
    launch_class_strided<float>(plan, named, context);
  } else {
    launch_class_typed<float>(plan, named, context);
  }
}

}  // namespace fusedloss::cuda
