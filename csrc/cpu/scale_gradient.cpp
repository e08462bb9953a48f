#include "cpu/scale_gradient.h"

#include "core/macros.h"
#include "core/stored_gradient.h"

namespace fusedloss::cpu {
namespace {

template <class T>
struct ScaleLoop {
  FL_VECTOR_CLONES static void run(T* values, int64_t begin, int64_t end, T factor) {
    for (int64_t i = begin; i < end; ++i) values[i] = scaled_gradient(values[i], factor);
  }
};

}  // namespace

void scale_gradient(DType dtype, void* data, int64_t begin, int64_t end, double factor) {
  if (dtype == DType::kDouble) {
    ScaleLoop<double>::run(static_cast<double*>(data), begin, end, factor);
  } else {
    ScaleLoop<float>::run(static_cast<float*>(data), begin, end, static_cast<float>(factor));
  }
}

}  // namespace fusedloss::cpu
