#include "requests.h"

#include <algorithm>

#include "memory.h"

namespace emulator {

LineTraffic& RequestTotals::at(const void* pc, bool write) {
  std::unique_ptr<LineTraffic>& line = lines_[pc];
  if (!line) {
    line = std::make_unique<LineTraffic>();
    line->pc = pc;
    line->write = write;
  }
  return *line;
}

std::vector<LineTraffic> RequestTotals::all() const {
  std::vector<LineTraffic> result;
  for (const auto& [pc, line] : lines_) result.push_back(*line);
  std::sort(result.begin(), result.end(),
            [](const LineTraffic& a, const LineTraffic& b) { return a.pc < b.pc; });
  return result;
}

void WarpRequests::record(RequestTotals& totals, const void* pc, bool write, unsigned lane,
                          uintptr_t address, size_t size) {
  if (pc != latest_pc_) {
    auto [entry, is_new] = index_.try_emplace(pc, uint32_t(places_.size()));
    if (is_new) {
      places_.emplace_back();
      places_.back().total = &totals.at(pc, write);
    }
    latest_pc_ = pc;
    latest_ = entry->second;
  }
  Place& place = places_[latest_];
  if (!place.open) {
    place.open = true;
    open_.push_back(latest_);
  }
  const uint32_t number = place.count[lane]++;
  if (number >= place.requests.size()) place.requests.resize(number + 1);
  Request& request = place.requests[number];
  request.lanes |= 1u << lane;
  request.size = std::max(request.size, uint32_t(size));
  request.address[lane] = address;
}

void WarpRequests::flush() {
  for (uint32_t number : open_) {
    Place& place = places_[number];
    for (const Request& request : place.requests) retire(*place.total, request);
    place.requests.clear();
    std::fill(std::begin(place.count), std::end(place.count), 0u);
    place.open = false;
  }
  open_.clear();
}

void WarpRequests::retire(LineTraffic& total, const Request& request) {
  uintptr_t starts[32];
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (request.lanes >> lane & 1) starts[lanes++] = request.address[lane];
  }
  if (!std::is_sorted(starts, starts + lanes)) std::sort(starts, starts + lanes);
  uint64_t sectors = 0, bytes = 0;
  uintptr_t next_sector = 0, next_byte = 0;  // the first that no earlier lane has touched
  for (unsigned i = 0; i < lanes; ++i) {
    const uintptr_t end = starts[i] + request.size;
    const uintptr_t first = std::max(starts[i] / kSector, next_sector);
    const uintptr_t past = (end - 1) / kSector + 1;
    if (past > first) sectors += past - first;
    next_sector = std::max(next_sector, past);
    const uintptr_t from = std::max(starts[i], next_byte);
    if (end > from) bytes += end - from;
    next_byte = std::max(next_byte, end);
  }
  ++total.requests;
  total.bytes += uint64_t{lanes} * request.size;
  total.sectors += sectors;
  total.ideal += (bytes + kSector - 1) / kSector;
  total.worst = std::max(total.worst, sectors);
}

}  // namespace emulator
