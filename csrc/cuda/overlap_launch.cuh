// Host side of the overlap kernels: the workspace of a call, and its one launch.
#pragma once

#include "cuda/launch_call.cuh"
#include "cuda/overlap.h"
#include "cuda/overlap_kernel.cuh"
#include "cuda/overlap_plan.h"
#include "cuda/overlap_staged.cuh"

namespace fusedloss::cuda {

// Device memory: the tickets, then doubles.
struct OverlapWorkspace {
  bool has_tickets;
  int64_t range_partials, ranges, partials = 0, folded = 0, pools = 0;

  explicit OverlapWorkspace(const PoolCall& call) : has_tickets(call.range_samples > 0) {
    range_partials = 2 * call.params.bindings.ranges * call.range_samples * call.range_chunks;
    ranges = 2 * call.params.bindings.ranges * call.range_samples;
    if (!call.has_sums) return;
    has_tickets = true;
    partials = call.items() * call.chunks;
    folded = call.items() * call.samples;
    pools = 2 * call.rules.pools.count();
  }

  size_t bytes() const {
    const int64_t numbers = range_partials + ranges + partials + folded + pools;
    return has_tickets ? kTicketBytes + static_cast<size_t>(numbers) * sizeof(double) : 0;
  }

  // Gives the call its pieces of `memory`.
  void assign(void* memory, PoolCall* call) const {
    call->tickets = static_cast<unsigned*>(memory);
    auto* numbers = reinterpret_cast<double*>(static_cast<unsigned char*>(memory) + kTicketBytes);
    call->range_partials = numbers;
    call->ranges = call->range_partials + range_partials;
    call->partials = call->ranges + ranges;
    call->folded = call->partials + partials;
    call->pools = call->folded + folded;
  }
};

inline ElementLoss element_loss(const PointwiseParams& part) {
  if (part.kind != PointwiseKind::kSigmoidFocal) {
    return ElementLoss(BinaryCrossEntropyWithLogitsLoss(part.options));
  }
  if (part.options[1] == 2) return ElementLoss(SigmoidFocalLoss<true>(part.options));
  return ElementLoss(SigmoidFocalLoss<false>(part.options));
}

template <class Cells, OverlapKernel kKernel>
void launch_overlap(PoolCall call, const ElementLoss& loss, const LaunchContext& context) {
  if (call.pass == Pass::kBackward && call.chunks == 0) return;
  const OverlapWorkspace workspace(call);
  if (workspace.has_tickets) {
    workspace.assign(context.workspace, &call);
    check(cudaMemsetAsync(call.tickets, 0, kTicketBytes, context.stream), "workspace");
  }
  const auto kernel = overlap_kernel<Cells, kKernel>;
  const int64_t most_chunks = std::max(call.chunks, call.range_samples * call.range_chunks);
  LaunchShape shape{.blocks = std::clamp<int64_t>(most_chunks, 1, kMostBlocks),
                    .threads = kThreads,
                    .shared_bytes = kThreads * call.pitch * int64_t{sizeof(float)},
                    .cooperative = call.sums_first || call.range_samples > 0,
                    .stream = context.stream};
  if (shape.cooperative) {
    shape.blocks = std::min(shape.blocks,
                            resident_blocks(kernel, kThreads, shape.shared_bytes, context.device));
  }
  launch(shape, kernel, call, loss);
}

template <template <bool> class Cells>
void launch_weighted(const OverlapPlan& plan, const ElementLoss& loss,
                     const LaunchContext& context) {
  const auto launch_cells = [&](auto weighted) {
    using Own = Cells<decltype(weighted)::value>;
    if (plan.call.pointwise) {
      launch_overlap<Own, OverlapKernel::kCompound>(plan.call, loss, context);
    } else {
      launch_overlap<Own, OverlapKernel::kPlain>(plan.call, loss, context);
    }
  };
  plan.is_weighted ? launch_cells(std::true_type()) : launch_cells(std::false_type());
}

template <class T>
struct PlanarCellsOf {
  template <bool kWeighted>
  using Cells = PlanarCells<T, kWeighted>;
};

// The kernels for planes of T; instantiated in overlap_<T>.cu.
template <class T>
void launch_planar(const OverlapPlan& plan, const ElementLoss& loss, const LaunchContext& context) {
  launch_weighted<PlanarCellsOf<T>::template Cells>(plan, loss, context);
}

// The kernels for staged rows of any type; defined in overlap_staged.cu.
void launch_staged(const OverlapPlan& plan, const ElementLoss& loss, const LaunchContext& context);

}  // namespace fusedloss::cuda
