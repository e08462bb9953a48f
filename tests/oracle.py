"""How a result is judged: the reference in float64, with the tolerances of the contract.

expected = exact(problem)
got = evaluate(problem, backend)
assert_matches(got, expected, problem)
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fusedloss import _kernel_arguments, reference
from fusedloss.reference._masking import region_value
from fusedloss.regions import as_region
from tests.backends import CPU
from tests.cases import Problem

_MANTISSA = {torch.float16: 10, torch.bfloat16: 7, torch.float32: 23, torch.float64: 52}
_SMALLEST = {torch.float16: -24, torch.bfloat16: -133, torch.float32: -149, torch.float64: -1074}
_SIXTEEN = (torch.float16, torch.bfloat16)


class Result(NamedTuple):
    loss: Tensor
    gradient: Tensor
    stats: object


def evaluate(problem: Problem, backend=CPU) -> Result:
    """Loss, gradient and statistics of `problem` as a user gets them, back on the CPU."""
    input = backend.place(problem.input.detach()).detach().requires_grad_()
    arguments = {name: backend.place(value) for name, value in problem.arguments().items()}
    function = getattr(backend.functions, problem.loss.name)
    target = backend.place(problem.target)
    loss, stats = function(input, target, **arguments, return_stats=True)
    grad_output = problem.grad_output
    if grad_output is not None:
        grad_output = backend.place(grad_output.to(loss.dtype))
    elif loss.ndim:
        grad_output = torch.ones_like(loss)
    (gradient,) = torch.autograd.grad(loss, input, grad_output)
    stats = stats._replace(**{k: v.cpu() for k, v in stats._asdict().items() if v is not None})
    return Result(loss.detach().cpu(), gradient.cpu(), stats)


def dense_mask(problem: Problem) -> Tensor | None:
    """The region's values in float64 (or bool), from the target as it is: rounding it to another
    dtype first would move it across a threshold."""
    region = as_region(problem.mask)
    if region is None:
        return None
    return region_value(region, problem.input, problem.target, torch.float64)


def active(problem: Problem) -> Tensor:
    """Where an element takes part: mask and weight are not 0; broadcast to the input's shape."""
    mask = dense_mask(problem)
    result = torch.ones(problem.input.shape, dtype=torch.bool)
    if mask is not None:
        result = result & (mask != 0)
    if problem.weight is not None:
        result = result & (full_weight(problem) != 0)
    return result


def full_weight(problem: Problem) -> Tensor:
    """The weight's values, with `input`'s dims; of a source in float64."""
    weight, ndim = problem.weight, problem.input.ndim
    if not isinstance(weight, Tensor):
        return reference.weight_map(weight, problem.input.double(), problem.target)
    if problem.loss.name.startswith("binary_cross_entropy"):
        weight = weight[(None,) * (ndim - weight.ndim)]
    elif weight.ndim == ndim - 1 and ndim >= 2:
        weight = weight.unsqueeze(1)
    return weight


def exact(problem: Problem) -> Result:
    """The same from the reference on float64 copies of the (rounded) arguments."""
    input = problem.input.detach().double().requires_grad_()
    arguments = {name: _double(value) for name, value in problem.arguments().items()}
    arguments["mask"] = dense_mask(problem)
    if problem.weight is not None and not isinstance(problem.weight, Tensor):
        arguments["weight"] = full_weight(problem)
    function = getattr(reference, problem.loss.name)
    loss, stats = function(input, _double(problem.target), **arguments, return_stats=True)
    dtype = problem.input.dtype
    grad_output = problem.grad_output
    grad_output = torch.ones_like(loss) if grad_output is None else grad_output.to(dtype).double()
    (gradient,) = torch.autograd.grad(loss, input, grad_output)
    return Result(loss.detach(), gradient, stats)


def _double(value):
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.double() if floating else value


def has_kernel(problem: Problem) -> bool:
    """Whether the kernels take the problem; the reference serves what they leave."""
    source = None if isinstance(problem.weight, Tensor) else problem.weight
    region = as_region(problem.mask)
    program = _kernel_arguments.compiled(region, source, problem.input, problem.target)
    return program is not None and problem.input.ndim <= 6


# ---- tolerances of section 9 -------------------------------------------------------------------


def assert_matches(got: Result, expected: Result, problem: Problem) -> None:
    dtype = problem.input.dtype
    assert got.loss.dtype == dtype
    assert_loss(got.loss, expected.loss, problem)
    assert_gradient(got.gradient, expected.gradient, problem)
    assert_stats(got.stats, expected.stats, problem)


def relative_tolerance(problem: Problem, dtype) -> float:
    if dtype is torch.float64:
        return 1e-12
    return 4e-6 if problem.loss.name == "sigmoid_focal_loss" else 1e-6


