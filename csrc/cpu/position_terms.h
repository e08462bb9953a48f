// The leaves of a program that are the same for all channels, over the positions of a tile.
#pragma once

#include <new>
#include <vector>

#include "cpu/activation_rows.h"
#include "cpu/boundary_rows.h"
#include "cpu/image_rows.h"
#include "cpu/program_loops.h"
#include "cpu/shape_rows.h"
#include "cpu/variance_rows.h"

namespace fusedloss::cpu {

// What the evaluators of a call work in, one per thread.
template <class T>
struct ProgramWork {
  alignas(64) T stack[Program::kMaxDepth + 1][kTile];
  alignas(64) T positions[Program::kMaxDepth][kTile];
  alignas(64) double wide[2][kTile];  // targets and what is compared, in the type of a comparison
  VarianceScratch variance;
  ImageScratch<T> image;
  // An ImageScratch of the type that a mean is compared in, which the image decides.
  alignas(64) char mean_image[sizeof(ImageScratch<double>)];
  typename ActivationRows<T>::Scratch activation;
  std::vector<BoundaryRows::Scratch> boundary;
};

template <class T>
class PositionTerms {
 public:
  PositionTerms(const Program& program, const Bindings& bindings, const Operand& input,
                const Extents& extents, const PositionSpace& space)
      : program_(program), bindings_(bindings), space_(space), variance_(input, extents, bindings.input_channels) {
    for (int i = 0; program && i < bindings.tensors; ++i) {
      if (!bindings.tensor[i].varies_over_channels) tensor_[i] = space_.stream(bindings.tensor[i]);
    }
    for (int i = 0; i < program.length; ++i) {
      const Instruction& instruction = program.instruction[i];
      if (instruction.opcode == Opcode::kActivation) {
        helper_[i] = static_cast<int>(activation_.size());
        activation_.emplace_back(bindings.image[instruction.source], bindings.places);
      } else if (instruction.opcode == Opcode::kBoundary) {
        helper_[i] = static_cast<int>(boundary_.size());
        boundary_.emplace_back(bindings.image[instruction.source], bindings.places,
                               instruction.extent);
      }
    }
  }

  // Of the leaf that is instruction `i`.
  Values<T> values(int i, const TileRange& tile, const PositionRange& range, ProgramWork<T>& work,
                   T* buffer) const {
    const Instruction& instruction = program_.instruction[i];
    switch (instruction.opcode) {
      case Opcode::kTensor:
        return {load_mask(tensor_[instruction.source], range.begin, range.count, buffer)};
      case Opcode::kWeight:
        return {load(tensor_[instruction.source], range.begin, range.count, buffer)};
      case Opcode::kNumber:
        return Values<T>::same(static_cast<T>(bindings_.number(instruction)));
      case Opcode::kVariance:
        if (instruction.domain == CompareDomain::kDouble) {
          compare_variance<double>(instruction, tile, range.count, work, buffer);
        } else {
          compare_variance<float>(instruction, tile, range.count, work, buffer);
        }
        return {buffer};
      default:
        return over_segments(i, range, work, buffer);
    }
  }

 private:
  Values<T> over_segments(int i, const PositionRange& range, ProgramWork<T>& work,
                          T* buffer) const {
    const Instruction& instruction = program_.instruction[i];
    if (!fusedloss::is_closed_form(instruction.opcode)) {
      space_.for_each_segment(range, [&](const Segment& segment) {
        segment_leaf(i, segment, work, buffer + segment.offset);
      });
      return {buffer};
    }
    bool is_empty = true, is_full = true;
    space_.for_each_segment(range, [&](const Segment& segment) {
      const Coverage coverage =
          fill_shapes(instruction, bindings_, segment, buffer + segment.offset);
      is_empty = is_empty && coverage == Coverage::kNone;
      is_full = is_full && coverage == Coverage::kAll;
    });
    if (is_empty || is_full) return Values<T>::same(is_full ? T(1) : T(0));
    return {buffer};
  }

  template <class V>
  void compare_variance(const Instruction& instruction, const TileRange& tile, int64_t count,
                        ProgramWork<T>& work, T* result) const {
    const double correction = bindings_.number(instruction, 1);
    V* variance = reinterpret_cast<V*>(work.wide[0]);
    variance_.run(tile, correction, work.variance, variance);
    const bool has_nan = VarianceLoops<V>::count_nan(variance, count) != 0;
    if (has_nan && std::is_same_v<V, float>) {  // overflow on the way does not count
      double* again = work.wide[1];
      variance_.run(tile, correction, work.variance, again);
      for (int64_t i = 0; i < count; ++i) {
        if (variance[i] != variance[i]) variance[i] = static_cast<V>(again[i]);
      }
    }
    compare_values(instruction.comparison, variance, static_cast<V>(bindings_.number(instruction)),
                   result, count);
    if (has_nan) {
      for (int64_t i = 0; i < count; ++i) {
        if (variance[i] != variance[i]) result[i] = T(0);
      }
    }
  }

  void segment_leaf(int i, const Segment& segment, ProgramWork<T>& work, T* result) const {
    const Instruction& instruction = program_.instruction[i];
    const int spatial = bindings_.places.spatial;
    const ImageView& image = bindings_.image[instruction.source % Bindings::kMaxImages];
    switch (instruction.opcode) {
      case Opcode::kImageMean:
        return image.dtype == DType::kDouble
                   ? compare_mean<double>(instruction, segment, work, result)
                   : compare_mean<float>(instruction, segment, work, result);
      case Opcode::kEdgesForward:
        return edges_forward_row(image, spatial, segment, work.image, result);
      case Opcode::kEdgesSobel:
        return edges_sobel_row(image, segment, work.image, result);
      case Opcode::kActivation:
        return activation_[helper_[i]].row(segment, work.activation, result);
      default: {  // kBoundary
        if (work.boundary.size() < boundary_.size()) work.boundary.resize(boundary_.size());
        BoundaryRows::Scratch& scratch = work.boundary[helper_[i]];
        boundary_[helper_[i]].row(segment, scratch);
        return FlagLoops::choose(scratch.near.data(), static_cast<T>(bindings_.number(instruction)),
                                 static_cast<T>(bindings_.number(instruction, 1)), result,
                                 segment.count);
      }
    }
  }

  template <class V>
  void compare_mean(const Instruction& instruction, const Segment& segment, ProgramWork<T>& work,
                    T* result) const {
    V* mean = reinterpret_cast<V*>(work.wide[0]);
    image_mean_row(bindings_.image[instruction.source], bindings_.places.spatial, segment,
                   *new (work.mean_image) ImageScratch<V>, mean);
    compare_values(instruction.comparison, mean, static_cast<V>(bindings_.number(instruction)),
                   result, segment.count);
  }

  const Program& program_;
  const Bindings& bindings_;
  const PositionSpace space_;
  const VarianceRows variance_;
  Stream tensor_[Bindings::kMaxTensors];
  int helper_[Program::kMaxLength] = {0};  // index into the two below
  std::vector<ActivationRows<T>> activation_;
  std::vector<BoundaryRows> boundary_;
};

}  // namespace fusedloss::cpu
