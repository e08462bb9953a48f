// Squared distance <= radius^2: `fl.disk`, `fl.disks`, `fl.keypoints`; balls in 3-D.
//
// In double, as the reference, with one rounding per operation. A negative radius or a NaN holds
// nowhere.
#pragma once

#include "regions/program.h"

namespace fusedloss {

// a + b * b without fusing the two roundings into one.
FL_HOST_DEVICE double add_square(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dadd_rn(a, __dmul_rn(b, b));
#else
  return a + b * b;
#endif
}

// `centre(dim)` yields the centre's coordinates.
template <class Centre>
FL_HOST_DEVICE bool in_disk(Centre&& centre, double radius, int spatial, const Place& place) {
  double squared = 0;
  for (int dim = 0; dim < spatial; ++dim) {
    squared = add_square(squared, static_cast<double>(place.at[dim]) - centre(dim));
  }
  return squared <= add_square(0, radius) && radius >= 0;
}

FL_HOST_DEVICE bool in_disk(const Constant* numbers, int spatial, const Place& place) {
  return in_disk([&](int dim) { return numbers[dim].number; }, numbers[spatial].number, spatial,
                 place);
}

// Rows (x, y, radius); `radius` is the radius of all rows of points (x, y), or absent: nullptr.
template <class S>
FL_HOST_DEVICE bool in_disk_row(const S* row, const TableView& table, const double* radius,
                                int spatial, const Place& place) {
  return in_disk([&](int dim) { return coordinate(row, table, dim); },
                 radius != nullptr ? *radius : coordinate(row, table, spatial), spatial, place);
}

template <class S>
FL_HOST_DEVICE bool in_disks(const TableView& table, const double* radius, int spatial,
                             const Place& place) {
  for (int64_t k = 0; k < table.rows; ++k) {
    const S* row = table_row<S>(table, place.sample, k);
    if (in_disk_row(row, table, radius, spatial, place)) return true;
  }
  return false;
}

}  // namespace fusedloss
