"""Nothing selected, nothing at all: a loss of 0 with zero gradients, never NaN."""

import pytest
import torch

import fusedloss as fl
from tests import cases
from tests.cases import FLOATS, FUNCTIONS, REDUCTIONS
from tests.oracle import assert_matches, evaluate, exact

SHAPE = (3, 4, 5)
# Ways to select nothing: shape -> changes to a problem.
NOTHING = {
    "bool": lambda shape: dict(mask=torch.zeros(shape, dtype=torch.bool)),
    "positions": lambda shape: dict(mask=torch.zeros(cases.positions(shape), dtype=torch.uint8)),
    "float": lambda shape: dict(mask=torch.zeros(shape)),
    "scalar": lambda shape: dict(mask=torch.tensor(False)),
    "target": lambda shape: dict(mask=fl.target > 1e30),
    "nested": lambda shape: dict(mask=fl.target.isfinite() & ~(fl.target < 1e30)),
}
EMPTY_SHAPES = ((0,), (0, 3), (3, 0), (0, 3, 4), (2, 3, 0, 4), (2, 0, 3, 4), (0, 0), (0, 1, 2, 3))


def check_zero(problem, backend):
    result = evaluate(problem, backend)
    assert (result.loss == 0).all()
    assert (result.gradient == 0).all()
    assert result.gradient.shape == problem.input.shape
    assert result.stats.selected == 0
    assert (result.stats.total == 0).all()
    assert_matches(result, exact(problem), problem)


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_nothing_selected(backend, loss, nothing):
    table = [(r, n) for r in REDUCTIONS for n in cases.normalizers(r)]
    for reduction, normalizer in backend.thin(table, len(nothing)):
        if normalizer == "tensor":
            normalizer = torch.tensor(3.0)
        others = dict(reduction=reduction, normalizer=normalizer, **NOTHING[nothing](SHAPE))
        problem = cases.make_problem(loss, SHAPE, **others)
        bad = torch.full(SHAPE, float("nan"))
        problem = problem.with_(input=bad)
        check_zero(problem, backend)


@pytest.mark.parametrize("shape", EMPTY_SHAPES, ids=str)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_no_elements(backend, loss, shape):
    for reduction in REDUCTIONS:
        for normalizer in backend.thin(cases.normalizers(reduction), len(shape)):
            if normalizer == "tensor":
                normalizer = torch.tensor(3.0)
            problem = cases.make_problem(loss, shape, reduction=reduction, normalizer=normalizer)
            check_zero(problem, backend)
            check_zero(problem.with_(mask=fl.target > 0), backend)
            check_zero(problem.with_(mask=torch.ones(cases.positions(shape))), backend)
            check_zero(problem.with_(weight=torch.ones(shape)), backend)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_zero_weights(backend, loss, dtype):
    """Selected, but of no weight: 0/0 under "weights", 0/n under the others."""
    table = [(r, n) for r in ("mean", "sample_mean") for n in cases.normalizers(r)[:5]]
    for reduction, normalizer in backend.thin(table):
        others = dict(reduction=reduction, normalizer=normalizer, weight=torch.zeros(SHAPE))
        problem = cases.make_problem(loss, SHAPE, dtype, **others)
        result = evaluate(problem, backend)
        assert result.loss == 0 and (result.gradient == 0).all()
        assert result.stats.selected == 60
        assert_matches(result, exact(problem), problem)


@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_normalizer_tensor_of_zero(backend, loss):
    problem = cases.make_problem(loss, SHAPE, normalizer=torch.tensor(0.0))
    result = evaluate(problem, backend)
    assert result.loss == 0 and (result.gradient == 0).all()


@pytest.mark.parametrize("normalizer", cases.normalizers("sample_mean"))
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_some_samples_are_empty(backend, loss, normalizer):
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    weight = torch.ones(SHAPE)
    weight[2] = 0  # selected, denominator 0 under "weights": counts as 0
    others = dict(reduction="sample_mean", normalizer=normalizer, mask=mask, weight=weight)
    problem = cases.make_problem(loss, SHAPE, **others)
    result = evaluate(problem, backend)
    assert (result.gradient[1:] == 0).all() and (result.gradient[0] != 0).any()
    assert_matches(result, exact(problem), problem)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_every_gradient_is_zero(backend, loss, reduction):
    """Also those of target, weight, mask and pos_weight, which go through the denominator."""
    shape = (2, 3)
    tensors = {
        "input": torch.full(shape, 0.5),
        "target": torch.full(shape, 0.25),
        "weight": torch.ones(shape),
        "mask": torch.zeros(shape),
    }
    if loss.name.endswith("with_logits"):
        tensors["pos_weight"] = torch.ones(3)
    tensors = {key: backend.place(value).requires_grad_() for key, value in tensors.items()}
    value = getattr(backend.functions, loss.name)(**tensors, reduction=reduction, **loss.options)
    value.sum().backward()
    assert (value == 0).all()
    for name, tensor in tensors.items():
        if name != "mask" or reduction == "none":
            assert (tensor.grad == 0).all(), name
        assert tensor.grad.isfinite().all(), name


def test_detached_from_nothing(backend):
    """An empty mean stays in the graph, so that a training step over nothing works."""
    x = backend.place(torch.ones(2, 3)).requires_grad_()
    loss = backend.functions.mse_loss(x, torch.zeros_like(x), mask=torch.zeros_like(x))
    assert loss.requires_grad
    loss.backward()
    assert (x.grad == 0).all()


@pytest.mark.parametrize("shape", ((), (1,), (1, 1, 1, 1)), ids=str)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_one_element(backend, loss, shape):
    for reduction in REDUCTIONS:
        problem = cases.make_problem(loss, shape, reduction=reduction)
        assert_matches(evaluate(problem, backend), exact(problem), problem)
        check_zero(problem.with_(mask=torch.zeros(shape, dtype=torch.bool)), backend)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", ((0, 3, 4, 5), (2, 3, 0, 5), (2, 1, 4, 5), (0, 0, 4)))
def test_the_variance_of_nothing_warns_nobody(shape):
    input = torch.zeros(shape)
    assert fl.reference.mse_loss(input, input, mask=fl.input.var() > 0.1) == 0
