"""How a result of the class family is judged: the reference in float64, with the tolerances of the
contract (section 9).

expected = exact(problem)
got = evaluate(problem, backend)
assert_matches(got, expected, problem)
"""

import torch

import fusedloss as fl
from fusedloss import reference
from fusedloss._labels import with_channels
from fusedloss.reference._terms import region_value
from fusedloss.regions import as_region
from tests.class_cases import Problem, column
from tests.oracle import Result, assert_rounded, assert_same_special, assert_within
from tests.oracle import evaluate as evaluate  # is the same for every family

_SIXTEEN = (torch.float16, torch.bfloat16)


def dense_mask(problem: Problem):
    """The mask's values in float64 (or bool), one per position; from the operands as they are."""
    if problem.mask is None:
        return None
    view, target = with_channels(problem.input, problem.target)
    value = region_value(as_region(problem.mask.expression), view, target, torch.float64, True)
    return value.expand(column(view.shape)).reshape(column(problem.input.shape))


def dense_map(problem: Problem):
    """The weight map's values in float64, one per position."""
    if problem.weight_map is None:
        return None
    source, target = problem.weight_map.expression, problem.target
    if isinstance(source, torch.Tensor):
        source = source.double()
    if problem.target_kind == "probability":
        term = problem.weight_map
        view, goal = with_channels(problem.input.double(), target.double())
        value = torch.from_numpy(term.value(view.numpy(), goal.numpy()) * 1.0)
        return value.expand(column(view.shape)).reshape(column(problem.input.shape))
    return fl.weight_map(source, problem.input.double(), target)


def active(problem: Problem) -> torch.Tensor:
    """Where a position takes part, with a channel dim of size 1."""
    result = torch.ones(column(problem.input.shape), dtype=torch.bool)
    for values in (dense_mask(problem), dense_map(problem)):
        if values is not None:
            result = result & (values != 0)
    if problem.target_kind == "index":
        result = result & (problem.target != problem.ignore_index).reshape(result.shape)
    return result


def exact(problem: Problem) -> Result:
    """The reference on float64 copies of the (rounded) arguments."""
    input = problem.input.detach().double().requires_grad_()
    arguments = problem.arguments() | {
        "mask": dense_mask(problem),
        "weight_map": dense_map(problem),
        "weight": _double(problem.weight),
        "normalizer": _double(problem.normalizer),
    }
    function = getattr(reference, problem.loss.name)
    loss, stats = function(input, _double(problem.target), **arguments, return_stats=True)
    grad_output = problem.grad_output
    dtype = problem.input.dtype
    grad_output = torch.ones_like(loss) if grad_output is None else grad_output.to(dtype).double()
    (gradient,) = torch.autograd.grad(loss, input, grad_output)
    return Result(loss.detach(), gradient, stats)


def _double(value):
    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if floating else value


def is_wide(problem: Problem) -> bool:
    """Whether the arithmetic is in float64."""
    operands = [problem.input, problem.target, problem.weight]
    for term in (problem.mask, problem.weight_map):
        operands += reference.factors(None if term is None else term.expression)
    return any(torch.is_tensor(t) and t.dtype is torch.float64 for t in operands)


def assert_matches(got: Result, expected: Result, problem: Problem) -> None:
    assert got.loss.dtype is problem.input.dtype
    assert got.loss.shape == expected.loss.shape
    largest = problem.input.double().abs().nan_to_num(0, 0, 0).amax().item()
    wide = is_wide(problem)
    relative, epsilon = (1e-12, 2.0**-52) if wide else (1e-6, 2.0**-23)
    wanted = expected.loss
    if got.loss.dtype in _SIXTEEN:
        assert_rounded(got.loss, wanted, "loss", relative * wanted.abs() + epsilon * largest)
    else:
        if got.loss.dtype is torch.float32:
            relative, epsilon = 1e-6, 2.0**-23
        assert_within(got.loss, wanted, relative * wanted.abs() + epsilon * largest, "loss")
    assert_gradient(got.gradient, expected.gradient, problem)
    assert_stats(got.stats, expected.stats, wide, largest)


def assert_gradient(got, expected, problem: Problem) -> None:
    assert got.dtype is problem.input.dtype and got.shape == problem.input.shape
    skipped = ~active(problem).expand(problem.input.shape)
    assert (got[skipped] == 0).all(), "a gradient where nothing takes part"
    if got.dtype in _SIXTEEN:
        slack = 2.0**-22 * expected.abs().nan_to_num(0, 0, 0).amax().item()
        return assert_rounded(got, expected, "gradient", slack)
    assert_same_special(got, expected, "gradient")
    finite = expected.isfinite()
    error = (got.double() - expected)[finite].norm()
    allowed = (1e-12 if got.dtype is torch.float64 else 1e-5) * expected[finite].norm()
    assert error <= allowed, f"gradient: error {error:.3g} > {allowed:.3g}"


def assert_stats(got, expected, wide: bool, largest: float) -> None:
    dtype = torch.float64 if wide else torch.float32
    relative, epsilon = (1e-12, 2.0**-52) if wide else (1e-6, 2.0**-23)
    assert got.selected.dtype is torch.int64 and got.selected == expected.selected
    for name in ("total", "normalizer"):
        value, right = getattr(got, name), getattr(expected, name)
        assert value.dtype is dtype and not value.requires_grad and value.shape == right.shape
        count = max(1, int(expected.selected))
        assert_within(value, right, relative * right.abs() + epsilon * largest * count, name)
    assert got[3:] == (None, None, None)
