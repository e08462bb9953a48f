// Which kernel runs an overlap call and how its positions are cut. Host code without device calls.
//
// The kernels for planes take several positions per thread where each class of input and gradient
// is a contiguous, aligned run; those for staged rows a position per thread where the classes of
// one lie side by side (channels_last). Everything else goes to the strided kernel.
#pragma once

#include <algorithm>
#include <optional>

#include "core/overlap_params.h"
#include "cuda/overlap_call.h"

namespace fusedloss::cuda {

enum class Walk {
  kPlanar,  // planes of positions, kPlanarLanes of them per thread
  kStaged,  // rows of classes, by way of shared memory
  kStrided
};

struct OverlapPlan {
  Walk walk = Walk::kStrided;
  bool is_weighted = false;  // mask, map, and what the kernels for planes have calls for
  PoolCall call;
};

// How many classes have their soft counts in shared memory at once.
constexpr int64_t kClassGroup = 64;
// How many have an entry in the table that each block keeps.
constexpr int kTableClasses = 256;
// Positions that a thread of the planar kernel takes at once, of any type.
constexpr int kPlanarLanes = 4;
// The logits that a block asks for several times: more than this, of two blocks on each of 132
// multiprocessors, would not stay in 50 MB of cache, and a quarter of the positions does better.
constexpr int64_t kMostPlanarBytes = 160 * 1024;
// What 48 KiB of shared memory hold beside the block's own tables.
constexpr int64_t kMostStagedClasses = 33;

class OverlapPlanner {
 public:
  explicit OverlapPlanner(const OverlapParams& params) : p_(params) {
    const Pass forward = p_.grad_input ? Pass::kForwardGradient : Pass::kForward;
    call_.pass = p_.grad_output ? Pass::kBackward : forward;
    call_.masked = p_.region || p_.weight_source || p_.weight_map;
    call_.samples = p_.extents.samples;
    copy_tensors();
    copy_rules();
  }

  OverlapPlan plan() {
    const Walk walk = choose();
    if (walk == Walk::kStrided) {
      call_.rows = std::max<int64_t>(1, call_.samples);
      call_.inner = p_.extents.positions() / call_.rows;
    }
    call_.rows_per_sample = call_.rows / std::max<int64_t>(1, call_.samples);
    const int64_t lanes = walk == Walk::kPlanar ? kPlanarLanes : 1;
    const int64_t most_steps = p_.classes <= kClassGroup ? Cut::kMostSteps : 1;
    Cut::rows(Cut::divide_up(call_.inner, lanes), Cut::kBlockThreads, most_steps, &call_);
    if (p_.extents.positions() == 0 || p_.classes == 0) call_.chunks = call_.chunks_per_row = 0;
    Cut::ranges(call_.params, &call_);
    call_.has_sums = call_.pass != Pass::kBackward;
    call_.sums_first = call_.pass == Pass::kForwardGradient;
    const bool is_weighted =
        call_.masked ||
        (walk == Walk::kPlanar &&
         (call_.pointwise.pos_weight || !(p_.has_labels || call_.planes.target_is_like_input)));
    return {walk, is_weighted, call_};
  }

 private:
  static Vector vector(const Operand& operand) {
    return {operand.data, operand.dtype, operand.stride[0]};
  }

  void copy_tensors() {
    call_.extents = p_.extents;
    call_.input = p_.input;
    call_.target = p_.target;
    call_.grad_input = p_.grad_input;
    call_.weight = vector(p_.weight);
    call_.grad_output = vector(p_.grad_output);
    call_.loss = vector(p_.loss);
    call_.sums = p_.sums;
    WeightingParams& weighting = call_.params;
    weighting.extents = p_.weighting;
    weighting.classes = p_.classes;
    weighting.input = {p_.seen_input, p_.input.class_stride};
    // From an element to the first channel of its position.
    if (p_.per_element) weighting.input.positions.stride[p_.weighting.channel_axis] = 0;
    weighting.target = p_.seen_target;
    weighting.weight_map = p_.weight_map;
    weighting.region = p_.region;
    weighting.weight_source = p_.weight_source;
    weighting.bindings = p_.bindings;
    call_.per_element = p_.per_element;
  }

  void copy_rules() {
    const DType labels = p_.target.positions.dtype;
    call_.has_labels = p_.has_labels;
    call_.ignores = p_.ignores && (p_.ignore_index >= 0 || labels != DType::kUInt64);
    call_.ignore_index = p_.ignore_index;
    call_.activation = p_.activation;
    call_.rules = p_.rules;
    const PointwiseParams& part = p_.pointwise;
    PointwiseCall& own = call_.pointwise;
    own.kind = part.kind;
    own.part = part.part;
    own.label_smoothing = part.label_smoothing;
    if (part.kind == PointwiseKind::kSoftmaxFocal) own.gamma = part.options[0];
    own.class_weight = vector(part.class_weight);
    own.pos_weight = part.pos_weight;
    own.normalizer = part.normalizer;
    own.given_normalizer = vector(part.given_normalizer);
    own.given_number = part.given_number;
  }

  // ---- planes and staged rows -------------------------------------------------------------------

  Walk choose() {
    if (!suits_rows()) return Walk::kStrided;
    if (suits_planes()) return Walk::kPlanar;
    return suits_staging() ? Walk::kStaged : Walk::kStrided;
  }

