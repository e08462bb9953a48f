// Regions (which elements take part) and weight sources (how much they count) as data: postfix
// programs over a small value stack.
//
// A region's term yields the mask value of an element: 0 where it does not take part, else 1, or
// the value of a floating mask tensor. `a & b` multiplies, `a | b` takes the larger, `~a` is 1
// where a is 0. A weight source's term yields a weight; its products follow the rule of `&`, and
// kNormalize turns what the instructions [begin, here) yield into (g - low) / (high - low + 1e-7)
// with the range of the element's sample.
//
// fusedloss/_program.py compiles expressions into this form and keeps the limits. An empty program
// is "no region" or "no weight source": every element takes part, every weight is 1. What the terms
// of both programs read (tensors, images, tables of coordinates, numbers) stands in one `Bindings`.
// What each term means is in the headers beside this one and in csrc/weights.
#pragma once

#include <cstdint>

#include "core/extents.h"
#include "regions/views.h"

namespace fusedloss {

enum class Opcode : int8_t {
  // regions
  kTensor,          // mask value of tensor[source]
  kTargetCompare,   // target <comparison> number
  kTargetIsFinite,  //
  kAnd,             // pops two, pushes mask_and
  kOr,              // pops two, pushes mask_or
  kNot,             //
  kVariance,        // variance of the input's channels <comparison> number[0], correction number[1]
  kImageMean,       // mean of the channels of image[source] <comparison> number
  kCenter,          // only in an op's arguments: laid out as kBox
  kBox,             // integer bounds: low x, y, z, then high x, y, z, as many as spatial dims
  kBoxes,           // any row of table[source]
  kDisk,            // centre x, y, z, then the radius
  kDisks,           // any row of table[source]
  kKeypoints,       // any row of table[source], radius number
  kLengths,         // sequence index < table[source][sample]
  // weight sources
  kNumber,        // number
  kWeight,        // value of tensor[source]
  kAdd,           // pops two
  kSubtract,      // pops two: below - top, or top - below where `is_swapped`
  kDivide,        // pops two: below / top
  kEdgesForward,  // g of image[source]
  kEdgesSobel,    // g of image[source]
  kActivation,    // g of image[source]
  kBoundary,  // number[0] where a label of image[source] within `extent` differs, else number[1]
  kNormalize  // the top by the range `source`; its operand begins at instruction `extent`
};
enum class Comparison : int8_t { kGreater, kGreaterEqual, kLess, kLessEqual, kEqual, kNotEqual };
enum class CompareDomain : int8_t { kFloat, kInt64, kDouble };

struct Instruction {
  Opcode opcode;
  Comparison comparison = Comparison::kGreater;
  CompareDomain domain = CompareDomain::kFloat;  // kTargetCompare, kVariance, kImageMean
  bool is_swapped = false;                       // kSubtract
  int16_t source = 0;    // index into Bindings::tensor, image or table; kNormalize: of the range
  int16_t constant = 0;  // index of the first number in Bindings::constant
  int32_t extent = 0;    // kBoundary: the radius; kNormalize: where its operand begins
};

struct Program {
  static constexpr int kMaxLength = 32;
  static constexpr int kMaxDepth = 6;

  int length = 0;
  bool is_positional = true;  // no term differs between the channels of a position
  bool is_binary = true;      // a region's: all values are 0 or 1
  Instruction instruction[kMaxLength];

  FL_HOST_DEVICE explicit operator bool() const { return length > 0; }
};

union Constant {
  double number;
  int64_t integer;  // kBox; kTargetCompare in the domain kInt64
};

// The channels of a tensor of which the index space knows channel 0 alone, as an index space of
// positions does.
struct ChannelsAside {
  int64_t count = 1, stride = 0;
};

// What the programs of a call read, and where their values lie.
struct Bindings {
  static constexpr int kMaxTensors = 8;
  static constexpr int kMaxImages = 4;
  static constexpr int kMaxTables = 4;
  static constexpr int kMaxConstants = 48;
  static constexpr int kMaxRanges = 4;

