// The class kernels for float logits.
#include "cuda/classwise_typed.cuh"

namespace fusedloss::cuda {

template void launch_class_typed<float>(const ClassPlan&, const NamedClassLoss&,
                                        const LaunchContext&);

}  // namespace fusedloss::cuda
