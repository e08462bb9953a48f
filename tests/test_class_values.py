"""Value, gradient and statistics of every class loss against the reference in float64, on the
CPU and a GPU: masks, maps, class weights, dtypes, layouts, shapes, normalizers."""

import itertools

import pytest
import torch

from tests import class_cases as cases
from tests.class_cases import (
    CLASS_WEIGHTS,
    FLOATS,
    FUNCTION_TARGETS,
    INDEX,
    LABELS,
    LAYOUTS,
    MAPS,
    MASKS,
    REDUCTIONS,
    REGIONS,
    SOURCES,
    TARGETS,
)
from tests.class_oracle import assert_gradient, assert_matches, evaluate, exact

SHAPE = (3, 4, 5, 6)
# Classes of any number, strided and contiguous; positions around the kernels' tiles.
SHAPES = (
    (1,),
    (7,),
    (3, 1),
    (5, 3),
    (2, 300),
    (33, 17),
    (1, 5000),
    (3, 2, 700),
    (2, 19, 33, 17),
    (2, 257, 3, 5),
    (2, 3, 4, 5, 6),
    (2, 2, 2, 3, 2, 3),
    (2, 3, 2, 1, 3, 2, 2),
)


def check(problem, backend):
    assert_matches(evaluate(problem, backend), exact(problem), problem)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=str)
def test_mask_by_dtype_by_reduction(backend, loss, kind, mask):
    rng = cases.generator(str(loss), kind, mask)
    table = list(enumerate(itertools.product(FLOATS, REDUCTIONS)))
    weights, maps = tuple(CLASS_WEIGHTS), tuple(MAPS)
    for row, (dtype, reduction) in backend.thin(table, len(mask)):
        others = dict(mask=MASKS[mask](SHAPE, rng), reduction=reduction)
        others["weight"] = CLASS_WEIGHTS[weights[row % len(weights)]](SHAPE, rng)
        others["weight_map"] = MAPS[maps[(row + len(mask)) % len(maps)]](SHAPE, rng)
        check(cases.make_problem(loss, kind, SHAPE, dtype, rng=rng, **others), backend)


