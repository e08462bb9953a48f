"""`torch.library.opcheck` of the ops, with the arguments that a loss calls them with: schemas,
fakes, and what autograd and dynamic shapes make of them."""

import itertools

import pytest
import torch

import fusedloss as fl
from fusedloss import _ops
from fusedloss import functional as F
from tests import cases
from tests.cases import FLOATS, FUNCTION, LOSSES, REDUCTIONS

LOSS_AND_WEIGHTED = FUNCTION["mse_loss"], next(loss for loss in LOSSES if loss.pos_weight)
LAYOUTS = ("contiguous", "channels_last", "cropped", "transposed")


class Recorder:
    """Runs an op and keeps its arguments."""

    def __init__(self, op):
        self.op, self.calls = op, []

    def __call__(self, *arguments):
        self.calls.append(arguments)
        return self.op(*arguments)


def recorded(monkeypatch, problem):
    """The arguments with which a problem's forward and backward pass call the three ops."""
    names = ("elementwise_forward", "elementwise_backward", "scale_gradient_")
    recorders = {name: Recorder(getattr(_ops, name)) for name in names}
    for name, recorder in recorders.items():
        monkeypatch.setattr(_ops, name, recorder)
    input = problem.input.detach().requires_grad_()
    function = getattr(F, problem.loss.name)
    value = function(input, problem.target, **problem.arguments(), return_stats=True)[0]
    torch.autograd.grad(value, input, torch.full_like(value, 2.0))
    monkeypatch.undo()
    return {name: (recorders[name].op, recorders[name].calls) for name in names}


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [
        pytest.param(layout, dtype, marks=[] if row == column else pytest.mark.slow)
        for row, layout in enumerate(LAYOUTS)
        for column, dtype in enumerate(FLOATS)
    ],
    ids=str,
)
def test_opcheck(monkeypatch, layout, dtype):
    shape = (2, 3, 4, 5)
    seen = set()
    for loss, reduction in itertools.product(LOSS_AND_WEIGHTED, REDUCTIONS):
        problem = cases.make_problem(loss, shape, dtype, reduction=reduction)
        problem = problem.with_(
            input=cases.LAYOUTS[layout](problem.input),
            mask=(fl.target > 0) & (torch.rand(2, 4, 5) < 0.8),
            weight=torch.rand(4, 5),
        )
        for name, (op, calls) in recorded(monkeypatch, problem).items():
            for arguments in calls:
                arguments = [a.detach() if isinstance(a, torch.Tensor) else a for a in arguments]
                torch.library.opcheck(op, tuple(arguments))
                seen.add(name)
    holds_gradient = dtype != torch.float16
    assert seen == {"elementwise_forward", "elementwise_backward"} | (
        {"scale_gradient_"} if holds_gradient else set()
    )
