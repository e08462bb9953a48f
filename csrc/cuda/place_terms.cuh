// The terms that depend on where an element lies, one element at a time.
//
// The formulas are those of csrc/regions and csrc/weights; here their tensors get a type. None of
// these functions is inlined: they are compiled once for each file of kernels, and the registers of
// one term do not add to those of another.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "regions/boxes.h"
#include "regions/channels.h"
#include "regions/disks.h"
#include "regions/lengths.h"
#include "weights/activation.h"
#include "weights/boundary.h"
#include "weights/edges.h"

namespace fusedloss::cuda {

// An image or features: floating or uint8.
template <class F>
__device__ __forceinline__ auto visit_image_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kHalf:
      return f(Half{});
    case DType::kBFloat16:
      return f(BFloat16{});
    case DType::kFloat:
      return f(float{});
    case DType::kDouble:
      return f(double{});
    default:
      return f(uint8_t{});
  }
}

// Labels are only told apart: integers of one size are one type.
template <class F>
__device__ __forceinline__ auto visit_label_dtype(DType dtype, F&& f) {
  if (is_floating(dtype)) return visit_image_dtype(dtype, f);
  switch (item_size(dtype)) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    case 4:
      return f(uint32_t{});
    default:
      return f(uint64_t{});
  }
}

// The first `width` numbers of a row of coordinates.
inline __device__ __noinline__ void load_row(const TableView& table, int64_t sample, int64_t row,
                                             int width, double* numbers) {
  visit_dtype(table.dtype, [&](auto element) {
    const auto* memory = table_row<decltype(element)>(table, sample, row);
#pragma unroll 1
    for (int column = 0; column < width; ++column) {
      numbers[column] = coordinate(memory, table, column);
    }
  });
}

// Whether any row of a table holds at a place.
inline __device__ __noinline__ bool in_any_row(const Bindings& bindings,
                                               const Instruction& instruction, const Place& place) {
  const TableView& table = bindings.table[instruction.source];
  const int spatial = bindings.places.spatial;
  const bool is_box = instruction.opcode == Opcode::kBoxes;
  const bool has_radius = instruction.opcode == Opcode::kDisks;
  double row[2 * kMaxSpatial];
#pragma unroll 1
  for (int64_t k = 0; k < table.rows; ++k) {
    load_row(table, place.sample, k, is_box ? 2 * spatial : spatial + has_radius, row);
    const auto centre = [&](int dim) { return row[dim]; };
    if (is_box ? in_box(row, spatial, place)
               : in_disk(centre, has_radius ? row[spatial] : bindings.number(instruction), spatial,
                         place)) {
      return true;
    }
  }
  return false;
}

inline __device__ __noinline__ bool is_in_length(const Bindings& bindings,
                                                 const Instruction& instruction,
                                                 const Place& place) {
  const TableView& lengths = bindings.table[instruction.source];
  return visit_dtype(lengths.dtype, [&](auto element) {
    using S = decltype(element);
    if constexpr (std::is_integral_v<S>) {
      return in_length<S>(lengths, bindings.places.spatial, place);
    } else {
      return false;
    }
  });
}

inline __device__ __noinline__ bool image_mean_holds(const Bindings& bindings,
                                                     const Instruction& instruction,
                                                     const Place& place) {
  const ImageView& image = bindings.image[instruction.source];
  return visit_image_dtype(image.dtype, [&](auto element) {
    using S = decltype(element);
    using V = std::conditional_t<std::is_same_v<S, double>, double, float>;
    return compare(instruction.comparison, image_mean<V, S>(image, bindings.places.spatial, place),
                   static_cast<V>(bindings.number(instruction)));
  });
}

template <class O>
__device__ __noinline__ O edges_at(const Bindings& bindings, const Instruction& instruction,
                                   const Place& place) {
  const ImageView& image = bindings.image[instruction.source];
  return visit_image_dtype(image.dtype, [&](auto element) {
    using S = decltype(element);
    return instruction.opcode == Opcode::kEdgesSobel
               ? edges_sobel<O, S>(image, place)
               : edges_forward<O, S>(image, bindings.places.spatial, place);
  });
}

template <class O>
__device__ __noinline__ O activity_at(const ImageView& features, int64_t offset) {
  return visit_image_dtype(features.dtype, [&](auto element) {
    return activity<O, decltype(element)>(features, offset);
  });
}

