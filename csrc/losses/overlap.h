// The overlap losses of a pool: value and derivatives from its soft counts, each in one place.
//
//     I = sum p t      P = sum p (or p^2)      T = sum t (or t^2)
//
//     OverlapLoss dice{OverlapKind::kDice, smooth, smooth_below};
//     PoolLoss at = dice({i, p, t});      // at.value, at.by_intersection = dl/dI, at.by_input_sum
//
// In double, once per pool. A denominator of 0 is an empty pool: its loss and its derivatives are
// 0, and so they are where the base of the Tversky loss is not above 0. NaN propagates.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"

namespace fusedloss {

struct SoftCounts {
  double intersection = 0, input_sum = 0, target_sum = 0;

  FL_HOST_DEVICE void add(const SoftCounts& other, double weight = 1) {
    intersection += weight * other.intersection;
    input_sum += weight * other.input_sum;
    target_sum += weight * other.target_sum;
  }
};

struct PoolLoss {
  double value = 0, by_intersection = 0, by_input_sum = 0;

  // A pool that is empty or does not count moves nothing: not even NaN times its derivative.
  FL_HOST_DEVICE bool is_live() const { return by_intersection != 0 || by_input_sum != 0; }
};

enum class OverlapKind : int32_t { kDice, kJaccard, kTversky };

struct OverlapLoss {
  OverlapKind kind = OverlapKind::kDice;
  double smooth = 0, smooth_below = 0;
  double alpha = 0.5, beta = 0.5, gamma = 1;  // Tversky

  FL_HOST_DEVICE PoolLoss operator()(const SoftCounts& at) const {
    if (kind == OverlapKind::kDice) {  // 1 - (2 I + s) / (P + T + s')
      return one_minus_ratio({2 * at.intersection + smooth, 2, 0},
                             {at.input_sum + at.target_sum + smooth_below, 0, 1});
    }
    const Linear above{at.intersection + smooth, 1, 0};
    if (kind == OverlapKind::kJaccard) {  // 1 - (I + s) / (P + T - I + s')
      return one_minus_ratio(
          above, {at.input_sum + at.target_sum - at.intersection + smooth_below, -1, 1});
    }
    const double false_positive = at.input_sum - at.intersection;
    const double false_negative = at.target_sum - at.intersection;
    return power(one_minus_ratio(
        above, {at.intersection + alpha * false_positive + beta * false_negative + smooth_below,
                1 - alpha - beta, alpha}));
  }

 private:
  // A linear function of the counts, and its derivatives by I and P.
  struct Linear {
    double value, by_intersection, by_input_sum;
  };

  FL_HOST_DEVICE static PoolLoss one_minus_ratio(const Linear& above, const Linear& below) {
    if (below.value == 0) return {};
    const double ratio = above.value / below.value;
    return {1 - ratio, (ratio * below.by_intersection - above.by_intersection) / below.value,
            (ratio * below.by_input_sum - above.by_input_sum) / below.value};
  }

  // max(0, base)^gamma
  FL_HOST_DEVICE PoolLoss power(const PoolLoss& base) const {
    if (base.value <= 0) return {};
    const double outer = gamma * ::pow(base.value, gamma - 1);
    return {::pow(base.value, gamma), outer * base.by_intersection, outer * base.by_input_sum};
  }
};

}  // namespace fusedloss
