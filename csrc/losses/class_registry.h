// The list of class losses: the one place where a new one is entered.
#pragma once

#include <cstdint>
#include <cstring>

#include "losses/classwise.h"

namespace fusedloss {

// What a class loss may be made of.
template <class T>
struct ClassOptions {
  const double* own;
  double label_smoothing;
  int64_t classes;
  T total_weight;  // sum of the class weights
};

template <class T, class F>
bool visit_class_loss(const char* name, const ClassOptions<T>& options, F&& f) {
  const auto is = [&](const char* known) { return std::strcmp(name, known) == 0; };
  if (is("cross_entropy")) {
    const double e = options.label_smoothing, classes = static_cast<double>(options.classes);
    f(CrossEntropy<T>{static_cast<T>(1 - e), static_cast<T>(e / classes), options.total_weight});
    return true;
  }
  return false;
}

}  // namespace fusedloss
