"""Nothing selected, no positions, no classes, no weight: 0 with zero gradients, never NaN."""

import pytest
import torch

import fusedloss as fl
from tests import class_cases as cases
from tests import numpy_terms as terms
from tests.class_cases import FUNCTION_TARGETS, INDEX, PROBABILITY, REDUCTIONS
from tests.class_oracle import assert_matches, evaluate, exact

SHAPE = (3, 4, 5)
NAN = float("nan")
# Ways to select nothing: -> changes to a problem.
NOTHING = {
    "bool": lambda: dict(mask=terms.tensor_mask(torch.zeros(3, 5).bool())),
    "float": lambda: dict(mask=terms.tensor_mask(torch.zeros(3, 1, 5))),
    "spatial": lambda: dict(mask=terms.tensor_mask(torch.zeros(5).byte())),
    "scalar": lambda: dict(mask=terms.tensor_mask(torch.tensor(False))),
    "target": lambda: dict(mask=cases.label(">", 2**40)),
    "lengths": lambda: dict(mask=terms.lengths(torch.zeros(3, dtype=torch.int32))),
}
EMPTY_SHAPES = ((0, 3), (0, 3, 4), (2, 3, 0), (2, 3, 4, 0), (0, 1), (0, 3, 0))


def check_zero(problem, backend, selected=0):
    result = evaluate(problem, backend)
    assert (result.loss == 0).all() and (result.gradient == 0).all()
    assert result.gradient.shape == problem.input.shape
    assert result.stats.selected == selected and (result.stats.total == 0).all()
    if problem.input.numel():
        assert_matches(result, exact(problem), problem)


def normalizers(reduction):
    for normalizer in cases.normalizers(reduction):
        yield torch.tensor(3.0) if normalizer == "tensor" else normalizer


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_nothing_selected(backend, loss, kind, nothing):
    table = [(r, n) for r in REDUCTIONS for n in normalizers(r)]
    for reduction, normalizer in backend.thin(table, len(nothing)):
        others = dict(reduction=reduction, normalizer=normalizer, **NOTHING[nothing]())
        problem = cases.make_problem(loss, kind, SHAPE, **others)
        check_zero(problem.with_(input=torch.full(SHAPE, NAN)), backend)


@pytest.mark.parametrize(("loss", "kind"), [r for r in FUNCTION_TARGETS if r[1] == INDEX], ids=str)
def test_everything_ignored(backend, loss, kind):
    for reduction in REDUCTIONS:
        for normalizer in backend.thin(normalizers(reduction)):
            target = torch.full((3, 5), 255, dtype=torch.uint8)
            problem = cases.Problem(loss, torch.full(SHAPE, NAN), target, ignore_index=255)
            check_zero(problem.with_(reduction=reduction, normalizer=normalizer), backend)


@pytest.mark.parametrize("shape", EMPTY_SHAPES, ids=str)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_no_positions(backend, loss, kind, shape):
    for reduction in REDUCTIONS:
        for normalizer in backend.thin(normalizers(reduction), len(shape)):
            options = dict(reduction=reduction, normalizer=normalizer)
            problem = cases.make_problem(loss, kind, shape, **options)
            check_zero(problem, backend)
            check_zero(problem.with_(mask=cases.label(">", 0)), backend)
            mask = terms.tensor_mask(torch.ones(cases.positions(shape)))
            check_zero(problem.with_(mask=mask), backend)
            check_zero(problem.with_(weight=torch.ones(shape[1])), backend)


@pytest.mark.parametrize("shape", ((0,), (2, 0), (2, 0, 3)), ids=str)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_no_classes(backend, loss, kind, shape):
    """Probabilities of nothing cost nothing; a label can only be ignored or masked."""
    positions = cases.positions(shape)
    target = torch.zeros(shape)
    if kind == INDEX:
        target = torch.full(positions, -100)
    for reduction in REDUCTIONS:
        problem = cases.Problem(loss, torch.zeros(shape), target, reduction=reduction)
        count = torch.Size(positions).numel() if kind == PROBABILITY else 0
        check_zero(problem, backend, count)
        check_zero(problem.with_(weight=torch.zeros(0)), backend, count)
        mask = terms.tensor_mask(torch.zeros(positions).bool())
        check_zero(problem.with_(mask=mask, target=0 * target), backend)


