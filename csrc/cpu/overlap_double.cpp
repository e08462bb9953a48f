// The overlap CPU driver for double arithmetic.
#include "cpu/overlap_entry.h"

namespace fusedloss::cpu {

template NotAClass overlap_forward<double>(const OverlapParams&, ParallelFor);
template void overlap_backward<double>(const OverlapParams&, ParallelFor);

}  // namespace fusedloss::cpu
