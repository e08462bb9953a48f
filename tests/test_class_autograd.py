"""Derivatives of the class losses: by every argument, twice; repeated and batched backward passes;
gradients in the dtype of their tensor; arguments left alone."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import fusedloss as fl
from fusedloss import functional as F
from tests import class_cases as cases
from tests.class_cases import (
    FLOATS,
    FUNCTION,
    FUNCTION_TARGETS,
    PROBABILITY,
    REDUCTIONS,
    TARGETS,
)

SHAPE = (2, 3, 4)
MASKS = {
    "none": None,
    "bool": torch.tensor([[True, False, True, True], [True, True, True, False]]),
    "float": torch.tensor([[0.5, 1.5, 0.0, 2.0]], dtype=torch.float64),
    "region": (fl.target != 1) | torch.tensor([0.0, 0.5, 2.0, 0.0], dtype=torch.float64),
}


def operands(loss, kind, shape=SHAPE, dtype=torch.float64):
    problem = cases.make_problem(loss, kind, shape, dtype, rng=cases.generator(str(loss), kind))
    target = problem.target
    return problem.input.clone().requires_grad_(), target


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=str)
def test_first_and_second_derivative(loss, kind, mask):
    input, target = operands(loss, kind)
    options = dict(loss.options, mask=MASKS[mask])
    options["weight"] = torch.tensor([0.5, 0.0, 1.5], dtype=torch.float64)
    options["weight_map"] = torch.tensor([0.5, 1.0, 1.5, 0.25], dtype=torch.float64)
    for reduction in REDUCTIONS:

        def function(x, reduction=reduction):
            return getattr(F, loss.name)(x, target, reduction=reduction, **options)

        assert gradcheck(function, (input,))
        assert gradgradcheck(function, (input,))


@pytest.mark.parametrize("shape", ((3,), (4, 3), (2, 3, 2, 2), (3, 1), (2, 5, 2, 1, 2)), ids=str)
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=str)
def test_derivatives_of_every_shape(loss, kind, shape):
    input, target = operands(loss, kind, shape)

    def function(x):
        return getattr(F, loss.name)(x, target, **loss.options)

    assert gradcheck(function, (input,))
    assert gradgradcheck(function, (input,))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=str)
def test_derivatives_of_every_argument(loss, kind, reduction):
    """Probabilities, class weights, mask, map and a normalizer tensor, the default normalizer and
    the others included."""
    input, target = operands(loss, kind)
    arguments = {
        "input": input,
        "weight": torch.tensor([0.5, 1.0, 1.75], dtype=torch.float64),
        "weight_map": torch.tensor([[0.5], [2.0]], dtype=torch.float64),
        "mask": torch.tensor([0.3, 1.2, 0.8, 1.0], dtype=torch.float64),
    }
    if kind == PROBABILITY:
        arguments["target"] = target
    if reduction == "mean":
        arguments["normalizer"] = torch.tensor(2.5, dtype=torch.float64)
    arguments = {name: value.detach().clone().requires_grad_() for name, value in arguments.items()}

    def function(*values, **others):
        call = {"target": target} | dict(zip(arguments, values, strict=True))
        return getattr(F, loss.name)(reduction=reduction, **(call | loss.options | others))

    values = tuple(arguments.values())
    assert gradcheck(function, values)
    assert gradgradcheck(function, values)
    if reduction in ("mean", "sample_mean"):
        for normalizer in cases.normalizers("sample_mean"):
            assert gradcheck(lambda *v, n=normalizer: function(*v, normalizer=n), values)


@pytest.mark.parametrize("dtypes", list(itertools.product(FLOATS, FLOATS[:3])), ids=str)
@pytest.mark.parametrize("name", ("cross_entropy", "softmax_focal_loss"))
def test_gradients_have_the_dtype_of_their_tensor(name, dtypes):
    input, target = operands(FUNCTION[name], PROBABILITY)
    input, target = (
        t.detach().to(d).requires_grad_() for t, d in zip((input, target), dtypes, strict=True)
    )
    weight = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    weight_map = torch.ones(2, 4, dtype=torch.float16, requires_grad=True)
    mask = torch.ones(4, dtype=torch.float32, requires_grad=True)
    tensors = (input, target, weight, weight_map, mask)
    value = getattr(F, name)(input, target, weight=weight, weight_map=weight_map, mask=mask)
    assert value.dtype == input.dtype
    for tensor, gradient in zip(tensors, torch.autograd.grad(value, tensors), strict=True):
        assert gradient.dtype == tensor.dtype and gradient.shape == tensor.shape
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_repeated_backward(backend, loss, kind, reduction, dtype):
    input, target = operands(loss, kind, (2, 3, 40), dtype)
    input = backend.place(input.detach()).requires_grad_()
    mask = backend.place(torch.arange(40) % 3 > 0)
    value = getattr(backend.functions, loss.name)(
        input, backend.place(target), mask=mask, reduction=reduction, **loss.options
    )
    grad_output = torch.full_like(value, 0.7)
    first, second, third = (
        torch.autograd.grad(value, input, grad_output, retain_graph=True)[0] for _ in range(3)
    )
    kept = first.clone()
    assert torch.equal(first, second) and torch.equal(second, third)
    value.backward(grad_output, retain_graph=True)
    value.backward(grad_output)
    assert torch.equal(first, kept) and torch.equal(second, third)
    torch.testing.assert_close(input.grad, second * 2)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_arguments_are_never_written_to(backend, loss, kind, dtype):
    input, target = operands(loss, kind, (3, 4, 50), dtype)
    tensors = [input.detach(), target, torch.rand(3, 50), torch.rand(50), torch.rand(4)]
    tensors = [backend.place(tensor) for tensor in tensors]
    copies = [tensor.clone() for tensor in tensors]
    versions = [tensor._version for tensor in tensors]
    leaf = tensors[0].detach().requires_grad_()
    function = getattr(backend.functions, loss.name)
    for reduction in REDUCTIONS:
        value = function(
            leaf,
            tensors[1],
            mask=(fl.target < 2) | tensors[2],
            weight_map=tensors[3],
            weight=tensors[4],
            reduction=reduction,
        )
        kept = value.detach().clone()
        for factor in (1.0, 3.0):
            value.backward(torch.full_like(value, factor), retain_graph=True)
        assert torch.equal(value.detach(), kept)
    for tensor, copy, version in zip(tensors, copies, versions, strict=True):
        assert torch.equal(tensor, copy) and tensor._version == version


@pytest.mark.parametrize("grad_output", (float("nan"), float("inf"), -3e38, 1e-38, 0.0, -1.0))
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_any_grad_output(backend, loss, kind, reduction, grad_output):
    """It reaches no position that does not take part."""
    input, target = operands(loss, kind, (2, 3, 4), torch.float32)
    input = backend.place(input.detach()).requires_grad_()
    mask = torch.tensor([True, False, True, False])
    value = getattr(backend.functions, loss.name)(
        input,
        backend.place(target),
        mask=backend.place(mask),
        reduction=reduction,
        **loss.options,
    )
    seed = torch.full_like(value, grad_output)
    (gradient,) = torch.autograd.grad(value, input, seed)
    assert (gradient.cpu()[:, :, ~mask] == 0).all()
    if grad_output in (0.0, -1.0):
        assert gradient.isfinite().all()


def test_create_graph_gives_the_same_gradient():
    for (loss, kind), reduction in itertools.product(TARGETS, REDUCTIONS):
        input, target = operands(loss, kind)
        value = getattr(F, loss.name)(input, target, reduction=reduction, **loss.options)
        ones = torch.ones_like(value)
        (plain,) = torch.autograd.grad(value, input, ones, retain_graph=True)
        (graphed,) = torch.autograd.grad(value, input, ones, create_graph=True)
        torch.testing.assert_close(plain, graphed.detach(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_second_derivative_of_zero_is_there(reduction):
    """As torch's, whose nll_loss is linear in its input, too."""
    input = torch.randn(3, 4, requires_grad=True)
    value = F.nll_loss(input, torch.tensor([0, 1, 2]), reduction=reduction).sum()
    (gradient,) = torch.autograd.grad(value, input, create_graph=True)
    assert gradient.any()
    (second,) = torch.autograd.grad(gradient.square().sum(), input)
    assert not second.any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_batched_grad_outputs(loss, kind, reduction):
    """torch.autograd.functional with vectorize=True: the backward pass under vmap."""
    input, target = operands(loss, kind, (2, 3))
    point = input.detach()

    def function(x):
        return getattr(F, loss.name)(x, target, reduction=reduction, **loss.options)

    def scalar(x):
        return function(x).sum()

    jacobian, hessian = torch.autograd.functional.jacobian, torch.autograd.functional.hessian
    for derive, f in ((jacobian, function), (hessian, scalar)):
        torch.testing.assert_close(
            derive(f, point, vectorize=True), derive(f, point, vectorize=False)
        )


def test_stats_are_detached_and_no_graph_is_kept():
    x, y = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 3])
    loss, stats = F.cross_entropy(x, y, weight=torch.rand(4), return_stats=True)
    assert loss.requires_grad and not any(value.requires_grad for value in stats[:3])
    with torch.no_grad():
        assert not F.cross_entropy(x, y).requires_grad
    with torch.inference_mode():
        assert F.cross_entropy(x, y).is_inference()
    assert not F.cross_entropy(x.detach(), y).requires_grad


def test_the_same_mask_as_term_and_as_factor():
    """A float mask inside a region multiplies and gets its gradient."""
    x = torch.randn(1, 3, 4, dtype=torch.float64)
    y = torch.tensor([[0, 1, 2, 1]])
    mask = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    region = (fl.target != 1) & mask
    loss = F.cross_entropy(x, y, mask=region, normalizer="all")
    (gradient,) = torch.autograd.grad(loss, mask)
    costs = torch.nn.functional.cross_entropy(x, y, reduction="none")[0]
    torch.testing.assert_close(gradient, costs / 4 * (y[0] != 1))
