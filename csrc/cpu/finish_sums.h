// From the sums of blocks to an op's `sums` and its loss: what all drivers do between and after
// their passes. `Params` is a family's params struct.
#pragma once

#include <vector>

#include "cpu/stream.h"
#include "reductions/sums.h"

namespace fusedloss::cpu {

// The blocks of each sample in order.
inline std::vector<Sums> combine_blocks(const std::vector<Sums>& blocks, int64_t samples) {
  std::vector<Sums> result(samples);
  const int64_t per_sample = samples == 0 ? 0 : static_cast<int64_t>(blocks.size()) / samples;
  for (int64_t sample = 0; sample < samples; ++sample) {
    for (int64_t block = 0; block < per_sample; ++block) {
      result[sample].combine(blocks[sample * per_sample + block]);
    }
  }
  return result;
}

template <class Params>
double given_normalizer(const Params& params) {
  if (!params.given_normalizer) return params.given_number;
  double value;
  return *load(Stream(params.given_normalizer, Extents()), 0, 1, &value);
}

// Fills params.sums and returns the loss, of a reduction to a scalar; `all` is what the normalizer
// "all" counts in a sample.
template <class Params>
double finish_sums(const Params& params, const std::vector<Sums>& samples, double all) {
  const SumsLayout layout{params.extents.samples};
  int64_t selected = 0, sample_count = 0;
  for (const Sums& sums : samples) {
    selected += sums.selected;
    sample_count += sums.selected != 0 ? 1 : 0;
  }
  if (params.reduction != Reduction::kSampleMean) sample_count = 1;
  double loss = 0;
  for (int64_t sample = 0; sample < layout.samples; ++sample) {
    const double divisor =
        denominator(samples[sample], params.normalizer, all, given_normalizer(params));
    const double total = samples[sample].total;
    params.sums[layout.total(sample)] = total;
    params.sums[layout.normalizer(sample)] = divisor;
    params.sums[layout.scale(sample)] = gradient_scale(params.reduction, divisor, sample_count);
    loss += loss_share(params.reduction, total, divisor, sample_count);
  }
  params.sums[layout.selected()] = static_cast<double>(selected);
  return loss;
}

}  // namespace fusedloss::cpu
