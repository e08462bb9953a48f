// Runs a region program over a run of elements: mask values into a tile that stays in L1.
#pragma once

#include "cpu/stream.h"

namespace fusedloss::cpu {

template <class T>
class RegionEvaluator {
 public:
  // The value stack, and a tile for targets that need converting.
  struct Scratch {
    alignas(64) T stack[Program::kMaxDepth][kTile];
    alignas(64) double target[kTile];
  };

  RegionEvaluator(const Program& program, const Bindings& bindings, const Operand& target,
                  const Extents& extents)
      : program_(program), bindings_(bindings), target_(target, extents) {
    for (int i = 0; i < bindings.tensors; ++i) tensor_[i] = Stream(bindings.tensor[i], extents);
  }

  // Mask values of [index, index + count), count <= kTile; valid until the scratch is used again.
  const T* evaluate(int64_t index, int64_t count, Scratch& scratch) const {
    if (program_.length == 1 && program_.instruction[0].opcode == Opcode::kTensor) {
      return load_mask(tensor_[program_.instruction[0].source], index, count, scratch.stack[0]);
    }
    int top = -1;
    for (int i = 0; i < program_.length; ++i) {
      const Instruction& instruction = program_.instruction[i];
      switch (instruction.opcode) {
        case Opcode::kAnd:
          RegionLoops<T>::both(scratch.stack[top - 1], scratch.stack[top], count);
          --top;
          break;
        case Opcode::kOr:
          RegionLoops<T>::either(scratch.stack[top - 1], scratch.stack[top], count);
          --top;
          break;
        case Opcode::kNot:
          RegionLoops<T>::negate(scratch.stack[top], count);
          break;
        default:
          push(instruction, index, count, scratch, scratch.stack[++top]);
      }
    }
    return scratch.stack[0];
  }

 private:
  void push(const Instruction& instruction, int64_t index, int64_t count, Scratch& scratch,
            T* result) const {
    switch (instruction.opcode) {
      case Opcode::kTensor: {
        const T* values = load_mask(tensor_[instruction.source], index, count, result);
        if (values != result) std::copy_n(values, count, result);
        break;
      }
      case Opcode::kTargetCompare:
        switch (instruction.domain) {
          case CompareDomain::kInt64:
            return compare_target<int64_t>(instruction, bindings_.integer(instruction), index,
                                           count, scratch, result);
          case CompareDomain::kDouble:
            return compare_target<double>(instruction, bindings_.number(instruction), index, count,
                                          scratch, result);
          default:
            return compare_target<float>(instruction,
                                         static_cast<float>(bindings_.number(instruction)), index,
                                         count, scratch, result);
        }
      default:
        if (target_.dtype == DType::kDouble) {
          FiniteLoop<T, double>::run(load_target<double>(index, count, scratch), result, count);
        } else if (is_floating(target_.dtype)) {
          FiniteLoop<T, float>::run(load_target<float>(index, count, scratch), result, count);
        } else {
          std::fill_n(result, count, T(1));
        }
    }
  }

  template <class V>
  const V* load_target(int64_t index, int64_t count, Scratch& scratch) const {
    return load(target_, index, count, reinterpret_cast<V*>(scratch.target));
  }

  template <class V>
  void compare_target(const Instruction& instruction, V constant, int64_t index, int64_t count,
                      Scratch& scratch, T* result) const {
    const V* target = load_target<V>(index, count, scratch);
    switch (instruction.comparison) {
      case Comparison::kGreater:
        return CompareLoop<T, V, Comparison::kGreater>::run(target, constant, result, count);
      case Comparison::kGreaterEqual:
        return CompareLoop<T, V, Comparison::kGreaterEqual>::run(target, constant, result, count);
      case Comparison::kLess:
        return CompareLoop<T, V, Comparison::kLess>::run(target, constant, result, count);
      case Comparison::kLessEqual:
        return CompareLoop<T, V, Comparison::kLessEqual>::run(target, constant, result, count);
      case Comparison::kEqual:
        return CompareLoop<T, V, Comparison::kEqual>::run(target, constant, result, count);
      default:
        return CompareLoop<T, V, Comparison::kNotEqual>::run(target, constant, result, count);
    }
  }

  const Program& program_;
  const Bindings& bindings_;
  Stream target_;
  Stream tensor_[Bindings::kMaxTensors];
};

}  // namespace fusedloss::cpu
