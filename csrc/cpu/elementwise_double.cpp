// The elementwise CPU driver for double arithmetic.
#include "cpu/elementwise_driver.h"

namespace fusedloss::cpu {

template NotAProbability elementwise_forward<double>(const char*, const double*,
                                                     const ElementwiseParams&, ParallelFor);
template void elementwise_backward<double>(const char*, const double*, const ElementwiseParams&,
                                           ParallelFor);

}  // namespace fusedloss::cpu
