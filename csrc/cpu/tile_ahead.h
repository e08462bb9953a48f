// Fetches a tile of planes into the L2 cache while the one before it is computed.
//
//     const TileAhead ahead(stream, tile, backwards);
//     for some positions [begin, end) and each class c:
//       ahead.fetch(c, begin, end);   // of the tile after `tile`, or before it
//       ...
//
// A few lines at a time: what the memory has not begun to bring holds up the arithmetic.
#pragma once

#include "cpu/class_tile.h"

namespace fusedloss::cpu {

// The planes of the tile to come, where they lie in a row: fetched while this one is computed.
struct TileAhead {
  const char* data = nullptr;
  int64_t class_bytes = 0, item_bytes = 0;

  TileAhead() = default;
  TileAhead(const ClassStream& stream, const ClassTile& tile, bool backwards) {
    const Stream& positions = stream.positions;
    const int64_t offset = run_offset(positions, tile.begin, tile.count);
    if (offset < 0 || positions.stride[positions.rank - 1] != 1) return;
    item_bytes = item_size(positions.dtype);
    data = positions.data + (backwards ? offset - tile.count : offset + tile.count) * item_bytes;
    class_bytes = stream.class_stride * item_bytes;
  }

  FL_HOST_DEVICE void fetch(int64_t c, int64_t begin, int64_t end) const {
#if defined(__GNUC__)
    if (data == nullptr) return;
    const char* plane = data + c * class_bytes;
    for (int64_t i = begin * item_bytes; i < end * item_bytes; i += kLineBytes) {
      __builtin_prefetch(plane + i, 0, 2);
    }
#endif
  }
};

}  // namespace fusedloss::cpu
