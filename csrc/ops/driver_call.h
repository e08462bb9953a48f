// What the ops of every family need to call a driver: memory for a gradient, and torch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <functional>

#include "cpu/huge_pages.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {

inline Tensor allocate_gradient(const Tensor& input) {
  Tensor gradient = allocate_like(input, input.scalar_type());
  if (!input.is_cuda()) {
    cpu::prefer_huge_pages(gradient.mutable_data_ptr(),
                           gradient.numel() * item_size(to_dtype(gradient.scalar_type())));
  }
  return gradient;
}

inline void parallel_for(int64_t count, int64_t grain,
                         const std::function<void(int64_t, int64_t)>& body) {
  if (count <= grain) return count > 0 ? body(0, count) : void();
  torch::stable::parallel_for(0, count, grain, body);
}

}  // namespace fusedloss::ops
