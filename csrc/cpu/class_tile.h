// Tiles of tensors with classes: a run of positions, all their classes, as planes in the caches.
//
//     ClassStream logits(operand, extents, classes);
//     ClassTiling tiling(extents, classes, sizeof(T), logits.run());
//     for each ClassTile tile:
//       load_planes(logits, tile.begin, tile.count, planes, pitch);   // planes[c * pitch + i]
//       SoftmaxLoops<T>::largest(planes, shape, largest);             // per position
//       SoftmaxLoops<T>::exponentials(planes, shape, largest, sum);   // planes: exp(x - largest)
//       ...                                                           // planes: the gradient
//       store_planes(gradient, tile.begin, tile.count, planes, pitch, streamed);
//
// Every dtype and every stride ends in `load_planes`: classes apart (NCHW), side by side
// (channels_last, rows), or anything else. The tensor is read once, class by class; lanes of all
// loops run along positions. Nothing here knows a loss: class and overlap losses both use it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/classwise_params.h"
#include "cpu/stream.h"
#include "cpu/streaming_store.h"

namespace fusedloss::cpu {

constexpr int64_t kMaxLanes = 1024;
constexpr int64_t kClassesAhead = 2;  // classes fetched before they are loaded

// ---- how positions are cut ----------------------------------------------------------------------

struct ClassTile {
  int64_t sample;
  int64_t begin, count;  // positions, in the order of Extents
};

// Tiles of positions that stay in the L1 cache, as far as the classes are few enough, and fixed
// blocks of them: partial sums per block do not depend on the number of threads.
class ClassTiling {
 public:
  static constexpr int64_t kTileBytes = 24 << 10;
  static constexpr int64_t kPerPosition = 12;  // values beside the planes that are in use at a time
  static constexpr int64_t kTilesPerBlock = 16;
  static constexpr int64_t kFewest = 32;  // shorter pieces of a class are slow to read

  // What a tile is taken as: planes of positions, or rows of classes, of which one may be a tile.
  enum class Of { kPlanes, kRows };

  // `run` is how many positions lie at one stride: no tile reaches over its end, if it is long.
  ClassTiling(const Extents& extents, int64_t classes, int64_t element_bytes, int64_t run,
              Of of = Of::kPlanes)
      : classes_(std::max<int64_t>(classes, 1)), samples_(extents.samples) {
    const int64_t fitting = kTileBytes / ((classes_ + kPerPosition) * element_bytes) / 16 * 16;
    lanes_ = std::min(std::max(fitting, of == Of::kPlanes ? kFewest : 1), kMaxLanes);
    per_sample_ = extents.positions_per_sample();
    if (per_sample_ == 0) return;
    run_ = run >= lanes_ / 2 && per_sample_ % run == 0 ? run : per_sample_;
    const int64_t tiles = divide_up(run_, lanes_);
    if (of == Of::kPlanes) lanes_ = std::min(lanes_, divide_up(divide_up(run_, tiles), 16) * 16);
    tiles_per_run_ = divide_up(run_, lanes_);
    tiles_per_sample_ = per_sample_ / run_ * tiles_per_run_;
    blocks_per_sample_ = divide_up(tiles_per_sample_, kTilesPerBlock);
  }

  int64_t lanes() const { return lanes_; }  // the largest count of a tile; 1 or a multiple of 16
  int64_t blocks() const { return blocks_per_sample_ * samples_; }
  int64_t blocks_per_sample() const { return blocks_per_sample_; }
  int64_t elements_per_block() const { return kTilesPerBlock * lanes_ * classes_; }

  template <class Visit>
  void for_each_tile(int64_t block, Visit&& visit) const {
    const int64_t sample = block / blocks_per_sample_;
    const int64_t first = block % blocks_per_sample_ * kTilesPerBlock;
    const int64_t last = std::min(first + kTilesPerBlock, tiles_per_sample_);
    for (int64_t tile = first; tile < last; ++tile) {
      const int64_t run = tile / tiles_per_run_, skipped = tile % tiles_per_run_ * lanes_;
      visit(ClassTile{sample, sample * per_sample_ + run * run_ + skipped,
                      std::min(lanes_, run_ - skipped)});
    }
  }

 private:
  static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

