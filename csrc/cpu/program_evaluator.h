// Runs a region's or a weight source's program over a tile: values in buffers that stay in L1.
//
//     evaluator.prepare(tile, work, slots);        // what is the same for all channels
//     Values<T> mask = evaluator.evaluate(tile, index, work, slots, 0);  // of one channel's run
//
// A value stays in a tensor's own memory where it can, or is one number for the whole run; else it
// stands in the buffer of its place on the stack. Maximal positional subtrees (`ProgramAnalysis`)
// are computed over positions; where one of them is 0 throughout, what it is and-ed with is not
// looked at.
#pragma once

#include <vector>

#include "cpu/known_sums.h"
#include "cpu/position_terms.h"
#include "cpu/program_analysis.h"

namespace fusedloss::cpu {

template <class T>
class ProgramEvaluator {
 public:
  // The values of positional subtrees for the elements of a tile; later ones are not kept.
  struct Slots {
    static constexpr int kSlots = 4;
    Values<T> values[kSlots];
    alignas(64) T memory[kSlots][kTile];
  };

  ProgramEvaluator(const Program& program, const Bindings& bindings, const Operand& input,
                   const Operand& target, const Extents& extents)
      : program_(program),
        bindings_(bindings),
        extents_(extents),
        analysis_(program, bindings),
        space_(extents, bindings.places),
        terms_(program, bindings, input, extents, space_),
        target_(target, extents) {
    for (int i = 0; program && i < bindings.tensors; ++i) {
      tensor_[i] = Stream(bindings.tensor[i], extents);
    }
    for (int i = 0; i < program.length; ++i) {
      const Instruction& instruction = program.instruction[i];
      reads_channels_ = reads_channels_ || instruction.opcode == Opcode::kVariance;
      depends_on_place_ = depends_on_place_ || reads_place(instruction.opcode);
      is_closed_form_ = is_closed_form_ && (fusedloss::is_closed_form(instruction.opcode) ||
                                            is_operator(instruction.opcode));
    }
  }

  const Program& program() const { return program_; }
  // Tiles must hold all channels of their positions.
  bool reads_channels() const { return reads_channels_; }
  // What it masks out it has not read.
  bool is_closed_form() const { return is_closed_form_; }
  // Whether whole stretches are likely to be 0.
  bool depends_on_place() const { return depends_on_place_; }

  // Of each kNormalize, per sample: index range * samples + sample.
  void set_ranges(std::vector<Normaliser<T>> ranges) { ranges_ = std::move(ranges); }

  void prepare(const TileRange& tile, ProgramWork<T>& work, Slots& slots) const {
    prepare(tile, 0, program_.length, work, slots);
  }

  // Values of the tile's run that starts at `index`, until `work` or `slots` are used again.
  // `level` buffers of the stack are in use.
  Values<T> evaluate(const TileRange& tile, int64_t index, ProgramWork<T>& work, const Slots& slots,
                     int level) const {
    return evaluate(tile, index, 0, program_.length, work, slots, level);
  }

  // What the instructions before a kNormalize yield over a tile.
  MapSummary<T> summary(const TileRange& tile, int normalize, ProgramWork<T>& work,
                        Slots& slots) const {
    const int begin = program_.instruction[normalize].extent;
    if (analysis_.is_positional(normalize)) {
      return summary_of(over_positions(tile, begin, normalize, work, nullptr),
                        space_.of(tile).count);
    }
    prepare(tile, begin, normalize, work, slots);
    MapSummary<T> result;
    for (int64_t channel = 0; channel < tile.channels; ++channel) {
      const int64_t index = tile.begin + channel * tile.channel_stride;
      result.combine(
          summary_of(evaluate(tile, index, begin, normalize, work, slots, 0), tile.count));
    }
    return result;
  }
  // How many elements a value of such a map stands for.
  int64_t elements_per_value(int normalize) const {
    return analysis_.is_positional(normalize) ? extents_.channels : 1;
  }

 private:
  static MapSummary<T> summary_of(const Values<T>& values, int64_t count) {
    if (values.data != nullptr) return MapLoops<T>::summary(values.data, count);
    const double number = static_cast<double>(values.number);
    return {RangeLoops<T>::range(&values.number, 1), number, 0, static_cast<double>(count)};
  }

  // ---- the stack machine ------------------------------------------------------------------------