def assert_loss(got: Tensor, expected: Tensor, problem: Problem) -> None:
    assert got.shape == expected.shape
    if got.dtype in _SIXTEEN:
        return assert_rounded(got, expected, "loss")
    allowed = relative_tolerance(problem, got.dtype) * expected.abs()
    if problem.reduction == "none" and expected.numel():
        finite = expected[expected.isfinite()].abs()
        largest = finite.max() if finite.numel() else 0.0
        allowed = allowed + 2.0 ** (-52 if got.dtype is torch.float64 else -22) * largest
    assert_within(got, expected, allowed, "loss")


def assert_gradient(got: Tensor, expected: Tensor, problem: Problem) -> None:
    assert got.dtype == problem.input.dtype
    assert got.shape == problem.input.shape
    if got.numel() and has_kernel(problem):
        assert got.stride() == torch.empty_like(problem.input).stride(), "memory format"
    skipped = ~active(problem)
    assert (got[skipped] == 0).all(), "a gradient where nothing takes part"
    if got.dtype in _SIXTEEN:
        # The oracle rounds as well; where p is saturated, the contract allows more.
        slack = (2.0**-22 if problem.loss.kind == "logit" else 2.0**-50) * _largest(expected)
        return assert_rounded(got, expected, "gradient", slack)
    assert_same_special(got, expected, "gradient")
    finite = expected.isfinite()
    error = (got.double() - expected)[finite].norm()
    share = 1e-12 if got.dtype is torch.float64 else 1e-5
    allowed = share * expected[finite].norm()
    assert error <= allowed, f"gradient: error {error:.3g} > {allowed:.3g}"


def assert_stats(got, expected, problem: Problem) -> None:
    dtype = torch.float64 if got.total.dtype is torch.float64 else torch.float32
    tolerance = relative_tolerance(problem, dtype)
    assert got.selected.dtype is torch.int64
    assert got.selected == expected.selected, f"selected {got.selected} != {expected.selected}"
    for name in ("total", "normalizer"):
        value, right = getattr(got, name), getattr(expected, name)
        assert value.dtype is dtype and not value.requires_grad
        assert value.shape == right.shape, f"{name}: {value.shape} != {right.shape}"
        assert_within(value, right, tolerance * right.abs(), name)


def assert_within(got: Tensor, expected: Tensor, allowed: Tensor, what: str) -> None:
    assert_same_special(got, expected, what)
    error = (got.double() - expected).abs()
    wrong = (error > allowed) & expected.isfinite()
    if wrong.any():
        worst = torch.where(wrong, error - allowed, 0.0).argmax()
        got, expected = got.reshape(-1)[worst].item(), expected.reshape(-1)[worst].item()
        raise AssertionError(
            f"{what}: {got!r} != {expected!r} (error {abs(got - expected):.3g}, "
            f"{int(wrong.sum())} of {wrong.numel()} wrong)"
        )


def assert_same_special(got: Tensor, expected: Tensor, what: str) -> None:
    """NaN and infinities at the same places (as far as the dtype of `got` reaches)."""
    expected = expected.to(got.dtype)
    assert torch.equal(got.isnan(), expected.isnan()), f"{what}: NaN at other places"
    infinite = expected.isinf()
    assert torch.equal(got.isinf(), infinite), f"{what}: infinite at other places"
    assert torch.equal(got[infinite], expected[infinite]), f"{what}: the other infinity"


def assert_rounded(got, expected, what, slack=0.0) -> None:
    """16 bits: the exact result rounded to the dtype, give or take 1 ulp."""
    rounded = expected.to(got.dtype)
    allowed = ulp(expected, got.dtype) * 1.5 + slack
    largest = torch.finfo(got.dtype).max
    edge = expected.abs() >= largest * (1 - 2.0 ** -_MANTISSA[got.dtype])
    same = (got == rounded) | (got.isnan() & rounded.isnan()) | edge
    wrong = ~same & ~((got.double() - expected).abs() <= allowed)
    if wrong.any():
        worst = wrong.reshape(-1).nonzero()[0, 0]
        raise AssertionError(
            f"{what}: {got.reshape(-1)[worst].item()!r} is not "
            f"{expected.reshape(-1)[worst].item()!r} rounded to {got.dtype} "
            f"({int(wrong.sum())} of {wrong.numel()} wrong)"
        )


def ulp(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The distance between neighbours of `dtype` around `values`."""
    exponent = torch.frexp(values.abs()).exponent - 1 - _MANTISSA[dtype]
    exponent = torch.where(values == 0, _SMALLEST[dtype], exponent.clamp(min=_SMALLEST[dtype]))
    return torch.ldexp(torch.ones_like(values), exponent)


def _largest(values: Tensor) -> float:
    finite = values[values.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0
