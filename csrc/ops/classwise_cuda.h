// The bridge from ops to the CUDA driver of the class losses. Without CUDA kernels in the build
// nothing is registered for CUDA tensors and this is never reached.
#pragma once

#include <string>

#include "core/classwise_params.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {

// Forward, or backward where there is a grad_output.
void cuda_classwise(const std::string& loss, const double* options, const ClasswiseParams& params,
                    const Tensor& input);

}  // namespace fusedloss::ops