  // Instructions [begin, end): `leaf(i, buffer)` yields the values of a leaf and may step over
  // more instructions, `normalise(instruction, values, buffer)` those of kNormalize.
  template <class Leaf, class Normalise>
  Values<T> run(int begin, int end, int64_t count, T* const* buffers, Leaf&& leaf,
                Normalise&& normalise) const {
    Values<T> stack[Program::kMaxDepth];
    int top = -1;
    for (int i = begin; i < end; ++i) {
      const Instruction& instruction = program_.instruction[i];
      if (!is_operator(instruction.opcode)) {
        ++top;
        stack[top] = leaf(i, buffers[top]);
        continue;
      }
      Values<T>& value = stack[operand_count(instruction.opcode) == 2 ? --top : top];
      T* buffer = buffers[top];
      if (instruction.opcode == Opcode::kNormalize) {
        normalise(instruction, value.in_memory(buffer, count), buffer);
        value = {buffer};
      } else if (instruction.opcode != Opcode::kNot) {
        value = apply(instruction, value, stack[top + 1], program_.is_binary, buffer, count);
        if (value.data == buffers[top + 1]) {  // the next leaf's
          value = {std::copy_n(value.data, count, buffer) - count};
        }
      } else if (value.data == nullptr) {
        value.number = mask_not(value.number);
      } else {
        UnaryLoops<T>::negate(value.data, buffer, count);
        value = {buffer};
      }
    }
    return stack[0];
  }

  void prepare(const TileRange& tile, int begin, int end, ProgramWork<T>& work,
               Slots& slots) const {
    const int kept = std::min(analysis_.count(), Slots::kSlots);
    for (int slot = 0; slot < kept; ++slot) {
      const ProgramAnalysis::Root& root = analysis_.root(slot);
      if (root.begin < begin || root.end > end) continue;
      slots.values[slot] = root_values(tile, root, work, slots.memory[slot]);
    }
  }

  // Of a positional subtree, for the elements of the tile's runs.
  Values<T> root_values(const TileRange& tile, const ProgramAnalysis::Root& root,
                        ProgramWork<T>& work, T* memory) const {
    if (!PositionSpace::needs_spread(tile, extents_.channels)) {
      return over_positions(tile, root.begin, root.end, work, memory);
    }
    const Values<T> values = over_positions(tile, root.begin, root.end, work, nullptr);
    if (values.data == nullptr) return values;
    space_.spread(tile, values.data, memory);
    return {memory};
  }

  Values<T> evaluate(const TileRange& tile, int64_t index, int begin, int end, ProgramWork<T>& work,
                     const Slots& slots, int level) const {
    T* buffers[Program::kMaxDepth];
    for (int depth = 0; depth < Program::kMaxDepth; ++depth) {
      buffers[depth] = work.stack[std::min(depth + level, Program::kMaxDepth)];
    }
    const int64_t per_sample = extents_.elements() / bindings_.places.samples;
    return run(
        begin, end, tile.count, buffers,
        [&](int& i, T* buffer) -> Values<T> {
          if (const int hidden_until = end_of_hidden(i, end, slots); hidden_until > 0) {
            i = hidden_until - 1;
            return Values<T>::same(T(0));
          }
          const int root = analysis_.root_at(i);
          if (root < 0) return element_leaf(program_.instruction[i], tile, index, work, buffer);
          i = analysis_.root(root).end - 1;
          if (root < Slots::kSlots) return slots.values[root];
          const Values<T> values = root_values(tile, analysis_.root(root), work, buffer);
          if (values.data == nullptr || values.data == buffer) return values;
          return {std::copy_n(values.data, tile.count, buffer) - tile.count};
        },
        [&](const Instruction& instruction, const T* values, T* result) {
          normalise(instruction, index, tile.count, per_sample, values, result);
        });
  }

  // Where the subtree that begins with an instruction ends, if the other side of its `&` is 0. What
  // reaches beyond `end` is not being evaluated.
  int end_of_hidden(int instruction, int end, const Slots& slots) const {
    for (int i = 0; i < analysis_.guards(); ++i) {
      const ProgramAnalysis::Guard& guard = analysis_.guard(i);
      if (guard.begin != instruction || guard.last >= end || guard.root >= Slots::kSlots) continue;
      if (slots.values[guard.root].is(T(0))) return guard.end;
    }
    return 0;
  }

  // `memory`: where a computed result is to stand, unless nullptr.
  Values<T> over_positions(const TileRange& tile, int begin, int end, ProgramWork<T>& work,
                           T* memory) const {
    const PositionRange range = space_.of(tile);
    T* buffers[Program::kMaxDepth];
    for (int depth = 0; depth < Program::kMaxDepth; ++depth) {
      buffers[depth] = depth == 0 && memory != nullptr ? memory : work.positions[depth];
    }
    const int64_t per_sample = extents_.positions() / bindings_.places.samples;
    return run(
        begin, end, range.count, buffers,
        [&](int& i, T* buffer) { return terms_.values(i, tile, range, work, buffer); },
        [&](const Instruction& instruction, const T* values, T* result) {
          normalise(instruction, range.begin, range.count, per_sample, values, result);
        });
  }

