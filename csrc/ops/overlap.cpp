// The overlap losses and compounds as dispatcher ops; labels are checked here, or by the device.
//
// `loss` and `grad_output` have the pools in one dim, or no dims.
#include <torch/csrc/stable/library.h>

#include <stdexcept>
#include <string>

#include "core/overlap_problem.h"
#include "cpu/overlap.h"
#include "ops/bad_label.h"
#include "ops/family_ops.h"

namespace fusedloss::ops {
namespace {

struct OverlapProblem {
  explicit OverlapProblem(const std::string& words) : call(parse_overlap_call(words)) {}

  Tensor allocate_losses(const Tensor& input, ScalarType type) const {
    return allocate_vector(input, pools(input), type);
  }
  int64_t sums_length(const Tensor& input, int64_t samples) const {
    return OverlapSumsLayout{samples, pools(input)}.length();
  }
  void lay_out(const ProgramCodes& programs, const std::vector<double>& numbers,
               int64_t ignore_index) {
    fusedloss::lay_out(call, tensors, programs, numbers, ignore_index, &params);
  }

  template <class T>
  void forward(const Tensor& input) const {
    const cpu::NotAClass bad = cpu::overlap_forward<T>(params, parallel_for);
    if (bad.index < 0) return;
    throw std::out_of_range(bad_label_text(call.loss, input, params, bad.index) +
                            "; leave it out by mask or ignore_index");
  }
  template <class T>
  void backward() const {
    cpu::overlap_backward<T>(params, parallel_for);
  }
  void run_on_cuda(const Tensor& input) const { cuda_overlap(params, input); }

  const OverlapCall call;
  OverlapTensors tensors;
  OverlapParams params;

 private:
  int64_t pools(const Tensor& input) const {
    return pools_of(call, input.sizes()[0], input.sizes()[1]).count();
  }
};

using Ops = FamilyOps<OverlapProblem, int64_t>;

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fusedloss, library) {
  library.def(
      "overlap_forward(str call, float[] numbers, int ignore_index, Tensor input, Tensor target, "
      "Tensor[] others, int[] region, int[] weight_source) -> (Tensor loss, Tensor gradient, "
      "Tensor sums)");
  library.def(
      "overlap_backward(str call, float[] numbers, int ignore_index, Tensor input, Tensor target, "
      "Tensor[] others, int[] region, int[] weight_source, Tensor grad_output, Tensor sums) -> "
      "Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fusedloss, CPU, library) {
  library.impl("overlap_forward", TORCH_BOX(&Ops::forward));
  library.impl("overlap_backward", TORCH_BOX(&Ops::backward));
}

#if defined(FL_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(fusedloss, CUDA, library) {
  library.impl("overlap_forward", TORCH_BOX(&Ops::forward));
  library.impl("overlap_backward", TORCH_BOX(&Ops::backward));
}
#endif

}  // namespace fusedloss::ops
