"""What is masked out does not exist: whatever it holds changes no bit of any result."""

import pytest
import torch

import fusedloss as fl
from tests import cases
from tests.cases import FUNCTIONS, LOSSES, REDUCTIONS
from tests.oracle import active, dense_mask, evaluate

SHAPE = (3, 4, 5, 6)
JUNK = (float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 7.0, -1.0)


def _float_mask(problem, rng):
    return cases.make_weight(SHAPE, torch.float32, rng, 0.5)


# How elements are excluded: (problem, generator) -> changes to the problem.
EXCLUDED = {
    "bool": lambda p, rng: dict(mask=torch.rand(SHAPE, generator=rng) < 0.5),
    "positions": lambda p, rng: dict(mask=torch.rand((3, 5, 6), generator=rng) < 0.5),
    "uint8": lambda p, rng: dict(mask=torch.randint(0, 2, (3, 1, 5, 6), generator=rng).byte()),
    "float": lambda p, rng: dict(mask=_float_mask(p, rng)),
    "weight": lambda p, rng: dict(weight=cases.make_weight(SHAPE, torch.float32, rng, 0.5)),
    "weight-column": lambda p, rng: dict(weight=cases.make_weight((3, 1, 5, 6), rng=rng)),
    "mask-and-weight": lambda p, rng: dict(
        mask=_float_mask(p, rng), weight=cases.make_weight((5, 6), rng=rng, zeros=0.3)
    ),
    "and": lambda p, rng: dict(
        mask=(fl.target <= 2) & _float_mask(p, rng) & (torch.rand(5, 6, generator=rng) < 0.7)
    ),
    "or-not": lambda p, rng: dict(
        mask=~((torch.rand(5, 6, generator=rng) < 0.4) | fl.regions.as_region(_float_mask(p, rng)))
    ),
    "everything": lambda p, rng: dict(mask=torch.zeros(SHAPE, dtype=torch.bool)),
}


def junk_like(tensor, start=0):
    values = torch.tensor(JUNK)[(start + torch.arange(tensor.numel())) % len(JUNK)]
    return values.reshape(tensor.shape).to(tensor.dtype)


def clean_problem(loss, excluded, reduction, dtype=torch.float32):
    rng = cases.generator(str(loss), excluded, reduction)
    others = {}
    if loss.pos_weight:
        others["pos_weight"] = 0.5 + torch.rand(SHAPE, generator=rng)
    problem = cases.make_problem(loss, SHAPE, dtype, rng=rng, reduction=reduction, **others)
    problem = problem.with_(**EXCLUDED[excluded](problem, rng))
    grad_output = torch.randn(SHAPE, generator=rng) if reduction == "none" else torch.tensor(0.7)
    return problem.with_(grad_output=grad_output)


def poisoned(problem, start=0):
    """Junk in input, target, pos_weight and, where the mask excludes, in the weight."""
    skipped = ~active(problem)
    changes = {
        "input": torch.where(skipped, junk_like(problem.input, start), problem.input),
        "target": torch.where(skipped, junk_like(problem.target, start + 1), problem.target),
    }
    if "fl.target" in repr(problem.mask):  # the target decides, so it must stay excluded
        changes["target"] = problem.target
    if problem.pos_weight is not None:
        junk = junk_like(problem.pos_weight, start + 2)
        changes["pos_weight"] = torch.where(skipped, junk, problem.pos_weight)
    mask = dense_mask(problem)
    if mask is not None and problem.weight is not None:
        weight = problem.weight.expand(SHAPE)
        changes["weight"] = torch.where(mask != 0, weight, junk_like(weight, start + 3))
    if problem.reduction == "none":
        junk = junk_like(problem.grad_output, start)
        changes["grad_output"] = torch.where(skipped, junk, problem.grad_output)
    return problem.with_(**changes)


def assert_same_bits(got, wanted, skipped):
    assert torch.equal(got.loss, wanted.loss)
    assert torch.equal(got.gradient, wanted.gradient)
    assert (got.gradient[skipped] == 0).all()
    for value, right in zip(got.stats[:3], wanted.stats[:3], strict=True):
        assert torch.equal(value, right)


@pytest.mark.parametrize("excluded", EXCLUDED)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_excluded_values_do_not_exist(backend, loss, excluded):
    for reduction in backend.thin(REDUCTIONS, len(excluded)):
        problem = clean_problem(loss, excluded, reduction)
        if problem.weight is not None:  # the same strides, so the same blocks of sums
            problem = problem.with_(weight=problem.weight.expand(SHAPE).contiguous())
        wanted = evaluate(problem, backend)
        assert wanted.loss.isfinite().all()
        for start in backend.thin((0, 1, 4)):
            got = evaluate(poisoned(problem, start), backend)
            assert_same_bits(got, wanted, ~active(problem))


