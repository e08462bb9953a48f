"""Regions whose thresholds change from call to call of a compiled function."""

import pytest
import torch

import fusedloss as fl
from fusedloss import functional as F
from tests.cases import FUNCTION
from tests.test_transforms import assert_same, operands, value_and_gradient

# Symbolic numbers on either side of a comparison need rules of ours in Dynamo, and so does ~.
THRESHOLDS = {
    "plain": lambda low, label: ((fl.target > low) & ~(fl.target >= 2 * low), fl.target != label),
    "reflected": lambda low, label: (
        (low < fl.target) & ~(2 * low <= fl.target),
        label != fl.target,
    ),
    "opposite": lambda low, label: (
        ~(low >= fl.target) & (2 * low > fl.target),
        label == fl.target,
    ),
    "variance": lambda low, label: (low < fl.input.var(), ~(2 * low >= fl.input.var())),
}


@pytest.mark.parametrize("dynamic", (True, None, False))
@pytest.mark.parametrize("form", THRESHOLDS)
def test_compile_with_a_changing_threshold(form, dynamic):
    torch._dynamo.reset()

    def function(input, target, low, label):
        band, labelled = THRESHOLDS[form](low, label)
        value = F.mse_loss(input, target, mask=band)
        return value + F.l1_loss(input, target.long(), mask=labelled)

    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    input, target = operands(FUNCTION["mse_loss"])
    for low, label in ((0.5, 0), (0.25, 1), (0.3, -1)):
        wanted = value_and_gradient(function, input, target, low, label)
        assert_same(value_and_gradient(compiled, input, target, low, label), wanted)
