"""The same bits run to run and for every number of threads; accuracy at any size."""

import itertools

import pytest
import torch

import fusedloss as fl
from fusedloss import functional as F
from tests import cases
from tests.cases import FLOATS, FUNCTIONS, REDUCTIONS
from tests.oracle import evaluate

# Sizes at which work is spread over threads (32768 elements and more), even and ragged.
SHAPES = ((300_000,), (3, 4, 123, 211), (2, 70_001), (5, 3, 96, 128))


def same_bits(got, wanted):
    assert torch.equal(got.loss, wanted.loss)
    assert torch.equal(got.gradient, wanted.gradient)
    for value, right in zip(got.stats[:3], wanted.stats[:3], strict=True):
        assert torch.equal(value, right)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_every_number_of_threads_gives_the_same_bits(real_backend, threads, loss, shape):
    index = FUNCTIONS.index(loss) + SHAPES.index(shape)
    for row, reduction in enumerate(REDUCTIONS):
        rng = cases.generator(str(loss), shape, reduction)
        dtype = FLOATS[(index + row) % 4]
        problem = cases.make_problem(loss, shape, dtype, rng=rng, reduction=reduction)
        mask = torch.rand(cases.positions(shape), generator=rng) < 0.7
        if row % 2:
            mask = (fl.target > 0.1) | mask.float() * 0.75
        if reduction in ("mean", "sample_mean"):
            problem = problem.with_(normalizer=cases.normalizers(reduction)[index % 5])
        problem = problem.with_(
            mask=mask, weight=cases.make_weight((1,) * (len(shape) - 1) + shape[-1:], rng=rng)
        )
        threads(1)
        wanted = evaluate(problem, real_backend)
        for count in (2, 3, 4, 1):
            threads(count)
            same_bits(evaluate(problem, real_backend), wanted)


def test_alignment_does_not_change_the_bits(backend):
    """The same values elsewhere in memory: vector heads and tails must not show."""
    values = torch.randn(100_003)
    target = torch.randn(100_003)
    wanted = backend.functions.log_cosh_loss(backend.place(values), backend.place(target))
    for offset in range(1, 9):
        moved = backend.place(torch.empty(100_003 + offset))[offset:]
        moved.copy_(values)
        got = backend.functions.log_cosh_loss(moved, backend.place(target))
        assert torch.equal(got, wanted)


CONSTANTS = (
    ("l1_loss", {}, 0.1, 0.0),
    ("mse_loss", {}, 0.7, 0.0),
    ("smooth_l1_loss", {}, 0.3, 0.0),
    ("huber_loss", {"delta": 0.01}, 1.1, 0.0),
    ("charbonnier_loss", {}, 1e-4, 0.0),
    ("log_cosh_loss", {}, 1e-3, 0.0),
    ("binary_cross_entropy", {}, 0.9999, 1.0),
    ("binary_cross_entropy_with_logits", {}, 1.0, 0.0),
    ("sigmoid_focal_loss", {}, -2.0, 1.0),
)


def check_constant(name, options, x, t, count, reduction):
    """A constant adds the same rounding error in every element: it shows where sums drift."""
    input, target = torch.full((count,), x), torch.full((count,), t)
    mask = torch.ones((), dtype=torch.bool).expand(count)
    loss, stats = getattr(F, name)(
        input, target, mask=mask, reduction=reduction, return_stats=True, **options
    )
    one = getattr(fl.reference, name)(input[:1].double(), target[:1].double(), **options)
    tolerance = 4e-6 if name == "sigmoid_focal_loss" else 1e-6
    wanted = one.item() * (count if reduction == "sum" else 1)
    assert abs(loss.item() - wanted) <= tolerance * wanted
    assert stats.selected.item() == count
    assert abs(stats.total.item() - one.item() * count) <= tolerance * one.item() * count


@pytest.mark.parametrize("row", CONSTANTS, ids=lambda row: row[0])
def test_constant_loss_of_many_elements(row):
    for reduction in ("mean", "sum"):
        check_constant(*row, 3_000_017, reduction)


@pytest.mark.slow
@pytest.mark.parametrize("row", CONSTANTS, ids=lambda row: row[0])
def test_constant_loss_of_a_hundred_million_elements(row):
    check_constant(*row, 100_000_007, "mean")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_mean_of_a_hundred_million_elements(dtype):
    """Random values, against a float64 sum of the reference by pieces."""
    count, piece = 100_000_000, 4_000_000
    rng = cases.generator(dtype)
    input = torch.randn(piece, generator=rng).to(dtype)
    target = torch.randn(piece, generator=rng).to(dtype)
    exact = fl.reference.mse_loss(input.double(), target.double()).item()
    repeats = count // piece
    whole = F.mse_loss(
        input.expand(repeats, piece), target.expand(repeats, piece), return_stats=True
    )
    mean = whole[1].total.double() / whole[1].normalizer.double()
    assert abs(mean.item() - exact) <= 1e-6 * exact


def test_weights_that_add_up(real_backend):
    """Many equal float weights: the normalizer is a sum of its own and must not drift either."""
    count = 3_000_017
    ones = real_backend.place(torch.ones(count))
    for value, normalizer in itertools.product((0.1, 1 / 3), ("weights", "selected")):
        _, stats = real_backend.functions.l1_loss(
            ones, ones * 0, mask=ones * value, normalizer=normalizer, return_stats=True
        )
        wanted = torch.tensor(value).double().item() * count
        assert abs(stats.normalizer.item() - wanted) <= 1e-6 * wanted
        assert stats.selected.item() == count
