// The definition behind the classwise_<type>.cu files.
#pragma once

#include "cuda/classwise_launch.cuh"

namespace fusedloss::cuda {

template <class T>
void launch_class_typed(const ClassPlan& plan, const NamedClassLoss& named,
                        const LaunchContext& context) {
  using Kernel = decltype(&class_rows<T, true>);
  const auto one_of = [&](Kernel plain, Kernel any) { return plan.is_plain ? plain : any; };
  const Kernel kernel = plan.kernel == ClassKernel::kRows
                            ? one_of(class_rows<T, true>, class_rows<T, false>)
                        : plan.kernel == ClassKernel::kStaged
                            ? one_of(class_staged<T, true>, class_staged<T, false>)
                            : one_of(class_columns<T, true>, class_columns<T, false>);
  launch_class_kernel<Kernel, typename RowCells<T>::O>(kernel, plan, named, context);
}

}  // namespace fusedloss::cuda
