// How active features are at a position: `fl.activation`. The sum over channels of abs(features),
// stretched over the input linearly in every dim, half-pixel centres, no antialias.
#pragma once

#include "core/math.h"
#include "regions/views.h"
#include "weights/channel_sum.h"

namespace fusedloss {

// Between which two features an index of the input lies, and how far from the lower one; in double
// as the reference. A size that stays the same has share 0 everywhere.
struct Stretch {
  int32_t low = 0, high = 0;  // a dim of features has less than 2^31
  double share = 0;

  Stretch() = default;
  FL_HOST_DEVICE Stretch(int64_t index, int64_t size, int64_t old)
      : low(static_cast<int32_t>(index)), high(low) {
    if (old == size) return;
    const double ratio = static_cast<double>(old) / static_cast<double>(size);
    const double largest = static_cast<double>(old - 1);
    double at = (static_cast<double>(index) + 0.5) * ratio - 0.5;
    at = at < 0 ? 0 : at > largest ? largest : at;
    low = static_cast<int32_t>(at);
    high = low + 1 < old ? low + 1 : low;
    share = at - static_cast<double>(low);
  }
};

// A neighbour of weight 0 has no part in it, whatever it holds. Between equal ones it is exactly
// they: rounding would pass for activity where constant features are normalised.
template <class T>
FL_HOST_DEVICE T between(T low, T high, T share) {
  return share == T(0) || low == high ? low : low * (T(1) - share) + high * share;
}

template <class T, class S>
FL_HOST_DEVICE T activity(const ImageView& features, int64_t offset) {
  const S* feature = static_cast<const S*>(features.data) + offset;
  return channel_sum<T>(features.channels, [&](int64_t c) {
    return math::abs(convert<T>(feature[c * features.channel_stride]));
  });
}

// Interpolated along the dims kDim (0 is x), kDim + 1, ... with the other ones at `offset`; the
// outermost dim first, as the reference does.
// `read(offset)` yields an activity.
template <class T, int kDim = 0, class Read>
FL_HOST_DEVICE T stretched(const ImageView& features, int spatial, const Stretch* stretch,
                           int64_t offset, Read&& read) {
  if constexpr (kDim < kMaxSpatial) {
    if (kDim < spatial) {
      const Stretch& own = stretch[kDim];
      const int64_t stride = features.stride[kDim];
      const T share = static_cast<T>(own.share);
      const T low =
          stretched<T, kDim + 1>(features, spatial, stretch, offset + own.low * stride, read);
      if (share == T(0)) return low;
      const T high =
          stretched<T, kDim + 1>(features, spatial, stretch, offset + own.high * stride, read);
      return between(low, high, share);
    }
  }
  return read(offset);
}
template <class T, class S>
FL_HOST_DEVICE T stretched(const ImageView& features, int spatial, const Stretch* stretch,
                           int64_t offset) {
  return stretched<T>(features, spatial, stretch, offset,
                      [&](int64_t at) { return activity<T, S>(features, at); });
}

template <class T, class Read>
FL_HOST_DEVICE T activation(const ImageView& features, const Places& places, const Place& place,
                            Read&& read) {
  Stretch stretch[kMaxSpatial];
  FL_NO_UNROLL
  for (int dim = 0; dim < places.spatial; ++dim) {
    stretch[dim] = Stretch(place.at[dim], places.size[dim], features.size[dim]);
  }
  return stretched<T>(features, places.spatial, stretch, place.sample * features.sample_stride,
                      read);
}

}  // namespace fusedloss
