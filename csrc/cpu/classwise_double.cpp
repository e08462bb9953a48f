// The class loss CPU driver for double arithmetic.
#include "cpu/classwise_driver.h"

namespace fusedloss::cpu {

template NotAClass classwise_forward<double>(const char*, const double*, const ClasswiseParams&,
                                             ParallelFor);
template void classwise_backward<double>(const char*, const double*, const ClasswiseParams&,
                                         ParallelFor);

}  // namespace fusedloss::cpu
