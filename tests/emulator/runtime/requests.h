// Warp requests: the accesses that the lanes of a warp make together, and the sectors they touch.
//
// Lanes run one after another here, so a request is put together again: the n-th access of each
// lane at one program counter since the warp last met. Where lanes skip single accesses of a loop
// the grouping is an approximation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "trace.h"

namespace emulator {

// Sums per program counter, over all warps of the session.
class RequestTotals {
 public:
  LineTraffic& at(const void* pc, bool write);
  std::vector<LineTraffic> all() const;

 private:
  std::unordered_map<const void*, std::unique_ptr<LineTraffic>> lines_;
};

class WarpRequests {
 public:
  void record(RequestTotals& totals, const void* pc, bool write, unsigned lane, uintptr_t address,
              size_t size);
  // The warp has met: what is open is complete.
  void flush();

 private:
  struct Request {
    uint32_t lanes = 0;
    uint32_t size = 0;
    uintptr_t address[32];
  };
  struct Place {
    LineTraffic* total = nullptr;
    bool open = false;
    uint32_t count[32] = {};
    std::vector<Request> requests;
  };
  static void retire(LineTraffic& total, const Request& request);

  std::unordered_map<const void*, uint32_t> index_;
  std::vector<Place> places_;
  std::vector<uint32_t> open_;
  const void* latest_pc_ = nullptr;  // a lane in a loop comes back to the same few places
  uint32_t latest_ = 0;
};

}  // namespace emulator
