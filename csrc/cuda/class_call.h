// One launch of a class kernel as plain data: an index space of positions, cut as call_frame.h
// says, and where a position's logits are kept while it is worked on.
#pragma once

#include "core/classwise_params.h"
#include "cuda/call_frame.h"
#include "losses/classwise.h"

namespace fusedloss::cuda {

struct ClassCall : CallFrame {
  ClasswiseParams params;
  ClassSums sums = ClassSums::kNone;  // of the loss
  bool weighs_targets = false;        // probabilities: sum_c w_c t_c is what a position weighs

  bool kept = false;  // class_columns: logits stay in shared memory
  int pitch = 0;      // class_staged: elements between rows of the tile

  // class_rows: a row of classes is worked on by a whole block, or by a warp.
  bool by_block = false;
};

// Whether each block must add up the class weights before its first position.
FL_HOST_DEVICE bool sums_class_weights(const ClasswiseParams& p) {
  return p.weight && p.has_labels && p.label_smoothing != 0;
}

static_assert(sizeof(ClassCall) <= 4000, "kernel parameters are limited to 4 KiB");

}  // namespace fusedloss::cuda
