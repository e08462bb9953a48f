// The class kernels for bfloat16 logits.
#include "cuda/classwise_typed.cuh"

namespace fusedloss::cuda {

template void launch_class_typed<BFloat16>(const ClassPlan&, const NamedClassLoss&,
                                           const LaunchContext&);

}  // namespace fusedloss::cuda
