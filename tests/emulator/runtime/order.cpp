#include "order.h"

#include <algorithm>

namespace emulator {

namespace {
uint64_t key_of(Clock::Kind kind, uint32_t id) { return uint64_t{kind} << 32 | id; }
}  // namespace

void Clock::raise(Kind kind, uint32_t id, uint32_t value) {
  const uint64_t key = key_of(kind, id);
  auto place = std::lower_bound(entries_.begin(), entries_.end(), std::make_pair(key, 0u));
  if (place != entries_.end() && place->first == key) {
    place->second = std::max(place->second, value);
  } else {
    entries_.insert(place, {key, value});
  }
}

void Clock::join(const Clock& other) {
  std::vector<std::pair<uint64_t, uint32_t>> merged;
  merged.reserve(entries_.size() + other.entries_.size());
  auto a = entries_.begin();
  auto b = other.entries_.begin();
  while (a != entries_.end() && b != other.entries_.end()) {
    if (a->first == b->first) {
      merged.push_back({a->first, std::max(a->second, b->second)});
      ++a;
      ++b;
    } else {
      merged.push_back(a->first < b->first ? *a++ : *b++);
    }
  }
  merged.insert(merged.end(), a, entries_.end());
  merged.insert(merged.end(), b, other.entries_.end());
  entries_ = std::move(merged);
}

uint32_t Clock::at(Kind kind, uint32_t id) const {
  const uint64_t key = key_of(kind, id);
  auto place = std::lower_bound(entries_.begin(), entries_.end(), std::make_pair(key, 0u));
  return place != entries_.end() && place->first == key ? place->second : 0;
}

bool Clock::covers(const Segment& segment) const {
  return at(kBlock, segment.block) > segment.block_epoch ||
         at(kWarp, segment.warp) > segment.warp_epoch ||
         at(kThread, segment.thread) > segment.fences;
}

ClockRef joined(const ClockRef& a, const ClockRef& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  auto both = std::make_shared<Clock>(*a);
  both->join(*b);
  return both;
}

}  // namespace emulator
