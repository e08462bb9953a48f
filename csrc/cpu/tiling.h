// How the CPU driver cuts the index space into tiles and blocks. Depends on the problem alone, so
// results do not depend on the number of threads.
//
// planar       positions in runs of one `outer`, all channels of a run in turn: what does not vary
//              over channels is worked out once per run
// flat         runs of elements in memory order, whole positions where they fit a tile
//
// `whole_positions`: the caller needs all channels of a position in one tile, however many.
#pragma once

#include <algorithm>

#include "core/extents.h"
#include "cpu/tile_loops.h"

namespace fusedloss::cpu {

// The element (outer, c, inner) of a planar tile has flat index begin + c * channel_stride.
struct TileRange {
  int64_t sample;
  int64_t begin;     // flat index of the first element, channel 0
  int64_t count;     // elements per channel (planar) or in all (flat)
  int64_t channels;  // runs in this tile
  int64_t channel_stride;

  // From the run that starts at `index` to the one after it, most likely.
  int64_t next(int64_t index) const {
    const bool last = index == begin + (channels - 1) * channel_stride;
    return last ? count - (channels - 1) * channel_stride : channel_stride;
  }
};

class Tiling {
 public:
  static constexpr int64_t kTilesPerBlock = 16;

  Tiling(const Extents& extents, bool whole_positions) : extents_(extents) {
    if (extents.elements() == 0) return;
    const int64_t per_position = extents.channels * extents.inner;
    planar_ = extents.channels > 1 &&
              (extents.inner >= kTile / 2 || (whole_positions && per_position > kTile));
    if (planar_) {
      tiles_per_outer_ = divide_up(extents.inner, kTile);
      tiles_per_sample_ = extents.outer / extents.samples * tiles_per_outer_;
    } else {
      run_ = per_position <= kTile && extents.channels > 1 ? kTile / per_position * per_position
                                                           : kTile;
      tiles_per_sample_ = divide_up(extents.elements_per_sample(), run_);
    }
    blocks_per_sample_ = divide_up(tiles_per_sample_, kTilesPerBlock);
  }

  bool planar() const { return planar_; }
  // Whether every tile holds all channels of its positions.
  bool keeps_positions() const {
    return planar_ || extents_.channels == 1 || extents_.channels * extents_.inner <= kTile;
  }
  int64_t blocks() const { return blocks_per_sample_ * extents_.samples; }
  int64_t blocks_per_sample() const { return blocks_per_sample_; }
  int64_t elements_per_block() const {
    return kTilesPerBlock * (planar_ ? kTile * extents_.channels : run_);
  }

  template <class Visit>
  void for_each_tile(int64_t block, Visit&& visit) const {
    const int64_t sample = block / blocks_per_sample_;
    const int64_t first = block % blocks_per_sample_ * kTilesPerBlock;
    const int64_t last = std::min(first + kTilesPerBlock, tiles_per_sample_);
    for (int64_t tile = first; tile < last; ++tile) visit(range(sample, tile));
  }

 private:
  static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

  TileRange range(int64_t sample, int64_t tile) const {
    const int64_t base = sample * extents_.elements_per_sample();
    if (planar_) {
      const int64_t inner = tile % tiles_per_outer_ * kTile;
      const int64_t begin =
          base + tile / tiles_per_outer_ * extents_.channels * extents_.inner + inner;
      return {sample, begin, std::min(kTile, extents_.inner - inner), extents_.channels,
              extents_.inner};
    }
    const int64_t begin = tile * run_;
    return {sample, base + begin, std::min(run_, extents_.elements_per_sample() - begin), 1, 0};
  }

  Extents extents_;
  bool planar_ = false;
  int64_t run_ = kTile;
  int64_t tiles_per_outer_ = 1;
  int64_t tiles_per_sample_ = 0;
  int64_t blocks_per_sample_ = 0;
};

}  // namespace fusedloss::cpu
