// What Python hands to the ops of every family, and what all of them make of it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "core/problem.h"
#include "cuda/launch_context.h"

namespace fusedloss {

// (address, dtype, sizes, strides)
using Tensor = std::tuple<uintptr_t, int, std::vector<int64_t>, std::vector<int64_t>>;

inline TensorView view(const std::optional<Tensor>& tensor) {
  TensorView result;
  if (!tensor) return result;
  const auto& [address, dtype, sizes, strides] = *tensor;
  result.data = reinterpret_cast<void*>(address);
  result.dtype = static_cast<DType>(dtype);
  result.rank = static_cast<int>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), result.size);
  std::copy(strides.begin(), strides.end(), result.stride);
  return result;
}

// The arguments of the ops in csrc/ops, and their results, preallocated.
struct OpArguments {
  std::string call;
  std::vector<double> numbers;
  int64_t ignore_index = 0;  // the elementwise ops have none
  Tensor input, target;
  std::vector<Tensor> others;
  std::vector<int64_t> region, weight_source;
  std::optional<Tensor> grad_output, grad_input, loss, sums;
};

// The tensors as a family's lay_out takes them.
template <class Tensors>
Tensors tensors_of(const OpArguments& a) {
  Tensors tensors;
  tensors.input = view(a.input);
  tensors.target = view(a.target);
  tensors.grad_output = view(a.grad_output);
  tensors.grad_input = view(a.grad_input);
  tensors.loss = view(a.loss);
  for (const Tensor& other : a.others) tensors.others[tensors.count++] = view(other);
  return tensors;
}

inline double* sums_of(const OpArguments& a) { return static_cast<double*>(view(a.sums).data); }

// Gives the address of so many bytes.
using Allocate = std::function<uintptr_t(size_t)>;

inline cuda::LaunchContext context_with(size_t workspace_bytes, const Allocate& allocate) {
  cuda::LaunchContext context;
  if (workspace_bytes > 0) context.workspace = reinterpret_cast<void*>(allocate(workspace_bytes));
  return context;
}

// Runs an op of one family, the forward pass or, where there is a grad_output, the backward pass;
// each family defines its own in a module of its own.
void run_op(const OpArguments& a, const Allocate& allocate);

}  // namespace fusedloss
