// What images amount to along a segment of positions: means of channels, edges.
//
// Rows of an image become contiguous tiles of the type of the arithmetic (or are read where they
// lie); behind that there are only plain loops that vectorise. Each does for a row what the scalar
// function of the same name in regions/ or weights/ does for a position.
#pragma once

#include <algorithm>

#include "cpu/position_space.h"
#include "regions/channels.h"
#include "weights/edges.h"

namespace fusedloss::cpu {

// A row has up to this many elements: a tile and the neighbours on both sides.
constexpr int64_t kRow = kTile + 64;

// Calls f with an element of the image's type; floating or uint8.
template <class F>
void visit_image_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kUInt8:
      return f(uint8_t{});
    case DType::kHalf:
      return f(Half{});
    case DType::kBFloat16:
      return f(BFloat16{});
    case DType::kFloat:
      return f(float{});
    default:
      return f(double{});
  }
}

// `count` elements from `offset` on as V, in the image's own memory or in `buffer`.
template <class V>
const V* load_row(const ImageView& image, int64_t offset, int64_t stride, int64_t count,
                  V* buffer) {
  const V* result = buffer;
  visit_image_dtype(image.dtype, [&](auto element) {
    using S = decltype(element);
    const S* row = static_cast<const S*>(image.data) + offset;
    if constexpr (std::is_same_v<S, V>) {
      if (stride == 1) {
        result = row;
        return;
      }
    }
    if (stride == 1) {
      MoveLoops<AsNumber, V, S>::contiguous(row, buffer, count);
    } else {
      MoveLoops<AsNumber, V, S>::strided(row, stride, buffer, count);
    }
  });
  return result;
}

// Channels are taken up to four at a time: sums stay in registers.
constexpr int kTogether = 4;

template <class V>
struct ImageLoops {
  template <int kRows>
  FL_VECTOR_CLONES static void add(const V* const* rows, V* sum, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      V result = sum[i];
      for (int k = 0; k < kRows; ++k) result += rows[k][i];
      sum[i] = result;
    }
  }
  // From each row to its next element, and to the row beside it.
  template <int kRows>
  FL_VECTOR_CLONES static void add_differences(const V* const* rows, const V* const* beside, V* sum,
                                               int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      V result = sum[i];
      for (int k = 0; k < kRows; ++k) {
        const V value = rows[k][i];
        result += math::abs(value - beside[k][i]) + math::abs(value - rows[k][i + 1]);
      }
      sum[i] = result;
    }
  }
  FL_VECTOR_CLONES static void add_difference(const V* a, const V* b, V* sum, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) sum[i] += math::abs(a[i] - b[i]);
  }
  FL_VECTOR_CLONES static void flush(V* sum, double* flushed, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      flushed[i] += static_cast<double>(sum[i]);
      sum[i] = V(0);
    }
  }
  FL_VECTOR_CLONES static void narrow(const double* flushed, V* sum, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) sum[i] = static_cast<V>(flushed[i]);
  }
  FL_VECTOR_CLONES static void divide(V* sum, V divisor, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) sum[i] /= divisor;
  }
  // Rows from one element before the first position on.
  FL_VECTOR_CLONES static void add_sobel(const V* above, const V* row, const V* below, V* sum,
                                         int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const V a[3] = {above[i], above[i + 1], above[i + 2]};
      const V r[3] = {row[i], row[i + 1], row[i + 2]};
      const V b[3] = {below[i], below[i + 1], below[i + 2]};
      sum[i] += sobel_magnitude(a, r, b);
    }
  }
};

template <class V>
struct ImageScratch {
  alignas(64) V row[2 * kTogether][kRow];
  alignas(64) double flushed[kRow];
};

// visit(c, kRows): kRows channels from c on, an integral_constant; all in [begin, end).
template <class Visit>
void for_channels(int64_t begin, int64_t end, Visit&& visit) {
  for (int64_t c = begin; c < end; c += kTogether) {
    switch (end - c) {
      case 1:
        return visit(c, std::integral_constant<int, 1>());
      case 2:
        return visit(c, std::integral_constant<int, 2>());
      case 3:
        return visit(c, std::integral_constant<int, 3>());
      default:
        visit(c, std::integral_constant<int, kTogether>());
    }
  }
}

// kRows channels' rows from `offset` on.
template <int kRows, class V>
void load_rows(const ImageView& image, int64_t offset, int64_t stride, int64_t count,
               V (*buffers)[kRow], const V** rows) {
  for (int k = 0; k < kRows; ++k) {
    rows[k] = load_row(image, offset + k * image.channel_stride, stride, count, buffers[k]);
  }
}