  bool suits_rows() const {
    if (p_.input.positions.dtype == DType::kDouble || computes_in_double(p_)) return false;
    if (p_.extents.positions() == 0 || p_.classes == 0) return false;
    return !p_.per_element && (!is_classwise(p_.pointwise.kind) || p_.has_labels);
  }

  bool suits_planes() {
    if (p_.bindings.target_channels.count != 1) return false;  // a lane sees its own channel alone
    const DType dtype = p_.input.positions.dtype;
    const int64_t bytes = Cut::kBlockThreads * kPlanarLanes * item_size(dtype) * p_.classes;
    if (bytes > kMostPlanarBytes) return false;
    const int axis = cut_rows(1);
    if (call_.inner < 32 * kPlanarLanes || call_.inner % kPlanarLanes != 0) return false;
    if (!is_aligned(p_.input, axis)) return false;
    if (p_.grad_input && !is_aligned(p_.grad_input, axis)) return false;
    if (!make_views(axis)) return false;
    call_.planes.target_is_like_input = !p_.has_labels && is_aligned(p_.target, axis);
    keep_row_strides(axis);
    return true;
  }

  bool suits_staging() {
    const int axis = cut_rows(p_.classes);
    const int64_t pitch = p_.classes | 1;  // odd: neighbouring threads are in different banks
    if (p_.classes == 1 || pitch > kMostStagedClasses || call_.inner < 32) return false;
    if (!is_staged(p_.input, axis) || (p_.grad_input && !is_staged(p_.grad_input, axis))) {
      return false;
    }
    call_.pitch = static_cast<int>(pitch);
    keep_row_strides(axis);
    return true;
  }

  // Rows are the positions of the axes from the one returned on, along which those of the input are
  // `step` apart; samples whose sums are kept apart end them.
  int cut_rows(int64_t step) {
    int axis = p_.extents.rank;
    call_.inner = 1;
    while (axis > (p_.rules.pools.by_sample() ? 1 : 0)) {
      const int64_t size = p_.extents.size[axis - 1];
      if (size != 1 && p_.input.positions.stride[axis - 1] != step * call_.inner) break;
      call_.inner *= size;
      --axis;
    }
    call_.rows = p_.extents.positions() / call_.inner;
    return axis;
  }

  void keep_row_strides(int axis) {
    call_.planes.input_row_stride = *linear_stride(p_.input.positions, 0, axis);
    if (p_.grad_input) {
      call_.planes.gradient_row_stride = *linear_stride(p_.grad_input.positions, 0, axis);
    }
  }

  bool is_staged(const ClassOperand& operand, int axis) const {
    const auto run = linear_stride(operand.positions, axis, p_.extents.rank);
    return operand.positions.dtype == p_.input.positions.dtype && operand.class_stride == 1 &&
           run == p_.classes && linear_stride(operand.positions, 0, axis);
  }

  bool is_aligned(const ClassOperand& operand, int axis) const {
    const auto whole = [](int64_t stride) { return stride % kPlanarLanes == 0; };
    const auto address = reinterpret_cast<uintptr_t>(operand.positions.data);
    const auto view = plane_view(operand.positions, axis);
    return operand.positions.dtype == p_.input.positions.dtype && view && view->is_run &&
           whole(view->row_stride) && (p_.classes == 1 || whole(operand.class_stride)) &&
           address % (kPlanarLanes * item_size(operand.positions.dtype)) == 0;
  }

  bool make_views(int first) {
    bool fits = true;
    const auto make = [&](const Operand& operand, PlaneView* view) {
      if (!operand) return;
      const auto made = plane_view(operand, first);
      fits = fits && made;
      if (made) *view = *made;
    };
    PlaneViews& views = call_.planes;
    make(p_.target.positions, &views.target);
    views.target.class_stride = p_.target.class_stride;
    make(p_.pointwise.pos_weight.positions, &views.pos_weight);
    views.pos_weight.class_stride = p_.pointwise.pos_weight.class_stride;
    make(p_.weight_map, &views.weight_map);
    for (int i = 0; i < p_.bindings.tensors; ++i) make(p_.bindings.tensor[i], &views.tensor[i]);
    return fits;
  }

  // Axes from `first` on are a plane, those before it rows.
  std::optional<PlaneView> plane_view(const Operand& operand, int first) const {
    const auto run = linear_stride(operand, first, p_.extents.rank);
    const auto row = linear_stride(operand, 0, first);
    if (!run || !row || (*run != 0 && *run != 1)) return std::nullopt;
    return PlaneView{operand.data, operand.dtype, *run == 1, *row, 0};
  }

  // The stride of axes [begin, end) seen as one, if there is one.
  std::optional<int64_t> linear_stride(const Operand& operand, int begin, int end) const {
    int64_t stride = 0, count = 1;
    for (int axis = end - 1; axis >= begin; --axis) {
      if (p_.extents.size[axis] == 1) continue;
      if (count == 1) stride = operand.stride[axis];
      if (operand.stride[axis] != stride * count) return std::nullopt;
      count *= p_.extents.size[axis];
    }
    return stride;
  }

  const OverlapParams& p_;
  PoolCall call_;
};

inline OverlapPlan plan_overlap(const OverlapParams& params) {
  return OverlapPlanner(params).plan();
}

}  // namespace fusedloss::cuda