@pytest.mark.parametrize("dtype", cases.FLOATS[1:], ids=str)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_excluded_values_of_other_dtypes(backend, loss, dtype):
    for excluded in backend.thin(("positions", "mask-and-weight"), len(loss.name)):
        problem = clean_problem(loss, excluded, "mean", dtype)
        if problem.weight is not None:
            problem = problem.with_(weight=problem.weight.expand(SHAPE).contiguous())
        wanted = evaluate(problem, backend)
        assert_same_bits(evaluate(poisoned(problem), backend), wanted, ~active(problem))


REGION_JUNK = (
    (fl.target.isfinite(), (float("nan"), float("inf"), -float("inf"))),
    (fl.target > 0, (float("nan"), -float("inf"), -3e38)),
    (fl.target == 1, (float("nan"), float("inf"))),
    (~(fl.target != 0.5), (float("nan"), float("inf"), 3e38)),
    ((fl.target >= 0) & (fl.target < 2), (float("nan"), float("inf"), -float("inf"))),
)


@pytest.mark.parametrize("region, junk", REGION_JUNK, ids=lambda value: repr(value))
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_target_excludes_itself(backend, loss, region, junk):
    for reduction in backend.thin(REDUCTIONS, len(junk)):
        rng = cases.generator(str(loss), repr(region))
        target = torch.tensor([0.5, 1.0, 0.25, 0.0])[torch.randint(0, 4, SHAPE, generator=rng)]
        skipped = torch.rand(SHAPE, generator=rng) < 0.5
        values = torch.tensor(junk)[torch.arange(target.numel()) % len(junk)].reshape(SHAPE)
        input = cases.make_input(loss, SHAPE, rng=rng)
        problem = cases.Problem(loss, input, target, mask=region, reduction=reduction)
        clean = problem.with_(mask=(dense_mask(problem) != 0) & ~skipped)
        got = evaluate(problem.with_(target=torch.where(skipped, values, target)), backend)
        wanted = evaluate(clean, backend)
        torch.testing.assert_close(got.loss, wanted.loss, rtol=1e-6, atol=0)
        assert torch.equal(got.gradient, wanted.gradient)
        assert got.stats.selected == wanted.stats.selected > 0


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradients_of_everything_are_zero_there(backend, loss, reduction):
    """Weights, masks, targets and pos_weights that require grad, junk beside them."""
    problem = clean_problem(loss, "mask-and-weight", reduction)
    problem = problem.with_(weight=problem.weight.expand(SHAPE).contiguous())
    skipped = ~active(problem)
    wanted = _all_gradients(problem, backend)
    got = _all_gradients(poisoned(problem), backend)
    for name, gradient in got.items():
        excluded = ~(problem.mask != 0) if name in ("weight", "mask") else skipped
        assert (gradient[excluded] == 0).all(), name
        assert torch.equal(gradient, wanted[name]), name


def _all_gradients(problem, backend):
    """Gradients of every floating tensor of the call, on the CPU."""
    names = ["input", "target", "weight", "mask"]
    names += ["pos_weight"] if problem.pos_weight is not None else []
    given = {"input": problem.input, "target": problem.target} | problem.arguments()
    placed = {name: backend.place(given[name]).detach().requires_grad_() for name in names}
    function = getattr(backend.functions, problem.loss.name)
    loss = function(**(given | placed | {"normalizer": None}))
    grad_output = backend.place(problem.grad_output).to(loss.dtype)
    gradients = torch.autograd.grad(loss, [placed[name] for name in names], grad_output)
    return {name: gradient.cpu() for name, gradient in zip(names, gradients, strict=True)}


@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_weight_zero_still_counts(backend, loss):
    """A weight of 0 hides an element but counts in selected, positions and all, as in torch."""
    input = cases.make_input(loss, (2, 3, 4))
    weight = torch.ones(2, 3, 4)
    weight[:, :, 2:] = 0
    input[:, :, 2:] = float("nan")
    target = torch.where(weight == 0, float("nan"), 0.5)
    for normalizer, count in (("selected", 24), ("positions", 8), ("all", 24), ("weights", 12)):
        problem = cases.Problem(loss, input, target, weight=weight, normalizer=normalizer)
        result = evaluate(problem, backend)
        assert result.stats.selected == 24
        assert result.stats.normalizer == count
        torch.testing.assert_close(result.loss, result.stats.total / count)


def test_excluded_probability_is_no_error(backend):
    input = backend.place(torch.tensor([0.5, 2.0, -1.0, float("nan")]))
    mask = backend.place(torch.tensor([True, False, False, False]))
    loss = backend.functions.binary_cross_entropy(input, torch.ones_like(input), mask=mask)
    torch.testing.assert_close(loss.cpu(), torch.tensor(0.5).log().neg())


@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
@pytest.mark.parametrize("value", (float("nan"), float("inf")))
def test_nan_that_takes_part_propagates(backend, loss, value):
    if loss.kind == "probability" and value == float("inf"):
        return  # an error on the CPU, tests/test_errors.py
    problem = cases.make_problem(loss, SHAPE, mask=fl.target >= -9, reduction="sum")
    input = problem.input.clone()
    input[1, 2, 3, 4] = value
    target = problem.target.clone()
    target[1, 2, 3, 4] = 0
    result = evaluate(problem.with_(input=input, target=target), backend)
    assert not result.loss.isfinite()
    clean = evaluate(problem, backend)
    others = torch.ones(SHAPE, dtype=torch.bool)
    others[1, 2, 3, 4] = False
    assert torch.equal(result.gradient[others], clean.gradient[others])


