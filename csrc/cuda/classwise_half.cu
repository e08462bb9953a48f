// The class kernels for half logits.
#include "cuda/classwise_typed.cuh"

namespace fusedloss::cuda {

template void launch_class_typed<Half>(const ClassPlan&, const NamedClassLoss&,
                                       const LaunchContext&);

}  // namespace fusedloss::cuda