  // A run may lie in several samples, each with a range of its own.
  void normalise(const Instruction& instruction, int64_t begin, int64_t count, int64_t per_sample,
                 const T* values, T* result) const {
    const int64_t first = instruction.source * bindings_.places.samples;
    for (int64_t done = 0; done < count;) {
      const int64_t sample = (begin + done) / per_sample;
      const int64_t here = std::min(count - done, (sample + 1) * per_sample - begin - done);
      UnaryLoops<T>::normalise(values + done, ranges_[first + sample], result + done, here);
      done += here;
    }
  }

  // ---- leaves over elements ---------------------------------------------------------------------

  Values<T> element_leaf(const Instruction& instruction, const TileRange& tile, int64_t index,
                         ProgramWork<T>& work, T* buffer) const {
    const int64_t count = tile.count;
    switch (instruction.opcode) {
      case Opcode::kTensor:
        return {load_mask(tensor_[instruction.source], index, count, buffer)};
      case Opcode::kWeight:
        return {load(tensor_[instruction.source], index, count, buffer)};
      case Opcode::kTargetCompare:
      case Opcode::kTargetIsFinite:
        return target_leaf(instruction, index, count, work, buffer);
      case Opcode::kLengths:
        element_lengths(instruction, index, count, buffer);
        return {buffer};
      default:  // kNumber
        return Values<T>::same(static_cast<T>(bindings_.number(instruction)));
    }
  }

  // Where the target's channels are aside, whether it holds for all of them.
  Values<T> target_leaf(const Instruction& instruction, int64_t index, int64_t count,
                        ProgramWork<T>& work, T* buffer) const {
    const bool compares = instruction.opcode == Opcode::kTargetCompare;
    if (!compares && !is_floating(target_.dtype)) return Values<T>::same(T(1));
    const ChannelsAside& aside = bindings_.target_channels;
    T* also = reinterpret_cast<T*>(work.wide[1]);
    for (int64_t c = 0; c < aside.count; ++c) {
      const Run run{target_.moved(c * aside.stride), index, count};
      T* result = c == 0 ? buffer : also;
      if (compares) {
        compare_target(instruction, run, work, result);
      } else if (target_.dtype == DType::kDouble) {
        FiniteLoop<T, double>::run(run.template load<double>(work), result, count);
      } else {
        FiniteLoop<T, float>::run(run.template load<float>(work), result, count);
      }
      if (c > 0) BinaryLoops<Both, T>::run(buffer, also, buffer, count);
    }
    return {buffer};
  }

  // Part of a tensor.
  struct Run {
    Stream stream;
    int64_t index, count;

    template <class V>
    const V* load(ProgramWork<T>& work) const {
      return cpu::load(stream, index, count, reinterpret_cast<V*>(work.wide[0]));
    }
  };

  void compare_target(const Instruction& instruction, const Run& target, ProgramWork<T>& work,
                      T* result) const {
    const int64_t count = target.count;
    const Comparison comparison = instruction.comparison;
    const double number = bindings_.number(instruction);
    switch (instruction.domain) {
      case CompareDomain::kInt64:
        return compare_values(comparison, target.template load<int64_t>(work),
                              bindings_.integer(instruction), result, count);
      case CompareDomain::kDouble:
        return compare_values(comparison, target.template load<double>(work), number, result,
                              count);
      default:
        return compare_values(comparison, target.template load<float>(work),
                              static_cast<float>(number), result, count);
    }
  }

  // Sequences along the channel dim of an (N, T) input.
  void element_lengths(const Instruction& instruction, int64_t index, int64_t count,
                       T* result) const {
    const int64_t length = extents_.channels;
    for (int64_t done = 0; done < count;) {
      const int64_t sample = (index + done) / length, first = (index + done) % length;
      const int64_t here = std::min(count - done, length - first);
      const Interval inside =
          length_interval(bindings_.table[instruction.source], sample, first, here);
      std::fill_n(result + done, here, T(0));
      std::fill_n(result + done, inside.end, T(1));
      done += here;
    }
  }

  const Program& program_;
  const Bindings& bindings_;
  const Extents extents_;
  const ProgramAnalysis analysis_;
  const PositionSpace space_;
  const PositionTerms<T> terms_;
  const Stream target_;
  Stream tensor_[Bindings::kMaxTensors];
  std::vector<Normaliser<T>> ranges_;
  bool reads_channels_ = false, depends_on_place_ = false, is_closed_form_ = true;
};

}  // namespace fusedloss::cpu
