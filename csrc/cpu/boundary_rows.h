// Where a label within a window differs, along a segment of positions: `near_boundary` for rows.
//
// A window holds one label only if each of its rows does and neighbouring rows agree. So for every
// column of the segment we keep the latest row that changes within the radius of it, or differs
// from the row below it; a position is near a boundary if that row lies in its window. Going one
// row further costs one new row, whatever the radius; elsewhere the search starts again with the
// first row of the window. In 3-D every plane of the window keeps such a state.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/position_space.h"
#include "weights/boundary.h"

namespace fusedloss::cpu {

// Not 0 where two labels differ; for integers without a comparison, which would have to be
// narrowed.
template <class S>
FL_HOST_DEVICE uint32_t label_difference(S a, S b) {
  if constexpr (std::is_integral_v<S>) {
    const uint64_t bits = static_cast<uint64_t>(a ^ b);
    return static_cast<uint32_t>(sizeof(S) == 8 ? bits | bits >> 32 : bits);
  } else {
    return labels_differ(a, b) ? 1 : 0;
  }
}

// S: the labels' type. A flag is not 0 where something holds.
template <class S>
struct LabelLoops {
  FL_VECTOR_CLONES static void differences(const S* a, const S* b, uint32_t* flags, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) flags[i] = label_difference(a[i], b[i]);
  }
  FL_VECTOR_CLONES static void add_differences(const S* a, const S* b, uint32_t* flags,
                                               int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) flags[i] |= label_difference(a[i], b[i]);
  }
};

struct FlagLoops {
  FL_VECTOR_CLONES static void combine(const uint32_t* a, const uint32_t* b, uint32_t* flags,
                                       int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) flags[i] = a[i] | b[i];
  }
  // flags[i] |= flags[i + distance], front to back: what is read has not been written yet.
  FL_VECTOR_CLONES static void widen(uint32_t* flags, int64_t distance, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) flags[i] |= flags[i + distance];
  }
  // latest = row wherever a flag is set
  FL_VECTOR_CLONES static void record(const uint32_t* flags, int32_t row, int32_t* latest,
                                      int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) latest[i] = flags[i] != 0 ? row : latest[i];
  }
  FL_VECTOR_CLONES static void add_since(const int32_t* latest, int32_t row, uint32_t* flags,
                                         int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) flags[i] |= latest[i] >= row ? 1u : 0u;
  }
  template <class T>
  FL_VECTOR_CLONES static void choose(const uint32_t* flags, T inside, T outside, T* result,
                                      int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = flags[i] != 0 ? inside : outside;
  }
};

class BoundaryRows {
 public:
  BoundaryRows(const ImageView& labels, const Places& places, int64_t radius)
      : labels_(labels), spatial_(places.spatial), radius_(radius) {}

  struct Scratch {
    // What the state is for: labels, sample, row's start and length, and the planes' rows.
    const BoundaryRows* owner = nullptr;
    Segment segment;
    std::vector<int64_t> planes;  // offsets of the planes of the last window
    std::vector<Window> done;     // per plane: the rows [low, high) that are in `latest`
    std::vector<int32_t> latest;  // per plane and column
    std::vector<uint32_t> near, changes, hit;
    std::vector<char> label_rows[3];
  };

  // Flags where a label differs, in scratch.near.
  void row(const Segment& segment, Scratch& scratch) const {
    switch (labels_.dtype) {
      case DType::kBool:
      case DType::kUInt8:
      case DType::kInt8:
        return row<uint8_t>(segment, scratch);
      case DType::kInt16:
      case DType::kUInt16:
        return row<uint16_t>(segment, scratch);
      case DType::kInt32:
      case DType::kUInt32:
        return row<uint32_t>(segment, scratch);
      case DType::kInt64:
      case DType::kUInt64:
        return row<uint64_t>(segment, scratch);
      case DType::kHalf:
        return row<Half>(segment, scratch);
      case DType::kBFloat16:
        return row<BFloat16>(segment, scratch);
      case DType::kFloat:
        return row<float>(segment, scratch);
      default:
        return row<double>(segment, scratch);
    }
  }

 private:
  template <class S>
  void row(const Segment& segment, Scratch& scratch) const {
    const int64_t count = segment.count;
    if (count < 4 && radius_ <= 2) return few<S>(segment, scratch);
    const int across = segment.dim == 0 ? 1 : 0;  // the dim of the rows, if there is a second one
    const int64_t at = spatial_ > 1 ? segment.place.at[across] : 0;
    const Window window(at, spatial_ > 1 ? labels_.size[across] : 1, radius_);
    find_planes(segment, across, scratch);
    const int64_t along = segment.place.at[segment.dim] * labels_.stride[segment.dim];
    const int64_t stride_across = spatial_ > 1 ? labels_.stride[across] : 0;

    scratch.near.resize(count);
    uint32_t* near = scratch.near.data();
    const S* own = labels<S>(labels_.offset(segment.place, spatial_), segment, 0, scratch);
    if constexpr (std::is_integral_v<S>) {
      std::fill_n(near, count, 0u);
    } else {
      LabelLoops<S>::differences(own, own, near, count);  // NaN
    }
    for (size_t plane = 0; plane < scratch.planes.size(); ++plane) {
      const int64_t origin = scratch.planes[plane] + along;
      int32_t* latest = scratch.latest.data() + plane * count;
      Window& done = scratch.done[plane];
      if (done.low > window.low || done.high < window.low || done.high > window.high + 1) {
        std::fill_n(latest, count, -1);
        done.low = done.high = window.low;
      }
      for (; done.high <= window.high; ++done.high) {
        add_row<S>(segment, origin + done.high * stride_across,
                   done.high > done.low ? stride_across : 0, static_cast<int32_t>(done.high),
                   latest, scratch);
      }
      FlagLoops::add_since(latest, static_cast<int32_t>(window.low), near, count);
      if (scratch.planes.size() > 1) {
        const S* there = labels<S>(origin + at * stride_across, segment, 1, scratch);
        own = labels<S>(labels_.offset(segment.place, spatial_), segment, 0, scratch);
        LabelLoops<S>::add_differences(own, there, near, count);
      }
    }
  }

