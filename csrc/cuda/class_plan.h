// Which kernel runs a call of a class loss and how its positions are cut. Host code without device
// calls.
//
//     class_columns  classes apart: a thread for each position
//     class_staged   few classes side by side: a thread for each position
//     class_rows     many classes side by side: a warp or a block for each position
//     class_strided  any strides, any mixture of dtypes
#pragma once

#include "cuda/class_call.h"

namespace fusedloss::cuda {

enum class ClassKernel { kStrided, kColumns, kStaged, kRows };

struct ClassPlan {
  ClassKernel kernel = ClassKernel::kStrided;
  bool is_plain = false;  // for the kernels with kPlain, see class_block.cuh
  ClassCall call;
  int64_t shared_bytes = 0;
};

class ClassPlanner {
 public:
  // What a block may keep: static arrays lie beside it in the 48 KiB that every device has.
  static constexpr int64_t kTileBytes = 40 << 10;
  static constexpr int64_t kLongRowBytes = 8 << 10;          // more than a warp shall walk alone
  static constexpr int64_t kMostClasses = int64_t{1} << 30;  // of the kernels that count with int
  static constexpr int64_t kWarpRows = 8;  // rows that a block of warps takes at a time

  ClassPlanner(const ClasswiseParams& params, Pass pass, ClassSums sums)
      : p_(params), item_(item_size(params.input.positions.dtype)) {
    ClassCall& call = plan_.call;
    call.params = params;
    call.pass = pass;
    call.sums = sums;
    call.masked = params.has_labels || params.region || params.weight_map || params.weight_source ||
                  params.normalizer == Normalizer::kWeights;
    plan_.is_plain = params.has_labels && !params.weight_source && !sums_class_weights(params) &&
                     is_plain(params.region);
    call.has_sums =
        pass != Pass::kBackward && (params.reduction != Reduction::kNone || params.wants_sums);
    call.sums_first = pass == Pass::kForwardGradient && scale_depends_on_data();
    call.weighs_targets =
        call.has_sums && !params.has_labels && params.normalizer == Normalizer::kWeights;
  }

  ClassPlan plan() {
    ClassCall& call = plan_.call;
    call.rows = std::max<int64_t>(p_.extents.samples, 1);
    call.rows_per_sample = 1;
    call.inner = p_.extents.positions() / call.rows;
    const bool is_typed = computes_in_double(p_) == (p_.input.positions.dtype == DType::kDouble);
    const bool is_usual = p_.classes > 0 && p_.classes <= kMostClasses;
    if (is_typed && is_usual && p_.extents.positions() > 0) choose();
    if (plan_.kernel == ClassKernel::kRows) {
      const int64_t per_step = call.by_block ? 1 : kWarpRows;
      Cut::rows(call.inner, per_step, Cut::kMostSteps, &call);
    } else {
      Cut::rows(call.inner, Cut::kBlockThreads, Cut::kMostSteps, &call);
    }
    Cut::ranges(p_, &call);
    return plan_;
  }

 private:
  static bool is_plain(const Program& region) {
    return std::all_of(region.instruction, region.instruction + region.length,
                       [](const Instruction& term) { return term.opcode <= Opcode::kNot; });
  }

  // Whether the scale of a gradient depends on labels, mask and weights.
  bool scale_depends_on_data() const {
    const bool selects = p_.has_labels || p_.region;
    if (p_.reduction == Reduction::kSampleMean && selects) return true;  // samples are counted
    if (p_.reduction != Reduction::kMean && p_.reduction != Reduction::kSampleMean) return false;
    switch (p_.normalizer) {
      case Normalizer::kWeights:
        return true;
      case Normalizer::kSelected:
      case Normalizer::kPositions:
        return selects;
      default:
        return false;
    }
  }

  void choose() {
    ClassCall& call = plan_.call;
    plan_.kernel = ClassKernel::kColumns;
    if (!has_rows(p_.input) || (call.pass != Pass::kForward && !has_rows(p_.grad_input))) {
      call.kept = fits(p_.classes);
      return;
    }
    const bool is_dense =
        is_dense_rows(p_.input) && (call.pass == Pass::kForward || is_dense_rows(p_.grad_input));
    if (is_dense && fits(padded(p_.classes))) {
      plan_.kernel = ClassKernel::kStaged;
      call.pitch = static_cast<int>(padded(p_.classes));
    } else {
      plan_.kernel = ClassKernel::kRows;
      call.by_block = p_.classes * item_ >= kLongRowBytes;
    }
  }

  bool has_rows(const ClassOperand& operand) const {
    return operand.class_stride == 1 || p_.classes == 1;
  }

  // Whether position i begins at element i * classes.
  bool is_dense_rows(const ClassOperand& operand) const {
    int64_t expected = p_.classes;
    for (int axis = p_.extents.rank - 1; axis >= 0; --axis) {
      if (p_.extents.size[axis] == 1) continue;
      if (operand.positions.stride[axis] != expected) return false;
      expected *= p_.extents.size[axis];
    }
    return true;
  }

  bool fits(int64_t elements_per_thread) {
    const int64_t bytes = elements_per_thread * Cut::kBlockThreads * item_;
    if (bytes > kTileBytes) return false;
    plan_.shared_bytes = bytes;
    return true;
  }

  // Rows of the tile begin in different banks: an odd number of words apart.
  int64_t padded(int64_t classes) const {
    const int64_t per_word = std::max<int64_t>(1, 4 / item_);
    return (Cut::divide_up(classes, per_word) | 1) * per_word;
  }

  const ClasswiseParams& p_;
  const int64_t item_;
  ClassPlan plan_;
};

inline Pass pass_of(const ClasswiseParams& params) {
  if (params.grad_output) return Pass::kBackward;
  return params.grad_input ? Pass::kForwardGradient : Pass::kForward;
}

}  // namespace fusedloss::cuda
