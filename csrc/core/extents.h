// The index space that a kernel walks, and how each tensor is laid over it.
//
// Every tensor of a call is a strided view of one space: the input's dims, in the order in which
// the input lies in memory, with neighbours merged wherever all tensors allow it. A broadcast
// tensor has stride 0 where it repeats, so nothing is ever expanded. The kernels see the space as
//
//     outer x channels x inner          a position is (outer, inner); an element adds the channel
//
// NCHW is (N, C, HW), channels_last is (NHW, C, 1), and a call that never asks for channels or
// samples collapses to (1, 1, numel). Offsets and counts are 64-bit. Torch-free; built by ops/.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace fusedloss {

constexpr int kMaxRank = 6;

struct Extents {
  int rank = 1;
  int64_t size[kMaxRank] = {1};  // memory order, outermost first
  int8_t dim[kMaxRank] = {0};    // of the input, as far as no axes are merged
  int64_t samples = 1;           // > 1 only where sums are kept per sample; they split `outer`
  int64_t outer = 1;
  int64_t channels = 1;
  int64_t inner = 1;
  int channel_axis = -1;  // the axis of `channels`; none where it is 1 or merged

  FL_HOST_DEVICE int64_t positions() const { return channels == 0 ? 0 : outer * inner; }
  FL_HOST_DEVICE int64_t elements() const { return outer * channels * inner; }
  // A batch of no samples has nothing per sample either.
  FL_HOST_DEVICE int64_t positions_per_sample() const {
    return samples == 0 ? 0 : positions() / samples;
  }
  FL_HOST_DEVICE int64_t elements_per_sample() const {
    return samples == 0 ? 0 : elements() / samples;
  }
};

// A tensor over an Extents: strides in elements, per dim of Extents::size. Absent: no data.
struct Operand {
  void* data = nullptr;
  DType dtype = DType::kFloat;
  bool varies_over_channels = false;
  int64_t stride[kMaxRank] = {0};

  FL_HOST_DEVICE explicit operator bool() const { return data != nullptr; }

  // Offset of the element with flat index `index` in the order of Extents::size.
  FL_HOST_DEVICE int64_t offset(const Extents& extents, int64_t index) const {
    int64_t result = 0;
    for (int axis = extents.rank - 1; axis > 0; --axis) {
      const int64_t quotient = index / extents.size[axis];
      result += (index - quotient * extents.size[axis]) * stride[axis];
      index = quotient;
    }
    return result + index * stride[0];
  }

  // Whether flat index and offset are the same thing (the fast way of every kernel).
  FL_HOST_DEVICE bool is_dense(const Extents& extents) const {
    int64_t expected = 1;
    for (int axis = extents.rank - 1; axis >= 0; --axis) {
      if (extents.size[axis] != 1 && stride[axis] != expected) return false;
      expected *= extents.size[axis];
    }
    return true;
  }
};

inline bool is_double(const Operand& operand) { return operand && operand.dtype == DType::kDouble; }

}  // namespace fusedloss