@pytest.mark.parametrize("weight_map", MAPS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", cases.FUNCTION["cross_entropy"].targets)
def test_normalizer_by_map_by_mask(backend, kind, mask, weight_map):
    rng = cases.generator(kind, mask, weight_map)
    table = [(r, n) for r in ("mean", "sample_mean") for n in cases.normalizers(r)]
    for row, (reduction, normalizer) in backend.thin(list(enumerate(table))):
        if normalizer == "tensor":
            normalizer = torch.tensor(12.5)
        others = dict(mask=MASKS[mask](SHAPE, rng), weight_map=MAPS[weight_map](SHAPE, rng))
        others |= dict(reduction=reduction, normalizer=normalizer)
        others["weight"] = CLASS_WEIGHTS[("none", "zeros")[row % 2]](SHAPE, rng)
        loss = cases.FUNCTION["cross_entropy"]
        check(cases.make_problem(loss, kind, SHAPE, rng=rng, **others), backend)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_shapes(backend, loss, kind, shape):
    rng = cases.generator(str(loss), kind, shape)
    for mask, weight in backend.thin(itertools.product(("none", "bool", "label"), (False, True))):
        others = dict(mask=MASKS[mask](shape, rng))
        if weight:
            others["weight"] = CLASS_WEIGHTS["zeros"](shape, rng)
            others["weight_map"] = MAPS["positions"](shape, rng)
        for reduction in REDUCTIONS:
            problem = cases.make_problem(loss, kind, shape, rng=rng, reduction=reduction, **others)
            check(problem, backend)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_layouts(backend, loss, kind, layout):
    rng = cases.generator(str(loss), kind, layout)
    for shape, reduction in backend.thin(itertools.product((SHAPE, (5, 7)), ("mean", "none"))):
        problem = cases.make_problem(loss, kind, shape, rng=rng, reduction=reduction)
        for names in (("input",), ("target",), ("input", "target")):
            views = {name: LAYOUTS[layout](getattr(problem, name)) for name in names}
            check(problem.with_(mask=MASKS["bool"](shape, rng), **views), backend)


@pytest.mark.parametrize("label", LABELS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_dtypes_of_labels(backend, dtype, label):
    rng = cases.generator(dtype, label)
    table = [loss for loss, kind in FUNCTION_TARGETS if kind == INDEX]
    for loss in backend.thin(table, LABELS.index(label)):
        others = dict(weight=CLASS_WEIGHTS["zeros"](SHAPE, rng), mask=MASKS["label"](SHAPE, rng))
        problem = cases.make_problem(loss, INDEX, SHAPE, dtype, label, rng=rng, **others)
        check(problem, backend)
        column = problem.target.unsqueeze(1)
        check(problem.with_(target=column), backend)


@pytest.mark.parametrize("target_dtype", FLOATS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_mixed_dtypes(backend, dtype, target_dtype):
    rng = cases.generator(dtype, target_dtype)
    table = [row for row in FUNCTION_TARGETS if row[1] == cases.PROBABILITY]
    for row, (loss, kind) in backend.thin(list(enumerate(table))):
        others = dict(mask=MASKS["float"](SHAPE, rng), weight_map=MAPS["int64-column"](SHAPE, rng))
        others["weight"] = CLASS_WEIGHTS[("int64", "float16")[row % 2]](SHAPE, rng)
        check(cases.make_problem(loss, kind, SHAPE, dtype, target_dtype, rng, **others), backend)


@pytest.mark.parametrize("region", [*REGIONS])
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_regions_and_sources(backend, loss, kind, region):
    rng = cases.generator(str(loss), kind, region)
    sources = SOURCES | (cases.OWN_LABELS if kind == INDEX else {})
    table = list(enumerate(sources))
    for row, source in backend.thin(table, len(region)):
        others = dict(mask=REGIONS[region](SHAPE, rng), weight_map=sources[source](SHAPE, rng))
        others["reduction"] = REDUCTIONS[(row + len(region)) % 4]
        check(cases.make_problem(loss, kind, SHAPE, rng=rng, **others), backend)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=str)
def test_grad_output(backend, loss, kind, reduction):
    rng = cases.generator(str(loss), kind, reduction)
    for value in backend.thin((0.0, 1.0, -2.5, 1e4, 1e-6)):
        grad_output = torch.tensor(value)
        if reduction == "none":
            grad_output = value * torch.randn(cases.positions(SHAPE), generator=rng)
        others = dict(reduction=reduction, grad_output=grad_output)
        check(cases.make_problem(loss, kind, SHAPE, rng=rng, **others), backend)


@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_loss_scaler(backend, loss, kind):
    """A float16 gradient divided by 10^6 and multiplied by 4096 must not have underflowed."""
    problem = cases.make_problem(loss, kind, SHAPE, torch.float16, normalizer=1e6)
    input = backend.place(problem.input).requires_grad_()
    function = getattr(backend.functions, loss.name)
    value = function(input, backend.place(problem.target), **problem.arguments())
    (gradient,) = torch.autograd.grad(value.float() * 4096, input)
    wanted = exact(problem.with_(grad_output=torch.tensor(4096.0)))
    assert_gradient(gradient.cpu(), wanted.gradient, problem)
    assert gradient.abs().max() > 0


def test_sum_that_overflows_float16(backend):
    x = backend.place(torch.tensor([[300.0, 0.0]] * 400).half())
    y = backend.place(torch.ones(400, dtype=torch.uint8))
    loss, stats = backend.functions.cross_entropy(x, y, reduction="sum", return_stats=True)
    assert loss.item() == float("inf")
    assert stats.total.item() == 120_000.0 and stats.total.dtype is torch.float32


@pytest.mark.parametrize("name", ("cross_entropy", "nll_loss", "softmax_focal_loss"))
def test_many_classes(backend, name):
    """A row longer than any cache line, all of its mass in a few places."""
    rng = cases.generator(name)
    shape = (3, 70_001) if backend.share == 1 else (2, 3001)
    problem = cases.make_problem(cases.FUNCTION[name], INDEX, shape, rng=rng, reduction="none")
    input = problem.input.clone()
    input[:, 5] = 12.0
    target = torch.tensor([5, shape[1] - 1, 0][: shape[0]])
    check(problem.with_(input=input, target=target), backend)
