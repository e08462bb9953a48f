// From tensors to a problem: one index space for all tensors of a call, as small as they allow.
//
//     ProblemBuilder builder(input);
//     builder.add(&params.input, input); builder.add(&params.weight, weight); ...
//     builder.build({.keep_samples = ..., .keep_channels = ...}, &params.extents);
//
// Torch-free, so the emulator's tests build their problems with the same code.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "core/extents.h"

namespace fusedloss {

struct TensorView {
  static constexpr int kMaxDims = 16;
  void* data = nullptr;
  DType dtype = DType::kFloat;
  int rank = 0;
  int64_t size[kMaxDims] = {0};
  int64_t stride[kMaxDims] = {0};  // in elements

  explicit operator bool() const { return data != nullptr || rank > 0; }
};

// Axes from the outermost in memory to the innermost; equal strides keep their order.
inline std::vector<int> memory_order(const TensorView& tensor, int first) {
  std::vector<int> axes;
  for (int axis = first; axis < tensor.rank; ++axis) axes.push_back(axis);
  std::stable_sort(axes.begin(), axes.end(), [&](int a, int b) {
    return std::llabs(tensor.stride[a]) > std::llabs(tensor.stride[b]);
  });
  return axes;
}

// The strides that torch.empty_like gives: the tensor's own where it is dense without overlap, in
// its memory order, else contiguous.
inline void preserved_strides(const TensorView& tensor, int64_t* strides) {
  const std::vector<int> axes = memory_order(tensor, 0);
  bool dense = true;
  int64_t expected = 1;
  for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
    strides[*axis] = tensor.stride[*axis];
    if (tensor.size[*axis] == 1) continue;
    dense = dense && tensor.stride[*axis] == expected;
    expected *= tensor.size[*axis];
  }
  if (dense && expected != 0) return;
  expected = 1;
  for (int axis = tensor.rank - 1; axis >= 0; --axis) {
    strides[axis] = expected;
    expected *= std::max<int64_t>(tensor.size[axis], 1);
  }
}

class ProblemBuilder {
 public:
  struct Needs {
    bool keep_samples = false;   // sums per index of dim 0
    bool keep_channels = false;  // something is counted or computed per position
  };

  explicit ProblemBuilder(const TensorView& input) : input_(input) {}

  // Lays `tensor` over the input's shape, broadcasting from the right as torch does.
  void add(Operand* operand, const TensorView& tensor) {
    if (!tensor) return;
    const int missing = input_.rank - tensor.rank;
    if (missing < 0) throw std::invalid_argument("fusedloss: an operand has more dims than input");
    Entry entry{operand, tensor, {}};
    for (int axis = 0; axis < input_.rank; ++axis) {
      const int own = axis - missing;
      const bool repeats = own < 0 || (tensor.size[own] == 1 && input_.size[axis] != 1);
      if (!repeats && tensor.size[own] != input_.size[axis]) {
        throw std::invalid_argument("fusedloss: an operand does not broadcast to input");
      }
      entry.stride[axis] = repeats ? 0 : tensor.stride[own];
    }
    entries_.push_back(entry);
  }

  void build(Needs needs, Extents* extents) {
    std::vector<Group> groups = merged_axes(needs);
    fill(groups, needs, extents);
    for (Entry& entry : entries_) {
      entry.operand->data = entry.tensor.data;
      entry.operand->dtype = entry.tensor.dtype;
      entry.operand->varies_over_channels =
          has_channels() && input_.size[1] > 1 && entry.stride[1] != 0;
      for (size_t i = 0; i < groups.size(); ++i) {
        entry.operand->stride[i] = entry.stride[groups[i].innermost];
      }
    }
  }

 private:
  struct Entry {
    Operand* operand;
    TensorView tensor;
    int64_t stride[TensorView::kMaxDims];
  };
  // Axes of the input merged into one dim of the space.
  struct Group {
    int innermost;
    int64_t size;
    bool is_sample, is_channel;
  };

  bool has_channels() const { return input_.rank >= 2; }

  std::vector<Group> merged_axes(Needs needs) const {
    std::vector<int> order = memory_order(input_, has_channels() ? 1 : 0);
    if (has_channels()) order.insert(order.begin(), 0);
    std::vector<Group> groups;
    for (const int axis : order) {
      const bool is_sample = has_channels() && axis == 0, is_channel = has_channels() && axis == 1;
      const bool stands_alone =
          (is_sample && needs.keep_samples) || (is_channel && needs.keep_channels);
      if (input_.size[axis] == 1 && !(is_sample && needs.keep_samples)) continue;
      const Group group{axis, input_.size[axis], is_sample, is_channel};
      if (!groups.empty() && !stands_alone && can_merge(groups.back(), axis, needs)) {
        groups.back() = {axis, groups.back().size * group.size, false, false};
      } else {
        groups.push_back(group);
      }
    }
    return groups;
  }

  bool can_merge(const Group& outer, int axis, Needs needs) const {
    if ((outer.is_sample && needs.keep_samples) || (outer.is_channel && needs.keep_channels)) {
      return false;
    }
    return std::all_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
      return entry.stride[outer.innermost] == entry.stride[axis] * input_.size[axis];
    });
  }

  void fill(const std::vector<Group>& groups, Needs needs, Extents* extents) const {
    if (groups.size() > kMaxRank) {
      throw std::invalid_argument("fusedloss: these strides need more dims than the kernels walk");
    }
    *extents = Extents();
    extents->rank = std::max<int>(1, static_cast<int>(groups.size()));
    if (has_channels() && needs.keep_samples) extents->samples = input_.size[0];
    bool seen_channel = false;
    const bool separate_channel = std::any_of(groups.begin(), groups.end(),
                                              [](const Group& group) { return group.is_channel; });
    for (size_t i = 0; i < groups.size(); ++i) {
      const Group& group = groups[i];
      extents->size[i] = group.size;
      const bool before_channel = separate_channel && !seen_channel;
      if (group.is_channel) {
        extents->channels = group.size;
        seen_channel = true;
      } else if (before_channel || (group.is_sample && needs.keep_samples)) {
        extents->outer *= group.size;
      } else {
        extents->inner *= group.size;
      }
    }
  }

  TensorView input_;
  std::vector<Entry> entries_;
};

}  // namespace fusedloss
