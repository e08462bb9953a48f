// The overlap ops over emulated kernels.
#include "core/overlap_problem.h"
#include "cuda/overlap.h"
#include "op_arguments.h"

namespace fusedloss {

void run_op(const OpArguments& a, const Allocate& allocate) {
  const OverlapCall call = parse_overlap_call(a.call);
  OverlapParams params;
  lay_out(call, tensors_of<OverlapTensors>(a), {a.region, a.weight_source}, a.numbers,
          a.ignore_index, &params);
  params.sums = sums_of(a);
  cuda::overlap(params, context_with(cuda::overlap_workspace_bytes(params), allocate));
}

}  // namespace fusedloss
