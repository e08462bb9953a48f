// Multiplies a dense float or double gradient in place. What is exactly 0 stays 0 also beside NaN
// and infinity: it may be 0 because it does not exist.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace fusedloss::cpu {

void scale_gradient(DType dtype, void* data, int64_t begin, int64_t end, double factor);

}  // namespace fusedloss::cpu
