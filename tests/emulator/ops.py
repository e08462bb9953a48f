"""The ops of a family over emulated CUDA kernels, with the signatures of `fusedloss._ops`.

    with elementwise.recorded(seed=3, traced=True) as reports:
        loss, gradient, sums = elementwise.forward("mse_loss mean weights gradient", ...)

Each call is one session; its report goes to `reports`, and an error in it is an exception unless
`check=False`.
"""

import dataclasses

import torch

from fusedloss import _ops

from . import builder
from .calls import Calls, plain

CUDA = builder.ROOT / "csrc" / "cuda"


def projects(family, *also):
    """(all kernels of a family, a selection of few that is quick to build and to trace).

    The selection stands in `<family>_kernels.cpp`; ``also`` are sources that both need.
    """
    also = tuple(builder.HERE / name for name in also)
    whole = builder.Project(
        module="emulated_ops",
        kernels=(*sorted(CUDA.glob(f"{family}_*.cu")), *also),
        bindings=(builder.HERE / "op_bindings.cpp", builder.HERE / f"{family}_ops.cpp"),
        include=(builder.ROOT / "csrc", builder.HERE),
    )
    return whole, dataclasses.replace(
        whole, kernels=(builder.HERE / f"{family}_kernels.cpp", *also)
    )


def _each(function, value):
    """``value`` with ``function`` of each tensor in it."""
    if isinstance(value, (list, tuple)):
        return [_each(function, item) for item in value]
    return function(value) if isinstance(value, torch.Tensor) else value


def run_op(session, arguments):
    """Calls the module's op; ``arguments`` are of the struct in op_arguments.h."""
    filled = session.module.Arguments()
    for name, value in arguments.items():
        setattr(filled, name, _each(plain, value))

    def allocate(size):
        workspace = torch.empty(size, dtype=torch.uint8)
        return session.register(workspace, "workspace", writable=True)

    session.module.run_op(filled, allocate)


class Ops:
    """`forward` and `backward` of a family.

    ``results`` is of `fusedloss._ops` too: what the forward pass returns, not yet written.
    """

    def __init__(self, family, project, results):
        self.calls = Calls(project)
        self.recorded = self.calls.recorded
        self._results = results
        self._names = {
            op: [argument.name for argument in getattr(_ops, f"{family}_{op}")._schema.arguments]
            for op in ("forward", "backward")
        }

    def forward(self, *arguments):
        given = self._named("forward", arguments)
        loss, gradient, sums = self._results(given["call"], given["input"])
        sums.zero_()  # so that numbers that a call has no use for do not differ between two
        outputs = {"loss": loss, "sums": sums}
        if "gradient" in given["call"].split():
            outputs["grad_input"] = gradient
        self._run(given, outputs)
        return loss, gradient, sums

    def backward(self, *arguments):
        given = self._named("backward", arguments)
        gradient = torch.empty_like(given["input"])
        self._run(given, {"grad_input": gradient})
        return gradient

    def _named(self, op, arguments):
        # The dispatcher resolves a pending negation before it calls a kernel.
        resolved = _each(torch.Tensor.resolve_neg, arguments)
        return dict(zip(self._names[op], resolved, strict=True))

    def _run(self, given, outputs):
        inputs = {f"other{i}": tensor for i, tensor in enumerate(given["others"])}
        inputs |= {name: t for name, t in given.items() if isinstance(t, torch.Tensor)}
        buffers = {"gradient" if k == "grad_input" else k: t for k, t in outputs.items()}
        self.calls.run(inputs, buffers, lambda session: run_op(session, given | outputs))
