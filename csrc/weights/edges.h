// How much an image changes at a position: `fl.edges`. T is the type of the arithmetic.
#pragma once

#include "core/math.h"
#include "regions/views.h"
#include "weights/channel_sum.h"

namespace fusedloss {

// sum over channels and dims of abs(I[p - 1] - I[p - 1 + e_dim]), p - 1 one step back in every
// spatial dim; 0 at positions with a zero index.
template <class T, class S>
FL_HOST_DEVICE T edges_forward(const ImageView& image, int spatial, const Place& place) {
  int64_t back = 0;
  FL_NO_UNROLL
  for (int dim = 0; dim < spatial; ++dim) {
    if (place.at[dim] == 0) return T(0);
    back += image.stride[dim];
  }
  const S* before = static_cast<const S*>(image.data) + image.offset(place, spatial) - back;
  return channel_sum<T>(image.channels, [&](int64_t c) {
    const S* channel = before + c * image.channel_stride;
    const T value = convert<T>(*channel);
    T sum = T(0);
    FL_NO_UNROLL
    for (int dim = spatial - 1; dim >= 0; --dim) {
      sum += math::abs(value - convert<T>(channel[image.stride[dim]]));
    }
    return sum;
  });
}

// sqrt(gx^2 + gy^2) of one channel from its 3 x 3 neighbourhood, rows top to bottom.
template <class T>
FL_HOST_DEVICE T sobel_magnitude(const T (&above)[3], const T (&row)[3], const T (&below)[3]) {
  const T gx = (above[2] - above[0]) + T(2) * (row[2] - row[0]) + (below[2] - below[0]);
  const T gy = (below[0] - above[0]) + T(2) * (below[1] - above[1]) + (below[2] - above[2]);
  return math::sqrt(gx * gx + gy * gy);
}

// Two spatial dims; the border is replicated. Summed over channels.
template <class T, class S>
FL_HOST_DEVICE T edges_sobel(const ImageView& image, const Place& place) {
  const int64_t x = place.at[0], y = place.at[1];
  const int64_t left = x > 0 ? -image.stride[0] : 0;
  const int64_t right = x + 1 < image.size[0] ? image.stride[0] : 0;
  const int64_t up = y > 0 ? -image.stride[1] : 0;
  const int64_t down = y + 1 < image.size[1] ? image.stride[1] : 0;
  const S* pixel = static_cast<const S*>(image.data) + image.offset(place, 2);
  return channel_sum<T>(image.channels, [&](int64_t c) {
    const S* channel = pixel + c * image.channel_stride;
    T rows[3][3];
    const int64_t vertical[3] = {up, 0, down}, horizontal[3] = {left, 0, right};
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) rows[i][j] = convert<T>(channel[vertical[i] + horizontal[j]]);
    }
    return sobel_magnitude(rows[0], rows[1], rows[2]);
  });
}

}  // namespace fusedloss
