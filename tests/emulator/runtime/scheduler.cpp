#include "scheduler.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "crash.h"
#include "rendezvous.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulator {

Fiber* running = nullptr;

namespace {

// NaN as a floating number, -1 as an integer: what was never written is not mistaken for a value.
constexpr int kPoison = 0xff;

class Grid {
 public:
  Grid(const LaunchRecord& record, void (*entry)(void*), void* arguments)
      : record_(record), entry_(entry), arguments_(arguments) {}

  cudaError_t run();
  void leave();  // back to the loop, from a thread
  void finish_thread();
  void abort(cudaError_t error) {
    result_ = error;
    leave();
    __builtin_unreachable();
  }
  void body() { entry_(arguments_); }
  bool cooperative() const { return record_.cooperative; }
  void arrive_at_grid_barrier();

 private:
  void start_block(uint32_t number, uint32_t slot);
  void retire(Block& block);
  Fiber* pick();
  void resume(Fiber& fiber);

  const LaunchRecord& record_;
  void (*entry_)(void*);
  void* arguments_;
  FiberContext loop_;
  std::vector<Block*> resident_;
  std::vector<uint32_t> free_slots_;
  Block* current_ = nullptr;
  uint64_t live_ = 0, waiting_ = 0;  // threads of the grid
  cudaError_t result_ = cudaSuccess;
};

Grid* grid = nullptr;

// Blocks and stacks outlive a launch: allocating them is most of the cost of a small one.
std::vector<std::unique_ptr<Block>> places;
Stacks stacks;

void thread_main() {
  grid->body();
  grid->finish_thread();
  __builtin_unreachable();
}

void Grid::start_block(uint32_t number, uint32_t slot) {
  while (places.size() <= slot) places.push_back(std::make_unique<Block>());
  Block& block = *places[slot];
  const uint32_t threads = record_.block[0] * record_.block[1] * record_.block[2];
  block.number = number;
  block.slot = slot;
  block.index = {number % record_.grid[0], number / record_.grid[0] % record_.grid[1],
                 number / record_.grid[0] / record_.grid[1]};
  block.live = threads;
  block.at_barrier = block.at_grid_barrier = 0;
  block.fibers.resize(threads);
  block.warps.assign((threads + 31) / 32, Warp{});
  block.ready.clear();
  if (!block.storage) {
    block.storage = std::make_unique<char[]>(shared_segment_size() + 256);
    const auto address = reinterpret_cast<uintptr_t>(block.storage.get());
    block.shared = reinterpret_cast<char*>((address + 127) & ~uintptr_t{127});
  }
  std::memset(block.shared, kPoison, shared_segment_size());
  for (uint32_t i = 0; i < threads; ++i) {
    Fiber& fiber = block.fibers[i];
    Warp& warp = block.warps[i / 32];
    fiber.stack = stacks.at(size_t{slot} * threads + i);
    fiber.context.prepare(fiber.stack, thread_main);
    fiber.block = &block;
    fiber.warp = &warp;
    fiber.index = {i % record_.block[0], i / record_.block[0] % record_.block[1],
                   i / record_.block[0] / record_.block[1]};
    fiber.thread = number * threads + i;
    fiber.rank = i;
    fiber.lane = uint8_t(i % 32);
    fiber.state = State::kReady;
    warp.lanes[fiber.lane] = &fiber;
    warp.alive |= 1u << fiber.lane;
    warp.number = number * uint32_t(block.warps.size()) + i / 32;
    block.ready.push_back(&fiber);
  }
  live_ += threads;
  resident_.push_back(&block);
  if (Observer* o = observer()) o->block_starts(block);
}

void Grid::retire(Block& block) {
  if (Observer* o = observer()) o->block_ends(block);
  resident_.erase(std::find(resident_.begin(), resident_.end(), &block));
  free_slots_.push_back(block.slot);
  if (current_ == &block) current_ = nullptr;
}

Fiber* Grid::pick() {
  Random& random = session().random;
  // Staying with a block keeps its stacks in cache; leaving it now and then mixes the blocks.
  const bool stay = current_ && !current_->ready.empty() && random.below(64) != 0;
  if (!stay) {
    current_ = nullptr;
    const uint32_t count = uint32_t(resident_.size());
    const uint32_t first = count ? random.below(count) : 0;
    for (uint32_t i = 0; i < count && !current_; ++i) {
      Block* block = resident_[(first + i) % count];
      if (!block->ready.empty()) current_ = block;
    }
    if (!current_) return nullptr;
  }
  std::vector<Fiber*>& ready = current_->ready;
  std::swap(ready[random.below(uint32_t(ready.size()))], ready.back());
  Fiber* fiber = ready.back();
  ready.pop_back();
  return fiber;
}

void Grid::resume(Fiber& fiber) {
  threadIdx = fiber.index;
  blockIdx = fiber.block->index;
  running = &fiber;
  switch_context(loop_, fiber.context);
  running = nullptr;
}

void Grid::leave() { switch_context(running->context, loop_); }

void Grid::finish_thread() {
  Fiber& fiber = *running;
  fiber.state = State::kDone;
  --live_;
  leave_rendezvous(fiber);
  leave();
}

void Grid::arrive_at_grid_barrier() {
  if (++waiting_ < live_) return;
  waiting_ = 0;
  for (Block* block : resident_) release_grid_barrier(*block);
  if (Observer* o = observer()) o->grid_barrier();
}

cudaError_t Grid::run() {
  const uint32_t blocks = record_.grid[0] * record_.grid[1] * record_.grid[2];
  const uint32_t places_wanted =
      record_.cooperative ? blocks : std::min<uint32_t>(blocks, session().options.resident);
  std::vector<uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  for (uint32_t i = blocks; i > 1; --i) {
    std::swap(order[i - 1], order[session().random.below(i)]);
  }
  for (uint32_t slot = places_wanted; slot > 0; --slot) free_slots_.push_back(slot - 1);

  uint32_t next = 0;
  for (;;) {
    while (next < blocks && !free_slots_.empty()) {
      const uint32_t slot = free_slots_.back();
      free_slots_.pop_back();
      start_block(order[next++], slot);
    }
    Fiber* fiber = pick();
    if (!fiber) {
      if (resident_.empty()) return result_;
      report_deadlock(resident_);
      return cudaErrorLaunchTimeout;
    }
    resume(*fiber);
    if (result_ != cudaSuccess) return result_;
    if (fiber->block->live == 0) retire(*fiber->block);
  }
}

}  // namespace

