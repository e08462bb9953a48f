// torch's threads, in the form that the CPU drivers take (cpu/parallel.h).
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <functional>

namespace fusedloss::ops {

inline void parallel_for(int64_t count, int64_t grain,
                         const std::function<void(int64_t, int64_t)>& body) {
  if (count <= grain) return count > 0 ? body(0, count) : void();
  torch::stable::parallel_for(0, count, grain, body);
}

}  // namespace fusedloss::ops
