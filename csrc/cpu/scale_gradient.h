// Multiplies a dense float or double gradient in place, by the rule of core/stored_gradient.h.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace fusedloss::cpu {

void scale_gradient(DType dtype, void* data, int64_t begin, int64_t end, double factor);

}  // namespace fusedloss::cpu
