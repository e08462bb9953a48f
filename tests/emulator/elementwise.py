"""The elementwise ops over emulated CUDA kernels, as `ops.py` describes, and `scale_gradient_`."""

from fusedloss import _ops

from .ops import Ops, projects, run_op

# SMALL is mean squared error in float32 alone.
PROJECT, SMALL = projects("elementwise")

_elementwise = Ops("elementwise", PROJECT, _ops.elementwise_results)
recorded, forward, backward = _elementwise.recorded, _elementwise.forward, _elementwise.backward


def scale_(gradient, grad_output):
    def call(session):
        session.register(gradient, "gradient", writable=True, initialised=True)
        tensors = {"grad_input": gradient, "grad_output": grad_output}
        run_op(session, {"call": "scale_gradient_"} | tensors)

    _elementwise.calls.run({"grad_output": grad_output}, {}, call)
