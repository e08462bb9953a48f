// The class loss CPU driver for float arithmetic.
#include "cpu/classwise_driver.h"

namespace fusedloss::cpu {

template NotAClass classwise_forward<float>(const char*, const double*, const ClasswiseParams&,
                                            ParallelFor);
template void classwise_backward<float>(const char*, const double*, const ClasswiseParams&,
                                        ParallelFor);

}  // namespace fusedloss::cpu
