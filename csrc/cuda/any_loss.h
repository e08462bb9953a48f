// A loss that a kernel learns at run time: one kernel for all losses where it is long already.
//
//     with_loss(loss, [&](const auto& own) { ... own.value(x, t) ... });
//
// calls its function with the loss itself, be it a functor of csrc/losses or an AnyLoss; which one
// an AnyLoss holds is the same for all threads, so the choice never diverges.
#pragma once

#include <cstring>
#include <type_traits>

#include "losses/registry.h"

namespace fusedloss::cuda {

template <class... Losses>
class OneOf {
 public:
  template <class Loss>
  explicit OneOf(const Loss& loss) {
    static_assert((std::is_same_v<Loss, Losses> || ...));
    int index = 0;
    ((std::is_same_v<Loss, Losses> || (++index, false)) || ...);
    index_ = index;
    std::memcpy(functor_, &loss, sizeof(Loss));
  }

  template <class F>
  FL_HOST_DEVICE void visit(F&& f) const {
    static_assert((std::is_trivially_copyable_v<Losses> && ...));
    static_assert(((sizeof(Losses) <= sizeof(functor_)) && ...));
    int index = 0;
    ((index++ == index_ && (f(reinterpret_cast<const Losses&>(functor_)), true)) || ...);
  }

 private:
  int index_;
  alignas(8) unsigned char functor_[32];
};

template <class List>
struct OneOfList;
template <class... Losses>
struct OneOfList<LossList<Losses...>> {
  using type = OneOf<Losses..., SigmoidFocalLoss<true>>;
};
using AnyLoss = OneOfList<ElementwiseLosses>::type;

template <class Loss, class F>
FL_HOST_DEVICE void with_loss(const Loss& loss, F&& f) {
  if constexpr (std::is_same_v<Loss, AnyLoss>) {
    loss.visit(f);
  } else {
    f(loss);
  }
}

}  // namespace fusedloss::cuda
