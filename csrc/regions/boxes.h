// low <= index < high in every spatial dim: `fl.center`, `fl.box`, `fl.boxes`.
//
// A single box has integer bounds, cut off at the image (lay_out does that). Rows of a table are
// compared as double; a row that is empty or has a NaN holds nowhere.
#pragma once

#include "regions/program.h"

namespace fusedloss {

FL_HOST_DEVICE bool in_box(const Constant* bounds, int spatial, const Place& place) {
  bool inside = true;
  for (int dim = 0; dim < spatial; ++dim) {
    inside = inside && place.at[dim] >= bounds[dim].integer &&
             place.at[dim] < bounds[spatial + dim].integer;
  }
  return inside;
}

template <class S>
FL_HOST_DEVICE bool in_box_row(const S* row, const TableView& table, int spatial,
                               const Place& place) {
  bool inside = true;
  for (int dim = 0; dim < spatial; ++dim) {
    const double index = static_cast<double>(place.at[dim]);
    inside = inside && index >= coordinate(row, table, dim) &&
             index < coordinate(row, table, spatial + dim);
  }
  return inside;
}

template <class S>
FL_HOST_DEVICE bool in_boxes(const TableView& table, int spatial, const Place& place) {
  for (int64_t k = 0; k < table.rows; ++k) {
    if (in_box_row(table_row<S>(table, place.sample, k), table, spatial, place)) return true;
  }
  return false;
}

}  // namespace fusedloss
