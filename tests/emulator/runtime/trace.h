// Judges every memory access of a traced kernel; see trace.cpp for how.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator {

void begin_trace(bool traced);

// What one source location asked of memory, in warp requests: the same access by the lanes of a
// warp.
struct LineTraffic {
  const void* pc = nullptr;
  bool write = false;
  uint64_t requests = 0, bytes = 0;
  uint64_t sectors = 0;  // 32-byte sectors touched, summed over requests
  uint64_t ideal = 0;    // the sectors that many distinct bytes need at best
  uint64_t worst = 0;    // the most sectors of one request
};
std::vector<LineTraffic> line_traffic();

// Called by the instrumentation of the kernel for each access. `declared` is false where the type
// promises no alignment.
void traced_access(uintptr_t address, size_t size, bool write, bool declared, const void* pc);

}  // namespace emulator
