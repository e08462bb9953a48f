// Where the elements of the index space lie, and the tensors that are read by place: images,
// features and labels, tables of coordinates and lengths.
//
// A place counts along the input's own dims, whatever the memory order: sample is dim 0, channel
// dim 1, x the last dim, y the one before, z the one before that. Only index spaces built with
// ProblemBuilder::Needs::keep_places know the places of their elements.
#pragma once

#include <cstdint>

#include "core/extents.h"

namespace fusedloss {

constexpr int kMaxSpatial = 4;

struct Place {
  int64_t sample = 0, channel = 0;
  int64_t at[kMaxSpatial] = {0};  // x, y, z, ...
};

// What the axes of an index space stand for.
struct Places {
  static constexpr int kSample = -2, kChannel = -1;

  int64_t samples = 1;              // of dim 0; 1 where the input has fewer than two dims
  int spatial = 0;                  // how many spatial dims
  int64_t size[kMaxSpatial] = {0};  // x, y, z, ...
  int8_t role[kMaxRank] = {0};      // per axis: kSample, kChannel, or index into Place::at

  FL_HOST_DEVICE static void set(Place& place, int role, int64_t index) {
    if (role == kSample) {
      place.sample = index;
    } else if (role == kChannel) {
      place.channel = index;
    } else {
      place.at[role] = index;
    }
  }

  // The place of the element with flat index `index`.
  FL_HOST_DEVICE Place of(const Extents& extents, int64_t index) const {
    Place place;
    for (int axis = extents.rank - 1; axis >= 0; --axis) {
      const int64_t quotient = index / extents.size[axis];
      set(place, role[axis], index - quotient * extents.size[axis]);
      index = quotient;
    }
    return place;
  }
};

// (N or 1, channels, spatial dims); the stride of a batch of one is 0.
struct ImageView {
  const void* data = nullptr;
  DType dtype = DType::kFloat;
  int64_t channels = 1;
  int64_t size[kMaxSpatial] = {0};  // x, y, z, ...: the input's, but for features
  int64_t sample_stride = 0, channel_stride = 0;
  int64_t stride[kMaxSpatial] = {0};

  FL_HOST_DEVICE int64_t offset(const Place& place, int spatial) const {
    int64_t result = place.sample * sample_stride;
    for (int dim = 0; dim < spatial; ++dim) result += place.at[dim] * stride[dim];
    return result;
  }
};

// (rows, width), (N, rows, width), or the (N,) of lengths; the stride of one table for all samples
// is 0.
struct TableView {
  const void* data = nullptr;
  DType dtype = DType::kFloat;
  int64_t rows = 1;
  int64_t sample_stride = 0, row_stride = 0, stride = 0;
};

// Element `column` of a row as double, which holds coordinates of every dtype.
template <class S>
FL_HOST_DEVICE double coordinate(const S* row, const TableView& table, int column) {
  return convert<double>(row[column * table.stride]);
}
template <class S>
FL_HOST_DEVICE const S* table_row(const TableView& table, int64_t sample, int64_t row) {
  return static_cast<const S*>(table.data) + sample * table.sample_stride + row * table.row_stride;
}

}  // namespace fusedloss
