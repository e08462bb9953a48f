// The elementwise CPU driver for float arithmetic.
#include "cpu/elementwise_driver.h"

namespace fusedloss::cpu {

template NotAProbability elementwise_forward<float>(const char*, const double*,
                                                    const ElementwiseParams&, ParallelFor);
template void elementwise_backward<float>(const char*, const double*, const ElementwiseParams&,
                                          ParallelFor);

}  // namespace fusedloss::cpu
