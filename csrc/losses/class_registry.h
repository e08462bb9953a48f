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

// The losses of softmax alone: those that go beside an overlap loss of the same logits.
template <class T, class F>
bool visit_softmax_loss(const char* name, const ClassOptions<T>& options, F&& f) {
  const auto is = [&](const char* known) { return std::strcmp(name, known) == 0; };
  const double e = options.label_smoothing, classes = static_cast<double>(options.classes);
  const CrossEntropy<T> cross_entropy{static_cast<T>(1 - e), static_cast<T>(e / classes),
                                      options.total_weight};
  if (is("cross_entropy")) return f(cross_entropy), true;
  if (!is("softmax_focal_loss")) return false;
  const double gamma = options.own[0];
  if (gamma == 0) return f(cross_entropy), true;
  if (gamma == 2) return f(SoftmaxFocal<T, true>{T(2)}), true;  // the usual one needs no power
  return f(SoftmaxFocal<T, false>{static_cast<T>(gamma < 1e30 ? gamma : 1e30)}), true;
}

template <class T, class F>
void visit_class_loss(const char* name, const ClassOptions<T>& options, F&& f) {
  const auto is = [&](const char* known) { return std::strcmp(name, known) == 0; };
  if (visit_softmax_loss<T>(name, options, f)) return;
  if (is("nll_loss")) return f(NegativeLogLikelihood<T>());
  if (is("categorical_cross_entropy")) {
    return f(CategoricalCrossEntropy<T>{static_cast<T>(options.own[0])});
  }
  throw std::invalid_argument("fusedloss: there is no class loss " + std::string(name));
}

}  // namespace fusedloss
