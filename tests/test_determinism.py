"""The same bits run to run and for every number of threads; accuracy at any size."""

import itertools

import pytest
import torch

import fusedloss as fl
from fusedloss import functional as F
from fusedloss.reference import _sums
from tests import cases
from tests.cases import FLOATS, FUNCTIONS, LOSSES, REDUCTIONS, SOURCES, TERMS
from tests.oracle import evaluate

# Sizes at which work is spread over threads (32768 elements and more), even and ragged.
SHAPES = ((300_000,), (3, 4, 123, 211), (2, 70_001), (5, 3, 96, 128))


def same_bits(got, wanted):
    assert torch.equal(got.loss, wanted.loss)
    assert torch.equal(got.gradient, wanted.gradient)
    for value, right in zip(got.stats[:3], wanted.stats[:3], strict=True):
        assert torch.equal(value, right)


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        pytest.param(loss, shape, marks=() if (row + column) % 2 else pytest.mark.slow)
        for row, loss in enumerate(FUNCTIONS)
        for column, shape in enumerate(SHAPES)
    ],
    ids=str,
)
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


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("shape", [(2, 3, 96, 301), (3, 2, 9, 40, 50)], ids=str)
def test_threads_and_what_is_born_in_the_kernel(real_backend, threads, shape, source):
    rng = cases.generator(shape, source)
    region = TERMS["nested"](shape, rng) & ~TERMS["disks"](shape, rng)
    weight = SOURCES[source](shape, rng)
    for layout in ("contiguous", "channels_last"):
        problem = cases.make_problem(FUNCTIONS[1], shape, rng=rng, mask=region, weight=weight)
        problem = problem.with_(input=cases.LAYOUTS[layout](problem.input))
        threads(1)
        wanted = evaluate(problem, real_backend)
        for count in (2, 3, 1):
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


# (mask and weight of `shape`) so that sums go over all dims, over some, over none.
BROADCASTS = {
    "full": lambda shape: shape,
    "column": lambda shape: (shape[0], 1, *shape[2:]),
    "channels": lambda shape: (1, shape[1], *[1] * (len(shape) - 2)),
    "scalar": lambda shape: (),
}


def derivatives(loss, shape, broadcast, reduction):
    """Value, stats, first and second derivatives of everything, from the reference."""
    rng = cases.generator(str(loss), shape)
    problem = cases.make_problem(loss, shape, rng=rng)
    given = BROADCASTS[broadcast](shape)
    tensors = {
        "input": cases.LAYOUTS["channels_last"](problem.input),
        "target": problem.target,
        "weight": 0.5 + torch.rand(given, generator=rng),
        "mask": 0.5 + torch.rand(given, generator=rng),
    }
    if loss.pos_weight:
        tensors["pos_weight"] = torch.tensor(0.75) if broadcast == "scalar" else problem.pos_weight
    tensors = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    options = dict(loss.options, reduction=reduction, return_stats=True)
    value, stats = getattr(fl.reference, loss.name)(**tensors, **options)
    leaves = list(tensors.values())
    first = torch.autograd.grad(value, leaves, torch.full_like(value, 0.7), create_graph=True)
    # not summed, so that no sum of this test's own comes in
    ramps = [torch.linspace(-1, 1, g.numel()).reshape(g.shape) for g in first]
    used = [(g, ramp) for g, ramp in zip(first, ramps, strict=True) if g.requires_grad]
    graphs, ramps = zip(*used, strict=True)
    second = torch.autograd.grad(graphs, leaves, ramps, allow_unused=True)
    return [value, *stats[:3], *first, *(g for g in second if g is not None)]


@pytest.mark.parametrize(
    ("loss", "broadcast"),
    [
        pytest.param(loss, broadcast, marks=() if (row + column) % 2 else pytest.mark.slow)
        for row, loss in enumerate(LOSSES)
        for column, broadcast in enumerate(BROADCASTS)
    ],
    ids=str,
)
def test_the_reference_has_the_same_bits_for_every_number_of_threads(threads, loss, broadcast):
    row = LOSSES.index(loss) + list(BROADCASTS).index(broadcast)
    shape = ((3, 70_001), (2, 3, 97, 301), (1, 200_003), (1, 1, 501, 403))[row % 4]
    reduction = REDUCTIONS[row // 4 % 4]
    threads(1)
    wanted = derivatives(loss, shape, broadcast, reduction)
    for count in (2, 3, 7):
        threads(count)
        for got, right in zip(derivatives(loss, shape, broadcast, reduction), wanted, strict=True):
            assert torch.equal(got, right)


@pytest.mark.parametrize("count", (4096, 4097, 32_768, 10_000_000, 20_000_003))
def test_sums_of_the_reference(threads, count):
    values = torch.rand(count, generator=cases.generator(count))
    exact = values.double().sum()
    sums = []
    for number in (1, 2, 5, 8):
        threads(number)
        sums.append(_sums.total(values, values.shape, False))
        leaf = torch.tensor(1.0, requires_grad=True)
        torch.autograd.backward(_sums.spread(leaf, (count,)).expand(count), values)
        sums.append(leaf.grad)
    assert abs(sums[0].double() - exact) <= 1e-6 * exact
    assert all(torch.equal(got, sums[index % 2]) for index, got in enumerate(sums))
    torch.testing.assert_close(sums[1].double(), exact, rtol=1e-6, atol=0)
