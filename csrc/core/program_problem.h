// From an op's arguments to the two programs of a call and what they read.
//
// Torch-free. The code of fusedloss/_program.py has four integers per instruction: the opcode and
// up to three words, whose meaning `parse_instruction` tells. Numbers, tensors, images and tables
// are counted from 0 in each kind; the tensors of a call come in the order tensors, images, tables.
#pragma once

#include <cmath>
#include <stdexcept>
#include <vector>

#include "core/problem.h"
#include "regions/program.h"

namespace fusedloss {

// The code of a call's two programs, of fusedloss/_program.py.
struct ProgramCodes {
  const std::vector<int64_t>& region;
  const std::vector<int64_t>& weight_source;
};

// The tensors of a call; those that it does not have stay empty. `others` are up to kOwn of the
// family's, then the programs'.
template <int kOwn>
struct CallTensors {
  static constexpr int kMaxOthers =
      kOwn + Bindings::kMaxTensors + Bindings::kMaxImages + Bindings::kMaxTables;
  TensorView input, target, grad_output, grad_input, loss;
  int count = 0;
  TensorView others[kMaxOthers];
};

class ProgramParser {
 public:
  ProgramParser(const TensorView& input, const std::vector<double>& numbers, Bindings* bindings)
      : input_(input), numbers_(numbers), bindings_(bindings) {}

  void parse(const std::vector<int64_t>& code, Program* program) {
    if (code.size() > 4 * Program::kMaxLength) {
      throw std::invalid_argument("fusedloss: this expression is longer than a program may be");
    }
    program->length = static_cast<int>(code.size() / 4);
    for (int i = 0; i < program->length; ++i) {
      program->instruction[i] = parse_instruction(&code[4 * i]);
    }
  }

  // After all programs: their numbers become constants. Returns how many of `numbers` they use.
  size_t finish(Program* region, Program* weight_source) {
    if (used_ > static_cast<int>(numbers_.size())) {
      throw std::invalid_argument("fusedloss: a program has fewer numbers than it names");
    }
    constants_ = used_;
    check_room();
    for (int i = 0; i < used_; ++i) bindings_->constant[i].number = numbers_[i];
    for (Program* program : {region, weight_source}) {
      for (int i = 0; i < program->length; ++i) settle(program->instruction[i]);
    }
    return used_;
  }

 private:
  Instruction parse_instruction(const int64_t* word) {
    const int64_t a = word[1], b = word[2], c = word[3];
    Instruction result{static_cast<Opcode>(word[0])};
    const Opcode opcode = result.opcode;
    if (opcode < Opcode::kTensor || opcode > Opcode::kNormalize) {
      throw std::invalid_argument("fusedloss: a program has an unknown instruction");
    }
    if (opcode == Opcode::kTargetCompare || opcode == Opcode::kVariance ||
        opcode == Opcode::kImageMean) {
      result.comparison = static_cast<Comparison>(a);
      if (opcode == Opcode::kTargetCompare) result.domain = static_cast<CompareDomain>(b);
      if (opcode == Opcode::kImageMean) result.source = static_cast<int16_t>(b);
    } else {
      result.source = static_cast<int16_t>(a);
    }
    if (opcode == Opcode::kSubtract) result.is_swapped = a != 0;
    if (opcode == Opcode::kBoundary || opcode == Opcode::kNormalize) {
      result.extent = static_cast<int32_t>(b);
    }
    if (opcode == Opcode::kTargetCompare && result.domain == CompareDomain::kInt64) {
      integers_.push_back(c);
    } else if (const int count = number_count(opcode); count > 0) {
      result.constant = static_cast<int16_t>(c);
      used_ = std::max(used_, static_cast<int>(c) + count);
    }
    if (reads_image(opcode)) count_source(result.source, Bindings::kMaxImages, &bindings_->images);
    if (reads_table(opcode)) count_source(result.source, Bindings::kMaxTables, &bindings_->tables);
    if (opcode == Opcode::kNormalize) {
      count_source(result.source, Bindings::kMaxRanges, &bindings_->ranges);
    }
    return result;
  }

