// How the CPU drivers use threads: torch's own pool, handed in by ops/.
#pragma once

#include <cstdint>
#include <functional>

namespace fusedloss::cpu {

// Runs body(begin, end) over [0, count) in ranges of at least `grain`.
using ParallelFor = void (*)(int64_t count, int64_t grain,
                             const std::function<void(int64_t, int64_t)>& body);

}  // namespace fusedloss::cpu