  // Takes the row at `offset` into the state; `back` leads to the row above it, 0: none is known.
  template <class S>
  void add_row(const Segment& segment, int64_t offset, int64_t back, int32_t number,
               int32_t* latest, Scratch& scratch) const {
    const int64_t count = segment.count;
    if (back != 0) {
      scratch.hit.resize(count);
      const S* row = labels<S>(offset, segment, 0, scratch);
      const S* above = labels<S>(offset - back, segment, 1, scratch);
      LabelLoops<S>::differences(above, row, scratch.hit.data(), count);
      FlagLoops::record(scratch.hit.data(), number - 1, latest, count);
    }
    if (radius_ > 0) FlagLoops::record(changes<S>(segment, offset, scratch), number, latest, count);
  }

  // Flags: whether the row at `offset` changes within the radius of each column.
  template <class S>
  const uint32_t* changes(const Segment& segment, int64_t offset, Scratch& scratch) const {
    const int64_t start = segment.place.at[segment.dim], count = segment.count;
    const int64_t size = labels_.size[segment.dim], radius = std::min(radius_, size);
    const int64_t first = std::max<int64_t>(0, start - radius);
    const int64_t last = std::min(size - 1, start + count - 1 + radius);
    // changes[i]: between columns start - radius + i and the next; 0 beyond the image.
    const int64_t width = count + 2 * radius, skipped = first - start + radius;
    scratch.changes.resize(width);
    uint32_t* changes = scratch.changes.data();
    Segment wide = segment;
    wide.count = last - first + 1;
    const int64_t stride = labels_.stride[segment.dim];
    const S* row = labels<S>(offset + (first - start) * stride, wide, 2, scratch);
    std::fill_n(changes, skipped, 0);
    LabelLoops<S>::differences(row, row + 1, changes + skipped, last - first);
    std::fill(changes + skipped + last - first, changes + width, 0);
    // The `or` of 2 * radius neighbours from those of powers of two.
    const int64_t span = 2 * radius;
    int64_t covered = 1;
    for (; 2 * covered <= span; covered *= 2) {
      FlagLoops::widen(changes, covered, width - covered);
    }
    if (span == covered) return changes;
    scratch.hit.resize(count);
    FlagLoops::combine(changes, changes + span - covered, scratch.hit.data(), count);
    return scratch.hit.data();
  }

  template <class S>
  void few(const Segment& segment, Scratch& scratch) const {
    scratch.near.assign(segment.count, 0);
    Place place = segment.place;
    for (int64_t i = 0; i < segment.count; ++i) {
      place.at[segment.dim] = segment.place.at[segment.dim] + i;
      scratch.near[i] = near_boundary<S>(labels_, spatial_, radius_, place) ? 1 : 0;
    }
  }

  // The segment's labels from `offset` on, contiguous.
  template <class S>
  const S* labels(int64_t offset, const Segment& segment, int buffer, Scratch& scratch) const {
    const S* first = static_cast<const S*>(labels_.data) + offset;
    const int64_t stride = labels_.stride[segment.dim];
    if (stride == 1) return first;
    std::vector<char>& bytes = scratch.label_rows[buffer];
    bytes.resize(segment.count * sizeof(S));
    S* copy = reinterpret_cast<S*>(bytes.data());
    for (int64_t i = 0; i < segment.count; ++i) copy[i] = first[i * stride];
    return copy;
  }

  // The offsets of the planes in the window (dims beyond the segment's and `across`), and whether
  // what is known of them still holds.
  void find_planes(const Segment& segment, int across, Scratch& scratch) const {
    std::vector<int64_t> planes(1, segment.place.sample * labels_.sample_stride);
    for (int dim = 0; dim < spatial_; ++dim) {
      if (dim == segment.dim || dim == across) continue;
      const Window window(segment.place.at[dim], labels_.size[dim], radius_);
      std::vector<int64_t> wider;
      for (const int64_t plane : planes) {
        for (int64_t at = window.low; at <= window.high; ++at) {
          wider.push_back(plane + at * labels_.stride[dim]);
        }
      }
      planes.swap(wider);
    }
    const bool same = scratch.owner == this && scratch.planes == planes &&
                      scratch.segment.dim == segment.dim &&
                      scratch.segment.count == segment.count &&
                      scratch.segment.place.at[segment.dim] == segment.place.at[segment.dim];
    if (!same) {
      scratch.done.assign(planes.size(), Window());
      scratch.latest.assign(planes.size() * segment.count, -1);
      scratch.planes.swap(planes);
    }
    scratch.owner = this;
    scratch.segment = segment;
  }

  const ImageView& labels_;
  const int spatial_;
  const int64_t radius_;
};

}  // namespace fusedloss::cpu
