// Runs a region program over the elements of one thread: mask values in registers.
//
// The value stack is a shift register whose slots have constant indices, so that nothing goes to
// local memory: a push moves s4..s0 one up, `a & b` and `a | b` combine s1 and s0 and move the rest
// down. The program is the same for all threads, so its branches never diverge.
//
// `Source` yields what terms read, as Pack<O, kSize>:
//     source.mask(k)             mask values of the program's tensor k
//     source.target()            the target, exactly, in O or (integers) as near as O allows
//     source.target_integer(lane), source.has(lane)   an integer target in int64, where it exists
#pragma once

#include "cuda/vector_access.cuh"
#include "regions/program.h"

namespace fusedloss::cuda {

template <class O, int kSize>
class MaskStack {
 public:
  using Values = Pack<O, kSize>;

  __device__ __forceinline__ void push(const Values& values) {
#pragma unroll
    for (int depth = Program::kMaxDepth - 1; depth > 0; --depth) slot_[depth] = slot_[depth - 1];
    slot_[0] = values;
  }

  template <class F>
  __device__ __forceinline__ void combine(F&& f) {
#pragma unroll
    for (int lane = 0; lane < kSize; ++lane) {
      slot_[0].at[lane] = f(slot_[1].at[lane], slot_[0].at[lane]);
    }
#pragma unroll
    for (int depth = 1; depth < Program::kMaxDepth - 1; ++depth) slot_[depth] = slot_[depth + 1];
  }

  template <class F>
  __device__ __forceinline__ void apply(F&& f) {
#pragma unroll
    for (int lane = 0; lane < kSize; ++lane) slot_[0].at[lane] = f(slot_[0].at[lane]);
  }

  __device__ __forceinline__ const Values& top() const { return slot_[0]; }

 private:
  Values slot_[Program::kMaxDepth] = {};
};

// The comparison is chosen once, not in every lane.
template <class O, int kSize, class V>
__device__ __forceinline__ Pack<O, kSize> compare_pack(Comparison comparison,
                                                       const Pack<V, kSize>& values, V constant) {
  Pack<O, kSize> result;
  const auto all = [&](auto kind) {
#pragma unroll
    for (int lane = 0; lane < kSize; ++lane) {
      result.at[lane] = static_cast<O>(compare(decltype(kind)::value, values.at[lane], constant));
    }
  };
  switch (comparison) {
    case Comparison::kGreater:
      all(std::integral_constant<Comparison, Comparison::kGreater>());
      break;
    case Comparison::kGreaterEqual:
      all(std::integral_constant<Comparison, Comparison::kGreaterEqual>());
      break;
    case Comparison::kLess:
      all(std::integral_constant<Comparison, Comparison::kLess>());
      break;
    case Comparison::kLessEqual:
      all(std::integral_constant<Comparison, Comparison::kLessEqual>());
      break;
    case Comparison::kEqual:
      all(std::integral_constant<Comparison, Comparison::kEqual>());
      break;
    default:
      all(std::integral_constant<Comparison, Comparison::kNotEqual>());
  }
  return result;
}

// A double target is computed with in double, so the domain kDouble implies that O is double.
template <class O, int kSize, class Source>
__device__ __forceinline__ Pack<O, kSize> compare_target(const Instruction& instruction,
                                                         const Bindings& bindings,
                                                         const Source& source) {
  Pack<O, kSize> result;
  if (instruction.domain == CompareDomain::kInt64) {
#pragma unroll 1
    for (int i = 0; i < kSize; ++i) {  // rare, so it is kept short
      const bool holds = source.has(i) && compare(instruction.comparison, source.target_integer(i),
                                                  bindings.integer(instruction));
#pragma unroll
      for (int lane = 0; lane < kSize; ++lane) {
        if (lane == i) result.at[lane] = static_cast<O>(holds);
      }
    }
    return result;
  }
  if (std::is_same_v<O, double> && instruction.domain == CompareDomain::kDouble) {
    return compare_pack<O>(instruction.comparison, convert_pack<double>(source.target()),
                           bindings.number(instruction));
  }
  return compare_pack<O>(instruction.comparison, convert_pack<float>(source.target()),
                         static_cast<float>(bindings.number(instruction)));
}

template <class O, int kSize, class Source>
__device__ __forceinline__ Pack<O, kSize> region_term(const Instruction& instruction,
                                                      const Bindings& bindings,
                                                      const Source& source) {
  switch (instruction.opcode) {
    case Opcode::kTensor:
      return source.mask(instruction.source);
    case Opcode::kTargetCompare:
      return compare_target<O, kSize>(instruction, bindings, source);
    default: {  // kTargetIsFinite
      Pack<O, kSize> result = source.target();
#pragma unroll
      for (int lane = 0; lane < kSize; ++lane) {
        result.at[lane] = static_cast<O>(math::abs(result.at[lane]) < O(HUGE_VAL));
      }
      return result;
    }
  }
}

// `program` is not empty.
template <class O, int kSize, class Source>
__device__ __forceinline__ Pack<O, kSize> region_values(const Program& program,
                                                        const Bindings& bindings,
                                                        const Source& source) {
  MaskStack<O, kSize> stack;
#pragma unroll 1
  for (int i = 0; i < program.length; ++i) {
    const Instruction& instruction = program.instruction[i];
    switch (instruction.opcode) {
      case Opcode::kAnd:
        stack.combine([](O a, O b) { return mask_and(a, b); });
        break;
      case Opcode::kOr:
        stack.combine([](O a, O b) { return mask_or(a, b); });
        break;
      case Opcode::kNot:
        stack.apply([](O a) { return mask_not(a); });
        break;
      default:
        stack.push(region_term<O, kSize>(instruction, bindings, source));
    }
  }
  return stack.top();
}

}  // namespace fusedloss::cuda
