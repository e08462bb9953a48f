"""What the tables run on: the CPU kernels, a GPU when there is one, emulated CUDA kernels.

    with backend.active():
        loss = backend.functions.mse_loss(backend.place(input), ...)

A backend that this machine does not have is not collected. The emulator plugs in through
`replaced_ops`, which puts its bindings where `fusedloss.autograd` looks for the kernels.
"""

import contextlib
import dataclasses

import torch

import fusedloss
from fusedloss import _ops
from tests.emulator import classwise, elementwise, overlap


@contextlib.contextmanager
def replaced_ops(**replacements):
    """Other callables, of the same signatures, in place of ops: `elementwise_forward=...`."""
    saved = {name: getattr(_ops, name) for name in replacements}
    try:
        for name, function in replacements.items():
            setattr(_ops, name, function)
        yield
    finally:
        for name, function in saved.items():
            setattr(_ops, name, function)


@contextlib.contextmanager
def kernels_only():
    """A call that takes the reference path fails."""

    def refuse(*_, **__):
        raise AssertionError("no kernel took this call")

    saved, fusedloss.reference.elementwise = fusedloss.reference.elementwise, refuse
    try:
        yield
    finally:
        fusedloss.reference.elementwise = saved


@dataclasses.dataclass(frozen=True)
class Backend:
    """`active` is a context manager within which `functions` run on this backend."""

    name: str
    device: str = "cpu"
    active: object = contextlib.nullcontext
    functions: object = fusedloss.functional
    checks_probabilities: bool = True  # by an exception; a GPU asserts on the device
    share: int = 1  # a slow backend takes one in so many cases of each table

    def thin(self, cases, offset: int = 0) -> list:
        """The cases of a table that this backend takes; `offset` varies which."""
        cases = list(cases)
        return cases[offset % min(self.share, len(cases)) :: self.share] if cases else cases

    def place(self, value):
        """A tensor, a region, a weight source or anything else on this backend's device."""
        if isinstance(value, torch.Tensor):
            moved = value.to(self.device)
            return moved.requires_grad_() if value.requires_grad and value.is_leaf else moved
        if isinstance(value, (fusedloss.Region, fusedloss.WeightSource)):
            return value.rebind(tuple(self.place(tensor) for tensor in value.tensors))
        return value

    def __str__(self):
        return self.name


@contextlib.contextmanager
def emulated():
    """The CUDA kernels' own source, run on the CPU; what the emulator finds is an exception."""
    with (
        elementwise.recorded(),
        classwise.recorded(),
        overlap.recorded(),
        replaced_ops(
            elementwise_forward=elementwise.forward,
            elementwise_backward=elementwise.backward,
            classwise_forward=classwise.forward,
            classwise_backward=classwise.backward,
            overlap_forward=overlap.forward,
            overlap_backward=overlap.backward,
            scale_gradient_=elementwise.scale_,
        ),
    ):
        yield


CPU = Backend("cpu")
EMULATED = Backend("emulated", active=emulated, checks_probabilities=False, share=11)


def available() -> tuple[Backend, ...]:
    """The backends of this machine, by what it has."""
    backends = [CPU, EMULATED]
    if torch.cuda.is_available() and _ops.build_info()["cuda"]:
        backends.append(Backend("cuda", "cuda", checks_probabilities=False))
    return tuple(backends)


BACKENDS = available()
