// Host side of the elementwise kernels: from params to one launch. The .cu files instantiate it,
// the vector kernels once per input type, the strided ones once per arithmetic type.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/elementwise.h"
#include "cuda/elementwise_plan.h"
#include "cuda/elementwise_strided.cuh"
#include "cuda/elementwise_vector.cuh"
#include "cuda/launch_call.cuh"

namespace fusedloss::cuda {

inline size_t workspace_bytes(const ElementwiseParams& params) {
  const Pass forward = params.grad_input ? Pass::kForwardGradient : Pass::kForward;
  const Pass pass = params.grad_output ? Pass::kBackward : forward;
  return Workspace(plan_elementwise(params, pass).call, params.bindings.ranges).bytes();
}

// Which loss, as ops/ names it.
struct NamedLoss {
  const char* name;
  const double* options;

  template <class F>
  void visit(F&& f) const {
    if (!visit_elementwise_loss(name, options, f)) {
      throw std::runtime_error(std::string("fusedloss: no CUDA kernel for ") + name);
    }
  }
};

template <class T, bool kBackward, class Loss>
void launch_vector(const Loss& loss, const KernelCall& call, const LaunchContext& context) {
  switch (call.factors) {
    case Factors::kNone:
      return launch_call(elementwise_vector<Loss, T, kBackward, Factors::kNone>, call, loss,
                         context);
    case Factors::kTensors:
      return launch_call(elementwise_vector<Loss, T, kBackward, Factors::kTensors>, call, loss,
                         context);
    default:
      return launch_call(elementwise_vector<AnyLoss, T, false, Factors::kPrograms>, call,
                         AnyLoss(loss), context);
  }
}

// Defined in elementwise_strided.cu, for float and double arithmetic.
template <class T>
void launch_strided(const NamedLoss& loss, const KernelCall& call, const LaunchContext& context);

template <class T, bool kBackward>
void launch_elementwise(const NamedLoss& named, const ElementwiseParams& params,
                        const LaunchContext& context) {
  const Pass forward = params.grad_input ? Pass::kForwardGradient : Pass::kForward;
  const Pass pass = kBackward ? Pass::kBackward : forward;
  const ElementwisePlan plan = plan_elementwise(params, pass);
  const KernelCall& call = plan.call;
  if (!plan.vector) {
    return computes_in_double(params) ? launch_strided<double>(named, call, context)
                                      : launch_strided<float>(named, call, context);
  }
  named.visit([&](const auto& loss) { launch_vector<T, kBackward>(loss, call, context); });
}

template <class T>
void elementwise_forward(const char* loss, const double* options, const ElementwiseParams& params,
                         const LaunchContext& context) {
  launch_elementwise<T, false>({loss, options}, params, context);
}

template <class T>
void elementwise_backward(const char* loss, const double* options, const ElementwiseParams& params,
                          const LaunchContext& context) {
  launch_elementwise<T, true>({loss, options}, params, context);
}

}  // namespace fusedloss::cuda
