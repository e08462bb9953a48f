// Host side of every loss kernel: the workspace of a call, and its one launch.
#pragma once

#include <algorithm>

#include "cuda/block_reduce.cuh"
#include "cuda/call_frame.h"
#include "cuda/launch.h"
#include "cuda/launch_context.h"

namespace fusedloss::cuda {

constexpr int64_t kMostBlocks = int64_t{1} << 30;
constexpr size_t kTicketBytes = 16;  // three of them, and what keeps the doubles aligned

// What a launch needs of device memory: the tickets, then doubles.
struct Workspace {
  bool has_tickets;
  int64_t partials, range_partials, ranges;

  // `range_count`: Bindings::ranges.
  Workspace(const CallFrame& frame, int range_count)
      : has_tickets(frame.has_sums || frame.range_samples > 0),
        partials(frame.has_sums ? kPartials * frame.chunks : 0),
        range_partials(2 * range_count * frame.range_samples * frame.range_chunks),
        ranges(2 * range_count * frame.range_samples) {}

  size_t bytes() const {
    const int64_t numbers = partials + range_partials + ranges;
    return has_tickets ? kTicketBytes + static_cast<size_t>(numbers) * sizeof(double) : 0;
  }

  // Gives the frame its pieces of `memory`.
  void assign(void* memory, CallFrame* frame) const {
    frame->tickets = static_cast<unsigned*>(memory);
    frame->partials = reinterpret_cast<double*>(static_cast<unsigned char*>(memory) + kTicketBytes);
    frame->range_partials = frame->partials + partials;
    frame->ranges = frame->range_partials + range_partials;
  }
};

// What a block needs beside its threads.
struct BlockNeeds {
  int64_t shared_bytes = 0;    // dynamic
  bool resident_only = false;  // no more blocks than the device holds: each has much to prepare
};

// Launches `kernel(call, loss)`: as many blocks as there are chunks, or as the device holds at once
// where its phases wait for each other.
template <class Kernel, class Call, class Loss>
void launch_call(Kernel kernel, Call call, const Loss& loss, const LaunchContext& context,
                 const BlockNeeds& needs = {}) {
  if (call.pass == Pass::kBackward && call.chunks == 0) return;
  const Workspace workspace(call, call.params.bindings.ranges);
  if (workspace.has_tickets) workspace.assign(context.workspace, &call);
  const int64_t most_chunks = std::max(call.chunks, call.range_samples * call.range_chunks);
  LaunchShape shape{.blocks = std::clamp<int64_t>(most_chunks, 1, kMostBlocks),
                    .threads = kThreads,
                    .shared_bytes = needs.shared_bytes,
                    .cooperative = call.sums_first || call.range_samples > 0,
                    .stream = context.stream};
  if (shape.cooperative || needs.resident_only) {
    const int64_t resident = resident_blocks(kernel, kThreads, needs.shared_bytes, context.device);
    shape.blocks = std::min(shape.blocks, resident);
  }
  if (workspace.has_tickets) {
    check(cudaMemsetAsync(call.tickets, 0, kTicketBytes, context.stream), "workspace");
  }
  launch(shape, kernel, call, loss);
}

}  // namespace fusedloss::cuda
