// The two dispatcher ops of a family of losses: tensors in, a torch-free params struct to a driver.
//
//     using Ops = FamilyOps<ClasswiseProblem, int64_t>;
//     library.impl("classwise_forward", TORCH_BOX(&Ops::forward));
//
// fusedloss/autograd.py calls them; shapes, dtypes and options have been checked there. One
// function serves both devices and branches once, at the driver. `Own` are the arguments that the
// family has between `numbers` and `input`. A Problem is one call, made of its line of words:
//
//     call, tensors, params               of csrc/core/<family>_problem.h
//     allocate_losses(input, type)        the loss under reduction "none"
//     sums_length(input, samples)         `samples` have sums of their own
//     lay_out(programs, numbers, own...)  fills params, but for sums, from call and tensors
//     forward<T>(input), backward<T>()    the CPU's drivers; a bad value is an exception
//     run_on_cuda(input)                  the CUDA driver of either pass
#pragma once

#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/program_problem.h"
#include "ops/cuda_drivers.h"
#include "ops/parallel_for.h"
#include "ops/result_memory.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {

template <class Problem, class... Own>
class FamilyOps {
 public:
  static std::tuple<Tensor, Tensor, Tensor> forward(const std::string& words,
                                                    const std::vector<double>& numbers, Own... own,
                                                    const Tensor& input, const Tensor& target,
                                                    const std::vector<Tensor>& others,
                                                    const std::vector<int64_t>& region,
                                                    const std::vector<int64_t>& weight_source) {
    Problem problem(words);
    const auto& call = problem.call;
    const ScalarType type = input.scalar_type();
    const ScalarType result_type = call.float_result ? ScalarType::Float : type;
    const bool per_sample = call.reduction == Reduction::kSampleMean && input.dim() >= 2;
    const int64_t length = problem.sums_length(input, per_sample ? input.sizes()[0] : 1);

    Tensor loss = call.reduction == Reduction::kNone ? problem.allocate_losses(input, result_type)
                                                     : allocate_scalar(input, result_type);
    Tensor gradient =
        call.wants_gradient ? allocate_result_like(input, type) : allocate_vector(input, 0, type);
    Tensor sums = allocate_vector(input, length, ScalarType::Double);

    problem.tensors.loss = view(loss);
    if (call.wants_gradient) problem.tensors.grad_input = view(gradient);
    add_operands(input, target, others, &problem);
    problem.lay_out({region, weight_source}, numbers, own...);
    problem.params.sums = static_cast<double*>(sums.mutable_data_ptr());
    run(problem, input, [&](auto number) { problem.template forward<decltype(number)>(input); });
    return {std::move(loss), std::move(gradient), std::move(sums)};
  }

  static Tensor backward(const std::string& words, const std::vector<double>& numbers, Own... own,
                         const Tensor& input, const Tensor& target,
                         const std::vector<Tensor>& others, const std::vector<int64_t>& region,
                         const std::vector<int64_t>& weight_source, const Tensor& grad_output,
                         const Tensor& sums) {
    Problem problem(words);
    Tensor gradient = allocate_result_like(input, input.scalar_type());
    problem.tensors.grad_output = view(grad_output);
    problem.tensors.grad_input = view(gradient);
    add_operands(input, target, others, &problem);
    problem.lay_out({region, weight_source}, numbers, own...);
    problem.params.sums = const_cast<double*>(static_cast<const double*>(sums.const_data_ptr()));
    run(problem, input, [&](auto number) { problem.template backward<decltype(number)>(); });
    return gradient;
  }

 private:
  static void add_operands(const Tensor& input, const Tensor& target,
                           const std::vector<Tensor>& others, Problem* problem) {
    auto& tensors = problem->tensors;
    tensors.input = view(input);
    tensors.target = view(target);
    if (others.size() > std::size(tensors.others)) {
      throw std::invalid_argument(
          "fusedloss: these expressions have more tensors than a program may have");
    }
    for (const Tensor& other : others) tensors.others[tensors.count++] = view(other);
  }

  // `on_cpu` takes a number of the type of the CPU's arithmetic.
  template <class OnCpu>
  static void run(const Problem& problem, const Tensor& input, OnCpu&& on_cpu) {
    if (input.is_cuda()) {
      if constexpr (kHasCuda) problem.run_on_cuda(input);
    } else if (computes_in_double(problem.params)) {
      on_cpu(double{});
    } else {
      on_cpu(float{});
    }
  }
};

}  // namespace fusedloss::ops
