// How active features are along a segment of positions: `activation` for rows.
//
// A row of the features, summed over channels, is kept for the many rows of a larger input that lie
// beside it; along the row itself every feature is spread over the places behind it.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/image_rows.h"
#include "weights/activation.h"

namespace fusedloss::cpu {

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
  // Rows of features: the same share for all.
  FL_VECTOR_CLONES static void mix(const T* low, const T* high, T share, T* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = between(low[i], high[i], share);
  }
  template <int kRows>
  FL_VECTOR_CLONES static void add_magnitudes(const T* const* rows, T* sum, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      T result = sum[i];
      for (int k = 0; k < kRows; ++k) result += math::abs(rows[k][i]);
      sum[i] = result;
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
    StretchLoops<T>::mix(low, high, own.share[at], result, count);
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
    const auto add = [&](int64_t c, auto rows) {
      constexpr int kRows = decltype(rows)::value;
      const T* row[kRows];
      load_rows<kRows>(features_, offset + c * features_.channel_stride, features_.stride[dim],
                       count, scratch.loaded.row, row);
      StretchLoops<T>::template add_magnitudes<kRows>(row, sum, count);
    };
    channel_sum_row(features_.channels, count, scratch.loaded, sum,
                    [&](int64_t begin, int64_t end) { for_channels(begin, end, add); });
    return sum;
  }

  const ImageView& features_;
  const int spatial_;
  Along along_[kMaxSpatial];
};

}  // namespace fusedloss::cpu
