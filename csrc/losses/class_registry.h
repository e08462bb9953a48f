// The list of class losses: the one place where a new one is entered.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "losses/classwise.h"

namespace fusedloss {

// What a class loss may be made of.
template <class T>
struct ClassOptions {
  const double* own;
  double label_smoothing;
  int64_t classes;
  T total_weight;  // sum of the class weights, where smoothing
};

template <class T, class F>
void visit_class_loss(const char* name, const ClassOptions<T>& options, F&& f) {
  const auto is = [&](const char* known) { return std::strcmp(name, known) == 0; };
  const double e = options.label_smoothing, classes = static_cast<double>(options.classes);
  const CrossEntropy<T> cross_entropy{static_cast<T>(1 - e), static_cast<T>(e / classes),
                                      options.total_weight};
  if (is("cross_entropy")) return f(cross_entropy);
  if (is("nll_loss")) return f(NegativeLogLikelihood<T>());
  if (is("softmax_focal_loss")) {
    const double gamma = options.own[0];
    if (gamma == 0) return f(cross_entropy);
    if (gamma == 2) return f(SoftmaxFocal<T, true>{T(2)});  // the usual one needs no power
    return f(SoftmaxFocal<T, false>{static_cast<T>(gamma < 1e30 ? gamma : 1e30)});
  }
  if (is("categorical_cross_entropy")) {
    return f(CategoricalCrossEntropy<T>{static_cast<T>(options.own[0])});
  }
  throw std::invalid_argument("fusedloss: there is no class loss " + std::string(name));
}

}  // namespace fusedloss
