// The elementwise losses: l(x, t) and dl/dx, each in one place for value, gradient, CPU and CUDA.
//
// A functor is a POD with its hyperparameters. `value` and `derivative` take one element in float
// or double; they never see masks, weights, indices or tensors. `kName` is the public function's
// name; the constructor takes the function's own options in the order of its signature. Formulas:
// torch.nn.functional's where torch has the loss; see fusedloss/reference for all.
#pragma once

#include "core/math.h"

namespace fusedloss {

struct L1Loss {
  static constexpr const char* kName = "l1_loss";
  explicit L1Loss(const double*) {}

  template <class T>
  FL_HOST_DEVICE T value(T x, T t) const {
    return math::abs(x - t);
  }
  template <class T>
  FL_HOST_DEVICE T derivative(T x, T t) const {
    return math::sign(x - t);
  }
};

struct MseLoss {
  static constexpr const char* kName = "mse_loss";
  explicit MseLoss(const double*) {}

  template <class T>
  FL_HOST_DEVICE T value(T x, T t) const {
    return (x - t) * (x - t);
  }
  template <class T>
  FL_HOST_DEVICE T derivative(T x, T t) const {
    return T(2) * (x - t);
  }
};

// d^2 / (2 beta) inside |d| < beta, |d| - beta / 2 outside; beta = 0 is L1.
struct SmoothL1Loss {
  static constexpr const char* kName = "smooth_l1_loss";
  double beta;
  explicit SmoothL1Loss(const double* options) : beta(options[0]) {}

  template <class T>
  FL_HOST_DEVICE T value(T x, T t) const {
    const T d = math::abs(x - t), b = T(beta);
    return d < b ? T(0.5) * d * d * inverse(b) : d - T(0.5) * b;
  }
  template <class T>
  FL_HOST_DEVICE T derivative(T x, T t) const {
    const T d = x - t, b = T(beta);
    const T outside = b == T(0) || d == d ? math::sign(d) : d;  // NaN as torch's of each kind
    return math::abs(d) < b ? d * inverse(b) : outside;
  }

 private:
  // The same for every element, so one division per loop; a beta too small to invert acts as 0.
  template <class T>
  FL_HOST_DEVICE static T inverse(T b) {
    return b > T(1e-37) ? T(1) / b : T(0);
  }
};

// d^2 / 2 inside |d| <= delta, delta (|d| - delta / 2) outside.
struct HuberLoss {
  static constexpr const char* kName = "huber_loss";
  double delta;
  explicit HuberLoss(const double* options) : delta(options[0]) {}

  template <class T>
  FL_HOST_DEVICE T value(T x, T t) const {
    const T d = math::abs(x - t), limit = T(delta);
    return d <= limit ? T(0.5) * d * d : limit * (d - T(0.5) * limit);
  }
  template <class T>
  FL_HOST_DEVICE T derivative(T x, T t) const {
    const T limit = T(delta);
    return math::max(math::min(x - t, limit), -limit);
  }
};

// sqrt(d^2 + eps^2)
struct CharbonnierLoss {
  static constexpr const char* kName = "charbonnier_loss";
  double eps;
  explicit CharbonnierLoss(const double* options) : eps(options[0]) {}

  template <class T>
  FL_HOST_DEVICE T value(T x, T t) const {
    return math::sqrt((x - t) * (x - t) + T(eps) * T(eps));
  }
  template <class T>
  FL_HOST_DEVICE T derivative(T x, T t) const {
    return (x - t) / value(x, t);
  }
};

// log cosh d. Near 0 from the series of cosh d - 1 and sinh d, which keep relative accuracy where
// |d| + log(1 + exp(-2|d|)) - log 2 cancels.
struct LogCoshLoss {
  static constexpr const char* kName = "log_cosh_loss";
  explicit LogCoshLoss(const double*) {}

  template <class T>
  FL_HOST_DEVICE T value(T x, T t) const {
    const T d = math::abs(x - t);
    const T far = d + math::log1p_unit(math::exp(T(-2) * d)) - T(0.69314718055994531);
    const T near = math::log1p_unit(cosh_minus_one(math::min(d, T(1))));
    return d < T(1) ? near : far;
  }
  template <class T>
  FL_HOST_DEVICE T derivative(T x, T t) const {
    const T d = x - t, magnitude = math::abs(d);
    const T e = math::exp(T(-2) * magnitude);
    const T far = (T(1) - e) / (T(1) + e);
    const T close = math::min(magnitude, T(1));
    const T near = sinh_series(close) / (T(1) + cosh_minus_one(close));
    const T result = magnitude < T(1) ? near : far;
    return d < T(0) ? -result : result;
  }

 private:
  // sum of z^k / (2k)! for k = 1..8, z = d^2 <= 1: the next term is below 2e-16.
  template <class T>
  FL_HOST_DEVICE static T cosh_minus_one(T d) {
    const T z = d * d;
    T s = T(1) / T(20922789888000.0);
    s = s * z + T(1) / T(87178291200.0);
    s = s * z + T(1) / T(479001600.0);
    s = s * z + T(1) / T(3628800.0);
    s = s * z + T(1) / T(40320.0);
    s = s * z + T(1) / T(720.0);
    s = s * z + T(1) / T(24.0);
    s = s * z + T(0.5);
    return s * z;
  }
  template <class T>
  FL_HOST_DEVICE static T sinh_series(T d) {
    const T z = d * d;
    T s = T(1) / T(1307674368000.0);
    s = s * z + T(1) / T(6227020800.0);
    s = s * z + T(1) / T(39916800.0);
    s = s * z + T(1) / T(362880.0);
    s = s * z + T(1) / T(5040.0);
    s = s * z + T(1) / T(120.0);
    s = s * z + T(1) / T(6.0);
    return d + d * (s * z);
  }
};

// On probabilities: -t max(log x, -100) - (1 - t) max(log(1 - x), -100). The derivative is torch's,
// with its floor under x (1 - x): 1e-12 as a float, in float64 too.
struct BinaryCrossEntropyLoss {
  static constexpr const char* kName = "binary_cross_entropy";
  static constexpr bool kInputIsProbability = true;
  explicit BinaryCrossEntropyLoss(const double*) {}

