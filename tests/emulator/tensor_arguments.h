// Tensors as Python hands them to the bindings: (address, dtype, sizes, strides).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "core/problem.h"

namespace fusedloss {

using Tensor = std::tuple<uintptr_t, int, std::vector<int64_t>, std::vector<int64_t>>;

inline TensorView view(const std::optional<Tensor>& tensor) {
  TensorView result;
  if (!tensor) return result;
  const auto& [address, dtype, sizes, strides] = *tensor;
  result.data = reinterpret_cast<void*>(address);
  result.dtype = static_cast<DType>(dtype);
  result.rank = static_cast<int>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), result.size);
  std::copy(strides.begin(), strides.end(), result.stride);
  return result;
}

}  // namespace fusedloss
