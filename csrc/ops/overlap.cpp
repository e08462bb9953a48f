// The overlap losses and compounds as dispatcher ops: tensors in, a torch-free OverlapParams to a
// driver.
//
// fusedloss/_overlap_autograd.py calls these; shapes, dtypes and options have been checked there,
// labels are checked here. `loss` and `grad_output` have the pools in one dim, or no dims.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <string>
#include <tuple>

#include "core/overlap_problem.h"
#include "cpu/overlap.h"
#include "ops/bad_label.h"
#include "ops/driver_call.h"
#include "ops/overlap_cuda.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {
namespace {

// What both ops are told.
struct Arguments {
  OverlapCall call;
  std::vector<double> numbers;
  int64_t ignore_index;
  Tensor input, target;
  std::vector<Tensor> others;
  std::vector<int64_t> region, weight_source;
};

// Adds the arguments' tensors to those that the op made, and fills `params`.
void make_params(const Arguments& arguments, OverlapTensors& tensors, OverlapParams* params) {
  tensors.input = view(arguments.input);
  tensors.target = view(arguments.target);
  if (arguments.others.size() > std::size(tensors.others)) {
    throw std::invalid_argument(
        "fusedloss: these expressions have more tensors than a program may have");
  }
  for (const Tensor& other : arguments.others) tensors.others[tensors.count++] = view(other);
  lay_out(arguments.call, tensors, {arguments.region, arguments.weight_source}, arguments.numbers,
          arguments.ignore_index, params);
}

void check(const cpu::NotAClass& bad, const Arguments& arguments, const OverlapParams& params) {
  if (bad.index < 0) return;
  throw std::out_of_range(bad_label_text(arguments.call.loss, arguments.input,
                                         params.target.positions, params.extents, params.classes,
                                         bad.index) +
                          "; leave it out by mask or ignore_index");
}

std::tuple<Tensor, Tensor, Tensor> overlap_forward(std::string words, std::vector<double> numbers,
                                                   int64_t ignore_index, Tensor input,
                                                   Tensor target, std::vector<Tensor> others,
                                                   std::vector<int64_t> region,
                                                   std::vector<int64_t> weight_source) {
  const Arguments arguments{parse_overlap_call(words), std::move(numbers),      ignore_index,
                            std::move(input),          std::move(target),       std::move(others),
                            std::move(region),         std::move(weight_source)};
  const OverlapCall& call = arguments.call;
  const Tensor& logits = arguments.input;
  const ScalarType type = logits.scalar_type();
  const ScalarType result_type = call.float_result ? ScalarType::Float : type;
  const Pools pools = pools_of(call, logits.sizes()[0], logits.sizes()[1]);
  const bool per_sample = call.reduction == Reduction::kSampleMean;
  const OverlapSumsLayout layout{per_sample ? pools.samples : 1, pools.count()};

  Tensor loss = call.reduction == Reduction::kNone
                    ? allocate_vector(logits, layout.pools, result_type)
                    : allocate_scalar(logits, result_type);
  Tensor gradient =
      call.wants_gradient ? allocate_gradient(logits) : allocate_vector(logits, 0, type);
  Tensor sums = allocate_vector(logits, layout.length(), ScalarType::Double);

  OverlapTensors tensors;
  tensors.loss = view(loss);
  if (call.wants_gradient) tensors.grad_input = view(gradient);
  OverlapParams params;
  make_params(arguments, tensors, &params);
  params.sums = static_cast<double*>(sums.mutable_data_ptr());
  if (logits.is_cuda()) {
    cuda_overlap(params, logits);
  } else {
    const auto forward =
        computes_in_double(params) ? cpu::overlap_forward<double> : cpu::overlap_forward<float>;
    check(forward(params, parallel_for), arguments, params);
  }
  return {loss, gradient, sums};
}

Tensor overlap_backward(std::string words, std::vector<double> numbers, int64_t ignore_index,
                        Tensor input, Tensor target, std::vector<Tensor> others,
                        std::vector<int64_t> region, std::vector<int64_t> weight_source,
                        Tensor grad_output, Tensor sums) {
  const Arguments arguments{parse_overlap_call(words), std::move(numbers),      ignore_index,
                            std::move(input),          std::move(target),       std::move(others),
                            std::move(region),         std::move(weight_source)};
  Tensor gradient = allocate_gradient(arguments.input);
  OverlapTensors tensors;
  tensors.grad_output = view(grad_output);
  tensors.grad_input = view(gradient);
  OverlapParams params;
  make_params(arguments, tensors, &params);
  params.sums = const_cast<double*>(static_cast<const double*>(sums.const_data_ptr()));
  if (arguments.input.is_cuda()) {
    cuda_overlap(params, arguments.input);
  } else {
    const auto backward =
        computes_in_double(params) ? cpu::overlap_backward<double> : cpu::overlap_backward<float>;
    backward(params, parallel_for);
  }
  return gradient;
}

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
  library.impl("overlap_forward", TORCH_BOX(&overlap_forward));
  library.impl("overlap_backward", TORCH_BOX(&overlap_backward));
}

#if defined(FL_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(fusedloss, CUDA, library) {
  library.impl("overlap_forward", TORCH_BOX(&overlap_forward));
  library.impl("overlap_backward", TORCH_BOX(&overlap_backward));
}
#endif

}  // namespace fusedloss::ops
