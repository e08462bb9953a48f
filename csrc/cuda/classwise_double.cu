// The class kernels for double logits.
#include "cuda/classwise_typed.cuh"

namespace fusedloss::cuda {

template void launch_class_typed<double>(const ClassPlan&, const NamedClassLoss&,
                                         const LaunchContext&);

}  // namespace fusedloss::cuda
