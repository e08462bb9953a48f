// low <= index < high in every spatial dim: `fl.center`, `fl.box`, `fl.boxes`.
//
// A single box has integer bounds, cut off at the image (lay_out does that). Rows of a table are
// compared as double; a row that is empty or has a NaN holds nowhere.
#pragma once

#include "core/macros.h"
#include "regions/program.h"

namespace fusedloss {

FL_HOST_DEVICE bool in_box(const Constant* bounds, int spatial, const Place& place) {
  bool inside = true;
  FL_NO_UNROLL
  for (int dim = 0; dim < spatial; ++dim) {
    inside = inside && place.at[dim] >= bounds[dim].integer &&
             place.at[dim] < bounds[spatial + dim].integer;
  }
  return inside;
}

// Of a row of a table.
FL_HOST_DEVICE bool in_box(const double* row, int spatial, const Place& place) {
  bool inside = true;
  FL_NO_UNROLL
  for (int dim = 0; dim < spatial; ++dim) {
    const double index = static_cast<double>(place.at[dim]);
    inside = inside && index >= row[dim] && index < row[spatial + dim];
  }
  return inside;
}

}  // namespace fusedloss