  int tensors = 0, images = 0, tables = 0, ranges = 0;
  Operand tensor[kMaxTensors];
  ImageView image[kMaxImages];
  TableView table[kMaxTables];
  Constant constant[kMaxConstants];
  Places places;  // of the index space's positions; only where a term reads them
  ChannelsAside input_channels, target_channels;

  FL_HOST_DEVICE double number(const Instruction& instruction, int index = 0) const {
    return constant[instruction.constant + index].number;
  }
  FL_HOST_DEVICE int64_t integer(const Instruction& instruction, int index = 0) const {
    return constant[instruction.constant + index].integer;
  }
};

// Whether a mask or weight is in double.
inline bool holds_doubles(const Bindings& bindings) {
  for (int i = 0; i < bindings.tensors; ++i) {
    if (is_double(bindings.tensor[i])) return true;
  }
  return false;
}

FL_HOST_DEVICE constexpr bool is_operator(Opcode opcode) {
  return opcode == Opcode::kAnd || opcode == Opcode::kOr || opcode == Opcode::kNot ||
         opcode == Opcode::kAdd || opcode == Opcode::kSubtract || opcode == Opcode::kDivide ||
         opcode == Opcode::kNormalize;
}
// How many values an instruction takes from the stack; it pushes one.
FL_HOST_DEVICE constexpr int operand_count(Opcode opcode) {
  if (opcode == Opcode::kNot || opcode == Opcode::kNormalize) return 1;
  return is_operator(opcode) ? 2 : 0;
}
FL_HOST_DEVICE constexpr bool reads_target(Opcode opcode) {
  return opcode == Opcode::kTargetCompare || opcode == Opcode::kTargetIsFinite;
}
FL_HOST_DEVICE constexpr bool reads_table(Opcode opcode) {
  return opcode == Opcode::kBoxes || opcode == Opcode::kDisks || opcode == Opcode::kKeypoints ||
         opcode == Opcode::kLengths;
}
FL_HOST_DEVICE constexpr bool reads_image(Opcode opcode) {
  return opcode == Opcode::kImageMean ||
         (opcode >= Opcode::kEdgesForward && opcode <= Opcode::kBoundary);
}
// Whether the term's value depends on where an element lies.
FL_HOST_DEVICE constexpr bool reads_place(Opcode opcode) {
  return reads_image(opcode) || reads_table(opcode) || opcode == Opcode::kCenter ||
         opcode == Opcode::kBox || opcode == Opcode::kDisk || opcode == Opcode::kNormalize;
}
// Whether the term is known without reading an element: tiles that it masks out cost nothing.
FL_HOST_DEVICE constexpr bool is_closed_form(Opcode opcode) {
  return opcode == Opcode::kBox || opcode == Opcode::kDisk || reads_table(opcode) ||
         opcode == Opcode::kNumber;
}

// The algebra of mask values. 0 wins over anything beside it: what is masked out does not exist.
template <class T>
FL_HOST_DEVICE T mask_and(T a, T b) {
  return a == T(0) || b == T(0) ? T(0) : a * b;
}
template <class T>
FL_HOST_DEVICE T mask_or(T a, T b) {
  return a > b || a != a ? a : b;  // NaN wins, as in torch.maximum
}
template <class T>
FL_HOST_DEVICE T mask_not(T a) {
  return a == T(0) ? T(1) : T(0);
}

// The comparison of a value with a constant; both already in the domain that torch compares in.
template <class V>
FL_HOST_DEVICE bool compare(Comparison comparison, V value, V constant) {
  switch (comparison) {
    case Comparison::kGreater:
      return value > constant;
    case Comparison::kGreaterEqual:
      return value >= constant;
    case Comparison::kLess:
      return value < constant;
    case Comparison::kLessEqual:
      return value <= constant;
    case Comparison::kEqual:
      return value == constant;
    default:
      return value != constant;
  }
}

}  // namespace fusedloss
