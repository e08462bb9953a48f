"""More than 2^31 elements, without memory for them: dims of stride 0 repeat a few numbers."""

import pytest
import torch

import fusedloss as fl
from fusedloss import functional as F

WIDTH = 1 << 20
ROWS = 2049  # rows x width > 2^31
COUNT = ROWS * WIDTH


def repeated(values):
    """(ROWS, WIDTH) out of one row of memory."""
    return values.expand(ROWS, WIDTH)


@pytest.fixture(scope="module")
def row():
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(WIDTH, generator=generator)
    target = torch.randint(-3, 4, (WIDTH,), generator=generator).to(torch.int8)
    return input, target


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ("sum", "mean", "sample_mean"))
def test_more_elements_than_int32_holds(row, reduction):
    input, target = row
    mask = torch.arange(WIDTH) % 4 > 0
    loss, stats = F.l1_loss(
        repeated(input),
        repeated(target),
        mask=repeated(mask),
        reduction=reduction,
        return_stats=True,
    )
    exact = fl.reference.l1_loss(input.double(), target, mask=mask, reduction="sum") * ROWS
    if reduction != "sum":
        exact /= ROWS * mask.sum()
    assert COUNT > 2**31
    assert stats.selected.item() == ROWS * int(mask.sum())
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.slow
def test_one_scalar_in_more_than_int32_places():
    """A 0-d tensor repeated along one dim of 2^31 + 5, and a mask that only the end is in."""
    count = 2**31 + 5
    x = torch.tensor(2.0).expand(count)
    t = torch.tensor(1, dtype=torch.int8).expand(count)
    loss, stats = F.mse_loss(x, t, mask=fl.target > 0, reduction="sum", return_stats=True)
    assert stats.selected.item() == count
    assert loss.item() == float(count) or abs(loss.item() / count - 1) < 1e-6


@pytest.mark.slow
def test_offsets_beyond_int32():
    """Strides so large that the offset of an element does not fit 32 bits, few elements touched.

    The memory is reserved by the system but never written, so it is never there.
    """
    stride = 2**29 + 3
    storage = torch.empty(5 * stride + 8, dtype=torch.int8)
    target = torch.as_strided(storage, (6, 8), (stride, 1))
    target.copy_(torch.arange(48).reshape(6, 8))
    assert 5 * stride > 2**31
    x = torch.zeros(6, 8, requires_grad=True)
    loss = F.l1_loss(x, target, reduction="sum", mask=fl.target >= 0)
    assert loss.item() == 47 * 48 / 2
    loss.backward()
    assert x.grad.sum() == -47
    loss = F.l1_loss(x, torch.zeros(6, 8), mask=target, reduction="sum", weight=target)
    assert loss.item() == 0


def test_offsets_of_small_problems_fit_the_same_arithmetic():
    """Huge strides of dims of size 1 must not matter: nothing is ever read there."""
    x = torch.randn(1, 5, 1).as_strided((1, 5, 1), (2**40, 1, 2**41))
    target = torch.zeros(1, 5, 1).as_strided((1, 5, 1), (2**42, 1, 2**33))
    for reduction in ("mean", "sum", "sample_mean", "none"):
        input = x.detach().requires_grad_()
        loss = F.mse_loss(input, target, reduction=reduction).sum()
        divisor = 5 if "mean" in reduction else 1
        torch.testing.assert_close(loss, (x * x).sum() / divisor)
        (gradient,) = torch.autograd.grad(loss, input)
        torch.testing.assert_close(gradient, 2 * x / divisor)
