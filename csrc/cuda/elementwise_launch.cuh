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
constexpr size_t kTicketBytes = 16;  // three of them, and what keeps the doubles aligned

// What a launch needs of device memory: the tickets, then doubles.
struct Workspace {
  bool has_tickets;
  int64_t partials, range_partials, ranges;

  explicit Workspace(const KernelCall& call)
      : has_tickets(call.has_sums || call.range_samples > 0),
        partials(call.has_sums ? kPartials * call.chunks : 0),
        range_partials(2 * call.params.bindings.ranges * call.range_samples * call.range_chunks),
        ranges(2 * call.params.bindings.ranges * call.range_samples) {}

  size_t bytes() const {
    const int64_t numbers = partials + range_partials + ranges;
    return has_tickets ? kTicketBytes + static_cast<size_t>(numbers) * sizeof(double) : 0;
  }

  // Gives the call its pieces of `memory`.
  void assign(void* memory, KernelCall* call) const {
    call->tickets = static_cast<unsigned*>(memory);
    call->partials = reinterpret_cast<double*>(static_cast<unsigned char*>(memory) + kTicketBytes);
    call->range_partials = call->partials + partials;
    call->ranges = call->range_partials + range_partials;
  }
};

inline size_t workspace_bytes(const ElementwiseParams& params) {
  const Pass forward = params.grad_input ? Pass::kForwardGradient : Pass::kForward;
  const Pass pass = params.grad_output ? Pass::kBackward : forward;
  return Workspace(plan_elementwise(params, pass).call).bytes();
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
  const Workspace workspace(call);
  if (workspace.has_tickets) workspace.assign(context.workspace, &call);
  const int64_t most_chunks = std::max(call.chunks, call.range_samples * call.range_chunks);
  LaunchShape shape{.blocks = std::clamp<int64_t>(most_chunks, 1, kMostBlocks),
                    .threads = kThreads,
                    .cooperative = call.sums_first || call.range_samples > 0,
                    .stream = context.stream};
  if (shape.cooperative) {
    shape.blocks = std::min(shape.blocks, resident_blocks(kernel, kThreads, context.device));
  }
  if (workspace.has_tickets) {
    check(cudaMemsetAsync(call.tickets, 0, kTicketBytes, context.stream), "workspace");
  }
  launch(shape, kernel, call, loss);
}

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
