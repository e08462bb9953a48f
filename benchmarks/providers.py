"""Who computes a case. A provider turns a row and its operands into a function to be timed.

    fused      the library
    eager      what people write with torch.nn.functional
    compiled   torch.compile of the same function
    <peer>     whatever a row names under `peers`, written against the same operands

Before anything is timed, `check` holds every provider's loss and gradient against eager in float64.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .cases import Case

LOSS_SCALE = 1024.0  # of the check: a float16 gradient of 1 / N would be rounded away
FUSED, EAGER, COMPILED, STREAM = "fused", "eager", "compiled", "stream"


def functions(case: Case) -> dict[str, Callable[..., Tensor]]:
    """Name -> function of the operands, for every provider that this row has."""
    found = {FUSED: case.fused, EAGER: case.eager}
    if case.compiled:
        found[COMPILED] = torch.compile(case.eager, dynamic=False)
    return found | dict(case.peers)


def step(case: Case, function: Callable[..., Tensor], operands: tuple) -> Callable[[], None]:
    """What one training step does with this loss: forward, and backward where the row says so."""
    if case.backward:
        return lambda: function(*operands).backward()

    def forward() -> None:
        with torch.no_grad():
            function(*operands)

    return forward


def reset(operands: tuple) -> None:
    """What `optimizer.zero_grad()` does: the allocator gets the gradient's memory back."""
    operands[0].grad = None


def result(function: Callable[..., Tensor], operands: tuple) -> tuple[Tensor, Tensor]:
    """Loss and gradient for `operands[0]`; leaves no gradient behind."""
    reset(operands)
    loss = function(*operands)
    grad_output = torch.full_like(loss, LOSS_SCALE)
    (gradient,) = torch.autograd.grad(loss, operands[0], grad_output)
    return loss.detach(), gradient


def check(case: Case, found: dict[str, Callable[..., Tensor]], operands: tuple) -> None:
    """Raises AssertionError, naming the provider, unless all compute the same number."""
    exact = tuple(_in_double(operand) for operand in operands)
    loss, gradient = result(case.eager, exact)
    for name, function in found.items():
        got, got_gradient = result(function, operands)
        error = float(abs(got.double() - loss) / abs(loss))
        assert error <= case.tolerance, f"{case.name}, {name}: loss {got} for {loss}"
        difference = (got_gradient.double() - gradient).norm() / gradient.norm()
        assert difference <= case.tolerance, (
            f"{case.name}, {name}: the gradient differs by {float(difference):.1e} in norm"
        )


def _in_double(operand: Tensor) -> Tensor:
    if not operand.is_floating_point():
        return operand
    return operand.detach().double().requires_grad_(operand.requires_grad)
