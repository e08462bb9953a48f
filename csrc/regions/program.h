// A region (which elements take part) as data: a postfix program of terms over a small value stack.
//
// A term yields the mask value of an element: 0 where it does not take part, else 1, or the value
// of a floating mask tensor. `a & b` multiplies, `a | b` takes the larger, `~a` is 1 where a is 0.
// fusedloss/regions.py compiles expressions into this form and keeps the stack within kMaxDepth.
// An empty program is "no region": every element takes part.
#pragma once

#include <cstdint>

#include "core/extents.h"

namespace fusedloss {

enum class Opcode : int32_t { kTensor, kTargetCompare, kTargetIsFinite, kAnd, kOr, kNot };
enum class Comparison : int32_t { kGreater, kGreaterEqual, kLess, kLessEqual, kEqual, kNotEqual };
enum class CompareDomain : int32_t { kFloat, kInt64, kDouble };

struct Instruction {
  Opcode opcode;
  int32_t tensor = 0;  // kTensor: index into Program::tensor
  Comparison comparison = Comparison::kGreater;
  CompareDomain domain = CompareDomain::kFloat;
  double constant = 0;           // domains kFloat and kDouble
  int64_t integer_constant = 0;  // domain kInt64
};

struct Program {
  static constexpr int kMaxLength = 32;
  static constexpr int kMaxTensors = 8;
  static constexpr int kMaxDepth = 6;

  int length = 0;
  int tensors = 0;
  bool is_positional = true;  // no term differs between the channels of a position
  bool is_binary = true;      // all values are 0 or 1
  Instruction instruction[kMaxLength];
  Operand tensor[kMaxTensors];

  FL_HOST_DEVICE explicit operator bool() const { return length > 0; }
};

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

// The comparison of a target with a constant; both already in the domain that torch compares in.
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
