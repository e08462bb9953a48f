// The elementwise losses as dispatcher ops.
#include <torch/csrc/stable/library.h>

#include <sstream>
#include <stdexcept>
#include <string>

#include "core/elementwise_problem.h"
#include "cpu/elementwise.h"
#include "ops/family_ops.h"

namespace fusedloss::ops {
namespace {

// "(0, 2, 5)" of the element of `input` that lies at `offset`.
std::string index_at(const TensorView& input, int64_t offset) {
  int64_t index[TensorView::kMaxDims] = {0};
  for (const int axis : memory_order(input, 0)) {
    if (input.stride[axis] == 0 || input.size[axis] == 1) continue;
    index[axis] = offset / input.stride[axis];
    offset %= input.stride[axis];
  }
  std::ostringstream text;
  for (int axis = 0; axis < input.rank; ++axis) text << (axis ? ", " : "(") << index[axis];
  text << (input.rank == 0 ? "()" : input.rank == 1 ? ",)" : ")");
  return text.str();
}

[[noreturn]] void refuse(const cpu::NotAProbability& bad, const Tensor& input,
                         const ElementwiseParams& params) {
  std::ostringstream message;
  message << "input of binary_cross_entropy must lie in [0, 1] where it takes part, got "
          << bad.value << " at position "
          << index_at(view(input), params.input.offset(params.extents, bad.index))
          << "; logits go to binary_cross_entropy_with_logits";
  throw std::invalid_argument(message.str());
}

struct ElementwiseProblem {
  explicit ElementwiseProblem(const std::string& words) : call(parse_call(words)) {}

  static Tensor allocate_losses(const Tensor& input, ScalarType type) {
    return allocate_result_like(input, type);
  }
  static int64_t sums_length(const Tensor&, int64_t samples) {
    return SumsLayout{samples}.length();
  }
  void lay_out(const ProgramCodes& programs, const std::vector<double>& numbers) {
    options = fusedloss::lay_out(call, tensors, programs, numbers, &params);
  }

  template <class T>
  void forward(const Tensor& input) const {
    const cpu::NotAProbability bad =
        cpu::elementwise_forward<T>(call.loss.c_str(), options, params, parallel_for);
    if (bad.index >= 0) refuse(bad, input, params);
  }
  template <class T>
  void backward() const {
    cpu::elementwise_backward<T>(call.loss.c_str(), options, params, parallel_for);
  }
  void run_on_cuda(const Tensor& input) const {
    cuda_elementwise(call.loss, options, params, input);
  }

  const ElementwiseCall call;
  ElementwiseTensors tensors;
  ElementwiseParams params;
  const double* options = nullptr;  // the loss's, among the op's numbers
};

using Ops = FamilyOps<ElementwiseProblem>;

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusedloss, library) {
  library.def(
      "elementwise_forward(str call, float[] numbers, Tensor input, Tensor target, "
      "Tensor[] others, int[] region, int[] weight_source) -> (Tensor loss, Tensor gradient, "
      "Tensor sums)");
  library.def(
      "elementwise_backward(str call, float[] numbers, Tensor input, Tensor target, "
      "Tensor[] others, int[] region, int[] weight_source, Tensor grad_output, Tensor sums) -> "
      "Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fusedloss, CPU, library) {
  library.impl("elementwise_forward", TORCH_BOX(&Ops::forward));
  library.impl("elementwise_backward", TORCH_BOX(&Ops::backward));
}

#if defined(FL_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(fusedloss, CUDA, library) {
  library.impl("elementwise_forward", TORCH_BOX(&Ops::forward));
  library.impl("elementwise_backward", TORCH_BOX(&Ops::backward));
}
#endif

}  // namespace fusedloss::ops
