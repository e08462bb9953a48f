"""The class reference against numpy loops and against torch: values, gradients, normalizers,
reductions, statistics. Kernels are tested against the reference; here it has to be right itself."""

import inspect
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import fusedloss as fl
from fusedloss import reference
from tests import class_cases as cases
from tests.class_cases import (
    CLASS_WEIGHTS,
    FUNCTION,
    INDEX,
    LOSSES,
    MAPS,
    MASKS,
    PROBABILITY,
    REGIONS,
    SOURCES,
    TARGETS,
)
from tests.families import CLASS
from tests.numpy_classes import opinion

SHAPES = ((2, 3, 4, 5), (3, 4), (2, 3, 6), (2, 2, 2, 3, 2), (5,), (3, 1, 4), (1,))


def check(problem):
    """The reference in float64 agrees with the loops."""
    input = problem.input.double().requires_grad_()
    target = problem.target.double() if problem.target.is_floating_point() else problem.target
    problem = problem.with_(input=input.detach(), target=target)
    wanted = opinion(problem)
    function = getattr(reference, problem.loss.name)
    loss, stats = function(input, target, **problem.arguments(), return_stats=True)
    assert tuple(loss.shape) == wanted.loss.shape
    close(loss, wanted.loss)
    close(torch.autograd.grad(loss.sum(), input)[0], wanted.gradient)
    close(stats.total, wanted.total)
    close(stats.normalizer, wanted.normalizer)
    assert stats.selected == wanted.selected and stats.selected.dtype is torch.int64
    assert stats[3:] == (None, None, None)
    assert torch.equal(function(input, target, **problem.arguments()), loss)


def close(got, wanted):
    np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=str)
def test_masks_maps_weights_reductions(loss, kind, mask):
    """Everything at once: class weights, map, mask, ignored labels, smoothing, normalizers."""
    rng = cases.generator(str(loss), kind, mask)
    table = [(r, n) for r in cases.REDUCTIONS for n in cases.normalizers(r)]
    rows = itertools.product(CLASS_WEIGHTS, MAPS)
    for row, (weight, weight_map) in enumerate(rows):
        shape = SHAPES[row % len(SHAPES)]
        reduction, normalizer = table[(row + len(mask)) % len(table)]
        if normalizer == "tensor":
            normalizer = torch.tensor(2.5, dtype=torch.float64)
        others = dict(weight=CLASS_WEIGHTS[weight](shape, rng), reduction=reduction)
        others |= dict(mask=MASKS[mask](shape, rng), weight_map=MAPS[weight_map](shape, rng))
        check(cases.make_problem(loss, kind, shape, rng=rng, normalizer=normalizer, **others))


@pytest.mark.parametrize(
    ("reduction", "normalizer"),
    [(r, n) for r in cases.REDUCTIONS for n in cases.normalizers(r) if n != "tensor"],
)
@pytest.mark.parametrize("kind", (INDEX, PROBABILITY))
def test_normalizers(kind, reduction, normalizer):
    rng = cases.generator(kind, reduction, normalizer)
    for shape, mask in itertools.product(SHAPES, ("none", "bool", "float", "nothing")):
        for weight, weight_map in itertools.product(("none", "zeros"), ("none", "positions")):
            others = dict(weight=CLASS_WEIGHTS[weight](shape, rng), reduction=reduction)
            others |= dict(mask=MASKS[mask](shape, rng), weight_map=MAPS[weight_map](shape, rng))
            loss = FUNCTION["cross_entropy"]
            check(cases.make_problem(loss, kind, shape, rng=rng, normalizer=normalizer, **others))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_regions_and_sources(loss):
    shape = (2, 3, 4, 5)
    rng = cases.generator(str(loss))
    for kind in loss.targets:
        sources = SOURCES | (cases.OWN_LABELS if kind == INDEX else {})
        pairs = itertools.zip_longest(REGIONS, sources, fillvalue="edges")
        for row, (region, source) in enumerate(pairs):
            mask = REGIONS.get(region, REGIONS["box"])(shape, rng)
            reduction = cases.REDUCTIONS[row % 4]
            others = dict(mask=mask, weight_map=sources[source](shape, rng), reduction=reduction)
            check(cases.make_problem(loss, kind, shape, rng=rng, **others))


