// Where a label differs from the position's own within `radius` (Chebyshev), inside the image:
// `fl.boundary`. Labels are compared as they are; a NaN differs from everything, itself included.
#pragma once

#include "core/macros.h"
#include "regions/views.h"

namespace fusedloss {

FL_HOST_DEVICE bool labels_differ(Half a, Half b) { return to_float(a) != to_float(b); }
FL_HOST_DEVICE bool labels_differ(BFloat16 a, BFloat16 b) { return to_float(a) != to_float(b); }
template <class S>
FL_HOST_DEVICE bool labels_differ(S a, S b) {
  return a != b;
}

// The places of one dim within `radius` of `at`.
struct Window {
  int64_t low = 0, high = -1;  // inclusive

  Window() = default;
  FL_HOST_DEVICE Window(int64_t at, int64_t size, int64_t radius)
      : low(at > radius ? at - radius : 0), high(size - at > radius ? at + radius : size - 1) {}
};

// Looks at the whole window: for small radii, and for what a row-wise search leaves open.
template <class S>
FL_HOST_DEVICE bool near_boundary(const ImageView& labels, int spatial, int64_t radius,
                                  const Place& place) {
  const S* sample = static_cast<const S*>(labels.data) + place.sample * labels.sample_stride;
  const S own = static_cast<const S*>(labels.data)[labels.offset(place, spatial)];
  int64_t index[kMaxSpatial], low[kMaxSpatial], high[kMaxSpatial];
  FL_NO_UNROLL
  for (int dim = 0; dim < spatial; ++dim) {
    const Window window(place.at[dim], labels.size[dim], radius);
    index[dim] = low[dim] = window.low;
    high[dim] = window.high;
  }
  FL_NO_UNROLL
  while (true) {
    int64_t offset = 0;
    FL_NO_UNROLL
    for (int dim = 0; dim < spatial; ++dim) offset += index[dim] * labels.stride[dim];
    if (labels_differ(sample[offset], own)) return true;
    int dim = 0;
    for (; dim < spatial && ++index[dim] > high[dim]; ++dim) index[dim] = low[dim];
    if (dim == spatial) return false;
  }
}

}  // namespace fusedloss
