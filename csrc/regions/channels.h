// What a position's channels amount to: `fl.input.var()` and `fl.image(img).mean()`.
//
// V is the type of the comparison: double for a double tensor, else float. Channels are added in
// order.
#pragma once

#include "core/math.h"
#include "regions/program.h"

namespace fusedloss {

template <class V, class S>
FL_HOST_DEVICE V image_mean(const ImageView& image, int spatial, const Place& place) {
  const S* pixel = static_cast<const S*>(image.data) + image.offset(place, spatial);
  V sum = convert<V>(pixel[0]);
  FL_NO_UNROLL
  for (int64_t c = 1; c < image.channels; ++c) sum += convert<V>(pixel[c * image.channel_stride]);
  return sum / static_cast<V>(image.channels);
}

// Two passes over differences from the first channel, so that equal channels give exactly 0.
// `read(c)` yields a channel. NaN where there are no more channels than `correction`; a position
// whose variance is NaN takes no part under any comparison.
template <class V, class Read>
FL_HOST_DEVICE V channel_variance(int64_t channels, double correction, Read&& read) {
  const double divisor = static_cast<double>(channels) - correction;
  if (!(divisor > 0)) return V(NAN);
  const V first = read(0);
  V sum = first - first;  // 0, or NaN where it is not finite
  FL_NO_UNROLL
  for (int64_t c = 1; c < channels; ++c) sum += read(c) - first;
  const V mean = sum / static_cast<V>(channels);
  V squares = mean * mean;
  FL_NO_UNROLL
  for (int64_t c = 1; c < channels; ++c) {
    const V difference = read(c) - first - mean;
    squares += difference * difference;
  }
  return squares / static_cast<V>(divisor);
}

// The float variance; in double where it overflowed on the way.
template <class V, class Read>
FL_HOST_DEVICE bool variance_holds(const Instruction& instruction, const Bindings& bindings,
                                   int64_t channels, Read&& read) {
  const double correction = bindings.number(instruction, 1);
  V variance = channel_variance<V>(channels, correction, read);
  if (variance != variance) {
    variance = static_cast<V>(channel_variance<double>(
        channels, correction, [&](int64_t c) { return static_cast<double>(read(c)); }));
  }
  return variance == variance &&
         compare(instruction.comparison, variance, static_cast<V>(bindings.number(instruction)));
}

}  // namespace fusedloss
