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

// S: the labels' type. Whether NaN or not, labels_differ decides.
template <class S>
struct LabelLoops {
  // result |= a differs from b
  FL_VECTOR_CLONES static void add_differences(const S* a, const S* b, uint8_t* result,
                                               int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      result[i] = static_cast<uint8_t>(result[i] | (labels_differ(a[i], b[i]) ? 1 : 0));
    }
  }
};

struct ByteLoops {
  // bytes[i] |= bytes[i + distance], front to back: what is read has not been written yet.
  FL_VECTOR_CLONES static void widen(uint8_t* bytes, int64_t distance, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      bytes[i] = static_cast<uint8_t>(bytes[i] | bytes[i + distance]);
    }
  }
  FL_VECTOR_CLONES static void add(const uint8_t* a, uint8_t* result, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = static_cast<uint8_t>(result[i] | a[i]);
  }
  // latest = row wherever `hit`
  FL_VECTOR_CLONES static void record(const uint8_t* hit, int32_t row, int32_t* latest,
                                      int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) latest[i] = hit[i] != 0 ? row : latest[i];
  }
  // result |= latest >= row
  FL_VECTOR_CLONES static void since(const int32_t* latest, int32_t row, uint8_t* result,
                                     int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      result[i] = static_cast<uint8_t>(result[i] | (latest[i] >= row ? 1 : 0));
    }
  }
  template <class T>
  FL_VECTOR_CLONES static void choose(const uint8_t* near, T inside, T outside, T* result,
                                      int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) result[i] = near[i] != 0 ? inside : outside;
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
    std::vector<uint8_t> near, changes, hit;
    std::vector<char> label_rows[3];
  };

  // 1 where a label differs, else 0, in scratch.near.
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

    scratch.near.assign(count, 0);
    uint8_t* near = scratch.near.data();
    const S* own = labels<S>(labels_.offset(segment.place, spatial_), segment, 0, scratch);
    LabelLoops<S>::add_differences(own, own, near, count);  // NaN
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
      ByteLoops::since(latest, static_cast<int32_t>(window.low), near, count);
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
      scratch.hit.assign(count, 0);
      const S* row = labels<S>(offset, segment, 0, scratch);
      const S* above = labels<S>(offset - back, segment, 1, scratch);
      LabelLoops<S>::add_differences(above, row, scratch.hit.data(), count);
      ByteLoops::record(scratch.hit.data(), number - 1, latest, count);
    }
    if (radius_ == 0) return;
    find_changes<S>(segment, offset, scratch);
    ByteLoops::record(scratch.hit.data(), number, latest, count);
  }

  // scratch.hit: whether the row changes within the radius of each column.
  template <class S>
  void find_changes(const Segment& segment, int64_t offset, Scratch& scratch) const {
    const int64_t start = segment.place.at[segment.dim], count = segment.count;
    const int64_t size = labels_.size[segment.dim], radius = std::min(radius_, size);
    const int64_t first = std::max<int64_t>(0, start - radius);
    const int64_t last = std::min(size - 1, start + count - 1 + radius);
    // changes[i]: between columns start - radius + i and the next; 0 beyond the image.
    const int64_t width = count + 2 * radius;
    scratch.changes.assign(width + 1, 0);
    uint8_t* changes = scratch.changes.data();
    Segment wide = segment;
    wide.count = last - first + 1;
    const int64_t stride = labels_.stride[segment.dim];
    const S* row = labels<S>(offset + (first - start) * stride, wide, 2, scratch);
    LabelLoops<S>::add_differences(row, row + 1, changes + (first - start + radius), last - first);
    // The `or` of 2 * radius neighbours from those of powers of two; in place, front to back.
    const int64_t span = 2 * radius;
    int64_t covered = 1;
    for (; 2 * covered <= span; covered *= 2) {
      ByteLoops::widen(changes, covered, width - covered);
    }
    scratch.hit.assign(changes, changes + count);
    if (span > covered) ByteLoops::add(changes + span - covered, scratch.hit.data(), count);
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
