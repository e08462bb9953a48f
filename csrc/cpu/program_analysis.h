// Which parts of a program are the same for all channels of a position: they are computed over
// positions, once per tile, whatever stands beside them.
#pragma once

#include "core/program_problem.h"

namespace fusedloss::cpu {

class ProgramAnalysis {
 public:
  // The subtree [begin, end) of instructions, computed over positions.
  struct Root {
    int begin, end;
  };

  // The subtree [begin, end) counts only where a root is not 0: they are the two sides of the `&`
  // at `last`.
  struct Guard {
    int begin, end, root, last;
  };

  ProgramAnalysis(const Program& program, const Bindings& bindings) {
    const int spatial = bindings.places.spatial;
    int subtree[Program::kMaxDepth + 1];  // the last instruction of each value on the stack
    int top = -1;
    int side[Program::kMaxLength][2];
    for (int i = 0; i < program.length; ++i) {
      const Instruction& instruction = program.instruction[i];
      begin_[i] = i;
      positional_[i] = !varies_over_channels(instruction, bindings, spatial);
      worthwhile_[i] = is_worthwhile(instruction.opcode);
      for (int operand = 0; operand < operand_count(instruction.opcode); ++operand) {
        const int last = side[i][operand] = subtree[top--];
        begin_[i] = begin_[last];
        positional_[i] = positional_[i] && positional_[last];
        worthwhile_[i] = worthwhile_[i] || worthwhile_[last];
      }
      subtree[++top] = i;
    }
    // The largest such subtrees, from the end: a subtree's own parts lie before its root.
    std::fill_n(root_at_, program.length, -1);
    for (int i = program.length - 1; i >= 0;) {
      if (positional_[i] && worthwhile_[i]) {
        root_at_[begin_[i]] = count_;
        root_[count_++] = {begin_[i], i + 1};
        i = begin_[i] - 1;
      } else {
        --i;
      }
    }
    for (int i = program.length - 1; i >= 0; --i) {  // the widest first
      if (program.instruction[i].opcode != Opcode::kAnd || positional_[i]) continue;
      for (int operand = 0; operand < 2; ++operand) {
        const int guard = side[i][operand], guarded = side[i][1 - operand];
        if (!positional_[guard] || !worthwhile_[guard]) continue;
        guard_[guards_++] = {begin_[guarded], guarded + 1, root_at_[begin_[guard]], i};
      }
    }
  }

  int count() const { return count_; }
  const Root& root(int index) const { return root_[index]; }
  // The root that begins with an instruction, or -1.
  int root_at(int instruction) const { return root_at_[instruction]; }
  int guards() const { return guards_; }
  const Guard& guard(int index) const { return guard_[index]; }
  bool is_positional(int instruction) const { return positional_[instruction]; }

 private:
  // Tensors alone are broadcast where they are loaded.
  static bool is_worthwhile(Opcode opcode) {
    return reads_place(opcode) ? opcode != Opcode::kNormalize : opcode == Opcode::kVariance;
  }

  int begin_[Program::kMaxLength];
  bool positional_[Program::kMaxLength], worthwhile_[Program::kMaxLength];
  int root_at_[Program::kMaxLength];
  Root root_[Program::kMaxLength];
  Guard guard_[2 * Program::kMaxLength];
  int count_ = 0, guards_ = 0;
};

}  // namespace fusedloss::cpu