  static void count_source(int source, int most, int* count) {
    if (source < 0 || source >= most)
      throw std::invalid_argument("fusedloss: a program reads too much");
    *count = std::max(*count, source + 1);
  }

  int spatial() const { return std::max(0, input_.rank - 2); }

  int number_count(Opcode opcode) const {
    switch (opcode) {
      case Opcode::kTargetCompare:
      case Opcode::kImageMean:
      case Opcode::kCenter:
      case Opcode::kKeypoints:
      case Opcode::kNumber:
        return 1;
      case Opcode::kVariance:
      case Opcode::kBoundary:
        return 2;
      case Opcode::kBox:
        return 2 * spatial();
      case Opcode::kDisk:
        return spatial() + 1;
      default:
        return 0;
    }
  }

  // What depends on all constants, or on the shape of the input.
  void settle(Instruction& instruction) {
    switch (instruction.opcode) {
      case Opcode::kTargetCompare:
        if (instruction.domain == CompareDomain::kInt64) {
          instruction.constant = reserve(1);
          bindings_->constant[instruction.constant].integer = integers_[next_integer_++];
        }
        break;
      case Opcode::kVariance:
        if (input_.dtype == DType::kDouble) instruction.domain = CompareDomain::kDouble;
        break;
      case Opcode::kCenter: {
        const double fraction = bindings_->number(instruction);
        instruction.opcode = Opcode::kBox;
        instruction.constant = reserve(2 * spatial());
        for (int dim = 0; dim < spatial(); ++dim) {
          const double size = static_cast<double>(size_of(dim));
          set_bounds(instruction, dim, std::floor(size * (1 - fraction) / 2 + 1e-6),
                     std::floor(size * (1 + fraction) / 2 + 1e-6));
        }
        break;
      }
      case Opcode::kBox:  // an integer is at least `low` where it is at least ceil(low)
        for (int dim = 0; dim < spatial(); ++dim) {
          set_bounds(instruction, dim, std::ceil(bindings_->number(instruction, dim)),
                     std::ceil(bindings_->number(instruction, spatial() + dim)));
        }
        break;
      default:
        break;
    }
  }

  // x, y, z, ...
  int64_t size_of(int dim) const { return input_.size[input_.rank - 1 - dim]; }

  void set_bounds(const Instruction& instruction, int dim, double low, double high) {
    const double size = static_cast<double>(size_of(dim));
    Constant* bounds = &bindings_->constant[instruction.constant];
    bounds[dim].integer = static_cast<int64_t>(std::min(std::max(low, 0.0), size));
    bounds[spatial() + dim].integer = static_cast<int64_t>(std::min(std::max(high, 0.0), size));
  }

  int16_t reserve(int count) {
    const int16_t first = static_cast<int16_t>(constants_);
    constants_ += count;
    check_room();
    return first;
  }
  void check_room() const {
    if (constants_ > Bindings::kMaxConstants) {
      throw std::invalid_argument("fusedloss: a program has too many numbers");
    }
  }