@pytest.mark.parametrize("dtype", cases.LABELS, ids=str)
@pytest.mark.parametrize("name", CLASS)
def test_labels_of_every_dtype_and_with_a_channel_dim(name, dtype):
    rng = cases.generator(name, dtype)
    for shape in SHAPES:
        problem = cases.make_problem(FUNCTION[name], INDEX, shape, target_dtype=dtype, rng=rng)
        problem = problem.with_(mask=cases.label("!=", 1))
        check(problem)
        function = getattr(reference, name)
        wanted = function(problem.input, problem.target, **problem.arguments())
        column = problem.target.reshape(cases.column(shape))
        assert torch.equal(function(problem.input, column, **problem.arguments()), wanted)


@pytest.mark.parametrize("dtype", cases.LABELS + (torch.bool, torch.float16), ids=str)
def test_one_hot_of_every_dtype(dtype):
    input = cases.make_input(FUNCTION["categorical_cross_entropy"], (2, 3, 4), torch.float64)
    labels = torch.randint(0, 3, (2, 4))
    hot = F.one_hot(labels, 3).movedim(-1, 1).to(dtype)
    got = reference.categorical_cross_entropy(input, hot, weight=torch.tensor([1.0, 0.0, 2.5]))
    wanted = reference.categorical_cross_entropy(
        input, labels, weight=torch.tensor([1.0, 0.0, 2.5])
    )
    torch.testing.assert_close(got, wanted, rtol=1e-14, atol=0)


# ------------------------------------------------------------------------------- equal to torch's


