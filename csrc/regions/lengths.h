// The first length[sample] elements of each sequence: `fl.lengths`. The sequence of an (N, T) input
// runs along its channel dim, that of an (N, C, T) one along x.
#pragma once

#include "regions/program.h"

namespace fusedloss {

// uint64 wraps as in torch's conversion to int64.
template <class S>
FL_HOST_DEVICE int64_t sequence_length(const TableView& table, int64_t sample) {
  return static_cast<int64_t>(*table_row<S>(table, sample, 0));
}

template <class S>
FL_HOST_DEVICE bool in_length(const TableView& table, int spatial, const Place& place) {
  const int64_t index = spatial == 0 ? place.channel : place.at[0];
  return index < sequence_length<S>(table, place.sample);
}

}  // namespace fusedloss
