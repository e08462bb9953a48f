// Which kernel runs a call and how its index space is cut. Host code without device calls.
//
// The vector kernel takes dense input, gradient and loss of one type and alignment, and walks
//   flat    rows are samples: every other tensor is dense, one number, or (channels innermost) the
//           same for all channels of a position
//   planar  rows are `outer`: a slot is a run of positions, its channels are visited in turn; what
//           is the same for all of them is worked out once
// Everything else goes to the strided kernel, one element per thread and access.
#pragma once

#include <algorithm>
#include <optional>

#include "core/program_problem.h"
#include "cuda/elementwise_call.h"

namespace fusedloss::cuda {

struct ElementwisePlan {
  bool vector = false;
  KernelCall call;
};

// Whether the scale of a gradient depends on which elements the mask and the weight let through.
inline bool scale_depends_on_data(const ElementwiseParams& p) {
  if (p.reduction == Reduction::kSampleMean && p.region) return true;  // samples are counted
  if (p.reduction != Reduction::kMean && p.reduction != Reduction::kSampleMean) return false;
  switch (p.normalizer) {
    case Normalizer::kWeights:
      return p.region || p.weight || p.weight_source;
    case Normalizer::kSelected:
    case Normalizer::kPositions:
      return static_cast<bool>(p.region);
    default:
      return false;
  }
}

class ElementwisePlanner {
 public:
  ElementwisePlanner(const ElementwiseParams& params, Pass pass)
      : p_(params), extents_(params.extents), lanes_(16 / item_size(params.input.dtype)) {
    call_.params = params;
    call_.pass = pass;
    call_.factors = factors_of(params);
    call_.masked = call_.factors != Factors::kNone;
    call_.has_sums =
        pass != Pass::kBackward && (params.reduction != Reduction::kNone || params.wants_sums);
    call_.sums_first = pass == Pass::kForwardGradient && scale_depends_on_data(params);
    call_.region_reads_target = reads_target_in(params.region);
    call_.programs_read_target = call_.region_reads_target || reads_target_in(params.weight_source);
    call_.counts_positions = call_.has_sums && params.normalizer == Normalizer::kPositions &&
                             params.region && !params.region.is_positional && extents_.channels > 1;
  }

  ElementwisePlan plan() {
    // What programs yield for a position is the same for its channels: planar finds them together.
    const bool by_planes = call_.factors == Factors::kPrograms && extents_.channels > 1 &&
                           (p_.region.is_positional || p_.weight_source.is_positional);
    const bool vector =
        suits_vectors() && ((by_planes && walk_planar()) || walk_flat() || walk_planar());
    if (!vector) walk_strided();
    Cut::ranges(p_, &call_);
    return {vector, call_};
  }

 private:
  static Factors factors_of(const ElementwiseParams& p) {
    if (p.weight_source) return Factors::kPrograms;
    for (int i = 0; i < p.region.length; ++i) {
      if (p.region.instruction[i].opcode > Opcode::kNot) return Factors::kPrograms;
    }
    return p.region || p.weight ? Factors::kTensors : Factors::kNone;
  }

  static bool reads_target_in(const Program& program) {
    bool result = false;
    for (int i = 0; i < program.length; ++i) {
      result = result || reads_target(program.instruction[i].opcode);
    }
    return result;
  }

  int64_t samples() const { return std::max<int64_t>(extents_.samples, 1); }

  // ---- what the vector kernel asks for ----------------------------------------------------------

  bool is_element_dense(const Operand& operand) const {
    return operand.dtype == p_.input.dtype && operand.is_dense(extents_) &&
           lane_of(operand) == lane_of(p_.input);
  }
  // Position within 16 bytes of the first element; the same for all, or heads would differ.
  int64_t lane_of(const Operand& operand) const {
    const int64_t address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(operand.data));
    return address % 16 / item_size(p_.input.dtype);
  }
  static bool is_one_number(const Operand& operand) {
    return std::all_of(operand.stride, operand.stride + kMaxRank, [](int64_t s) { return s == 0; });
  }

  bool suits_vectors() {
    if (p_.input.dtype != DType::kDouble && computes_in_double(p_)) return false;
    if (call_.counts_positions || extents_.elements() == 0) return false;
    if (!is_element_dense(p_.input)) return false;
    if (call_.pass != Pass::kForward && !is_element_dense(p_.grad_input)) return false;
    const bool none = p_.reduction == Reduction::kNone;
    if (none && call_.pass == Pass::kForwardGradient) return false;
    if (none && call_.pass != Pass::kBackward && !is_element_dense(p_.loss)) return false;
    call_.target_is_dense = is_element_dense(p_.target);
    return true;
  }

  // Applies `make` to every tensor that is read through a View; false if one does not fit.
  template <class Make>
  bool make_views(Make&& make) {
    bool fits = make(p_.weight, &call_.weight) && make(p_.pos_weight, &call_.pos_weight);
    if (!call_.target_is_dense) fits = fits && make(p_.target, &call_.target);
    if (call_.pass == Pass::kBackward) {
      fits = fits && make(p_.grad_output, &call_.grad_output);
    }
    for (int i = 0; i < p_.bindings.tensors; ++i) {
      fits = fits && make(p_.bindings.tensor[i], &call_.tensor[i]);
    }
    return fits;
  }

