"""Value, gradient and statistics of every loss against the reference in float64."""

import itertools

import pytest
import torch
import torch.nn.functional

import fusedloss as fl
from tests import cases
from tests.cases import FLOATS, FUNCTION, FUNCTIONS, INTEGERS, LOSSES, REDUCTIONS, REGIONS, WEIGHTS
from tests.oracle import assert_gradient, assert_matches, evaluate, exact

SHAPE = (3, 4, 5, 6)
WEIGHT_NAMES = tuple(WEIGHTS)
# Sizes around the kernels' tiles (2048) and blocks (16384), channels of any number and place.
SHAPES = (
    (),
    (1,),
    (7,),
    (2047,),
    (40_001,),
    (5, 3),
    (2, 2049),
    (3, 3000, 7),
    (2, 3, 4099),
    (1, 70, 33, 17),
    (3, 1, 64, 65),
    (2, 3, 4, 5, 6),
    (2, 2, 2, 3, 2, 3),
    (2, 1, 2, 3, 2, 1, 2),
)


def check(problem, backend):
    assert_matches(evaluate(problem, backend), exact(problem), problem)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_region_by_dtype_by_reduction(backend, loss, region):
    rng = cases.generator(str(loss), region)
    offset = LOSSES.index(loss) + 3 * list(REGIONS).index(region)
    table = list(enumerate(itertools.product(FLOATS, REDUCTIONS)))
    for row, (dtype, reduction) in backend.thin(table, offset):
        weight = WEIGHTS[WEIGHT_NAMES[(row + offset) % len(WEIGHTS)]](SHAPE, rng)
        mask = REGIONS[region](SHAPE, rng)
        others = dict(mask=mask, weight=weight, reduction=reduction)
        check(cases.make_problem(loss, SHAPE, dtype, rng=rng, **others), backend)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("loss", (FUNCTION["mse_loss"], FUNCTION["binary_cross_entropy"]), ids=str)
def test_normalizer_by_weight_by_region(backend, loss, region, weight):
    rng = cases.generator(str(loss), region, weight)
    table = [("mean", value) for value in cases.normalizers("mean")]
    table += [("sample_mean", value) for value in cases.normalizers("sample_mean")]
    for reduction, normalizer in backend.thin(table):
        if normalizer == "tensor":
            normalizer = torch.tensor(12.5)
        shape = SHAPE if weight != "scalar" else (5, 7)  # (N, C): positions are the samples
        others = dict(mask=REGIONS[region](shape, rng), weight=WEIGHTS[weight](shape, rng))
        others |= dict(reduction=reduction, normalizer=normalizer)
        check(cases.make_problem(loss, shape, rng=rng, **others), backend)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_shapes(backend, loss, shape):
    rng = cases.generator(str(loss), shape)
    table = itertools.product((None, "bool", "positions", "target"), (False, True))
    for mask, is_weighted in backend.thin(table, len(shape)):
        if mask == "bool":
            mask = torch.rand(shape, generator=rng) < 0.7
        elif mask == "positions":
            mask = torch.rand(cases.positions(shape), generator=rng) < 0.7
        elif mask == "target":
            mask = fl.target > 0.25
        weight = cases.make_weight(shape[2:], rng=rng) if is_weighted else None
        others = dict(mask=mask, weight=weight)
        for reduction in ("mean", "none") if shape else REDUCTIONS:
            check(cases.make_problem(loss, shape, reduction=reduction, rng=rng, **others), backend)
        others |= dict(reduction="sample_mean", normalizer="positions")
        check(cases.make_problem(loss, shape, rng=rng, **others), backend)


