// The overlap CPU driver for float arithmetic.
#include "cpu/overlap_entry.h"

namespace fusedloss::cpu {

template NotAClass overlap_forward<float>(const OverlapParams&, ParallelFor);
template void overlap_backward<float>(const OverlapParams&, ParallelFor);

}  // namespace fusedloss::cpu
