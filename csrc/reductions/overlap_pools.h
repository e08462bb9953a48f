// Pools of an overlap loss: which one an element belongs to, what each counts, and how pools become
// a loss and the slopes of its gradient. Written once, for host and device.
//
//     Pools pools{Per::kSampleClass, samples, classes, include_background};
//     pools.of(sample, c)                      // -1: class c has no pool
//     finish_pools(rules, weight_of, sample_count, sums)
//
// Kernels sum the soft counts of every sample and class without class weights; those come in when
// a pool adds up its classes (`add_class`). The gradient for p at an element is then
//
//     mask x map x (slope_i t + slope_p (2 p or 1))      slopes of (sample, class): `slopes_of`
#pragma once

#include <cstdint>

#include "core/extents.h"
#include "losses/overlap.h"
#include "reductions/sums.h"

namespace fusedloss {

enum class Per : int32_t { kSample, kSampleClass, kClass, kBatch };

struct Pools {
  Per per = Per::kSample;
  int64_t samples = 1, classes = 1;
  bool include_background = true;

  FL_HOST_DEVICE bool by_sample() const { return per == Per::kSample || per == Per::kSampleClass; }
  FL_HOST_DEVICE bool by_class() const { return per == Per::kClass || per == Per::kSampleClass; }
  FL_HOST_DEVICE int64_t first_class() const { return include_background ? 0 : 1; }
  FL_HOST_DEVICE int64_t rows() const { return by_sample() ? samples : 1; }
  FL_HOST_DEVICE int64_t columns() const { return by_class() ? classes - first_class() : 1; }
  FL_HOST_DEVICE int64_t count() const { return rows() * columns(); }
  FL_HOST_DEVICE int64_t of(int64_t sample, int64_t c) const {
    if (c < first_class()) return -1;
    return (by_sample() ? sample * columns() : 0) + (by_class() ? c - first_class() : 0);
  }
};

// The result that ops call `sums`, float64. It begins as SumsLayout; in a compound total,
// normalizer and scale are those of the pointwise part.
struct OverlapSumsLayout {
  int64_t results;  // samples under kSampleMean, else 1
  int64_t pools;

  FL_HOST_DEVICE int64_t total(int64_t i) const { return i; }
  FL_HOST_DEVICE int64_t normalizer(int64_t i) const { return results + i; }
  FL_HOST_DEVICE int64_t scale(int64_t i) const { return 2 * results + i; }
  FL_HOST_DEVICE int64_t selected() const { return 3 * results; }
  FL_HOST_DEVICE int64_t intersection(int64_t pool) const { return 3 * results + 1 + pool; }
  FL_HOST_DEVICE int64_t input_sum(int64_t pool) const { return intersection(pools + pool); }
  FL_HOST_DEVICE int64_t target_sum(int64_t pool) const { return intersection(2 * pools + pool); }
  // d loss / dI and d loss / dP of the pool, for grad_output = 1; both 0 where it is not live.
  FL_HOST_DEVICE int64_t by_intersection(int64_t pool) const {
    return intersection(3 * pools + pool);
  }
  FL_HOST_DEVICE int64_t by_input_sum(int64_t pool) const { return intersection(4 * pools + pool); }
  FL_HOST_DEVICE int64_t length() const { return intersection(5 * pools); }
};

// All that turns soft counts into a loss.
struct OverlapRules {
  OverlapLoss loss;
  Pools pools;
  Reduction reduction = Reduction::kMean;
  bool squared = false;      // P and T are sums of squares
  bool skip_absent = false;  // pools with T = 0 do not count
  double part = 1;           // what the loss is multiplied by, in a compound

