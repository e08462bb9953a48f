// The definition behind the classwise_<type>.cu files.
#pragma once

#include "cuda/classwise_launch.cuh"

namespace fusedloss::cuda {

template <class T>
void launch_class_typed(const ClassPlan& plan, const NamedClassLoss& named,
                        const LaunchContext& context) {
  using O = typename TileCells<T>::O;
  using Kernel = decltype(&class_tile<T>);
  const Kernel kernel = plan.kernel == ClassKernel::kRows ? class_rows<T> : class_tile<T>;
  launch_class_kernel<Kernel, O>(kernel, plan, named, context);
}

}  // namespace fusedloss::cuda
