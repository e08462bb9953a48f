#include "rendezvous.h"

#include <map>

namespace emulator {

namespace {

void make_ready(Fiber& fiber) {
  fiber.state = State::kReady;
  fiber.block->ready.push_back(&fiber);
}

// An empty list that keeps its memory: rendezvous are what an emulation does most.
std::vector<const Fiber*>& scratch() {
  static std::vector<const Fiber*> list;
  list.clear();
  return list;
}

std::string name_of(const Fiber& fiber) {
  const uint3 b = fiber.block->index, t = fiber.index;
  auto triple = [](uint3 v) {
    return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
  };
  return "block " + triple(b) + " thread " + triple(t);
}

// Whether the same barrier was reached from two places is judged by source line, later: a compiler
// may duplicate one call. So every difference of program counters is handed on.
void check_same_place(const char* kind, const char* what, const std::vector<const Fiber*>& met) {
  const Fiber* first = met.front();
  for (const Fiber* other : met) {
    if (other->waiting_at == first->waiting_at) continue;
    session().error(kind,
                    std::string(what) + " reached from two places: " + name_of(*first) +
                        " at {0}, " + name_of(*other) + " at {1}",
                    {first->waiting_at, other->waiting_at});
    return;
  }
}

void check_nobody_left(const Block& block, const char* what) {
  if (block.live == block.fibers.size()) return;
  const Fiber* waiting = nullptr;
  const Fiber* gone = nullptr;
  for (const Fiber& fiber : block.fibers) {
    if (fiber.state == State::kDone) gone = &fiber;
    if (fiber.state == State::kBlockBarrier || fiber.state == State::kGridBarrier) waiting = &fiber;
  }
  session().error(
      "early_exit",
      name_of(*gone) + " ended before " + what + " at which " + name_of(*waiting) + " waits: {0}",
      {waiting->waiting_at});
}

void release_block_barrier(Block& block) {
  check_nobody_left(block, "the barrier");
  std::vector<const Fiber*>& met = scratch();
  uint64_t count = 0;
  Rendezvous kind = Rendezvous::kSync;
  for (Fiber& fiber : block.fibers) {
    if (fiber.state != State::kBlockBarrier) continue;
    if (met.empty()) kind = fiber.kind;
    if (fiber.kind != kind) {
      session().error("divergent_barrier",
                      "different kinds of barrier meet: " + name_of(*met[0]) + " at {0}, " +
                          name_of(fiber) + " at {1}",
                      {met[0]->waiting_at, fiber.waiting_at});
    }
    met.push_back(&fiber);
    count += fiber.value;
  }
  check_same_place("divergent_barrier", "barrier", met);
  for (Fiber& fiber : block.fibers) {
    if (fiber.state != State::kBlockBarrier) continue;
    fiber.value = kind == Rendezvous::kOr    ? count != 0
                  : kind == Rendezvous::kAnd ? count == met.size()
                                             : count;
    make_ready(fiber);
  }
  block.at_barrier = 0;
  if (Observer* o = observer()) o->block_barrier(block);
}

int source_lane(const Fiber& fiber) {
  const int lane = fiber.lane, width = fiber.width, base = lane & ~(width - 1);
  switch (static_cast<Shuffle>(fiber.detail)) {
    case Shuffle::kIndex:
      return base + (fiber.argument & (width - 1));
    case Shuffle::kUp:
      return lane - fiber.argument < base ? lane : lane - fiber.argument;
    case Shuffle::kDown:
      return lane + fiber.argument >= base + width ? lane : lane + fiber.argument;
    case Shuffle::kXor:
      // Beyond its own segment a lane may read only earlier ones.
      return (lane ^ fiber.argument) >= base + width ? lane : lane ^ fiber.argument;
  }
  return lane;
}

void exchange(Warp& warp, unsigned lanes) {
  uint64_t brought[32] = {};
  unsigned ballot = 0;
  for (int i = 0; i < 32; ++i) {
    if (!(lanes >> i & 1)) continue;
    brought[i] = warp.lanes[i]->value;
    if (brought[i]) ballot |= 1u << i;
  }
  for (int i = 0; i < 32; ++i) {
    if (!(lanes >> i & 1)) continue;
    Fiber& fiber = *warp.lanes[i];
    if (fiber.kind == Rendezvous::kVote) {
      const auto vote = static_cast<Vote>(fiber.detail);
      fiber.value = vote == Vote::kAny   ? ballot != 0
                    : vote == Vote::kAll ? ballot == lanes
                                         : ballot;
    } else if (fiber.kind == Rendezvous::kShuffle) {
      const int source = source_lane(fiber);
      if (lanes >> source & 1) {
        fiber.value = brought[source];
      } else {
        fiber.value = ~uint64_t{0};
        session().error("inactive_lane",
                        name_of(fiber) + " shuffles from lane " + std::to_string(source) +
                            ", which takes no part: {0}",
                        {fiber.waiting_at});
      }
    }
  }
}

// Lets the lanes of `mask` go if all that still live have come.
void try_complete(Warp& warp, unsigned mask) {
  if (mask & warp.alive & ~warp.waiting) return;
  unsigned here = 0;
  std::vector<const Fiber*>& met = scratch();
  for (int i = 0; i < 32; ++i) {
    const Fiber* fiber = warp.lanes[i];
    if (!(warp.waiting >> i & 1) || fiber->mask != mask) continue;
    here |= 1u << i;
    met.push_back(fiber);
  }
  if (here == 0 || (mask & warp.alive & ~here)) return;
  bool same = true;
  for (const Fiber* fiber : met) {
    same = same && fiber->kind == met[0]->kind && fiber->detail == met[0]->detail;
    if (same) continue;
    session().error("divergent_warp",
                    "different warp operations meet: " + name_of(*met[0]) + " at {0}, " +
                        name_of(*fiber) + " at {1}",
                    {met[0]->waiting_at, fiber->waiting_at});
    break;
  }
  if (same) check_same_place("divergent_warp", "warp operation", met);
  exchange(warp, here);
  const bool orders = met[0]->kind == Rendezvous::kSync;
  warp.waiting &= ~here;
  for (const Fiber* fiber : met) make_ready(*warp.lanes[fiber->lane]);
  if (Observer* o = observer()) o->warp_rendezvous(warp, here, orders);
}

}  // namespace

uint64_t block_barrier(Rendezvous kind, bool predicate, const void* pc) {
  Fiber& fiber = *running;
  Block& block = *fiber.block;
  fiber.state = State::kBlockBarrier;
  fiber.kind = kind;
  fiber.value = predicate;
  fiber.waiting_at = pc;
  if (++block.at_barrier == block.live) release_block_barrier(block);
  wait();
  return fiber.value;
}

uint64_t warp_rendezvous(Rendezvous kind, uint8_t detail, unsigned mask, uint64_t value,
                         int argument, int width, const void* pc) {
  Fiber& fiber = *running;
  if (!(mask >> fiber.lane & 1)) {
    session().error("divergent_warp", name_of(fiber) + " is not in the mask that it names: {0}",
                    {pc});
    return value;
  }
  fiber.state = State::kWarp;
  fiber.kind = kind;
  fiber.detail = detail;
  fiber.mask = mask;
  fiber.value = value;
  fiber.argument = argument;
  fiber.width = width;
  fiber.waiting_at = pc;
  fiber.warp->waiting |= 1u << fiber.lane;
  try_complete(*fiber.warp, mask);
  wait();
  return fiber.value;
}

void leave_rendezvous(Fiber& fiber) {
  Block& block = *fiber.block;
  Warp& warp = *fiber.warp;
  --block.live;
  warp.alive &= ~(1u << fiber.lane);
  if (block.live && block.at_barrier == block.live) release_block_barrier(block);
  for (int i = 0; i < 32; ++i) {
    if (warp.waiting >> i & 1) try_complete(warp, warp.lanes[i]->mask);
  }
}

void release_grid_barrier(Block& block) {
  check_nobody_left(block, "the grid-wide barrier");
  std::vector<const Fiber*> met;
  for (Fiber& fiber : block.fibers) {
    if (fiber.state == State::kGridBarrier) met.push_back(&fiber);
  }
  if (met.empty()) return;
  check_same_place("divergent_barrier", "grid-wide barrier", met);
  for (const Fiber* fiber : met) make_ready(const_cast<Fiber&>(*fiber));
  block.at_grid_barrier = 0;
}

void report_deadlock(const std::vector<Block*>& resident) {
  std::map<std::pair<State, const void*>, std::pair<uint64_t, const Fiber*>> groups;
  for (const Block* block : resident) {
    for (const Fiber& fiber : block->fibers) {
      if (fiber.state == State::kDone) continue;
      auto& [count, example] = groups[{fiber.state, fiber.waiting_at}];
      ++count;
      example = &fiber;
    }
  }
  std::string text = "deadlock:";
  std::vector<const void*> pcs;
  for (const auto& [where, who] : groups) {
    const char* what = where.first == State::kBlockBarrier  ? "the block's barrier"
                       : where.first == State::kGridBarrier ? "the grid-wide barrier"
                                                            : "a warp operation";
    text += " " + std::to_string(who.first) + " threads (one is " + name_of(*who.second) +
            ") wait for " + what + " at {" + std::to_string(pcs.size()) + "};";
    pcs.push_back(where.second);
  }
  session().error("deadlock", text, pcs);
}

}  // namespace emulator