@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_no_weight(backend, loss, kind):
    """Selected, but every weight is 0: 0/0 under "weights", 0/n under the others."""
    table = [(r, n) for r in ("mean", "sample_mean") for n in cases.normalizers(r)[:5]]
    zeros = (dict(weight=torch.zeros(4)), dict(weight_map=terms.tensor_weight(torch.zeros(5))))
    for reduction, normalizer in backend.thin(table):
        for weights in zeros:
            others = dict(reduction=reduction, normalizer=normalizer, **weights)
            target = cases.make_target(kind, SHAPE, ignored=0.0)
            problem = cases.Problem(loss, torch.full(SHAPE, NAN), target, **others)
            check_zero(problem, backend, 15)


@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_normalizer_tensor_of_zero(backend, loss, kind):
    problem = cases.make_problem(loss, kind, SHAPE, normalizer=torch.tensor(0.0))
    result = evaluate(problem, backend)
    assert result.loss == 0 and (result.gradient == 0).all()


@pytest.mark.parametrize("normalizer", cases.normalizers("sample_mean"))
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_some_samples_are_empty(backend, loss, kind, normalizer):
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    weight_map = torch.ones(3, 5)
    weight_map[2] = 0  # selected, denominator 0 under "weights": counts as 0
    others = dict(reduction="sample_mean", normalizer=normalizer)
    others |= dict(mask=terms.tensor_mask(mask), weight_map=terms.tensor_weight(weight_map))
    problem = cases.make_problem(loss, kind, SHAPE, **others)
    result = evaluate(problem, backend)
    assert (result.gradient[1:] == 0).all() and (result.gradient[0] != 0).any()
    assert_matches(result, exact(problem), problem)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_every_gradient_is_zero(backend, loss, kind, reduction):
    """Also those of weights, mask, map and probabilities, which go through the denominator."""
    tensors = {
        "input": torch.full((2, 3), 0.5),
        "weight": torch.ones(3),
        "weight_map": torch.ones(2),
        "mask": torch.zeros(2),
    }
    target = torch.tensor([0, 2])
    if kind == PROBABILITY:
        tensors["target"] = torch.full((2, 3), 0.25)
    tensors = {key: backend.place(value).requires_grad_() for key, value in tensors.items()}
    arguments = {"target": backend.place(target)} | tensors
    value = getattr(backend.functions, loss.name)(**arguments, reduction=reduction, **loss.options)
    value.sum().backward()
    assert (value == 0).all()
    for name, tensor in tensors.items():
        assert tensor.grad.isfinite().all(), name
        if name != "mask":
            assert (tensor.grad == 0).all(), name


def test_an_infinite_denominator_is_not_an_empty_one(backend):
    input, target = backend.place(torch.randn(2, 3)), backend.place(torch.tensor([0, 1]))
    infinite = backend.place(torch.tensor([1.0, float("inf"), 1.0]))
    loss = backend.functions.cross_entropy(input, target, weight=infinite)
    assert loss.isnan()
    assert backend.functions.cross_entropy(input, target, mask=infinite[:2]).isnan()


def test_training_on_nothing(backend):
    """An empty mean stays in the graph, so that a step over ignored labels alone works."""
    x = backend.place(torch.ones(2, 3)).requires_grad_()
    y = backend.place(torch.full((2,), 255))
    loss = backend.functions.cross_entropy(x, y, mask=fl.target != 255)
    assert loss.requires_grad
    loss.backward()
    assert (x.grad == 0).all()
