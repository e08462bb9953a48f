// The class losses: value and gradient at one position whose target is a class index y, and of one
// class of a position whose target gives every class a probability.
//
// Each is a POD with its options; all that takes every class (largest logit, sums) is worked out
// before. With z_c = exp(x_c - largest) and v_c the class weight (label smoothing) or 1, the
// gradient for the logit of class c is, for an index,
//
//     dl/dx_c = all * z_c - base * v_c - label * [c == y]
//
// and for a_c = weight of class c x its probability, where l = sum a_c cost_c,
//
//     dl/dx_c = z_c * sum_k a_k shared_k - a_c own_c       z as `of_class` gives it
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

// The same of one class; log_sum = log(sum) where that is of exponentials.
template <class T>
struct ClassTerms {
  T x, largest, sum, log_sum, rest;
};

template <class T>
struct ClassResult {
  T cost, own, shared, z;
};

enum class ClassSums {
  kNone,          // nothing but x_y is looked at
  kExponentials,  // z = exp(x - largest)
  kShares         // of x itself
};

// -w_y log softmax(x)_y; with label smoothing e, (1 - e) of that and e / C of all classes.
template <class T>
struct CrossEntropy {
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
  FL_HOST_DEVICE ClassResult<T> of_class(const ClassTerms<T>& at) const {
    return {at.largest - at.x + at.log_sum, T(1), T(1), math::exp(at.x - at.largest) / at.sum};
  }
};

// -w_y x_y of log-probabilities x.
template <class T>
struct NegativeLogLikelihood {
  static constexpr ClassSums kSums = ClassSums::kNone;
  static constexpr bool kNeedsRest = false;

  FL_HOST_DEVICE LabelResult<T> operator()(const LabelTerms<T>& at) const {
    return {at.weight * (T(0) - at.x), T(0), T(0), at.weight};
  }
};

// -(1 - p)^gamma log p of p = softmax(x). Where p is above 1/2, 1 - p is the sum of the others:
// no digit of it is lost, and log p = log1p of it.
template <class T, bool kSquared>
struct SoftmaxFocal {
  static constexpr ClassSums kSums = ClassSums::kExponentials;
  static constexpr bool kNeedsRest = true;

  T gamma;

  struct Cost {
    T value, slope, p;  // slope = -d value / d log p
  };
  FL_HOST_DEVICE Cost cost(T x, T largest, T sum, T log_sum, T rest) const {
    const T p = math::exp(x - largest) / sum;
    const bool high = p > T(0.5);
    const T q = high ? rest / sum : T(1) - p;
    const T log_p = high ? -math::log1p(rest) : x - largest - log_sum;
    T power = q * q;
    if constexpr (!kSquared) power = math::exp(gamma * (high ? math::log(q) : math::log1p(-p)));
    const T ratio = q == T(0) ? T(-1) : log_p / q;
    const T turn = p == T(0) ? T(0) : p * ratio;
    return {power * (T(0) - log_p), power * (T(1) - gamma * turn), p};
  }

  FL_HOST_DEVICE LabelResult<T> operator()(const LabelTerms<T>& at) const {
    const Cost c = cost(at.x, at.largest, at.sum, math::log(at.sum), at.rest);
    const T slope = at.weight * c.slope;
    return {at.weight * c.value, slope / at.sum, T(0), slope};
  }
  FL_HOST_DEVICE ClassResult<T> of_class(const ClassTerms<T>& at) const {
    const Cost c = cost(at.x, at.largest, at.sum, at.log_sum, at.rest);
    return {c.value, c.slope, c.slope, c.p};
  }
};

// -log of p = x / sum x clipped to [eps, 1 - eps]; near 1 from 1 - p, which has more digits.
template <class T>
struct CategoricalCrossEntropy {
  static constexpr ClassSums kSums = ClassSums::kShares;
  static constexpr bool kNeedsRest = true;

  T eps;

  struct Cost {
    T value, slope, shared;  // slope = -d value / d x_y but for the part that all share
  };
  FL_HOST_DEVICE Cost cost(T x, T largest, T sum, T rest) const {
    const T p = x / sum;
    const bool high = p > T(0.5);
    const T q = x == largest ? rest / sum : T(1) - p;
    const T near_one = -math::log1p(-math::max(q, eps));
    const T far = -math::log(math::max(p, eps));
    const bool moves = high ? !(q < eps) : !(p < eps);
    return {high ? near_one : far, zero_unless(moves, T(1) / x), zero_unless(moves, T(1) / sum)};
  }

  FL_HOST_DEVICE LabelResult<T> operator()(const LabelTerms<T>& at) const {
    const Cost c = cost(at.x, at.largest, at.sum, at.rest);
    return {at.weight * c.value, T(0), -at.weight * c.shared, at.weight * c.slope};
  }
  FL_HOST_DEVICE ClassResult<T> of_class(const ClassTerms<T>& at) const {
    const Cost c = cost(at.x, at.largest, at.sum, at.rest);
    return {c.value, c.slope, c.shared, T(1)};
  }
};

}  // namespace fusedloss
