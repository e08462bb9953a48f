// The positions of an index space in memory order, and how their values become those of elements.
//
//     elements  outer x channels x inner        flat index (o C + c) inner + i
//     positions outer x inner                   flat index o inner + i
//
// What is the same for all channels is computed over a run of positions; `spread` hands it to the
// elements of a run. Where the index space knows its places, a run of positions splits into
// segments along the innermost axis.
#pragma once

#include <algorithm>

#include "cpu/stream.h"
#include "cpu/tiling.h"
#include "regions/program.h"

namespace fusedloss::cpu {

// `count` positions from `place` on along `dim` (index into Place::at), the other coordinates
// fixed.
struct Segment {
  Place place;
  int dim;
  int64_t count;
  int64_t offset;  // of the first one in its run of positions
};

struct PositionRange {
  int64_t begin, count;
};

class PositionSpace {
 public:
  PositionSpace(const Extents& extents, const Places& places)
      : channels_(extents.channels), inner_(extents.inner) {
    positions_ = Extents();
    positions_.rank = 0;
    for (int axis = 0; axis < extents.rank; ++axis) {
      if (axis == extents.channel_axis) continue;
      axis_[positions_.rank] = axis;
      role_[positions_.rank] = places.role[axis];
      positions_.size[positions_.rank++] = extents.size[axis];
    }
    if (positions_.rank == 0) positions_.size[positions_.rank++] = 1;
  }

  // A tensor without a channel dim of its own, over positions.
  Stream stream(const Operand& operand) const {
    Operand result = operand;
    for (int axis = 0; axis < positions_.rank; ++axis) {
      result.stride[axis] = operand.stride[axis_[axis]];
    }
    return Stream(result, positions_);
  }

  // The positions whose values the elements of a tile need; at most kTile.
  PositionRange of(const TileRange& tile) const {
    const int64_t per_outer = channels_ * inner_;
    const int64_t outer = tile.begin / per_outer;
    if (channels_ == 1) return {tile.begin, tile.count};
    if (tile.channels > 1) return {outer * inner_ + tile.begin % per_outer, tile.count};
    const int64_t last = (tile.begin + tile.count - 1) / per_outer;
    return {outer * inner_, (last - outer + 1) * inner_};
  }

  // Values of the positions `of(tile)` as those of the tile's elements; planar tiles and those
  // without channels need none.
  template <class T>
  void spread(const TileRange& tile, const T* positions, T* elements) const {
    const int64_t per_outer = channels_ * inner_;
    const int64_t skipped = tile.begin % per_outer;
    if (skipped == 0 && tile.count % per_outer == 0 && inner_ == 1) {
      using Loops = MoveLoops<AsNumber, T, T>;
      return Loops::rows(positions, 1, 0, elements, tile.count / per_outer, channels_);
    }
    int64_t channel = skipped / inner_, i = skipped % inner_;
    for (int64_t done = 0; done < tile.count;) {
      const int64_t same = inner_ == 1 ? channels_ - channel : 1;  // a value for several channels
      const int64_t count = std::min(tile.count - done, inner_ == 1 ? same : inner_ - i);
      if (inner_ == 1) {
        std::fill_n(elements + done, count, *positions);
      } else {
        std::copy_n(positions + i, count, elements + done);
      }
      done += count;
      channel += same;
      i = 0;
      if (channel == channels_) {
        channel = 0;
        positions += inner_;
      }
    }
  }
  static bool needs_spread(const TileRange& tile, int64_t channels) {
    return channels > 1 && tile.channels == 1;
  }

  template <class Visit>
  void for_each_segment(const PositionRange& range, Visit&& visit) const {
    const int last = positions_.rank - 1;
    const bool along_dim = role_[last] >= 0;
    int64_t index[kMaxRank], rest = range.begin;
    for (int axis = last; axis >= 0; --axis) {
      index[axis] = rest % positions_.size[axis];
      rest /= positions_.size[axis];
    }
    Segment segment{Place(), along_dim ? role_[last] : 0, 1, 0};
    while (segment.offset < range.count) {
      for (int axis = 0; axis <= last; ++axis) {
        Places::set(segment.place, role_[axis], index[axis]);
      }
      if (along_dim) {
        segment.count = std::min(range.count - segment.offset, positions_.size[last] - index[last]);
      }
      visit(static_cast<const Segment&>(segment));
      segment.offset += segment.count;
      index[last] += segment.count;
      for (int axis = last; axis > 0 && index[axis] == positions_.size[axis]; --axis) {
        index[axis] = 0;
        ++index[axis - 1];
      }
    }
  }

 private:
  int64_t channels_, inner_;
  Extents positions_;
  int axis_[kMaxRank] = {0};
  int role_[kMaxRank] = {0};
};

}  // namespace fusedloss::cpu
