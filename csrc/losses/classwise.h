// The class losses at one position whose target is a class index y: value and gradient.
//
// Each is a POD with its options; all that takes every class (largest logit, sums) is worked out
// before. The gradient for the logit of class c has one form for all losses,
//
//     dl/dx_c = all * z_c - base * v_c - label * [c == y]
//
// with z_c = exp(x_c - largest) and v_c the class weight (label smoothing) or 1.
#pragma once

#include "core/math.h"

namespace fusedloss {

// What is known of a position.
template <class T>
struct LabelTerms {
  T x;        // of class y
  T largest;  // over the classes
  T sum;      // of z_c; of x_c where the loss takes shares
  T rest;     // the same without the largest ones, where kNeedsRest
  T dot;      // sum of w_c (x_c - largest), where smoothing
  T weight;   // of class y
};

template <class T>
struct LabelResult {
  T value, all, base, label;
};

enum class ClassSums {
  kNone,          // nothing but x_y is looked at
  kExponentials,  // z = exp(x - largest)
  kShares         // of x itself
};

// -w_y log softmax(x)_y; with label smoothing e, (1 - e) of that and e / C of all classes.
template <class T>
struct CrossEntropy {
  static constexpr const char* kName = "cross_entropy";
  static constexpr ClassSums kSums = ClassSums::kExponentials;
  static constexpr bool kNeedsRest = false;

  T keep, spread;  // 1 - e, e / C
  T total_weight;  // sum of w_c

  FL_HOST_DEVICE LabelResult<T> operator()(const LabelTerms<T>& at) const {
    const T log_sum = math::log(at.sum);
    const T weight = keep * at.weight;
    const T of_label = zero_unless(at.weight != T(0), weight * (at.largest - at.x + log_sum));
    const T of_all = spread * (total_weight * log_sum - at.dot);
    return {spread == T(0) ? of_label : of_label + of_all,
            (weight + spread * total_weight) / at.sum, spread, weight};
  }
};

}  // namespace fusedloss
