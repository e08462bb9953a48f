// One of several small functors, known at run time; the same for all threads of a launch, so the
// choice never diverges.
//
//     OneOf<A, B> any(B{...});
//     any.visit([&](const auto& own) { ... own is the B ... });
#pragma once

#include <cstring>
#include <type_traits>

#include "core/macros.h"

namespace fusedloss::cuda {

template <class... Losses>
class OneOf {
 public:
  template <class Loss>
  explicit OneOf(const Loss& loss) {
    static_assert((std::is_same_v<Loss, Losses> || ...));
    int index = 0;
    static_cast<void>(((std::is_same_v<Loss, Losses> || (++index, false)) || ...));
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

}  // namespace fusedloss::cuda