  FL_HOST_DEVICE OverlapSumsLayout layout() const {
    return {reduction == Reduction::kSampleMean ? pools.samples : 1, pools.count()};
  }
};

// One value per class; without any, 1.
FL_HOST_DEVICE double class_weight_at(const Operand& weight, int64_t c) {
  if (!weight) return 1;
  return visit_dtype(weight.dtype, [&](auto element) {
    using S = decltype(element);
    return static_cast<double>(
        convert<double>(static_cast<const S*>(weight.data)[c * weight.stride[0]]));
  });
}

// Adds the counts of one (sample, class), summed without class weights, to its pool in `sums`,
// where the counts begin as 0. A class of weight 0 does not exist.
FL_HOST_DEVICE void add_class(const OverlapRules& rules, int64_t sample, int64_t c, double weight,
                              const SoftCounts& counts, double* sums) {
  const int64_t pool = rules.pools.of(sample, c);
  if (pool < 0 || weight == 0) return;
  const OverlapSumsLayout layout = rules.layout();
  const double factor = rules.pools.by_class() ? 1 : weight;
  // Of labels other terms than the class's own were not added: 0 times NaN or infinity.
  const double missing = counts.input_sum - counts.input_sum;
  const bool is_known = missing == 0 || counts.intersection - counts.intersection != 0;
  sums[layout.intersection(pool)] += factor * (is_known ? counts.intersection : missing);
  sums[layout.input_sum(pool)] += factor * counts.input_sum;
  sums[layout.target_sum(pool)] += factor * counts.target_sum;
}

// What a pool counts beside others: 0 where it does not.
FL_HOST_DEVICE double share_of(const OverlapRules& rules, double class_weight, double target_sum) {
  if (rules.skip_absent && target_sum == 0) return 0;
  return rules.pools.by_class() ? class_weight : 1;
}

// One pool, from its counts in `sums`: writes its slopes, times `scale`.
struct SettledPool {
  double value, share;  // share x loss
};

FL_HOST_DEVICE SettledPool settle_pool(const OverlapRules& rules, int64_t pool, double class_weight,
                                       double scale, double* sums) {
  const OverlapSumsLayout layout = rules.layout();
  const SoftCounts counts{sums[layout.intersection(pool)], sums[layout.input_sum(pool)],
                          sums[layout.target_sum(pool)]};
  const double share = share_of(rules, class_weight, counts.target_sum);
  const PoolLoss at = share == 0 ? PoolLoss() : rules.loss(counts);
  const bool moves = at.is_live() && scale != 0;
  sums[layout.by_intersection(pool)] = moves ? share * at.by_intersection * scale : 0;
  sums[layout.by_input_sum(pool)] = moves ? share * at.by_input_sum * scale : 0;
  return {share == 0 ? 0 : share * at.value, share};
}

// What a pool's share x derivatives are multiplied by; `normalizer` adds up the shares of a result.
FL_HOST_DEVICE double pool_scale(const OverlapRules& rules, double normalizer,
                                 int64_t sample_count) {
  if (rules.reduction != Reduction::kSampleMean) sample_count = 1;
  return rules.part * gradient_scale(rules.reduction, normalizer, sample_count);
}

// From the counts in `sums` to everything else there but scale and selected, and the loss (times
// the part). `weight_of(c)` is a class weight; `sample_count` the number of samples in which an
// element takes part, under kSampleMean. `pool_losses` (share x loss of each) may be nullptr.
template <class WeightOf>
FL_HOST_DEVICE double finish_pools(const OverlapRules& rules, WeightOf&& weight_of,
                                   int64_t sample_count, double* sums, double* pool_losses) {
  const OverlapSumsLayout layout = rules.layout();
  const int64_t first = rules.pools.first_class(), columns = rules.pools.columns();
  const int64_t per_result = layout.results == 0 ? 0 : layout.pools / layout.results;
  if (rules.reduction != Reduction::kSampleMean) sample_count = 1;
  double loss = 0;
  for (int64_t result = 0; result < layout.results; ++result) {
    const int64_t begin = result * per_result, end = begin + per_result;
    double total = 0, normalizer = 0;
    for (int64_t pool = begin; pool < end; ++pool) {
      const SettledPool settled =
          settle_pool(rules, pool, weight_of(first + pool % columns), 1, sums);
      total += settled.value;
      normalizer += settled.share;
      if (pool_losses != nullptr) pool_losses[pool] = settled.value;
    }
    const double scale = pool_scale(rules, normalizer, sample_count);
    for (int64_t pool = begin; scale != 1 && pool < end; ++pool) {
      settle_pool(rules, pool, weight_of(first + pool % columns), scale, sums);
    }
    sums[layout.total(result)] = total;
    sums[layout.normalizer(result)] = normalizer;
    loss += loss_share(rules.reduction, total, normalizer, sample_count);
  }
  return rules.part * loss;
}

// What the gradient for p of (sample, class) is made of.
struct ClassSlopes {
  double by_intersection = 0, by_input_sum = 0;
  bool is_live = false;  // else the gradient is 0, whatever the factor below is
};

// `factor` is grad_output, of the pool or of all.
FL_HOST_DEVICE ClassSlopes slopes_of(const OverlapRules& rules, int64_t pool, double class_weight,
                                     double factor, const double* sums) {
  if (pool < 0 || class_weight == 0) return {};
  const OverlapSumsLayout layout = rules.layout();
  const PoolLoss at{0, sums[layout.by_intersection(pool)], sums[layout.by_input_sum(pool)]};
  if (!at.is_live()) return {};
  const double all = rules.pools.by_class() ? factor : factor * class_weight;
  return {all * at.by_intersection, all * at.by_input_sum, true};
}

}  // namespace fusedloss