@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
@pytest.mark.parametrize("weight", ("none", "float"))
@pytest.mark.parametrize(
    ("loss", "kind"), [row for row in TARGETS if hasattr(F, row[0].name)], ids=str
)
def test_equals_torch(loss, kind, weight, reduction):
    """Value, gradient and second derivative; also the gradient of probabilities."""
    rng = cases.generator(str(loss), kind, weight, reduction)
    for shape in SHAPES:
        input = cases.make_input(loss, shape, torch.float64, rng).requires_grad_()
        target = cases.make_target(kind, shape, None, rng, ignored=0.0)
        if kind == PROBABILITY:
            target = target.double().requires_grad_()
        elif target.numel() > 3:
            target.view(-1)[1] = -100
        class_weight = CLASS_WEIGHTS[weight](shape, rng)
        options = dict(loss.options, reduction=reduction)
        options["weight"] = None if class_weight is None else class_weight.double()
        leaves = (input, target) if kind == PROBABILITY else (input,)
        results = []
        for module in (reference, F):
            value = getattr(module, loss.name)(input, target, **options)
            direction = torch.linspace(0.5, 1.5, value.numel(), dtype=torch.float64)
            direction = direction.reshape(value.shape)
            firsts = torch.autograd.grad(value, leaves, direction, create_graph=True)
            results.append([value, *firsts])
            slope = torch.linspace(-1, 1, input.numel(), dtype=torch.float64)
            second = 0 * input.sum() + (firsts[0] * slope.reshape(input.shape)).sum()
            results[-1] += torch.autograd.grad(
                second, leaves, allow_unused=True, materialize_grads=True
            )
        for got, wanted in zip(*results, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("weight", ("none", "float"))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nll_of_log_softmax_is_cross_entropy(shape, weight):
    rng = cases.generator(shape, weight)
    problem = cases.make_problem(FUNCTION["cross_entropy"], INDEX, shape, torch.float64, rng=rng)
    options = dict(problem.arguments(), weight=CLASS_WEIGHTS[weight](shape, rng))
    log_p = problem.input.log_softmax(min(1, len(shape) - 1))
    torch.testing.assert_close(
        reference.nll_loss(log_p, problem.target, **options),
        reference.cross_entropy(problem.input, problem.target, **options),
    )


@pytest.mark.parametrize("kind", (INDEX, PROBABILITY))
def test_focal_without_gamma_is_cross_entropy_over_positions(kind):
    problem = cases.make_problem(FUNCTION["softmax_focal_loss"], kind, (2, 3, 4), torch.float64)
    options = dict(problem.arguments(), weight=torch.tensor([1.0, 0.5, 2.0]))
    got = reference.softmax_focal_loss(problem.input, problem.target, gamma=0, **options)
    options["normalizer"] = "positions"
    wanted = reference.cross_entropy(problem.input, problem.target, **options)
    assert torch.equal(got, wanted)


def test_categorical_cross_entropy_is_keras():
    """keras.src.backend.torch.nn.categorical_crossentropy, as published."""
    scores = cases.make_input(FUNCTION["categorical_cross_entropy"], (6, 4), torch.float64)
    scores[0] = torch.tensor([0.0, 3.0, 0.0, 0.0])
    target = cases.make_target(PROBABILITY, (6, 4), torch.float64)
    output = scores / torch.sum(scores, dim=1, keepdim=True)
    output = torch.clip(output, 1e-7, 1.0 - 1e-7)
    wanted = -torch.sum(target * torch.log(output), dim=1)
    got = reference.categorical_cross_entropy(scores, target, reduction="none")
    torch.testing.assert_close(got, wanted, rtol=1e-14, atol=0)


# ------------------------------------------------------------------------------ dtypes, signatures


def test_dtype_of_result_and_arithmetic():
    half = torch.tensor([[300.0, 0.0]] * 400, dtype=torch.float16)
    target = torch.ones(400, dtype=torch.int64)
    loss, stats = reference.cross_entropy(half, target, reduction="sum", return_stats=True)
    assert loss.dtype is torch.float16 and loss.isinf()
    assert stats.total.dtype is torch.float32 and stats.total == 400 * 300
    logits = torch.zeros(1, 2)
    fine = torch.tensor([1 + 2**-40], dtype=torch.float64)
    for extra in (
        {"weight": torch.cat((fine, fine))},
        {"weight_map": fine},
        {"mask": fine},
        {"mask": (fl.target == 0) & fine},
        {"target": torch.tensor([[1 + 2**-40, 0.0]], dtype=torch.float64)},
    ):
        arguments = {"target": torch.tensor([0]), "reduction": "sum", **extra}
        loss, stats = reference.cross_entropy(logits, return_stats=True, **arguments)
        assert loss.dtype is torch.float32 and stats.total.dtype is torch.float64
        assert abs(stats.total.item() / np.log(2) - 1 - 2**-40) < 1e-15
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for name in CLASS:
            scores = torch.full((1, 2), 0.5, dtype=torch.bfloat16)
            function = getattr(reference, name)
            assert function(scores, torch.tensor([0])).dtype is torch.float32
            assert function(scores.double(), torch.tensor([0])).dtype is torch.float64


@pytest.mark.parametrize("name", CLASS)
def test_signatures_are_those_of_functional(name):
    ours = inspect.signature(getattr(reference, name))
    assert ours == inspect.signature(getattr(fl.functional, name))
    positional = [p.name for p in ours.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if hasattr(F, name):
        theirs = inspect.signature(getattr(F, name)).parameters
        assert positional == [*theirs]
        assert all(ours.parameters[p].default == theirs[p].default for p in positional)
    keywords = [p for p in ours.parameters if p not in positional]
    assert keywords == ["weight_map", "mask", "normalizer", "return_stats"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1.0])
@pytest.mark.parametrize("name", ["cross_entropy", "softmax_focal_loss"])
def test_one_class(name, value):
    """Its p is 1, but NaN of a logit that is not finite, and so is the gradient, as in torch."""
    input = torch.full((2, 1), value, requires_grad=True)
    labels = torch.zeros(2, dtype=torch.long)
    loss = getattr(reference, name)(input, labels)
    wanted = torch.nn.functional.cross_entropy(input, labels)
    torch.testing.assert_close(loss, wanted, equal_nan=True)
    found, expected = (torch.autograd.grad(result, input)[0] for result in (loss, wanted))
    torch.testing.assert_close(found, expected, equal_nan=True)
    if name == "cross_entropy":
        kernel = fl.cross_entropy(input, labels)
        torch.testing.assert_close(torch.autograd.grad(kernel, input)[0], expected, equal_nan=True)
