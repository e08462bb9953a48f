// Tensors as plain data, and back: the only helpers that know both torch's types and ours.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <stdexcept>
#include <vector>

#include "core/problem.h"

namespace fusedloss::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline DType to_dtype(ScalarType type) {
  switch (type) {
    case ScalarType::Bool:
      return DType::kBool;
    case ScalarType::Byte:
      return DType::kUInt8;
    case ScalarType::Char:
      return DType::kInt8;
    case ScalarType::Short:
      return DType::kInt16;
    case ScalarType::UInt16:
      return DType::kUInt16;
    case ScalarType::Int:
      return DType::kInt32;
    case ScalarType::UInt32:
      return DType::kUInt32;
    case ScalarType::Long:
      return DType::kInt64;
    case ScalarType::UInt64:
      return DType::kUInt64;
    case ScalarType::Half:
      return DType::kHalf;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    case ScalarType::Float:
      return DType::kFloat;
    case ScalarType::Double:
      return DType::kDouble;
    default:
      throw std::invalid_argument("fusedloss: a tensor of this dtype has no kernel");
  }
}

inline TensorView view(const Tensor& tensor) {
  TensorView result;
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  if (sizes.size() > TensorView::kMaxDims) {
    throw std::invalid_argument("fusedloss: a tensor of more than 8 dims has no kernel");
  }
  result.data = const_cast<void*>(tensor.const_data_ptr());
  result.dtype = to_dtype(tensor.scalar_type());
  result.rank = static_cast<int>(sizes.size());
  for (int axis = 0; axis < result.rank; ++axis) {
    result.size[axis] = sizes[axis];
    result.stride[axis] = strides[axis];
  }
  return result;
}

inline TensorView view(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? view(*tensor) : TensorView();
}

// An uninitialised tensor on `like`'s device. Straight to the allocator: a dispatched call costs
// more than a small loss.
inline Tensor allocate(const Tensor& like, int rank, const int64_t* sizes, const int64_t* strides,
                       ScalarType type) {
  int32_t device_type, device_index;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(rank, sizes, strides, static_cast<int32_t>(type),
                                                  device_type, device_index, &handle));
  return Tensor(handle);
}

inline Tensor allocate_vector(const Tensor& like, int64_t length, ScalarType type) {
  const int64_t stride = 1;
  return allocate(like, 1, &length, &stride, type);
}

inline Tensor allocate_scalar(const Tensor& like, ScalarType type) {
  return allocate(like, 0, nullptr, nullptr, type);
}

}  // namespace fusedloss::ops
