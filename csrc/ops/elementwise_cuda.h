// The bridge from ops to the CUDA drivers: device guard, current stream, workspace. Without CUDA
// kernels in the build nothing is registered for CUDA tensors and these are never reached.
#pragma once

#include <string>
#include <vector>

#include "core/elementwise_params.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {

void cuda_elementwise_forward(const std::string& loss, const double* options,
                              const ElementwiseParams& params, const Tensor& input);
void cuda_elementwise_backward(const std::string& loss, const double* options,
                               const ElementwiseParams& params, const Tensor& input);
void cuda_scale_gradient(const Tensor& gradient, const Tensor& grad_output);

}  // namespace fusedloss::ops