  int64_t classes_, samples_;
  int64_t lanes_ = 16, run_ = 1, per_sample_ = 0;
  int64_t tiles_per_run_ = 1, tiles_per_sample_ = 0, blocks_per_sample_ = 0;
};

// ---- tensors ------------------------------------------------------------------------------------

// A tensor with `classes` values at each position: a Stream over the positions for every class.
struct ClassStream {
  Stream positions;  // of class 0
  int64_t classes = 0, class_stride = 0;

  ClassStream() = default;
  ClassStream(const ClassOperand& operand, const Extents& extents, int64_t classes)
      : positions(operand.positions, extents),
        classes(classes),
        class_stride(operand.class_stride) {}

  explicit operator bool() const { return static_cast<bool>(positions); }
  int64_t run() const { return positions.size[positions.rank - 1]; }
  Stream plane(int64_t c) const { return positions.moved(c * class_stride); }
};

// Where the positions [index, index + count) begin, if they lie at one stride; else -1.
inline int64_t run_offset(const Stream& stream, int64_t index, int64_t count) {
  const int last = stream.rank - 1;
  if (last == 0) return index * stream.stride[0];
  const int64_t coordinate = index % stream.size[last];
  if (coordinate + count > stream.size[last]) return -1;
  int64_t offset = coordinate * stream.stride[last];
  index /= stream.size[last];
  for (int axis = last - 1; axis > 0; --axis) {
    offset += (index % stream.size[axis]) * stream.stride[axis];
    index /= stream.size[axis];
  }
  return offset + index * stream.stride[0];
}

// From and to rows of classes side by side, transposed.
template <class To, class From>
struct RowLoops {
  static void load(const From* rows, int64_t row_stride, To* planes, int64_t pitch, int64_t classes,
                   int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const From* row = rows + i * row_stride;
      for (int64_t c = 0; c < classes; ++c) planes[c * pitch + i] = convert<To>(row[c]);
    }
  }
  static void store(const From* planes, int64_t pitch, To* rows, int64_t row_stride,
                    int64_t classes, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      To* row = rows + i * row_stride;
      for (int64_t c = 0; c < classes; ++c) row[c] = convert<To>(planes[c * pitch + i]);
    }
  }
};

// Values as T, from any dtype.
template <class T>
void load_planes(const ClassStream& stream, int64_t index, int64_t count, T* planes,
                 int64_t pitch) {
  const Stream& positions = stream.positions;
  const int64_t stride = positions.stride[positions.rank - 1];
  const int64_t offset = run_offset(positions, index, count);
  visit_dtype(positions.dtype, [&](auto element) {
    using S = decltype(element);
    const S* source = positions.at<const S>(offset);
    if (offset >= 0 && (stride == 1 || count == 1) && stream.class_stride != 1) {
      // Each class begins a stream anew, which the hardware sees too late. The last ones look ahead
      // to the next tile.
      const int64_t apart = stream.class_stride, last = stream.classes - 1;
      for (int64_t c = 0; c <= last; ++c) {
        const int64_t next = c + kClassesAhead;
        const S* ahead =
            next <= last ? source + next * apart : source + (next - last - 1) * apart + count;
        for (int64_t i = 0; i < count; i += kLineBytes / sizeof(S)) prefetch(ahead + i);
        MoveLoops<AsNumber, T, S>::contiguous(source + c * apart, planes + c * pitch, count);
      }
    } else if (offset >= 0 && stream.class_stride == 1) {
      RowLoops<T, S>::load(source, stride, planes, pitch, stream.classes, count);
    } else {
      for (int64_t c = 0; c < stream.classes; ++c) {
        gather<AsNumber, S>(stream.plane(c), index, count, planes + c * pitch);
      }
    }
  });
}

template <class S, class T>
void store_run(const T* values, S* destination, int64_t count, bool streamed) {
  if constexpr (std::is_same_v<S, T>) {
    if (streamed) return stream(values, destination, count * sizeof(S));
  }
  MoveLoops<AsNumber, S, T>::contiguous(values, destination, count);
}

// The values of one class of each position.
template <class T>
void gather_at_labels(const ClassStream& stream, int64_t index, int64_t count, const int32_t* label,
                      T* values) {
  const Stream& positions = stream.positions;
  const int64_t stride = positions.stride[positions.rank - 1];
  const int64_t offset = run_offset(positions, index, count);
  visit_dtype(positions.dtype, [&](auto element) {
    using S = decltype(element);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t place = offset >= 0 ? offset + i * stride : run_offset(positions, index + i, 1);
      values[i] = convert<T>(positions.at<const S>(place)[label[i] * stream.class_stride]);
    }
  });
}

