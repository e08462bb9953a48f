// The class ops over emulated kernels.
#include "core/classwise_problem.h"
#include "cuda/classwise.h"
#include "op_arguments.h"

namespace fusedloss {

void run_op(const OpArguments& a, const Allocate& allocate) {
  const ClasswiseCall call = parse_class_call(a.call);
  ClasswiseParams params;
  const double* options = lay_out(call, tensors_of<ClasswiseTensors>(a),
                                  {a.region, a.weight_source}, a.numbers, a.ignore_index, &params);
  params.sums = sums_of(a);
  const auto context = context_with(cuda::classwise_workspace_bytes(params), allocate);
  cuda::classwise(call.loss.c_str(), options, params, context);
}

}  // namespace fusedloss
