// scale_gradient_: a gradient written in the forward pass, for a grad_output other than 1.
//
// In place, on a buffer that nobody else can see (fusedloss/autograd.py gives it away).
// On CUDA the value is looked at on the device; where it is 1 nothing is read or written.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "cpu/scale_gradient.h"
#include "ops/cuda_drivers.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {
namespace {

void scale_gradient_(Tensor gradient, Tensor grad_output) {
  if (gradient.is_cuda()) {
    if constexpr (kHasCuda) cuda_scale_gradient(gradient, grad_output);
    return;
  }
  const TensorView scale = view(grad_output);
  const double factor = visit_dtype(scale.dtype, [&](auto element) {
    return convert<double>(*static_cast<const decltype(element)*>(scale.data));
  });
  if (factor == 1) return;
  void* data = gradient.mutable_data_ptr();
  const DType dtype = to_dtype(gradient.scalar_type());
  torch::stable::parallel_for(0, gradient.numel(), 32768, [&](int64_t begin, int64_t end) {
    cpu::scale_gradient(dtype, data, begin, end, factor);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusedloss, library) {
  library.def("scale_gradient_(Tensor(a!) gradient, Tensor grad_output) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fusedloss, CPU, library) {
  library.impl("scale_gradient_", TORCH_BOX(&scale_gradient_));
}

#if defined(FL_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(fusedloss, CUDA, library) {
  library.impl("scale_gradient_", TORCH_BOX(&scale_gradient_));
}
#endif

}  // namespace fusedloss::ops
