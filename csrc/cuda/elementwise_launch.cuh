// Host side of the elementwise kernels: from params to one launch. The .cu files instantiate it,
// the vector kernels once per input type, the strided ones once per arithmetic type.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/elementwise.h"
#include "cuda/elementwise_plan.h"
#include "cuda/elementwise_strided.cuh"
#include "cuda/elementwise_vector.cuh"
#include "cuda/launch.h"

namespace fusedloss::cuda {

constexpr int64_t kMostBlocks = int64_t{1} << 30;
constexpr size_t kTicketBytes = 16;  // two of them, and what keeps the sums behind them aligned

inline size_t workspace_bytes(const ElementwiseParams& params) {
  const Pass pass = params.grad_input ? Pass::kForwardGradient : Pass::kForward;
  const ElementwisePlan plan = plan_elementwise(params, pass);
  return kTicketBytes + static_cast<size_t>(plan.call.chunks) * kPartials * sizeof(double);
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

template <class Kernel, class Loss>
void launch_call(Kernel kernel, KernelCall call, const Loss& loss, const LaunchContext& context) {
  if (call.pass == Pass::kBackward && call.chunks == 0) return;
  call.tickets = static_cast<unsigned*>(context.workspace);
  call.partials =
      reinterpret_cast<double*>(static_cast<unsigned char*>(context.workspace) + kTicketBytes);
  LaunchShape shape{.blocks = std::clamp<int64_t>(call.chunks, 1, kMostBlocks),
                    .threads = kThreads,
                    .cooperative = call.sums_first,
                    .stream = context.stream};
  if (shape.cooperative) {
    shape.blocks = std::min(shape.blocks, resident_blocks(kernel, kThreads, context.device));
  }
  if (call.has_sums) {
    check(cudaMemsetAsync(call.tickets, 0, kTicketBytes, context.stream), "workspace");
  }
  launch(shape, kernel, call, loss);
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
  named.visit([&](const auto& loss) {
    using Loss = std::decay_t<decltype(loss)>;
    if (call.masked) {
      launch_call(elementwise_vector<Loss, T, kBackward, true>, call, loss, context);
    } else {
      launch_call(elementwise_vector<Loss, T, kBackward, false>, call, loss, context);
    }
  });
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