void yield() {
  running->block->ready.push_back(running);
  grid->leave();
}

void wait() { grid->leave(); }

void maybe_preempt() {
  if (session().preempt_threshold && session().random.chance(session().preempt_threshold)) yield();
}

void abort_launch(cudaError_t error) {
  grid->abort(error);
  __builtin_unreachable();
}

void grid_barrier(const void* pc) {
  Fiber& fiber = *running;
  if (!grid->cooperative()) {
    session().error("grid_barrier", "grid-wide barrier in a launch that is not cooperative, at {0}",
                    {pc});
    abort_launch(cudaErrorLaunchFailure);
  }
  fiber.state = State::kGridBarrier;
  fiber.waiting_at = pc;
  ++fiber.block->at_grid_barrier;
  grid->arrive_at_grid_barrier();
  wait();
}

cudaError_t run_grid(const LaunchRecord& record, void (*entry)(void*), void* arguments,
                     size_t arguments_size) {
  Grid here(record, entry, arguments);
  grid = &here;
  blockDim = dim3(record.block[0], record.block[1], record.block[2]);
  gridDim = dim3(record.grid[0], record.grid[1], record.grid[2]);
  if (Observer* o = observer()) o->launch_starts(record, arguments, arguments_size);
  const CrashGuard guard;
  const cudaError_t result = here.run();
  if (Observer* o = observer()) o->launch_ends();
  grid = nullptr;
  return result;
}

}  // namespace emulator
