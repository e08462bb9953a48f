// Memory for what an op returns. On the CPU a large block that is freed is kept for the next result
// of about its size: a training step asks for the same gradient again, and from the system it comes
// page by page, which costs more than the loss.
//
// The memory is torch's own allocator's. What lies idle is at most FUSEDLOSS_KEPT_MB megabytes (of
// the environment, else 512; 0: every result is torch's own). It is not lent to the system
// meanwhile (MADV_FREE): where pages are small, taking it back costs as much as half the loss. A
// result in such memory has a storage that cannot be resized.
#pragma once

#include "ops/tensor_view.h"

namespace fusedloss::ops {

// Smaller blocks malloc keeps by itself.
constexpr size_t kSmallestKept = size_t{4} << 20;

// An uninitialised tensor on `like`'s device, of these sizes and dense strides.
Tensor allocate_result(const Tensor& like, int rank, const int64_t* sizes, const int64_t* strides,
                       ScalarType type);

// As torch.empty_like: the strides of a dense tensor, else contiguous.
Tensor allocate_result_like(const Tensor& like, ScalarType type);

}  // namespace fusedloss::ops
