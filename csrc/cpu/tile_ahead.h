// Fetches a tile of planes while the one before it is computed: into the L2 cache, where tiles
// live.
//
//     const TileAhead ahead(stream, tile, backwards);
//     for each class c:  ahead.fetch(c);  ...   // of the tile after `tile`, or before it
#pragma once

#include "cpu/class_tile.h"

namespace fusedloss::cpu {

// The planes of the tile to come, where they lie in a row: fetched while this one is computed.
struct TileAhead {
  const char* data = nullptr;
  int64_t class_bytes = 0, bytes = 0;

  TileAhead() = default;
  TileAhead(const ClassStream& stream, const ClassTile& tile, bool backwards) {
    const Stream& positions = stream.positions;
    const int64_t offset = run_offset(positions, tile.begin, tile.count);
    if (offset < 0 || positions.stride[positions.rank - 1] != 1) return;
    const int64_t item = item_size(positions.dtype);
    data = positions.data + (backwards ? offset - tile.count : offset + tile.count) * item;
    class_bytes = stream.class_stride * item;
    bytes = tile.count * item;
  }

  FL_HOST_DEVICE void fetch(int64_t c) const {
#if defined(__GNUC__)
    if (data == nullptr) return;
    const char* plane = data + c * class_bytes;
    for (int64_t i = 0; i < bytes; i += kLineBytes) __builtin_prefetch(plane + i, 0, 2);
#endif
  }
};

}  // namespace fusedloss::cpu
