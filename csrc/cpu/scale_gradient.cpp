#include "cpu/scale_gradient.h"

#include "core/macros.h"
#include "core/stored_gradient.h"

namespace fusedloss::cpu {
namespace {

template <class S, class T>
struct ScaleLoop {
  FL_VECTOR_CLONES static void run(S* values, int64_t begin, int64_t end, T factor) {
    for (int64_t i = begin; i < end; ++i) {
      values[i] = convert<S>(scaled_gradient(convert<T>(values[i]), factor));
    }
  }
};

}  // namespace

void scale_gradient(DType dtype, void* data, int64_t begin, int64_t end, double factor) {
  visit_dtype(dtype, [&](auto element) {
    using S = decltype(element);
    using T = std::conditional_t<std::is_same_v<S, double>, double, float>;
    if constexpr (!std::is_integral_v<S>) {
      ScaleLoop<S, T>::run(static_cast<S*>(data), begin, end, static_cast<T>(factor));
    }
  });
}

}  // namespace fusedloss::cpu
