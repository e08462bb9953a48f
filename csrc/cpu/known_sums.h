// Sums of masks and weights that need no pass over the data.
//
// A region that is one box takes part in as many positions as the box holds.
//
// A weight source that is a + sum of b_k (g_k - low_k) / (high_k - low_k + 1e-7) and not masked
// adds up to a n + sum of b_k (sum of g_k - low_k) / (...): the phase that looks for the ranges
// adds up g as well, and no other pass over the images is needed before the gradient.
#pragma once

#include <algorithm>
#include <optional>

#include "regions/program.h"
#include "weights/normalized.h"

namespace fusedloss::cpu {

// How many positions of a sample a region selects, if it is a single box.
inline std::optional<int64_t> positions_in_box(const Program& region, const Bindings& bindings) {
  if (region.length != 1 || region.instruction[0].opcode != Opcode::kBox) return std::nullopt;
  const int spatial = bindings.places.spatial;
  int64_t result = 1;
  for (int dim = 0; dim < spatial; ++dim) {
    const int64_t low = bindings.integer(region.instruction[0], dim);
    result *= std::max<int64_t>(0, bindings.integer(region.instruction[0], spatial + dim) - low);
  }
  return result;
}

// A map over a sample, in pieces. The sum is that of g - `origin`, so that nothing is lost where
// the map varies little; NaN or infinite where a g is.
template <class T>
struct MapSummary {
  ValueRange<T> range;
  double origin = 0, sum = 0, count = 0;

  void combine(const MapSummary& other) {
    range.combine(other.range);
    if (count == 0) origin = other.origin;
    sum += other.sum + other.count * (other.origin - origin);
    count += other.count;
  }
  // Of g - low.
  double sum_above(double low) const { return sum + count * (origin - low); }
};

// A weight source as a number plus multiples of its normalised maps.
struct AffineSource {
  double constant = 0;
  double factor[Bindings::kMaxRanges] = {0};

  bool is_constant() const {
    for (const double f : factor) {
      if (f != 0) return false;
    }
    return true;
  }
  AffineSource scaled(double scale) const {
    AffineSource result = *this;
    result.constant *= scale;
    for (double& f : result.factor) f *= scale;
    return result;
  }
  AffineSource plus(const AffineSource& other) const {
    AffineSource result = *this;
    result.constant += other.constant;
    for (int i = 0; i < Bindings::kMaxRanges; ++i) result.factor[i] += other.factor[i];
    return result;
  }
};

// The source that a program stands for, if it is of that form; its numbers as T.
template <class T>
std::optional<AffineSource> affine_source(const Program& program, const Bindings& bindings) {
  AffineSource stack[Program::kMaxDepth + 1];
  int top = -1;
  for (int i = 0; i < program.length; ++i) {
    int normalize = i;  // what a kNormalize normalises does not matter
    while (normalize < program.length &&
           !(program.instruction[normalize].opcode == Opcode::kNormalize &&
             program.instruction[normalize].extent == i)) {
      ++normalize;
    }
    if (normalize < program.length) {
      stack[++top] = AffineSource();
      stack[top].factor[program.instruction[normalize].source] = 1;
      i = normalize;
      continue;
    }
    const Instruction& instruction = program.instruction[i];
    if (instruction.opcode == Opcode::kNumber) {
      stack[++top] = AffineSource();
      stack[top].constant = static_cast<double>(static_cast<T>(bindings.number(instruction)));
      continue;
    }
    if (operand_count(instruction.opcode) != 2) return std::nullopt;
    const AffineSource right = stack[top--], left = stack[top];
    switch (instruction.opcode) {
      case Opcode::kAdd:
        stack[top] = left.plus(right);
        break;
      case Opcode::kSubtract:
        stack[top] =
            instruction.is_swapped ? right.plus(left.scaled(-1)) : left.plus(right.scaled(-1));
        break;
      case Opcode::kDivide:
        stack[top] = left.scaled(1 / right.constant);
        break;
      case Opcode::kAnd:  // a product
        if (!left.is_constant() && !right.is_constant()) return std::nullopt;
        stack[top] = left.is_constant() ? right.scaled(left.constant) : left.scaled(right.constant);
        break;
      default:
        return std::nullopt;
    }
  }
  return top == 0 ? std::optional<AffineSource>(stack[0]) : std::nullopt;
}

}  // namespace fusedloss::cpu
