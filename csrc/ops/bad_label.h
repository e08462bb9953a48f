// What ops say of a class index that is out of range where it takes part.
#pragma once

#include <sstream>
#include <string>

#include "core/classwise_problem.h"
#include "ops/tensor_view.h"

namespace fusedloss::ops {

// "(0, 2, 5)" of the position with flat index `index` in the order of a call's extents.
inline std::string place_of(const Tensor& input, int64_t index) {
  const int rank = static_cast<int>(input.dim());
  TensorView positions = with_channels(view(input), rank), counter = positions;
  positions.size[1] = counter.size[1] = 1;
  int64_t stride = 1;  // contiguous: an offset tells the coordinates
  for (int axis = counter.rank - 1; axis >= 0; --axis) {
    counter.stride[axis] = stride;
    stride *= counter.size[axis];
  }
  ProblemBuilder builder(positions);
  Operand place;
  builder.add(&place, counter);
  Extents extents;
  builder.build({.keep_samples = false, .keep_channels = false, .keep_places = true}, &extents);
  int64_t offset = place.offset(extents, index);
  std::ostringstream text;
  text << "(";
  for (int axis = 0; axis < rank && rank > 1; ++axis) {
    if (axis == 1) continue;
    text << (axis ? ", " : "") << offset / counter.stride[axis];
    offset %= counter.stride[axis];
  }
  text << (rank == 2 ? ",)" : ")");
  return text.str();
}

// "target of cross_entropy must be ..., got 7 at position (0, 2)"
template <class Params>
std::string bad_label_text(const std::string& function, const Tensor& input, const Params& params,
                           int64_t index) {
  const Operand& target = params.target.positions;
  std::ostringstream text;
  text << "target of " << function << " must be a class index in [0, " << params.classes
       << ") where it takes part, got ";
  visit_dtype(target.dtype, [&](auto element) {
    using S = decltype(element);
    const S label = static_cast<const S*>(target.data)[target.offset(params.extents, index)];
    if constexpr (std::is_integral_v<S>) text << +label;
  });
  text << " at position " << place_of(input, index);
  return text.str();
}

}  // namespace fusedloss::ops
