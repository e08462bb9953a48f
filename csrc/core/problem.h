// From tensors to a problem: one index space for all tensors of a call, as small as they allow.
//
//     ProblemBuilder builder(input);
//     builder.add(&params.input, input); builder.add(&params.weight, weight); ...
//     builder.build({.keep_samples = ..., .keep_channels = ...}, &params.extents);
//
// Torch-free, so the emulator's tests build their problems with the same code.
#pragma once

#include <algorithm>
#include <stdexcept>

#include "core/extents.h"

namespace fusedloss {

struct TensorView {
  static constexpr int kMaxDims = 8;
  void* data = nullptr;
  DType dtype = DType::kFloat;
  int rank = 0;
  int64_t size[kMaxDims] = {0};
  int64_t stride[kMaxDims] = {0};  // in elements

  explicit operator bool() const { return data != nullptr || rank > 0; }
};

// Some axes of a tensor, in an order; no heap: a small loss takes a few microseconds in all.
struct Axes {
  int count = 0;
  int axis[TensorView::kMaxDims];

  const int* begin() const { return axis; }
  const int* end() const { return axis + count; }
};

// Axes from the outermost in memory to the innermost; equal strides keep their order. The first
// `pinned` axes stay in front.
inline Axes memory_order(const TensorView& tensor, int pinned) {
  Axes axes;
  for (int axis = 0; axis < tensor.rank; ++axis) {
    int place = axes.count++;
    for (; place > pinned; --place) {  // insertion sort
      if (tensor.stride[axes.axis[place - 1]] >= tensor.stride[axis]) break;
      axes.axis[place] = axes.axis[place - 1];
    }
    axes.axis[place] = axis;
  }
  return axes;
}

// Whether the tensor's elements fill a piece of memory, each once.
inline bool is_dense(const TensorView& tensor) {
  const Axes axes = memory_order(tensor, 0);
  int64_t expected = 1;
  for (int i = axes.count - 1; i >= 0; --i) {
    const int axis = axes.axis[i];
    if (tensor.size[axis] < 2) continue;
    if (tensor.stride[axis] != expected) return false;
    expected *= tensor.size[axis];
  }
  return true;
}

// The strides that torch.empty_like gives: the tensor's own where it is dense, else dense ones in
// its memory order. The order of equal and zero strides is that of torch's infer_dense_strides,
// because a compiled graph relies on the strides that torch foretells.
inline void preserved_strides(const TensorView& tensor, int64_t* strides) {
  std::copy_n(tensor.stride, tensor.rank, strides);
  if (is_dense(tensor)) return;
  const auto comes_after = [&](int a, int b) {  // in memory: 1 yes, -1 no, 0 either way
    const int64_t left = tensor.stride[a], right = tensor.stride[b];
    if (left == 0 || right == 0) return 0;
    if (left != right) return left > right ? 1 : -1;
    return tensor.size[a] > tensor.size[b] ? 1 : 0;
  };
  int axes[TensorView::kMaxDims];  // innermost first
  for (int i = 0; i < tensor.rank; ++i) {
    axes[i] = tensor.rank - 1 - i;
    int moving = i;
    for (int other = i - 1; other >= 0; --other) {
      const int order = comes_after(axes[other], axes[moving]);
      if (order < 0) break;
      if (order > 0) {
        std::swap(axes[other], axes[moving]);
        moving = other;
      }
    }
  }
  int64_t expected = 1;
  for (int i = 0; i < tensor.rank; ++i) {
    strides[axes[i]] = expected;
    expected *= std::max<int64_t>(tensor.size[axes[i]], 1);
  }
}

class ProblemBuilder {
 public:
  struct Needs {
    bool keep_samples = false;   // sums per index of dim 0
    bool keep_channels = false;  // something is counted or computed per position
    bool keep_places = false;    // something depends on where an element lies: no axes merge

    Needs operator|(const Needs& other) const {
      return {keep_samples || other.keep_samples, keep_channels || other.keep_channels,
              keep_places || other.keep_places};
    }
  };

  explicit ProblemBuilder(const TensorView& input) : input_(input) {}