  template <class T>
  FL_HOST_DEVICE T value(T x, T t) const {
    const T floor = T(-100);
    return (t - T(1)) * math::max(math::log1p(-x), floor) - t * math::max(math::log(x), floor);
  }
  template <class T>
  FL_HOST_DEVICE T derivative(T x, T t) const {
    return (x - t) / math::max((T(1) - x) * x, T(1e-12f));
  }
};

// q t softplus(-x) + (1 - t) softplus(x): a sum of non-negative terms for t in [0, 1], so nothing
// cancels at saturated logits. `pos_weight` q is 1 unless given.
struct BinaryCrossEntropyWithLogitsLoss {
  static constexpr const char* kName = "binary_cross_entropy_with_logits";
  static constexpr bool kHasPosWeight = true;
  explicit BinaryCrossEntropyWithLogitsLoss(const double*) {}

  template <class T>
  FL_HOST_DEVICE T value(T x, T t, T q) const {
    const math::Logistic<T> logistic(x);
    const T negative = T(1) - t, positive = q * t;
    return math::max(x, T(0)) * negative + math::max(-x, T(0)) * positive +
           (negative + positive) * softplus(x, logistic);
  }
  template <class T>
  FL_HOST_DEVICE T derivative(T x, T t, T q) const {
    const math::Logistic<T> logistic(x);
    return (T(1) - t) * logistic.sigmoid() - q * t * logistic.sigmoid_of_minus();
  }
  // Without pos_weight: x ((x > 0) - t) + log(1 + exp(-|x|)), and sigmoid(x) - t.
  template <class T>
  FL_HOST_DEVICE T value(T x, T t) const {
    const math::Logistic<T> logistic(x);
    return x * (logistic.step - t) + softplus(x, logistic);
  }
  template <class T>
  FL_HOST_DEVICE T derivative(T x, T t) const {
    const math::Logistic<T> logistic(x);
    return (logistic.step - t) - math::with_sign(logistic.smaller(), x);
  }

 private:
  // log(1 + exp(-|x|)); NaN at -inf as torch, whose (1 - t) x + softplus(-x) is inf - inf there.
  template <class T>
  FL_HOST_DEVICE static T softplus(T x, const math::Logistic<T>& logistic) {
    return math::min(x, T(0)) * T(0) + logistic.log1p_e;
  }
};

// alpha_t (1 - p_t)^gamma BCE(x, t), Lin et al. 2017, arXiv:1708.02002, soft targets as
// torchvision. With u = 1 - p_t, the derivative is alpha_t u^gamma (gamma BCE u'/u + BCE'):
// u^(gamma - 1) never appears and u'/u is bounded: every gamma >= 0 is finite at saturated logits.
template <bool kGammaIsTwo>
struct SigmoidFocalLoss {
  static constexpr const char* kName = "sigmoid_focal_loss";
  double positive_share, negative_share, gamma;  // of t and of 1 - t; both 1 where alpha is off
  explicit SigmoidFocalLoss(const double* options)
      : positive_share(options[0] < 0 ? 1 : options[0]),
        negative_share(options[0] < 0 ? 1 : 1 - options[0]),
        gamma(options[1]) {}

  template <class T>
  FL_HOST_DEVICE T value(T x, T t) const {
    const Terms<T> terms(x, t);
    if constexpr (kGammaIsTwo) return balance(t) * terms.miss * (terms.miss * terms.cross_entropy);
    return balance(t) * modulation(terms.miss) * terms.cross_entropy;
  }
  template <class T>
  FL_HOST_DEVICE T derivative(T x, T t) const {
    const Terms<T> terms(x, t);
    if constexpr (kGammaIsTwo) {
      const T slope = T(2) * (terms.cross_entropy * terms.miss_slope);
      return balance(t) * terms.miss * (slope + terms.miss * terms.cross_entropy_slope);
    }
    const T log_slope = terms.miss_slope / math::max(terms.miss, T(1e-37));
    const T slope = T(gamma) * (terms.cross_entropy * log_slope);
    return balance(t) * modulation(terms.miss) * (slope + terms.cross_entropy_slope);
  }

 private:
  template <class T>
  struct Terms {
    T miss, miss_slope;  // u = 1 - p_t and u'
    T cross_entropy, cross_entropy_slope;

    FL_HOST_DEVICE Terms(T x, T t) {
      const math::Logistic<T> logistic(x);
      const T larger = T(1) / (T(1) + logistic.e), smaller = logistic.e * larger;
      const T p = logistic.positive ? larger : smaller,
              not_p = logistic.positive ? smaller : larger;
      const T negative = T(1) - t;
      miss = t * not_p + negative * p;
      miss_slope = (negative - t) * (p * not_p);
      cross_entropy = x * (logistic.step - t) + logistic.log1p_e;
      cross_entropy_slope = negative * p - t * not_p;
    }
  };

  template <class T>
  FL_HOST_DEVICE T balance(T t) const {
    return T(positive_share) * t + T(negative_share) * (T(1) - t);
  }
  template <class T>
  FL_HOST_DEVICE T modulation(T miss) const {
    return gamma == 0 ? T(1) : math::exp(T(gamma) * math::log(miss));
  }
};

}  // namespace fusedloss
