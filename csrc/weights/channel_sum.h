// Sums over channels, as weight sources need them: normalising from minimum to maximum blows up the
// rounding errors of what varies little, and features have hundreds of channels.
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace fusedloss {

// So many values are added in the type of the arithmetic before a double takes them.
constexpr int64_t kChannelsAtOnce = 16;

// The sum of read(0), ..., read(channels - 1).
template <class T, class Read>
FL_HOST_DEVICE T channel_sum(int64_t channels, Read&& read) {
  double flushed = 0;
  T sum = T(0);
  FL_NO_UNROLL
  for (int64_t c = 0; c < channels; ++c) {
    if (c > 0 && c % kChannelsAtOnce == 0) {
      flushed += static_cast<double>(sum);
      sum = T(0);
    }
    sum += read(c);
  }
  return channels <= kChannelsAtOnce ? sum : static_cast<T>(flushed + static_cast<double>(sum));
}

}  // namespace fusedloss
