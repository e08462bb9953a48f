// The bridge from ops to the CUDA drivers: device guard, current stream, workspace.
//
// In a build without CUDA kernels these have no definition and nothing is registered for CUDA
// tensors: every call stands behind `if constexpr (kHasCuda)`.
#pragma once

#include <string>

#include "core/classwise_params.h"
#include "core/elementwise_params.h"
#include "core/overlap_params.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {

#if defined(FL_WITH_CUDA)
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif

// Forward, or backward where params have a grad_output. `options` are the loss's.
void cuda_elementwise(const std::string& loss, const double* options,
                      const ElementwiseParams& params, const Tensor& input);
void cuda_classwise(const std::string& loss, const double* options, const ClasswiseParams& params,
                    const Tensor& input);
void cuda_overlap(const OverlapParams& params, const Tensor& input);

void cuda_scale_gradient(const Tensor& gradient, const Tensor& grad_output);

}  // namespace fusedloss::ops