  // ---- flat -------------------------------------------------------------------------------------

  bool walk_flat() {
    call_.rows = samples();
    call_.rows_per_sample = 1;
    call_.channels = 1;
    call_.inner = extents_.elements() / call_.rows;
    call_.channels_inside = extents_.inner == 1 ? extents_.channels : 1;
    call_.region_repeats = call_.weight_repeats = false;
    cut(Cut::divide_up(call_.inner + lanes_ - 1, lanes_));
    return make_views([&](const Operand& o, View* view) { return flat_view(o, view); });
  }

  bool flat_view(const Operand& operand, View* view) const {
    *view = {operand.data, operand.dtype, Access::kUniform, 0, 0};
    if (!operand || is_one_number(operand)) return true;
    if (operand.is_dense(extents_)) {
      view->access = Access::kRun;
      view->row_stride = call_.inner;
      return true;
    }
    const auto positions = linear_stride(operand, 0, extents_.rank - 1);
    if (call_.channels_inside == 1 || extents_.size[extents_.rank - 1] != extents_.channels ||
        operand.stride[extents_.rank - 1] != 0 || positions != 1) {
      return false;
    }
    view->access = Access::kPerPosition;
    view->row_stride = call_.inner / call_.channels_inside;
    return true;
  }

  // ---- planar -----------------------------------------------------------------------------------

  bool walk_planar() {
    const bool has_channels = extents_.channels > 1;
    call_.inner = has_channels ? extents_.inner : extents_.size[extents_.rank - 1];
    // Short rows leave threads idle; the planes of a row must all have the same head.
    if (call_.inner < 32 * lanes_ || (has_channels && call_.inner % lanes_ != 0)) return false;
    call_.channels = extents_.channels;
    call_.rows = extents_.elements() / call_.channels / call_.inner;
    if (call_.rows % samples() != 0) return false;
    call_.rows_per_sample = call_.rows / samples();
    call_.channels_inside = 1;
    call_.region_repeats = p_.region.is_positional;
    call_.weight_repeats = weight_is_positional();
    cut(Cut::divide_up(call_.inner + lanes_ - 1, lanes_));
    return make_views([&](const Operand& o, View* view) { return planar_view(o, view); });
  }

  bool planar_view(const Operand& operand, View* view) const {
    *view = {operand.data, operand.dtype, Access::kUniform, 0, 0};
    if (!operand) return true;
    const auto inner = split_at(call_.inner, extents_.rank);
    const auto channel = inner ? split_at(call_.channels, *inner) : std::nullopt;
    if (!channel) return false;
    const auto run = linear_stride(operand, *inner, extents_.rank);
    const auto channels = linear_stride(operand, *channel, *inner);
    const auto rows = linear_stride(operand, 0, *channel);
    if (!run || !channels || !rows || (*run != 0 && *run != 1)) return false;
    view->access = *run == 1 ? Access::kRun : Access::kUniform;
    view->channel_stride = *channels;
    view->row_stride = *rows;
    return true;
  }

  // The axis from which on the axes before `end` hold `count` elements.
  std::optional<int> split_at(int64_t count, int end) const {
    int64_t product = 1;
    int axis = end;
    while (product < count && axis > 0) product *= extents_.size[--axis];
    return product == count ? std::optional<int>(axis) : std::nullopt;
  }

  // The stride of axes [begin, end) seen as one, if there is one.
  std::optional<int64_t> linear_stride(const Operand& operand, int begin, int end) const {
    int64_t stride = 0, count = 1;
    for (int axis = end - 1; axis >= begin; --axis) {
      if (extents_.size[axis] == 1) continue;
      if (count == 1) stride = operand.stride[axis];
      if (operand.stride[axis] != stride * count) return std::nullopt;
      count *= extents_.size[axis];
    }
    return stride;
  }

  // ---- strided ----------------------------------------------------------------------------------

  // A slot is an element, or a position whose channels are visited in turn.
  void walk_strided() {
    const bool is_shared = (p_.region && p_.region.is_positional) ||
                           (p_.weight_source && p_.weight_source.is_positional);
    const bool repeats = is_shared && extents_.inner >= 32;
    const bool positions = extents_.channels > 1 && (call_.counts_positions || repeats);
    call_.channels = positions ? extents_.channels : 1;
    call_.rows = samples();
    call_.rows_per_sample = 1;
    call_.inner = extents_.elements() / call_.rows / std::max<int64_t>(call_.channels, 1);
    call_.region_repeats = positions && p_.region.is_positional;
    call_.weight_repeats = positions && weight_is_positional();
    cut(call_.inner);
  }

  bool weight_is_positional() const {
    return p_.weight_source ? p_.weight_source.is_positional : !p_.weight.varies_over_channels;
  }

  void cut(int64_t slots_per_row) {
    const int64_t channels = std::max<int64_t>(call_.channels, 1);
    Cut::rows(slots_per_row, Cut::kBlockThreads, Cut::kMostSteps / channels, &call_);
  }

  const ElementwiseParams& p_;
  const Extents& extents_;
  const int64_t lanes_;
  KernelCall call_;
};

inline ElementwisePlan plan_elementwise(const ElementwiseParams& params, Pass pass) {
  return ElementwisePlanner(params, pass).plan();
}

}  // namespace fusedloss::cuda