@pytest.mark.parametrize("target_dtype", FLOATS + INTEGERS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_mixed_dtypes(backend, dtype, target_dtype):
    """Every dtype of input and target, with mask and weight of every dtype in turn."""
    rng = cases.generator(dtype, target_dtype)
    operands = FLOATS + INTEGERS
    for row, loss in backend.thin(enumerate(FUNCTIONS), operands.index(target_dtype)):
        mask_dtype = operands[(row + operands.index(target_dtype)) % len(operands)]
        weight_dtype = operands[(5 * row + operands.index(dtype)) % len(operands)]
        others = dict(mask=cases.make_weight(SHAPE, mask_dtype, rng, 0.4))
        others |= dict(weight=cases.make_weight((3, 1, 5, 6), weight_dtype, rng))
        if row % 2:
            others["mask"] = fl.regions.as_region(others["mask"]) & (fl.target <= 1)
        check(cases.make_problem(loss, SHAPE, dtype, target_dtype, rng, **others), backend)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_grad_output(backend, loss, reduction):
    rng = cases.generator(str(loss), reduction)
    for value in backend.thin((0.0, 1.0, -2.5, 1e4, 1e-6)):
        grad_output = torch.tensor(value)
        if reduction == "none":
            grad_output = value * torch.randn(SHAPE, generator=rng)
        others = dict(reduction=reduction, grad_output=grad_output)
        others["weight"] = WEIGHTS["column"](SHAPE, rng)
        check(cases.make_problem(loss, SHAPE, rng=rng, **others), backend)


@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_loss_scaler(backend, loss):
    """A float16 gradient divided by 10^7 and multiplied by 65536 must not have underflowed."""
    problem = cases.make_problem(loss, SHAPE, torch.float16, normalizer=1e7)
    problem = problem.with_(mask=fl.target >= -2)
    input = backend.place(problem.input).requires_grad_()
    target = backend.place(problem.target)
    function = getattr(backend.functions, loss.name)
    value = function(input, target, **problem.arguments())
    # 65536 is infinite in float16: a scaler multiplies the loss in float32
    (gradient,) = torch.autograd.grad(value.float() * 4096, input)
    wanted = exact(problem.with_(grad_output=torch.tensor(4096.0)))
    assert_gradient(gradient.cpu(), wanted.gradient, problem)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_scaled_float16_under_autocast(backend, loss):
    """With a float32 loss the usual scale of 65536 goes through."""
    problem = cases.make_problem(loss, SHAPE, torch.float16, normalizer=1e7)
    input = backend.place(problem.input).requires_grad_()
    with torch.autocast(backend.device, torch.bfloat16 if backend.device == "cpu" else None):
        function = getattr(backend.functions, loss.name)
        value = function(input, backend.place(problem.target), **problem.arguments())
    assert value.dtype is torch.float32
    (gradient,) = torch.autograd.grad(value * 65536, input)
    wide = problem.with_(input=problem.input.double(), grad_output=torch.tensor(65536.0))
    assert_gradient(gradient.cpu(), exact(wide).gradient, problem)


def test_sum_that_overflows_float16(backend):
    x = backend.place(torch.full((70_000,), 2.0, dtype=torch.float16))
    loss, stats = backend.functions.l1_loss(x, 0 * x, reduction="sum", return_stats=True)
    assert loss.item() == float("inf")
    assert stats.total.item() == 140_000.0 and stats.total.dtype is torch.float32


_ODD = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e-42, 3e38, -3e38, 89.0, -89.0, 104.0, -104.0, 1e4)
_ODD += (float("nan"), float("inf"), -float("inf"))
TORCH_LOSSES = [loss for loss in LOSSES if hasattr(torch.nn.functional, loss.name)]


@pytest.mark.parametrize("is_masked", (False, True))
@pytest.mark.parametrize("loss", TORCH_LOSSES, ids=str)
def test_special_values_as_torch(backend, loss, is_masked):
    """NaN, infinities, saturated and tiny numbers that take part propagate as in torch."""
    inputs, targets = _ODD, _ODD
    if loss.kind != "real":
        targets = (0.0, 1.0, 0.25)
    if loss.kind == "probability":
        inputs = (0.0, 1.0, 0.5, 1e-30, 1e-42, 1 - 2.0**-24)
    input, target = torch.cartesian_prod(torch.tensor(inputs), torch.tensor(targets)).T.contiguous()
    options = dict(loss.options)
    if loss.pos_weight:
        options["pos_weight"] = torch.tensor([2.0])
    wanted_input = input.clone().requires_grad_()
    theirs = getattr(torch.nn.functional, loss.name)
    wanted = theirs(wanted_input, target, reduction="none", **options)
    (wanted_gradient,) = torch.autograd.grad(wanted, wanted_input, torch.ones_like(wanted))

    options = {name: backend.place(value) for name, value in options.items()}
    input = backend.place(input).requires_grad_()
    mask = torch.ones_like(input, dtype=torch.bool) if is_masked else None
    ours = getattr(backend.functions, loss.name)
    got = ours(input, backend.place(target), reduction="none", mask=mask, **options)
    (gradient,) = torch.autograd.grad(got, input, torch.ones_like(got))
    wanted = wanted.detach()
    if loss.kind == "logit":  # torch's (1 - t) x + w softplus(-x) overflows before the sum does
        exact = theirs(input.detach().cpu().double(), target.double(), reduction="none", **options)
        wanted = torch.where(input.cpu().isfinite(), exact.float(), wanted)
    torch.testing.assert_close(got.detach().cpu(), wanted, equal_nan=True)
    torch.testing.assert_close(gradient.cpu(), wanted_gradient, equal_nan=True)
