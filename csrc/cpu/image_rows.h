// What images and features amount to along a segment of positions: image means, edges, activation.
//
// Rows of an image become contiguous tiles of the type of the arithmetic (or are read where they
// lie); behind that there are only plain loops that vectorise. Each does for a row what the scalar
// function of the same name in regions/ or weights/ does for a position.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/position_space.h"
#include "regions/channels.h"
#include "weights/activation.h"
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
  template <int kRows>
  FL_VECTOR_CLONES static void add_magnitudes(const V* const* rows, V* sum, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      V result = sum[i];
      for (int k = 0; k < kRows; ++k) result += math::abs(rows[k][i]);
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
  FL_VECTOR_CLONES static void divide(V* sum, V divisor, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) sum[i] /= divisor;
  }
  FL_VECTOR_CLONES static void mix(const V* low, const V* high, V share, V* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = between(low[i], high[i], share);
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
};

// visit(c, kRows): kRows channels from c on, an integral_constant.
template <class Visit>
void for_channels(int64_t channels, Visit&& visit) {
  for (int64_t c = 0; c < channels; c += kTogether) {
    switch (channels - c) {
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

// The mean of the channels, as `image_mean`.
template <class V>
void image_mean_row(const ImageView& image, int spatial, const Segment& segment,
                    ImageScratch<V>& scratch, V* result) {
  const int64_t offset = image.offset(segment.place, spatial);
  const int64_t stride = image.stride[segment.dim], count = segment.count;
  std::fill_n(result, count, V(0));
  for_channels(image.channels, [&](int64_t c, auto rows) {
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
  for_channels(image.channels, [&](int64_t c, auto rows) {
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
  });
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
  std::fill_n(result + first, count, T(0));
  const int64_t at = segment.place.at[other];
  const int64_t up = at > 0 ? -image.stride[other] : 0;
  const int64_t down = at + 1 < image.size[other] ? image.stride[other] : 0;
  const int64_t stride = image.stride[dim];
  int64_t offset = image.offset(segment.place, 2) + (first - 1) * stride;
  for (int64_t c = 0; c < image.channels; ++c, offset += image.channel_stride) {
    const T* above = load_row(image, offset + up, stride, count + 2, scratch.row[0]);
    const T* row = load_row(image, offset, stride, count + 2, scratch.row[1]);
    const T* below = load_row(image, offset + down, stride, count + 2, scratch.row[2]);
    ImageLoops<T>::add_sobel(above, row, below, result + first, count);
  }
}

// Without gathers, which some CPUs have made slow: a feature is written to all places between it
// and the next one. Stores reach up to kStep - 1 places beyond `count`.
template <class T>
struct StretchLoops {
  static constexpr int64_t kStep = 16;

  // values[0] is feature `first`, `last` the last there is; feature j lies below the places
  // begin[j] .. begin[j + 1] - 1, of which `start` is the first one wanted.
  FL_VECTOR_CLONES static void expand(const T* values, int32_t first, int32_t last,
                                      const int32_t* begin, int32_t start, int32_t count, T* low,
                                      T* high) {
    for (int32_t j = first; j <= last && begin[j] - start < count; ++j) {
      const T below = values[j - first], above = values[std::min(j + 1, last) - first];
      const int32_t end = std::min(begin[j + 1] - start, count);
      for (int32_t i = std::max(begin[j] - start, 0); i < end; i += kStep) {
        for (int32_t k = 0; k < kStep; ++k) low[i + k] = below;
        for (int32_t k = 0; k < kStep; ++k) high[i + k] = above;
      }
    }
  }
  FL_VECTOR_CLONES static void mix(const T* low, const T* high, const T* share, T* result,
                                   int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = between(low[i], high[i], share[i]);
  }
};

// Where each index of the input falls among the features, per dim: worked out once per call.
template <class T>
class ActivationRows {
 public:
  ActivationRows(const ImageView& features, const Places& places)
      : features_(features), spatial_(places.spatial) {
    for (int dim = 0; dim < spatial_; ++dim) {
      const int64_t size = places.size[dim];
      Along& along = along_[dim];
      along.size = size;
      for (int64_t i = 0; i < size; ++i) {
        const Stretch stretch(i, size, features.size[dim]);
        along.begin.resize(stretch.low + 1, static_cast<int32_t>(i));
        along.low.push_back(stretch.low);
        along.high.push_back(stretch.high);
        along.share.push_back(static_cast<T>(stretch.share));
      }
      along.begin.resize(features.size[dim] + 1, static_cast<int32_t>(size));
    }
  }

  struct Along {
    int64_t size;  // of the input
    std::vector<int32_t> low, high;
    std::vector<T> share;
    std::vector<int32_t> begin;  // per feature: the first index that it lies below
  };

  // Rows of the features' activity, the last few that were needed: a row of the features serves
  // many rows of a larger input.
  struct Scratch {
    static constexpr int kRows = 4;
    const ActivationRows* owner[kRows] = {nullptr};
    int64_t offset[kRows], count[kRows], used[kRows] = {0};  // the least recently used makes room
    int64_t uses = 0;
    alignas(64) T activity[kRows][kRow];
    alignas(64) T mixed[kMaxSpatial][kRow];
    ImageScratch<T> loaded;
    alignas(64) T low[kRow], high[kRow];
  };

  // As `activation`.
  void row(const Segment& segment, Scratch& scratch, T* result) const {
    const int64_t start = segment.place.at[segment.dim];
    const int32_t* low = along_[segment.dim].low.data() + start;
    const int32_t* high = along_[segment.dim].high.data() + start;
    const T* share = along_[segment.dim].share.data() + start;
    for (int64_t done = 0; done < segment.count;) {
      int64_t end = std::min(segment.count, done + kTile);
      while (high[end - 1] - low[done] >= kRow) end = done + (end - done + 1) / 2;
      const int32_t first = low[done], last = high[end - 1];
      if (last - first >= 4 * (end - done)) {  // most features of the row are skipped
        for (int64_t i = done; i < end; ++i) result[i] = alone(segment, i);
      } else {
        const T* values = features(segment, first, last - first + 1, scratch);
        StretchLoops<T>::expand(values, first, last, along_[segment.dim].begin.data(),
                                static_cast<int32_t>(start + done),
                                static_cast<int32_t>(end - done), scratch.low, scratch.high);
        StretchLoops<T>::mix(scratch.low, scratch.high, share + done, result + done, end - done);
      }
      done = end;
    }
  }

 private:
  T alone(const Segment& segment, int64_t index) const {
    Stretch stretch[kMaxSpatial];
    for (int dim = 0; dim < spatial_; ++dim) {
      const int64_t at = segment.place.at[dim] + (dim == segment.dim ? index : 0);
      stretch[dim] = Stretch(at, along_[dim].size, features_.size[dim]);
    }
    T result = T(0);
    visit_image_dtype(features_.dtype, [&](auto element) {
      result = stretched<T, decltype(element)>(features_, spatial_, stretch,
                                               segment.place.sample * features_.sample_stride);
    });
    return result;
  }

  // A row of features, interpolated along all other dims.
  const T* features(const Segment& segment, int64_t first, int64_t count, Scratch& scratch) const {
    const int64_t offset =
        segment.place.sample * features_.sample_stride + first * features_.stride[segment.dim];
    return mixed(segment, 0, offset, count, scratch);
  }

  const T* mixed(const Segment& segment, int dim, int64_t offset, int64_t count,
                 Scratch& scratch) const {
    if (dim == spatial_) return activity(segment.dim, offset, count, scratch);
    if (dim == segment.dim) return mixed(segment, dim + 1, offset, count, scratch);
    const Along& own = along_[dim];
    const int64_t at = segment.place.at[dim], stride = features_.stride[dim];
    const T* low = mixed(segment, dim + 1, offset + own.low[at] * stride, count, scratch);
    if (own.share[at] == T(0)) return low;
    T* result = scratch.mixed[dim];
    for (int inner = dim + 1; inner < spatial_; ++inner) {
      if (low != scratch.mixed[inner]) continue;
      low = std::copy_n(low, count, result) - count;  // else the next line overwrites it
      break;
    }
    const T* high = mixed(segment, dim + 1, offset + own.high[at] * stride, count, scratch);
    ImageLoops<T>::mix(low, high, own.share[at], result, count);
    return result;
  }

  const T* activity(int dim, int64_t offset, int64_t count, Scratch& scratch) const {
    int slot = 0;
    for (int i = 0; i < Scratch::kRows; ++i) {
      if (scratch.owner[i] == this && scratch.offset[i] == offset && scratch.count[i] >= count) {
        scratch.used[i] = ++scratch.uses;
        return scratch.activity[i];
      }
      if (scratch.used[i] < scratch.used[slot]) slot = i;
    }
    scratch.used[slot] = ++scratch.uses;
    scratch.owner[slot] = this;
    scratch.offset[slot] = offset;
    scratch.count[slot] = count;
    T* sum = scratch.activity[slot];
    std::fill_n(sum, count, T(0));
    for_channels(features_.channels, [&](int64_t c, auto rows) {
      constexpr int kRows = decltype(rows)::value;
      const T* row[kRows];
      load_rows<kRows>(features_, offset + c * features_.channel_stride, features_.stride[dim],
                       count, scratch.loaded.row, row);
      ImageLoops<T>::template add_magnitudes<kRows>(row, sum, count);
    });
    return sum;
  }

  const ImageView& features_;
  const int spatial_;
  Along along_[kMaxSpatial];
};

}  // namespace fusedloss::cpu