// As `channel_sum`: add(begin, end) adds the rows of these channels to `sum`.
template <class V, class Add>
void channel_sum_row(int64_t channels, int64_t count, ImageScratch<V>& scratch, V* sum, Add&& add) {
  std::fill_n(sum, count, V(0));
  if (channels <= kChannelsAtOnce) return add(int64_t{0}, channels);
  std::fill_n(scratch.flushed, count, 0.0);
  for (int64_t c = 0; c < channels; c += kChannelsAtOnce) {
    add(c, std::min(channels, c + kChannelsAtOnce));
    ImageLoops<V>::flush(sum, scratch.flushed, count);
  }
  ImageLoops<V>::narrow(scratch.flushed, sum, count);
}

// The mean of the channels, as `image_mean`.
template <class V>
void image_mean_row(const ImageView& image, int spatial, const Segment& segment,
                    ImageScratch<V>& scratch, V* result) {
  const int64_t offset = image.offset(segment.place, spatial);
  const int64_t stride = image.stride[segment.dim], count = segment.count;
  std::fill_n(result, count, V(0));
  for_channels(0, image.channels, [&](int64_t c, auto rows) {
    constexpr int kRows = decltype(rows)::value;
    const V* row[kRows];
    load_rows<kRows>(image, offset + c * image.channel_stride, stride, count, scratch.row, row);
    ImageLoops<V>::template add<kRows>(row, result, count);
  });
  ImageLoops<V>::divide(result, static_cast<V>(image.channels), count);
}

// As `edges_forward`.
template <class T>
void edges_forward_row(const ImageView& image, int spatial, const Segment& segment,
                       ImageScratch<T>& scratch, T* result) {
  std::fill_n(result, segment.count, T(0));
  int64_t back = 0;
  Place place = segment.place;
  for (int dim = 0; dim < spatial; ++dim) {
    if (place.at[dim] == 0 && dim != segment.dim) return;
    back += image.stride[dim];
  }
  const int64_t skipped = place.at[segment.dim] == 0 ? 1 : 0;
  const int64_t count = segment.count - skipped, stride = image.stride[segment.dim];
  if (count == 0) return;
  place.at[segment.dim] += skipped;
  result += skipped;
  const int64_t origin = image.offset(place, spatial) - back;
  const int other = segment.dim == 0 ? 1 : 0;
  const auto add = [&](int64_t c, auto rows) {
    constexpr int kRows = decltype(rows)::value;
    const int64_t offset = origin + c * image.channel_stride;
    const T *row[kRows], *beside[kRows];
    load_rows<kRows>(image, offset, stride, count + 1, scratch.row, row);
    T(*buffers)[kRow] = scratch.row + kTogether;
    if (spatial == 1) {
      for (const T* before : row) ImageLoops<T>::add_difference(before, before + 1, result, count);
      return;
    }
    load_rows<kRows>(image, offset + image.stride[other], stride, count, buffers, beside);
    ImageLoops<T>::template add_differences<kRows>(row, beside, result, count);
    for (int dim = 1; dim < spatial; ++dim) {
      if (dim == segment.dim || dim == other) continue;
      load_rows<kRows>(image, offset + image.stride[dim], stride, count, buffers, beside);
      for (int k = 0; k < kRows; ++k) {
        ImageLoops<T>::add_difference(row[k], beside[k], result, count);
      }
    }
  };
  channel_sum_row(image.channels, count, scratch, result,
                  [&](int64_t begin, int64_t end) { for_channels(begin, end, add); });
}

// As `edges_sobel`; the two ends of a row are left to it.
template <class T>
void edges_sobel_row(const ImageView& image, const Segment& segment, ImageScratch<T>& scratch,
                     T* result) {
  const int dim = segment.dim, other = 1 - dim;
  const int64_t start = segment.place.at[dim], size = image.size[dim];
  const auto alone = [&](int64_t index) {
    Place place = segment.place;
    place.at[dim] = start + index;
    visit_image_dtype(image.dtype, [&](auto element) {
      result[index] = edges_sobel<T, decltype(element)>(image, place);
    });
  };
  const int64_t first = start == 0 ? 1 : 0;
  const int64_t last =
      std::max(first, start + segment.count == size ? segment.count - 1 : segment.count);
  if (first > 0) alone(0);
  for (int64_t i = last; i < segment.count; ++i) alone(i);
  const int64_t count = last - first;
  if (count <= 0) return;
  const int64_t at = segment.place.at[other];
  const int64_t up = at > 0 ? -image.stride[other] : 0;
  const int64_t down = at + 1 < image.size[other] ? image.stride[other] : 0;
  const int64_t stride = image.stride[dim];
  const int64_t origin = image.offset(segment.place, 2) + (first - 1) * stride;
  const auto add = [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const int64_t offset = origin + c * image.channel_stride;
      const T* above = load_row(image, offset + up, stride, count + 2, scratch.row[0]);
      const T* row = load_row(image, offset, stride, count + 2, scratch.row[1]);
      const T* below = load_row(image, offset + down, stride, count + 2, scratch.row[2]);
      ImageLoops<T>::add_sobel(above, row, below, result + first, count);
    }
  };
  channel_sum_row(image.channels, count, scratch, result + first, add);
}

}  // namespace fusedloss::cpu