# ---- a grad_output that is NaN or infinite -----------------------------------------------------

NAN, INF = float("nan"), float("inf")


def _with_zero_derivatives(loss, excluded, reduction, dtype):
    """A problem in which every second row has derivatives of exactly 0."""
    problem = clean_problem(loss, excluded, reduction, dtype)
    input = problem.input.clone()
    input[..., ::2, :] = problem.target[..., ::2, :]
    return problem.with_(input=input)


def _value_of(function, problem, backend):
    """The loss, and input, for a gradient."""
    problem = {"input": problem.input, "target": problem.target} | problem.arguments()
    placed = {name: backend.place(value) for name, value in problem.items()}
    input = placed["input"].requires_grad_()
    return function(**placed), input


EXCLUDED_BY = ("positions", "weight", "mask-and-weight", "and")
WITH_ZEROS = ("l1_loss", "mse_loss", "huber_loss", "binary_cross_entropy")


@pytest.mark.parametrize("excluded", EXCLUDED_BY)
@pytest.mark.parametrize("name", WITH_ZEROS)
def test_grad_output_that_is_not_finite(backend, name, excluded):
    """0 * NaN and 0 * inf are NaN at an element that takes part, as in torch; others stay 0."""
    function = getattr(backend.functions, name)
    for dtype in backend.thin(cases.FLOATS):
        for reduction in backend.thin(("mean", "sum", "sample_mean"), len(excluded)):
            assert_scaled(backend, function, cases.FUNCTION[name], excluded, reduction, dtype)


@pytest.mark.parametrize("excluded", EXCLUDED_BY)
@pytest.mark.parametrize("name", WITH_ZEROS)
def test_grad_output_that_is_not_finite_in_compiled_code(real_backend, name, excluded):
    torch._dynamo.reset()
    function = getattr(real_backend.functions, name)
    function = torch.compile(function, fullgraph=True, backend="aot_eager")
    loss = cases.FUNCTION[name]
    assert_scaled(real_backend, function, loss, excluded, "mean", torch.float32)


def assert_scaled(backend, function, loss, excluded, reduction, dtype):
    problem = _with_zero_derivatives(loss, excluded, reduction, dtype)
    value, input = _value_of(function, problem, backend)
    (unit,) = torch.autograd.grad(value, input, retain_graph=True)
    taking_part = backend.place(active(problem))
    assert unit[taking_part].eq(0).any() and unit[taking_part].ne(0).any()
    wide = dtype in (torch.float32, torch.float64)  # others may round a derivative to 0
    for factor in (NAN, INF, -INF, -2.0, 0.0) if wide else (NAN, -2.0):
        grad_output = torch.full_like(value, factor)
        (got,) = torch.autograd.grad(value, input, grad_output, retain_graph=True)
        wanted = torch.where(taking_part, unit * factor, 0.0)
        torch.testing.assert_close(got, wanted, rtol=1e-2, atol=1e-6, equal_nan=True)
        assert (got[~taking_part] == 0).all()


@pytest.mark.parametrize("normalizer", (0.0, 2.0))
def test_an_empty_mean_has_zero_gradients_whatever_the_grad_output(backend, normalizer):
    input = backend.place(torch.zeros(4)).requires_grad_()
    divisor = backend.place(torch.tensor(normalizer))
    value = backend.functions.l1_loss(input, backend.place(torch.zeros(4)), normalizer=divisor)
    (gradient,) = torch.autograd.grad(value, input, torch.full_like(value, NAN))
    assert gradient.eq(0).all() if normalizer == 0 else gradient.isnan().all()


@pytest.mark.parametrize("factor", (NAN, INF))
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("excluded", EXCLUDED)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_grad_output_that_is_not_finite_through_the_reference(loss, excluded, reduction, factor):
    """By every tensor of the call: what is hidden stays 0, whichever branch it stands behind."""
    problem = clean_problem(loss, excluded, reduction)
    given = {"input": problem.input, "target": problem.target} | problem.arguments()
    tensors = {
        name: given[name].clone().requires_grad_()
        for name in ("input", "target", "weight", "mask")
        if torch.is_tensor(given[name]) and given[name].is_floating_point()
    }
    value = getattr(fl.reference, loss.name)(**(given | tensors))
    grad_output = torch.full_like(value, factor)
    gradients = torch.autograd.grad(value, list(tensors.values()), grad_output)
    taking_part = active(problem)
    for (name, tensor), gradient in zip(tensors.items(), gradients, strict=True):
        hidden = ~taking_part if name in ("input", "target") else tensor == 0
        assert (gradient[hidden] == 0).all(), name
    assert not gradients[0][taking_part].isfinite().any()