  // Lays `tensor` over the input's shape, broadcasting from the right as torch does.
  void add(Operand* operand, const TensorView& tensor) {
    if (!tensor) return;
    const int missing = input_.rank - tensor.rank;
    if (missing < 0) throw std::invalid_argument("fusedloss: an operand has more dims than input");
    if (count_ == kMaxEntries) throw std::invalid_argument("fusedloss: too many operands");
    Entry& entry = entries_[count_++];
    entry.operand = operand;
    operand->data = tensor.data;
    operand->dtype = tensor.dtype;
    for (int axis = 0; axis < input_.rank; ++axis) {
      const int own = axis - missing;
      const bool repeats = own < 0 || (tensor.size[own] == 1 && input_.size[axis] != 1);
      if (!repeats && tensor.size[own] != input_.size[axis]) {
        throw std::invalid_argument("fusedloss: an operand does not broadcast to input");
      }
      entry.stride[axis] = repeats ? 0 : tensor.stride[own];
    }
    operand->varies_over_channels = has_channels() && input_.size[1] > 1 && entry.stride[1] != 0;
  }

  void build(Needs needs, Extents* extents) {
    Groups groups = merged_axes(needs);
    if (groups.count > kMaxRank) {
      throw std::invalid_argument("fusedloss: these strides need more dims than the kernels walk");
    }
    fill(groups, needs, extents);
    for (int i = 0; i < count_; ++i) {
      for (int axis = 0; axis < groups.count; ++axis) {
        entries_[i].operand->stride[axis] = entries_[i].stride[groups.group[axis].innermost];
      }
    }
  }

 private:
  static constexpr int kMaxEntries = 24;
  struct Entry {
    Operand* operand;
    int64_t stride[TensorView::kMaxDims];  // per axis of the input
  };
  // Axes of the input merged into one dim of the space.
  struct Group {
    int innermost;
    int64_t size;
    bool is_sample, is_channel;
  };
  struct Groups {
    int count = 0;
    Group group[TensorView::kMaxDims];
  };

  bool has_channels() const { return input_.rank >= 2; }

  Groups merged_axes(Needs needs) const {
    Groups groups;
    for (const int axis : memory_order(input_, has_channels() ? 1 : 0)) {
      const bool is_sample = has_channels() && axis == 0, is_channel = has_channels() && axis == 1;
      const bool stands_alone = needs.keep_places || (is_sample && needs.keep_samples) ||
                                (is_channel && needs.keep_channels);
      if (input_.size[axis] == 1 && !(is_sample && needs.keep_samples)) continue;
      Group* last = groups.count > 0 ? &groups.group[groups.count - 1] : nullptr;
      if (last != nullptr && !stands_alone && can_merge(*last, axis, needs)) {
        *last = {axis, last->size * input_.size[axis], false, false};
      } else {
        groups.group[groups.count++] = {axis, input_.size[axis], is_sample, is_channel};
      }
    }
    return groups;
  }

  bool can_merge(const Group& outer, int axis, Needs needs) const {
    if ((outer.is_sample && needs.keep_samples) || (outer.is_channel && needs.keep_channels)) {
      return false;
    }
    for (int i = 0; i < count_; ++i) {
      const int64_t* stride = entries_[i].stride;
      if (stride[outer.innermost] != stride[axis] * input_.size[axis]) return false;
    }
    return true;
  }

  void fill(const Groups& groups, Needs needs, Extents* extents) const {
    *extents = Extents();
    extents->rank = std::max(1, groups.count);
    if (has_channels() && needs.keep_samples) extents->samples = input_.size[0];
    int channel = -1;
    for (int i = 0; i < groups.count; ++i) {
      if (groups.group[i].is_channel) channel = i;
    }
    for (int i = 0; i < groups.count; ++i) {
      const Group& group = groups.group[i];
      extents->size[i] = group.size;
      extents->dim[i] = static_cast<int8_t>(group.innermost);
      if (i == channel) {
        extents->channel_axis = i;
        extents->channels = group.size;
      } else if (i < channel || (group.is_sample && needs.keep_samples)) {
        extents->outer *= group.size;
      } else {
        extents->inner *= group.size;
      }
    }
  }

  TensorView input_;
  int count_ = 0;
  Entry entries_[kMaxEntries];
};

}  // namespace fusedloss
