// Squared distance <= radius^2: `fl.disk`, `fl.disks`, `fl.keypoints`; balls in 3-D.
//
// In double, as the reference, with one rounding per operation. A negative radius or a NaN holds
// nowhere.
#pragma once

#include "core/macros.h"
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
  FL_NO_UNROLL
  for (int dim = 0; dim < spatial; ++dim) {
    squared = add_square(squared, static_cast<double>(place.at[dim]) - centre(dim));
  }
  return squared <= add_square(0, radius) && radius >= 0;
}

FL_HOST_DEVICE bool in_disk(const Constant* numbers, int spatial, const Place& place) {
  return in_disk([&](int dim) { return numbers[dim].number; }, numbers[spatial].number, spatial,
                 place);
}

}  // namespace fusedloss
