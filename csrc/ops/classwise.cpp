// The class losses as dispatcher ops; labels are checked here, or by the device.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "core/classwise_problem.h"
#include "cpu/classwise.h"
#include "ops/bad_label.h"
#include "ops/family_ops.h"

namespace fusedloss::ops {
namespace {

struct ClasswiseProblem {
  explicit ClasswiseProblem(const std::string& words) : call(parse_class_call(words)) {}

  static Tensor allocate_losses(const Tensor& input, ScalarType type) {
    int64_t sizes[TensorView::kMaxDims], strides[TensorView::kMaxDims], stride = 1;
    int rank = 0;
    for (int axis = 0; axis < input.dim(); ++axis) {
      if (axis != 1 && input.dim() > 1) sizes[rank++] = input.sizes()[axis];
    }
    for (int axis = rank - 1; axis >= 0; --axis) {
      strides[axis] = stride;
      stride *= std::max<int64_t>(sizes[axis], 1);
    }
    return allocate_result(input, rank, sizes, strides, type);
  }
  static int64_t sums_length(const Tensor&, int64_t samples) {
    return SumsLayout{samples}.length();
  }
  void lay_out(const ProgramCodes& programs, const std::vector<double>& numbers,
               int64_t ignore_index) {
    options = fusedloss::lay_out(call, tensors, programs, numbers, ignore_index, &params);
  }

  template <class T>
  void forward(const Tensor& input) const {
    const cpu::NotAClass bad =
        cpu::classwise_forward<T>(call.loss.c_str(), options, params, parallel_for);
    if (bad.index < 0) return;
    throw std::out_of_range(bad_label_text(call.loss, input, params, bad.index) +
                            "; mask such positions, or mark them by ignore_index (" +
                            std::to_string(params.ignore_index) + ")");
  }
  template <class T>
  void backward() const {
    cpu::classwise_backward<T>(call.loss.c_str(), options, params, parallel_for);
  }
  void run_on_cuda(const Tensor& input) const { cuda_classwise(call.loss, options, params, input); }

  const ClasswiseCall call;
  ClasswiseTensors tensors;
  ClasswiseParams params;
  const double* options = nullptr;  // the loss's, among the op's numbers
};

using Ops = FamilyOps<ClasswiseProblem, int64_t>;

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusedloss, library) {
  library.def(
      "classwise_forward(str call, float[] numbers, int ignore_index, Tensor input, "
      "Tensor target, Tensor[] others, int[] region, int[] weight_source) -> (Tensor loss, "
      "Tensor gradient, Tensor sums)");
  library.def(
      "classwise_backward(str call, float[] numbers, int ignore_index, Tensor input, "
      "Tensor target, Tensor[] others, int[] region, int[] weight_source, Tensor grad_output, "
      "Tensor sums) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fusedloss, CPU, library) {
  library.impl("classwise_forward", TORCH_BOX(&Ops::forward));
  library.impl("classwise_backward", TORCH_BOX(&Ops::backward));
}

#if defined(FL_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(fusedloss, CUDA, library) {
  library.impl("classwise_forward", TORCH_BOX(&Ops::forward));
  library.impl("classwise_backward", TORCH_BOX(&Ops::backward));
}
#endif

}  // namespace fusedloss::ops
