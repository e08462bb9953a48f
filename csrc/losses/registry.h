// The list of elementwise losses: the one place where a new functor is entered.
#pragma once

#include <cstring>

#include "losses/elementwise.h"

namespace fusedloss {

template <class... Losses>
struct LossList {
  // Calls f(Loss(options)) for the loss named `name`; false if there is none.
  template <class F>
  static bool visit(const char* name, const double* options, F&& f) {
    return ((std::strcmp(name, Losses::kName) == 0 && (f(Losses(options)), true)) || ...);
  }
};

using ElementwiseLosses =
    LossList<L1Loss, MseLoss, SmoothL1Loss, HuberLoss, CharbonnierLoss, LogCoshLoss,
             BinaryCrossEntropyLoss, BinaryCrossEntropyWithLogitsLoss, SigmoidFocalLoss<false>>;

template <class F>
bool visit_elementwise_loss(const char* name, const double* options, F&& f) {
  if (std::strcmp(name, SigmoidFocalLoss<true>::kName) == 0 && options[1] == 2.0) {
    f(SigmoidFocalLoss<true>(options));  // the usual gamma needs neither exp nor log
    return true;
  }
  return ElementwiseLosses::visit(name, options, static_cast<F&&>(f));
}

// Properties that most losses do not have.
template <class Loss>
constexpr bool has_pos_weight = requires { Loss::kHasPosWeight; };
template <class Loss>
constexpr bool input_is_probability = requires { Loss::kInputIsProbability; };

}  // namespace fusedloss