template <class O>
__device__ __noinline__ O activation_at(const Bindings& bindings, const Instruction& instruction,
                                        const Place& place) {
  const ImageView& features = bindings.image[instruction.source];
  return activation<O>(features, bindings.places, place,
                       [&](int64_t offset) { return activity_at<O>(features, offset); });
}

inline __device__ __noinline__ bool is_near_boundary(const Bindings& bindings,
                                                     const Instruction& instruction,
                                                     const Place& place) {
  const ImageView& labels = bindings.image[instruction.source];
  return visit_label_dtype(labels.dtype, [&](auto element) {
    return near_boundary<decltype(element)>(labels, bindings.places.spatial, instruction.extent,
                                            place);
  });
}

// The value of a term for which reads_place holds, but for kNormalize.
template <class O>
__device__ __forceinline__ O place_term(const Bindings& bindings, const Instruction& instruction,
                                        const Place& place) {
  const Constant* numbers = &bindings.constant[instruction.constant];
  switch (instruction.opcode) {
    case Opcode::kBox:
      return static_cast<O>(in_box(numbers, bindings.places.spatial, place));
    case Opcode::kDisk:
      return static_cast<O>(in_disk(numbers, bindings.places.spatial, place));
    case Opcode::kImageMean:
      return static_cast<O>(image_mean_holds(bindings, instruction, place));
    case Opcode::kEdgesForward:
    case Opcode::kEdgesSobel:
      return edges_at<O>(bindings, instruction, place);
    case Opcode::kActivation:
      return activation_at<O>(bindings, instruction, place);
    case Opcode::kBoundary:
      return static_cast<O>(
          bindings.number(instruction, is_near_boundary(bindings, instruction, place) ? 0 : 1));
    case Opcode::kLengths:
      return static_cast<O>(is_in_length(bindings, instruction, place));
    default:
      return static_cast<O>(in_any_row(bindings, instruction, place));
  }
}

// Whether the variance of `channels` values of `input` holds: channel c is at offset + c * stride.
inline __device__ __noinline__ bool variance_holds_at(const Bindings& bindings,
                                                      const Instruction& instruction,
                                                      const Operand& input, int64_t channels,
                                                      int64_t offset, int64_t stride) {
  return visit_image_dtype(input.dtype, [&](auto element) {
    using S = decltype(element);
    using V = std::conditional_t<std::is_same_v<S, double>, double, float>;
    const S* first = static_cast<const S*>(input.data) + offset;
    return variance_holds<V>(instruction, bindings, channels,
                             [&](int64_t c) { return convert<V>(first[c * stride]); });
  });
}

// The place of an element and those after it in the order of the index space.
class PlaceWalk {
 public:
  __device__ __forceinline__ PlaceWalk(const Extents& extents, const Places& places, int64_t index)
      : extents_(extents), places_(places) {
#pragma unroll 1
    for (int axis = extents.rank - 1; axis >= 0; --axis) {
      const int64_t size = extents.size[axis];
      // A 64-bit division costs several times a 32-bit one.
      const bool is_small = ((index | size) >> 31) == 0;
      const int64_t quotient =
          is_small
              ? static_cast<int64_t>(static_cast<uint32_t>(index) / static_cast<uint32_t>(size))
              : index / size;
      coordinate(axis) = index - quotient * size;
      index = quotient;
    }
  }

  // To the next element; whether that is another position, not another channel of this one.
  __device__ __forceinline__ bool advance() {
    bool moved = false;
#pragma unroll 1
    for (int axis = extents_.rank - 1; axis >= 0; --axis) {
      int64_t& own = coordinate(axis);
      ++own;
      const bool stays = own < extents_.size[axis];
      if (!stays) own = 0;
      moved = moved || places_.role[axis] != Places::kChannel;
      if (stays) break;
    }
    return moved;
  }

  __device__ __forceinline__ const Place& place() const { return place_; }

 private:
  __device__ __forceinline__ int64_t& coordinate(int axis) {
    const int role = places_.role[axis];
    return role == Places::kSample    ? place_.sample
           : role == Places::kChannel ? place_.channel
                                      : place_.at[role];
  }

  const Extents& extents_;
  const Places& places_;
  Place place_;
};

}  // namespace fusedloss::cuda