  const TensorView& input_;
  const std::vector<double>& numbers_;
  Bindings* bindings_;
  std::vector<int64_t> integers_;
  size_t next_integer_ = 0;
  int used_ = 0, constants_ = 0;
};

// Images, features and labels: (N or 1, channels, spatial dims).
inline ImageView view_of_image(const TensorView& tensor) {
  ImageView image;
  image.data = tensor.data;
  image.dtype = tensor.dtype;
  image.channels = tensor.size[1];
  image.sample_stride = tensor.size[0] == 1 ? 0 : tensor.stride[0];
  image.channel_stride = tensor.stride[1];
  for (int dim = 0; dim < tensor.rank - 2; ++dim) {
    image.size[dim] = tensor.size[tensor.rank - 1 - dim];
    image.stride[dim] = tensor.stride[tensor.rank - 1 - dim];
  }
  return image;
}

// Coordinates (rows, width) or (N, rows, width); lengths (N,).
inline TableView view_of_table(const TensorView& tensor) {
  TableView table;
  table.data = tensor.data;
  table.dtype = tensor.dtype;
  if (tensor.rank == 1) {
    table.sample_stride = tensor.stride[0];
    return table;
  }
  table.rows = tensor.size[tensor.rank - 2];
  table.row_stride = tensor.stride[tensor.rank - 2];
  table.stride = tensor.stride[tensor.rank - 1];
  if (tensor.rank == 3) table.sample_stride = tensor.stride[0];
  return table;
}

// Gives the programs the tensors that they read.
inline void bind(const TensorView* first, const TensorView* end, ProblemBuilder* builder,
                 Bindings* bindings) {
  bindings->tensors = static_cast<int>(end - first) - bindings->images - bindings->tables;
  if (bindings->tensors < 0 || bindings->tensors > Bindings::kMaxTensors) {
    throw std::invalid_argument("fusedloss: a program has another number of tensors than given");
  }
  for (int i = 0; i < bindings->tensors; ++i) builder->add(&bindings->tensor[i], *first++);
  for (int i = 0; i < bindings->images; ++i) bindings->image[i] = view_of_image(*first++);
  for (int i = 0; i < bindings->tables; ++i) bindings->table[i] = view_of_table(*first++);
}

inline Places places_of(const TensorView& input, const Extents& extents) {
  Places places;
  if (input.rank >= 2) places.samples = input.size[0];
  places.spatial = std::max(0, input.rank - 2);
  for (int dim = 0; dim < places.spatial; ++dim) {
    places.size[dim] = input.size[input.rank - 1 - dim];
  }
  for (int axis = 0; axis < extents.rank; ++axis) {
    const int dim = extents.dim[axis];
    places.role[axis] = static_cast<int8_t>(input.rank < 2 ? 0
                                            : dim == 0     ? Places::kSample
                                            : dim == 1     ? Places::kChannel
                                                           : input.rank - 1 - dim);
  }
  return places;
}

// Whether a term's values differ between the channels of a position.
inline bool varies_over_channels(const Instruction& instruction, const Bindings& bindings,
                                 int spatial) {
  switch (instruction.opcode) {
    case Opcode::kTensor:
    case Opcode::kWeight:
      return bindings.tensor[instruction.source].varies_over_channels;
    case Opcode::kLengths:
      return spatial == 0;
    default:
      return reads_target(instruction.opcode);
  }
}

// is_positional and is_binary, once the tensors are laid out.
inline void describe(Program* program, const Bindings& bindings, int spatial) {
  for (int i = 0; i < program->length; ++i) {
    const Instruction& instruction = program->instruction[i];
    program->is_positional =
        program->is_positional && !varies_over_channels(instruction, bindings, spatial);
    if (instruction.opcode == Opcode::kTensor) {
      program->is_binary =
          program->is_binary && !is_floating(bindings.tensor[instruction.source].dtype);
    }
  }
}

// What the programs need to know of the index space.
inline ProblemBuilder::Needs needs_of(const Program& program, int spatial) {
  ProblemBuilder::Needs needs;
  for (int i = 0; i < program.length; ++i) {
    const Opcode opcode = program.instruction[i].opcode;
    const bool in_channels = opcode == Opcode::kLengths && spatial == 0;
    needs.keep_places = needs.keep_places || reads_place(opcode);
    needs.keep_channels = needs.keep_channels || opcode == Opcode::kVariance ||
                          (reads_place(opcode) && !in_channels && opcode != Opcode::kNormalize);
  }
  return needs;
}

}  // namespace fusedloss
