// Runs any region program or weight program over the elements of one thread. region_eval.cuh is the
// part of it that needs neither places nor ranges and is inlined into the kernels that need no
// more.
//
// `Source` yields, beside what region_values asks of it,
//     source.weight(k)               the values of the programs' tensor k
//     source.variance(instruction)   whether the variance of the input's channels holds
//     source.index(), source.span()  the index of lane 0 in the index space, the lanes that exist
//
// `Call` is a family's CallFrame; of its params the extents and the bindings are looked at.
#pragma once

#include "cuda/call_frame.h"
#include "cuda/place_terms.cuh"
#include "cuda/region_eval.cuh"
#include "weights/normalized.h"

namespace fusedloss::cuda {

// value(place) of every lane; once for all channels of a position where the value is the same.
template <class O, int kSize, class Call, class Source, class F>
__device__ __forceinline__ Pack<O, kSize> at_places(const Call& call, const Source& source,
                                                    bool repeats, F&& value) {
  const Span span = source.span();
  Pack<O, kSize> result{};
  PlaceWalk walk(call.params.extents, call.params.bindings.places, source.index() + span.begin);
  O latest = O(0);
#pragma unroll 1
  for (int i = span.begin; i < span.end; ++i) {
    const bool moved = i == span.begin || walk.advance();
    if (moved || !repeats) latest = value(walk.place());
#pragma unroll
    for (int lane = 0; lane < kSize; ++lane) {
      if (lane == i) result.at[lane] = latest;
    }
  }
  return result;
}

template <class O, int kSize>
__device__ __forceinline__ Pack<O, kSize> everywhere(O value) {
  Pack<O, kSize> result;
#pragma unroll
  for (int lane = 0; lane < kSize; ++lane) result.at[lane] = value;
  return result;
}

// Where the target's channels are aside, whether it holds for all of them.
template <class O, int kSize, class Source>
__device__ __forceinline__ Pack<O, kSize> target_term(const Instruction& instruction,
                                                      const Bindings& bindings,
                                                      const Source& source) {
  if constexpr (requires { requires Source::kChannelsAside; }) {
    Source at_channel = source;
    O result = O(1);
#pragma unroll 1
    for (int64_t c = 0; c < bindings.target_channels.count; ++c) {
      at_channel.target_shift = c * bindings.target_channels.stride;
      result = mask_and(region_term<O, kSize>(instruction, bindings, at_channel).at[0], result);
    }
    return {result};
  } else {
    return region_term<O, kSize>(instruction, bindings, source);
  }
}

template <class O, int kSize, class Call, class Source>
__device__ __forceinline__ Pack<O, kSize> program_term(const Call& call,
                                                       const Instruction& instruction,
                                                       const Source& source) {
  const Bindings& bindings = call.params.bindings;
  switch (instruction.opcode) {
    case Opcode::kTensor:
      return region_term<O, kSize>(instruction, bindings, source);
    case Opcode::kTargetCompare:
    case Opcode::kTargetIsFinite:
      return target_term<O, kSize>(instruction, bindings, source);
    case Opcode::kWeight:
      return source.weight(instruction.source);
    case Opcode::kNumber:
      return everywhere<O, kSize>(static_cast<O>(bindings.number(instruction)));
    case Opcode::kVariance:
      return source.variance(instruction);
    default: {
      const bool along_channels =
          instruction.opcode == Opcode::kLengths && bindings.places.spatial == 0;
      return at_places<O, kSize>(call, source, !along_channels, [&](const Place& place) {
        return place_term<O>(bindings, instruction, place);
      });
    }
  }
}

// By the range that the phase of value_ranges.cuh has found for each sample.
template <class O, int kSize, class Call, class Source>
__device__ __forceinline__ Pack<O, kSize> normalised(const Call& call,
                                                     const Instruction& instruction,
                                                     const Source& source,
                                                     const Pack<O, kSize>& values) {
  const double* ranges = call.ranges + 2 * instruction.source * call.range_samples;
  const Span span = source.span();
  Pack<O, kSize> result{};
#pragma unroll 1
  for (int i = span.begin; i < span.end; ++i) {
    const int64_t sample = (source.index() + i) / call.elements_per_range;
    const double low = ranges[2 * sample], high = ranges[2 * sample + 1];
    const Normaliser<O> normaliser({static_cast<O>(low), static_cast<O>(high)});
#pragma unroll
    for (int lane = 0; lane < kSize; ++lane) {
      if (lane == i) result.at[lane] = normaliser(values.at[lane]);
    }
  }
  return result;
}

// The values of a program of all terms, in local memory: its terms are calls, across which so many
// registers could not be kept.
template <class O, int kSize>
class LocalStack {
 public:
  using Values = Pack<O, kSize>;

  __device__ __forceinline__ void push(const Values& values) { slot_[depth_++] = values; }
  __device__ __forceinline__ Values pop() { return slot_[--depth_]; }

  template <class F>
  __device__ __forceinline__ void combine(F&& f) {
    const Values top = pop();
    Values& below = slot_[depth_ - 1];
#pragma unroll
    for (int lane = 0; lane < kSize; ++lane) below.at[lane] = f(below.at[lane], top.at[lane]);
  }

  template <class F>
  __device__ __forceinline__ void apply(F&& f) {
    Values& top = slot_[depth_ - 1];
#pragma unroll
    for (int lane = 0; lane < kSize; ++lane) top.at[lane] = f(top.at[lane]);
  }

 private:
  int depth_ = 0;
  Values slot_[Program::kMaxDepth];
};

// What the instructions [begin, end) yield; there is at least one. Lanes outside the span are
// anything.
template <class O, int kSize, class Call, class Source>
__device__ __forceinline__ Pack<O, kSize> program_values(const Call& call, const Program& program,
                                                         int begin, int end, const Source& source) {
  LocalStack<O, kSize> stack;
#pragma unroll 1
  for (int i = begin; i < end; ++i) {
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
      case Opcode::kAdd:
        stack.combine([](O a, O b) { return a + b; });
        break;
      case Opcode::kSubtract: {
        const bool is_swapped = instruction.is_swapped;
        stack.combine([=](O a, O b) { return is_swapped ? b - a : a - b; });
        break;
      }
      case Opcode::kDivide:
        stack.combine([](O a, O b) { return a / b; });
        break;
      case Opcode::kNormalize:
        stack.push(normalised<O, kSize>(call, instruction, source, stack.pop()));
        break;
      default:
        stack.push(program_term<O, kSize>(call, instruction, source));
    }
  }
  return stack.pop();
}

}  // namespace fusedloss::cuda
