// The class losses: value and gradient at one position whose target is a class index y, and of one
// class of a position whose target gives every class a probability.
//
// Each is a POD with its options; all that takes every class (largest logit, sums) is worked out
// before. With z_c = exp(x_c - largest) and v_c the class weight (label smoothing) or 1, the
// gradient for the logit of class c is, for an index,
//
//     dl/dx_c = all * z_c - base * v_c   for c != y,   - base * v_y - label   for c == y
//
// and for a_c = weight of class c x its probability, where l = sum a_c cost_c,
//
//     dl/dx_c = z_c * sum_k a_k shared_k - a_c own_c       z as `of_class` gives it
#pragma once

#include "core/math.h"

namespace fusedloss {

// What is known of a position. The sums leave class y out: next to p = 1 every digit of 1 - p is in
// them.
template <class T>
struct LabelTerms {
  T x;        // of class y
  T largest;  // over the classes
  T others;   // sum of z_c over c != y; of x_c where the loss takes shares
  T dot;      // sum of w_c (x_c - largest) over c != y, where smoothing
  T weight;   // of class y
};

// p = softmax(x)_y, 1 - p and log p.
template <class T>
struct LabelSoftmax {
  T sum, inverse, p, q, log_p;  // inverse = 1 / sum

  FL_HOST_DEVICE explicit LabelSoftmax(const LabelTerms<T>& at) {
    const T own = math::exp(at.x - at.largest);
    sum = at.others + own;
    // One division gives 1 / sum and, where p is above 1/2, others / own. (From a conditional
    // expression GCC makes two.)
    const bool high = own > at.others;
    const T divisor = zero_unless(high, own) + zero_unless(!high, T(1));
    const T quotient = T(1) / (sum * divisor);
    inverse = quotient * divisor;
    p = own * inverse;
    q = at.others * inverse;
    // One logarithm for both: log1p(ratio) with the rounding of 1 + ratio mended, or log(sum).
    const T ratio = at.others * (quotient * sum), next = T(1) + ratio;
    const T logarithm = math::log(high ? next : sum);
    const T correction = (ratio - (next - T(1))) * p;
    log_p = high ? -(logarithm + correction) : at.x - at.largest - logarithm;
  }
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

  T keep, spread;  // 1 - e, e / C
  T total_weight;  // sum of w_c

  FL_HOST_DEVICE LabelResult<T> operator()(const LabelTerms<T>& at) const {
    const LabelSoftmax<T> softmax(at);
    const T weight = keep * at.weight;
    const T of_label = zero_unless(at.weight != T(0), weight * (T(0) - softmax.log_p));
    if (spread == T(0)) {
      return {of_label, weight * softmax.inverse, T(0), weight * softmax.q};
    }
    const T own = zero_unless(at.weight != T(0), at.weight * (at.x - at.largest));
    const T of_all = spread * (total_weight * math::log(softmax.sum) - (at.dot + own));
    const T shared = spread * total_weight;
    return {of_label + of_all, (weight + shared) * softmax.inverse, spread,
            weight * softmax.q - shared * softmax.p};
  }
  FL_HOST_DEVICE ClassResult<T> of_class(const ClassTerms<T>& at) const {
    return {at.largest - at.x + at.log_sum, T(1), T(1), math::exp(at.x - at.largest) / at.sum};
  }
};

// -w_y x_y of log-probabilities x.
template <class T>
struct NegativeLogLikelihood {
  static constexpr ClassSums kSums = ClassSums::kNone;

  FL_HOST_DEVICE LabelResult<T> operator()(const LabelTerms<T>& at) const {
    return {at.weight * (T(0) - at.x), T(0), T(0), at.weight};
  }
};

// -(1 - p)^gamma log p of p = softmax(x). `rest` is the sum of z without the largest ones.
template <class T, bool kSquared>
struct SoftmaxFocal {
  static constexpr ClassSums kSums = ClassSums::kExponentials;

  T gamma;

  struct Cost {
    T value, slope;  // slope = -d value / d log p
  };
  FL_HOST_DEVICE Cost cost(T p, T q, T log_p) const {
    T power = q * q;
    if constexpr (!kSquared) {
      power = math::exp(gamma * (p > T(0.5) ? math::log(q) : math::log1p(-p)));
    }
    const T ratio = q == T(0) ? T(-1) : log_p / q;
    const T turn = p == T(0) ? T(0) : p * ratio;
    return {power * (T(0) - log_p), power * (T(1) - gamma * turn)};
  }

  FL_HOST_DEVICE LabelResult<T> operator()(const LabelTerms<T>& at) const {
    const LabelSoftmax<T> softmax(at);
    const Cost c = cost(softmax.p, softmax.q, softmax.log_p);
    const T slope = at.weight * c.slope;
    return {at.weight * c.value, slope * softmax.inverse, T(0), slope * softmax.q};
  }
  FL_HOST_DEVICE ClassResult<T> of_class(const ClassTerms<T>& at) const {
    const T p = math::exp(at.x - at.largest) / at.sum;
    const bool high = p > T(0.5);
    const T q = high ? at.rest / at.sum : T(1) - p;
    const Cost c = cost(p, q, high ? -math::log1p(at.rest) : at.x - at.largest - at.log_sum);
    return {c.value, c.slope, c.slope, p};
  }
};

// -log of p = x / sum x clipped to [eps, 1 - eps]; near 1 from 1 - p, which has more digits.
template <class T>
struct CategoricalCrossEntropy {
  static constexpr ClassSums kSums = ClassSums::kShares;

  T eps;

  struct Cost {
    T value, slope, shared;  // slope = -d value / d x_y but for the part that all share
  };
  FL_HOST_DEVICE Cost cost(T x, T sum, T p, T q) const {
    const bool high = p > T(0.5);
    const T near_one = -math::log1p(-math::max(q, eps));
    const T far = -math::log(math::max(p, eps));
    const bool moves = high ? !(q < eps) : !(p < eps);
    return {high ? near_one : far, zero_unless(moves, T(1) / x), zero_unless(moves, T(1) / sum)};
  }

  FL_HOST_DEVICE LabelResult<T> operator()(const LabelTerms<T>& at) const {
    const T sum = at.others + at.x;
    const Cost c = cost(at.x, sum, at.x / sum, at.others / sum);
    return {at.weight * c.value, T(0), -at.weight * c.shared, at.weight * c.slope};
  }
  FL_HOST_DEVICE ClassResult<T> of_class(const ClassTerms<T>& at) const {
    const T p = at.x / at.sum;
    const Cost c = cost(at.x, at.sum, p, at.x == at.largest ? at.rest / at.sum : T(1) - p);
    return {c.value, c.slope, c.shared, T(1)};
  }
};

}  // namespace fusedloss