// The planes into the tensor; `streamed`: past the caches, where the layout allows it.
template <class T>
void store_planes(const ClassStream& stream, int64_t index, int64_t count, const T* planes,
                  int64_t pitch, bool streamed) {
  const Stream& positions = stream.positions;
  const int64_t stride = positions.stride[positions.rank - 1];
  const int64_t offset = run_offset(positions, index, count);
  visit_dtype(positions.dtype, [&](auto element) {
    using S = decltype(element);
    if constexpr (!std::is_integral_v<S>) {
      S* destination = positions.at<S>(offset);
      if (offset >= 0 && stride == 1 && stream.class_stride != 1) {
        for (int64_t c = 0; c < stream.classes; ++c) {
          store_run(planes + c * pitch, destination + c * stream.class_stride, count, streamed);
        }
      } else if (offset >= 0 && stream.class_stride == 1) {
        RowLoops<S, T>::store(planes, pitch, destination, stride, stream.classes, count);
      } else {
        for (int64_t c = 0; c < stream.classes; ++c) {
          store(stream.plane(c), index, count, planes + c * pitch);
        }
      }
    }
  });
}

// Class 0 of a tile, where each class lies in a row and is of T; else nullptr.
template <class T>
T* planes_in_place(const ClassStream& stream, int64_t index, int64_t count) {
  constexpr DType kDType = std::is_same_v<T, double> ? DType::kDouble : DType::kFloat;
  const Stream& positions = stream.positions;
  const int64_t offset = run_offset(positions, index, count);
  const bool in_rows = offset >= 0 && positions.stride[positions.rank - 1] == 1;
  if (!in_rows || positions.dtype != kDType || stream.class_stride == 1) return nullptr;
  return positions.at<T>(offset);
}

// ---- softmax ------------------------------------------------------------------------------------

// `classes` planes of `count` lanes, `pitch` elements apart.
struct PlaneShape {
  int64_t classes, count, pitch;
};

// Sums over the classes, one per lane. They go on in another accumulator every so many classes, so
// that no rounding error grows with the number of classes.
template <class T>
struct ClassSum {
  static constexpr int64_t kFlushed = 64;

  FL_HOST_DEVICE ClassSum(T* sum, PlaneShape shape) : sum_(sum), shape_(shape) {
    std::fill_n(sum, shape.count, T(0));
    std::fill_n(partial, shape.count, T(0));
  }
  FL_HOST_DEVICE void end_class(int64_t c) {
    if ((c + 1) % kFlushed != 0 && c + 1 != shape_.classes) return;
    for (int64_t i = 0; i < shape_.count; ++i) {
      sum_[i] += partial[i];
      partial[i] = T(0);
    }
  }

  alignas(64) T partial[kMaxLanes];

 private:
  T* const sum_;
  const PlaneShape shape_;
};

template <class T>
struct SoftmaxLoops {
  // The largest value of each position, NaN left out; -inf where there are no classes.
  FL_VECTOR_CLONES static void largest(const T* planes, PlaneShape shape, T* largest) {
    std::fill_n(largest, shape.count, -T(HUGE_VAL));
    const int64_t pitch = shape.pitch;
    int64_t c = 0;
    for (; c + 4 <= shape.classes; c += 4) {  // `largest` is loaded and stored once for all four
      const T* plane = planes + c * pitch;
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        T found = largest[i];
        for (int64_t k = 0; k < 4; ++k) found = math::max(found, plane[k * pitch + i]);
        largest[i] = found;
      }
    }
    for (; c < shape.classes; ++c) {
      const T* plane = planes + c * pitch;
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) largest[i] = math::max(largest[i], plane[i]);
    }
  }

  // planes = exp(planes - largest), sum = their sum over the classes; NaN where a logit is NaN or
  // +inf, or where all are -inf, as in torch.
  FL_VECTOR_CLONES static void exponentials(T* planes, PlaneShape shape, const T* largest, T* sum) {
    ClassSum<T> total(sum, shape);
    for (int64_t c = 0; c < shape.classes; ++c) {
      T* plane = planes + c * shape.pitch;
#pragma omp simd
      for (int64_t i = 0; i < shape.count; ++i) {
        const T exponential = math::exp(plane[i] - largest[i]);
        plane[i] = exponential;
        total.partial[i] += exponential;
      }
      total.end_class(c);
    }
  }
};

}  // namespace fusedloss::cpu
