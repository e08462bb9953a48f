// What one emulation session is set to, and what it has found: options in, errors and launches out.
//
// One session at a time per module, on one OS thread. Program counters stay raw here; the Python
// side turns them into source lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace emulator {

struct Options {
  uint64_t seed = 0;
  double preempt = 0;       // chance to switch threads at a traced access, an atomic or a fence
  bool traced = false;      // the kernels were compiled with the access hooks
  int resident = 4;         // blocks alive at once in a launch that is not cooperative
  int multiprocessors = 4;  // what cudaDeviceGetAttribute answers
  int blocks_per_multiprocessor = 2;  // what the occupancy query answers
};

struct Error {
  std::string kind;
  std::string text;  // {0}, {1}, ... stand for the source lines of `pcs`
  std::vector<const void*> pcs;
  uint64_t count = 1;  // how often the same kind arose at the same place
};

struct LaunchRecord {
  const void* kernel = nullptr;
  unsigned grid[3] = {}, block[3] = {};
  bool cooperative = false;
  size_t dynamic_shared = 0;
};

// A small, fast, seedable generator: schedules must repeat for a seed on every machine.
class Random {
 public:
  explicit Random(uint64_t seed = 0) : state_(seed * 0x9e3779b97f4a7c15u + 0x1234567) { next(); }
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  uint32_t below(uint32_t bound) { return uint32_t(((next() >> 32) * bound) >> 32); }
  bool chance(uint32_t threshold) { return uint32_t(next()) < threshold; }

 private:
  uint64_t state_;
};

struct Session {
  Options options;
  Random random;
  uint32_t preempt_threshold = 0;
  std::vector<Error> errors;
  std::vector<LaunchRecord> launches;
  uint64_t memsets = 0;

  void begin(const Options& wanted);
  // Adds an error, or counts it if the same kind was already seen at the same first place.
  void error(const char* kind, std::string text, std::vector<const void*> pcs = {});
};

Session& session();

}  // namespace emulator
