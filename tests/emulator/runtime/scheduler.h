// Runs a grid: blocks in random order with several resident at once, their threads as fibers, and
// every barrier, shuffle and vote as a rendezvous. Finds deadlocks, divergent barriers, early
// exits.
//
// The scheduler knows nothing of memory. What a trace needs to know (who met whom at which barrier)
// it tells to an Observer.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <vector>

#include "fiber.h"
#include "session.h"

namespace emulator {

enum class State : uint8_t { kReady, kBlockBarrier, kWarp, kGridBarrier, kDone };
enum class Rendezvous : uint8_t { kSync, kOr, kAnd, kCount, kShuffle, kVote };

struct Block;
struct Warp;

struct Fiber {
  FiberContext context;
  Stack stack;
  Block* block = nullptr;
  Warp* warp = nullptr;
  uint3 index{};
  uint32_t thread = 0;  // number within the grid
  uint32_t rank = 0;    // number within the block
  uint8_t lane = 0;
  State state = State::kReady;

  // What it waits for, and with what.
  Rendezvous kind = Rendezvous::kSync;
  uint8_t detail = 0;  // which Shuffle or Vote
  int argument = 0, width = 32;
  unsigned mask = 0;
  uint64_t value = 0;  // in: what it brings; out: what it gets
  const void* waiting_at = nullptr;
};

struct Warp {
  Fiber* lanes[32] = {};
  unsigned alive = 0, waiting = 0;  // by lane
  uint32_t number = 0;              // within the grid
};

struct Block {
  uint3 index{};
  uint32_t number = 0;  // within the grid
  uint32_t slot = 0;    // which of the resident places it occupies
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<Fiber*> ready;
  uint32_t live = 0, at_barrier = 0, at_grid_barrier = 0;
  std::unique_ptr<char[]> storage;
  char* shared = nullptr;
};

// Told of every event that orders memory; the default does nothing.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void launch_starts(const LaunchRecord&, const void* arguments, size_t arguments_size) = 0;
  virtual void launch_ends() = 0;
  virtual void block_starts(Block&) = 0;
  virtual void block_ends(Block&) = 0;
  virtual void block_barrier(Block&) = 0;
  virtual void warp_rendezvous(Warp&, unsigned lanes, bool orders_memory) = 0;
  virtual void grid_barrier() = 0;
  virtual void fence(Fiber&) = 0;
  virtual void atomic(Fiber&, uintptr_t address, size_t size, const void* pc) = 0;
};

// The trace of the session if it is a traced one, else null.
Observer* observer();

// The thread that runs now; null while host code runs.
extern Fiber* running;

// Lets another thread run with the session's preemption chance.
void maybe_preempt();
// Stops the whole launch from inside a thread, after an error that leaves nothing to go on with.
[[noreturn]] void abort_launch(cudaError_t error);

// Size of the module's thread_local segment, which holds all its __shared__ variables, and the
// dynamic array's place in it (SIZE_MAX if there is none).
size_t shared_segment_size();
size_t dynamic_shared_offset();

uint64_t block_barrier(Rendezvous kind, bool predicate, const void* pc);
uint64_t warp_rendezvous(Rendezvous kind, uint8_t detail, unsigned mask, uint64_t value,
                         int argument, int width, const void* pc);
void grid_barrier(const void* pc);

}  // namespace emulator
