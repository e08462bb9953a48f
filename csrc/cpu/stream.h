// A tensor as the CPU driver reads and writes it: runs of elements, as float or double.
//
//     const float* x = load(stream, index, count, buffer);   // the tensor's own memory when it can
//     be store(stream, index, count, tile);
//
// Every mixture of dtypes, strides and broadcasts ends here: behind it there are only contiguous
// tiles of the operation's type that stay in L1.
#pragma once

#include <algorithm>

#include "core/extents.h"
#include "cpu/tile_loops.h"

namespace fusedloss::cpu {

// An Operand with its own dims merged as far as it alone allows: a dense tensor has rank 1.
struct Stream {
  char* data = nullptr;
  DType dtype = DType::kFloat;
  int rank = 0;
  int64_t size[kMaxRank];
  int64_t stride[kMaxRank];

  Stream() = default;
  Stream(const Operand& operand, const Extents& extents)
      : data(static_cast<char*>(operand.data)), dtype(operand.dtype) {
    for (int axis = 0; axis < extents.rank; ++axis) {
      if (extents.size[axis] == 1) continue;
      if (rank > 0 && stride[rank - 1] == operand.stride[axis] * extents.size[axis]) {
        size[rank - 1] *= extents.size[axis];
        stride[rank - 1] = operand.stride[axis];
      } else {
        size[rank] = extents.size[axis];
        stride[rank++] = operand.stride[axis];
      }
    }
    if (rank == 0) {
      rank = 1;
      size[0] = 1;
      stride[0] = 0;
    }
  }

  explicit operator bool() const { return data != nullptr; }
  // The same, so many elements further on.
  Stream moved(int64_t offset) const {
    Stream result = *this;
    result.data += offset * item_size(dtype);
    return result;
  }
  template <class S>
  S* at(int64_t offset) const {
    return reinterpret_cast<S*>(data) + offset;
  }
};

// Rows up to this length are handed over many at a time (channels_last with few channels).
constexpr int64_t kShortRow = 64;

struct Rows {
  int64_t offset, row_stride, stride, rows, length;
};

// Splits [index, index + count) into blocks of rows of constant stride: visit(rows, position).
template <class Visit>
void walk(const Stream& stream, int64_t index, int64_t count, Visit&& visit) {
  const int last = stream.rank - 1;
  int64_t coordinate[kMaxRank], offset = 0;
  for (int axis = last; axis > 0; --axis) {
    coordinate[axis] = index % stream.size[axis];
    index /= stream.size[axis];
    offset += coordinate[axis] * stream.stride[axis];
  }
  coordinate[0] = index;
  offset += index * stream.stride[0];

  for (int64_t position = 0; position < count;) {
    const int64_t left = count - position, length = stream.size[last];
    const bool at_row_start = last > 0 && coordinate[last] == 0;
    int64_t rows = at_row_start && length <= kShortRow
                       ? std::min(left / length, stream.size[last - 1] - coordinate[last - 1])
                       : 0;
    int advanced = last;  // the axis along which this step moved
    if (rows > 0) {
      visit(Rows{offset, stream.stride[last - 1], stream.stride[last], rows, length}, position);
      position += rows * length;
      advanced = last - 1;
    } else {
      rows = std::min(left, length - coordinate[last]);
      visit(Rows{offset, 0, stream.stride[last], 1, rows}, position);
      position += rows;
    }
    coordinate[advanced] += rows;
    offset += rows * stream.stride[advanced];
    for (int axis = advanced; axis > 0 && coordinate[axis] == stream.size[axis]; --axis) {
      coordinate[axis] = 0;
      offset += stream.stride[axis - 1] - stream.size[axis] * stream.stride[axis];
      ++coordinate[axis - 1];
    }
  }
}

// The tensor's own memory if [index, index + count) is contiguous there, else nullptr.
template <class S>
S* direct(const Stream& stream, int64_t index, int64_t count) {
  const int last = stream.rank - 1;
  if (stream.stride[last] != 1) return nullptr;
  if (last == 0) return stream.at<S>(index);
  const int64_t coordinate = index % stream.size[last];
  if (coordinate + count > stream.size[last]) return nullptr;
  int64_t offset = coordinate;
  index /= stream.size[last];
  for (int axis = last - 1; axis > 0; --axis) {
    offset += (index % stream.size[axis]) * stream.stride[axis];
    index /= stream.size[axis];
  }
  return stream.at<S>(offset + index * stream.stride[0]);
}

template <class Meaning, class S, class T>
void gather(const Stream& stream, int64_t index, int64_t count, T* buffer) {
  using Loops = MoveLoops<Meaning, T, S>;
  walk(stream, index, count, [&](const Rows& rows, int64_t position) {
    const S* source = stream.at<const S>(rows.offset);
    T* destination = buffer + position;
    if (rows.rows > 1) {
      Loops::rows(source, rows.row_stride, rows.stride, destination, rows.rows, rows.length);
    } else if (rows.stride == 1) {
      Loops::contiguous(source, destination, rows.length);
    } else {
      Loops::strided(source, rows.stride, destination, rows.length);
    }
  });
}

// Values as T: float or double from any dtype, int64 from the integer dtypes.
template <class T>
const T* load(const Stream& stream, int64_t index, int64_t count, T* buffer) {
  visit_dtype(stream.dtype, [&](auto element) {
    using S = decltype(element);
    if constexpr (std::is_same_v<S, T>) {
      if (const T* memory = direct<T>(stream, index, count)) {
        buffer = const_cast<T*>(memory);
        return;
      }
    }
    if constexpr (std::is_integral_v<S> || std::is_floating_point_v<T>) {
      gather<AsNumber, S>(stream, index, count, buffer);
    }
  });
  return buffer;
}

// Mask values: 0 or 1 from bool and integers, the value itself from floating masks.
template <class T>
const T* load_mask(const Stream& stream, int64_t index, int64_t count, T* buffer) {
  if (is_floating(stream.dtype)) return load(stream, index, count, buffer);
  visit_dtype(stream.dtype, [&](auto element) {
    using S = decltype(element);
    if constexpr (std::is_integral_v<S>) gather<AsMask, S>(stream, index, count, buffer);
  });
  return buffer;
}

// The tile into the tensor; nothing to do where a loop wrote to the tensor's own memory.
template <class T>
void store(const Stream& stream, int64_t index, int64_t count, const T* tile) {
  visit_dtype(stream.dtype, [&](auto element) {
    using S = decltype(element);
    if constexpr (!std::is_integral_v<S>) {
      S* memory = direct<S>(stream, index, count);
      if (static_cast<const void*>(memory) == tile) return;
      if (memory != nullptr) return MoveLoops<AsNumber, S, T>::contiguous(tile, memory, count);
      walk(stream, index, count, [&](const Rows& rows, int64_t position) {
        for (int64_t row = 0; row < rows.rows; ++row) {
          S* destination = stream.at<S>(rows.offset + row * rows.row_stride);
          const T* source = tile + position + row * rows.length;
          for (int64_t i = 0; i < rows.length; ++i) {
            destination[i * rows.stride] = convert<S>(source[i]);
          }
        }
      });
    }
  });
}

}  // namespace fusedloss::cpu
