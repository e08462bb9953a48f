// The elementwise ops over emulated kernels, and that which scales a gradient.
#include <stdexcept>

#include "core/elementwise_problem.h"
#include "cuda/elementwise.h"
#include "op_arguments.h"

namespace fusedloss {
namespace {

template <class T>
void run(const ElementwiseCall& call, const double* options, const ElementwiseParams& params,
         const cuda::LaunchContext& context) {
  if (params.grad_output) {
    return cuda::elementwise_backward<T>(call.loss.c_str(), options, params, context);
  }
  cuda::elementwise_forward<T>(call.loss.c_str(), options, params, context);
}

void scale_gradient(const TensorView& gradient, const TensorView& grad_output) {
  Operand operand, factor;
  operand.data = gradient.data;
  operand.dtype = gradient.dtype;
  factor.data = grad_output.data;
  factor.dtype = grad_output.dtype;
  int64_t elements = 1;
  for (int axis = 0; axis < gradient.rank; ++axis) elements *= gradient.size[axis];
  cuda::scale_gradient(operand, elements, factor, {});
}

}  // namespace

void run_op(const OpArguments& a, const Allocate& allocate) {
  if (a.call == "scale_gradient_") return scale_gradient(view(a.grad_input), view(a.grad_output));
  const ElementwiseCall call = parse_call(a.call);
  ElementwiseParams params;
  const double* options = lay_out(call, tensors_of<ElementwiseTensors>(a),
                                  {a.region, a.weight_source}, a.numbers, &params);
  params.sums = sums_of(a);
  const auto context = context_with(cuda::elementwise_workspace_bytes(params), allocate);
  switch (params.input.dtype) {
    case DType::kFloat:
      return run<float>(call, options, params, context);
    case DType::kDouble:
      return run<double>(call, options, params, context);
    case DType::kHalf:
      return run<Half>(call, options, params, context);
    case DType::kBFloat16:
      return run<BFloat16>(call, options, params, context);
    default:
      throw std::invalid_argument("no kernel for this dtype");
  }
}

}  // namespace fusedloss
