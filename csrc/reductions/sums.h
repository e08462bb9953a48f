// What a masked loss sums up, and how the sums become a loss and a gradient scale. Written once.
//
// Kernels accumulate a `Sums` per fixed block, combine the blocks of a sample in order (so the bits
// do not depend on threads or grid), then call `finalize` once.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/macros.h"

namespace fusedloss {

enum class Reduction : int32_t { kNone, kSum, kMean, kSampleMean };
enum class Normalizer : int32_t { kWeights, kSelected, kPositions, kAll, kGiven };

// Over the elements that take part: total = sum of m w l, weights = sum of m w, mask = sum of m,
// positions = sum over positions of the largest m of their channels, selected = how many.
struct Sums {
  double total = 0;
  double weights = 0;
  double mask = 0;
  double positions = 0;
  int64_t selected = 0;

  FL_HOST_DEVICE void combine(const Sums& other) {
    total += other.total;
    weights += other.weights;
    mask += other.mask;
    positions += other.positions;
    selected += other.selected;
  }
};

// The result that ops call `sums`, float64:
// total[samples], normalizer[samples], scale[samples], selected[1]
struct SumsLayout {
  int64_t samples;
  FL_HOST_DEVICE int64_t total(int64_t sample) const { return sample; }
  FL_HOST_DEVICE int64_t normalizer(int64_t sample) const { return samples + sample; }
  FL_HOST_DEVICE int64_t scale(int64_t sample) const { return 2 * samples + sample; }
  FL_HOST_DEVICE int64_t selected() const { return 3 * samples; }
  FL_HOST_DEVICE int64_t length() const { return 3 * samples + 1; }
};

// The rule of contract section 6; `all` is the number of elements, `given` the caller's number.
FL_HOST_DEVICE double denominator(const Sums& sums, Normalizer normalizer, double all,
                                  double given) {
  switch (normalizer) {
    case Normalizer::kWeights:
      return sums.weights;
    case Normalizer::kSelected:
      return sums.mask;
    case Normalizer::kPositions:
      return sums.positions;
    case Normalizer::kAll:
      return all;
    default:
      return given;
  }
}

// The empty rule: a mean over nothing is 0 and has zero gradients.
FL_HOST_DEVICE double divide_or_zero(double numerator, double denominator) {
  return denominator == 0 ? 0.0 : numerator / denominator;
}

// What one sample (or the whole) adds to the loss; NaN for infinity / infinity, as in torch.
FL_HOST_DEVICE double loss_share(Reduction reduction, double total, double denominator,
                                 int64_t sample_count) {
  if (reduction == Reduction::kSum || reduction == Reduction::kNone) return total;
  return divide_or_zero(divide_or_zero(total, denominator), static_cast<double>(sample_count));
}

// The scale of an empty mean is -0, and its gradient 0 whatever the derivatives are. That of an
// infinite denominator is +0: an infinite weight times it is NaN, as in torch.
template <class T>
FL_HOST_DEVICE bool is_empty_scale(T scale) {
  constexpr BitsOf<T> kNegativeZero = BitsOf<T>(1) << (8 * sizeof(T) - 1);
  return bit_cast<BitsOf<T>>(scale) == kNegativeZero;
}

// What one sample (or the whole) multiplies its sum of m w l by. `sample_count` is the number of
// samples with a selected element under kSampleMean, else 1.
FL_HOST_DEVICE double gradient_scale(Reduction reduction, double denominator,
                                     int64_t sample_count) {
  if (reduction == Reduction::kSum || reduction == Reduction::kNone) return 1.0;
  if (denominator == 0 || sample_count == 0) return -0.0;
  return 1.0 / denominator / static_cast<double>(sample_count) + 0.0;  // +0 of both zeros
}

}  // namespace fusedloss
