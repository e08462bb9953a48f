// Boxes, disks and lengths along a segment of positions: every one of their rows is an interval, so
// a shape costs a few comparisons per segment, whatever its size.
//
//     fill_shapes(instruction, bindings, segment, result)      1 inside any of the shapes, else 0
//
// returns what is known of the segment as a whole.
//
// Whether a position lies inside is asked of the scalar functions in regions/ alone. This code must
// not be compiled with fused multiply-add (no FL_VECTOR_CLONES here): they round as the reference.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/position_space.h"
#include "regions/boxes.h"
#include "regions/disks.h"
#include "regions/lengths.h"

namespace fusedloss::cpu {

enum class Coverage { kNone, kSome, kAll };

// Of a segment: indices relative to its start.
struct Interval {
  int64_t begin = 0, end = 0;
};

// Where `holds(place)` along a segment, if that is an interval around the index `nearest`; `reach`
// is about how far it extends to both sides.
template <class Holds>
Interval interval_around(const Segment& segment, double nearest, double reach, Holds&& holds) {
  const double start = static_cast<double>(segment.place.at[segment.dim]);
  const double last = static_cast<double>(segment.count - 1);
  const auto inside = [&](double index) {  // NaN becomes 0
    return static_cast<int64_t>(index > 0 ? (index < last ? index : last) : 0.0);
  };
  Place place = segment.place;
  const auto at = [&](int64_t index) {
    place.at[segment.dim] = segment.place.at[segment.dim] + index;
    return holds(static_cast<const Place&>(place));
  };
  const int64_t middle = inside(std::nearbyint(nearest - start));
  if (!at(middle)) return {};
  int64_t low = std::min(middle, inside(std::ceil(nearest - reach - start)));
  int64_t high = std::max(middle, inside(std::floor(nearest + reach - start)));
  while (low > 0 && at(low - 1)) --low;
  while (!at(low)) ++low;
  while (high + 1 < segment.count && at(high + 1)) ++high;
  while (!at(high)) --high;
  return {low, high + 1};
}

inline Interval box_interval(const Constant* bounds, int spatial, const Segment& segment) {
  const int64_t start = segment.place.at[segment.dim];
  for (int dim = 0; dim < spatial; ++dim) {
    const int64_t at = segment.place.at[dim];
    if (dim == segment.dim) continue;
    if (at < bounds[dim].integer || at >= bounds[spatial + dim].integer) return {};
  }
  return {std::clamp<int64_t>(bounds[segment.dim].integer - start, 0, segment.count),
          std::clamp<int64_t>(bounds[spatial + segment.dim].integer - start, 0, segment.count)};
}

// low <= index < high for numbers of any size; empty where one is NaN.
inline Interval index_interval(double low, double high, const Segment& segment) {
  if (!(low < high)) return {};
  const double start = static_cast<double>(segment.place.at[segment.dim]);
  const double count = static_cast<double>(segment.count);
  const auto inside = [&](double index) {
    return static_cast<int64_t>(std::min(std::max(std::ceil(index) - start, 0.0), count));
  };
  return {inside(low), inside(high)};
}

template <class S>
Interval box_row_interval(const S* row, const TableView& table, int spatial,
                          const Segment& segment) {
  for (int dim = 0; dim < spatial; ++dim) {
    const double at = static_cast<double>(segment.place.at[dim]);
    if (dim == segment.dim) continue;
    if (!(at >= coordinate(row, table, dim) && at < coordinate(row, table, spatial + dim))) {
      return {};
    }
  }
  return index_interval(coordinate(row, table, segment.dim),
                        coordinate(row, table, spatial + segment.dim), segment);
}

template <class Centre>
Interval disk_interval(Centre&& centre, double radius, int spatial, const Segment& segment) {
  double rest = radius * radius;
  for (int dim = 0; dim < spatial; ++dim) {
    const double distance = static_cast<double>(segment.place.at[dim]) - centre(dim);
    if (dim != segment.dim) rest -= distance * distance;
  }
  return interval_around(
      segment, centre(segment.dim), std::sqrt(std::max(rest, 0.0)),
      [&](const Place& place) { return in_disk(centre, radius, spatial, place); });
}

// The shapes of a segment, one after another.
template <class T>
class ShapeRow {
 public:
  ShapeRow(const Segment& segment, T* result) : count_(segment.count), result_(result) {
    std::fill_n(result, count_, T(0));
  }
  void add(const Interval& interval) {
    const int64_t length = interval.end - interval.begin;
    if (length <= 0) return;
    std::fill_n(result_ + interval.begin, length, T(1));
    if (coverage_ != Coverage::kAll) {
      coverage_ = length == count_ ? Coverage::kAll : Coverage::kSome;
    }
  }
  Coverage coverage() const { return coverage_; }

 private:
  const int64_t count_;
  T* const result_;
  Coverage coverage_ = Coverage::kNone;
};

template <class T, class S>
void add_rows(const Instruction& instruction, const Bindings& bindings, const Segment& segment,
              ShapeRow<T>& result) {
  const TableView& table = bindings.table[instruction.source];
  const int spatial = bindings.places.spatial;
  for (int64_t k = 0; k < table.rows; ++k) {
    const S* row = table_row<S>(table, segment.place.sample, k);
    if (instruction.opcode == Opcode::kBoxes) {
      result.add(box_row_interval(row, table, spatial, segment));
      continue;
    }
    const double radius = instruction.opcode == Opcode::kKeypoints
                              ? bindings.number(instruction)
                              : coordinate(row, table, spatial);
    const auto centre = [&](int dim) { return coordinate(row, table, dim); };
    result.add(disk_interval(centre, radius, spatial, segment));
  }
}

// Sequence indices along a segment, from `first` on.
inline Interval length_interval(const TableView& table, int64_t sample, int64_t first,
                                int64_t count) {
  int64_t length = 0;
  visit_dtype(table.dtype, [&](auto element) {
    using S = decltype(element);
    if constexpr (std::is_integral_v<S>) length = sequence_length<S>(table, sample);
  });
  return {0, std::clamp(length, first, first + count) - first};  // length is of any size
}

template <class T>
Coverage fill_shapes(const Instruction& instruction, const Bindings& bindings,
                     const Segment& segment, T* result) {
  const int spatial = bindings.places.spatial;
  ShapeRow<T> row(segment, result);
  if (instruction.opcode == Opcode::kBox) {
    row.add(box_interval(&bindings.constant[instruction.constant], spatial, segment));
  } else if (instruction.opcode == Opcode::kDisk) {
    const auto centre = [&](int dim) { return bindings.number(instruction, dim); };
    row.add(disk_interval(centre, bindings.number(instruction, spatial), spatial, segment));
  } else if (instruction.opcode == Opcode::kLengths) {
    row.add(length_interval(bindings.table[instruction.source], segment.place.sample,
                            segment.place.at[0], segment.count));
  } else {
    visit_dtype(bindings.table[instruction.source].dtype, [&](auto element) {
      add_rows<T, decltype(element)>(instruction, bindings, segment, row);
    });
  }
  return row.coverage();
}

}  // namespace fusedloss::cpu
