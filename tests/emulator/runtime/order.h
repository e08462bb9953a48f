// Who happens before whom: segments of threads, and clocks that say how much of others one has
// seen.
//
// A segment is a stretch of one thread between two events that order memory. An earlier access is
// ordered before the running thread if
//   - it is the thread's own, or from before a grid-wide barrier or this launch;
//   - a barrier of its block, or a __syncwarp of its warp, lies between;
//   - it was released and acquired: fence, atomic ... atomic on the same address, fence. Barriers
//     carry on what a thread has acquired, and release what every thread of the block has fenced.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace emulator {

struct Segment {
  uint32_t thread = 0, warp = 0, block = 0;
  uint32_t generation = 0;  // grows with every launch and grid-wide barrier
  uint32_t block_epoch = 0, warp_epoch = 0, fences = 0;
};

// For blocks, warps and threads: everything they did in epochs below the value has been seen.
class Clock {
 public:
  enum Kind : uint64_t { kBlock = 0, kWarp = 1, kThread = 2 };
  void raise(Kind kind, uint32_t id, uint32_t value);
  void join(const Clock& other);
  bool covers(const Segment& segment) const;

 private:
  uint32_t at(Kind kind, uint32_t id) const;
  std::vector<std::pair<uint64_t, uint32_t>> entries_;  // sorted by key
};

// Clocks are shared between threads until one of them learns more.
using ClockRef = std::shared_ptr<const Clock>;
ClockRef joined(const ClockRef& a, const ClockRef& b);

}  // namespace emulator
