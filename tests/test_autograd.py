"""Derivatives of any order, of every argument; repeated and interrupted backward passes."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import fusedloss as fl
from fusedloss import functional as F
from tests import cases
from tests.cases import FLOATS, FUNCTION, FUNCTIONS, LOSSES, REDUCTIONS

SHAPE = (2, 2, 3)
REGIONS = {
    "none": None,
    "bool": torch.tensor([True, False, True, True, True, False, True] * 2)[:12].reshape(SHAPE),
    "positions": torch.tensor([[True, False, True], [True, True, False]]),
    "float": torch.linspace(0, 1.5, 12, dtype=torch.float64).reshape(SHAPE),
    "target": fl.target > 0.2,
    "nested": ~(fl.target > 0.7) & torch.tensor([[[0.5, 0.0, 2.0]]]) | (fl.target.isfinite()),
}


def smooth(loss, shape=SHAPE, dtype=torch.float64):
    """Input and target away from every kink and threshold, so that differences are derivatives."""
    count = torch.Size(shape).numel()
    if loss.kind == "real":
        target = torch.tensor([-0.9, -0.35, 0.1, 0.5, 0.9])[torch.arange(count) % 5]
        offsets = torch.tensor([0.15, -0.6, 2.5, -0.2, 0.7, -1.7, 0.12])
        input = target + offsets[torch.arange(count) % 7]
    else:
        target = torch.tensor([0.0, 0.3, 1.0, 0.8, 0.6])[torch.arange(count) % 5]
        input = torch.linspace(-3, 3, count)
        input = input.sigmoid() if loss.kind == "probability" else input
    return (input.to(dtype).reshape(shape).requires_grad_(), target.to(dtype).reshape(shape))


def options_of(loss):
    options = dict(loss.options)
    if loss.pos_weight:
        options["pos_weight"] = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    return options


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_first_and_second_derivative(loss, region):
    input, target = smooth(loss)
    weight = torch.linspace(0.5, 1.5, 3, dtype=torch.float64)
    options = dict(options_of(loss), mask=REGIONS[region], weight=weight)
    for reduction in REDUCTIONS:

        def function(x, options=options, reduction=reduction):
            return getattr(F, loss.name)(x, target, reduction=reduction, **options)

        assert gradcheck(function, (input,))
        assert gradgradcheck(function, (input,))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_derivatives_of_every_argument(loss, reduction):
    """target, weight, mask, pos_weight and a normalizer tensor, the default normalizer included."""
    input, target = smooth(loss)
    arguments = {
        "input": input,
        "target": target.clone(),
        "weight": torch.tensor([0.5, 1.0, 1.75], dtype=torch.float64),
        "mask": torch.tensor([[0.3], [1.2]], dtype=torch.float64).expand(2, 3).clone(),
    }
    arguments |= {k: v for k, v in options_of(loss).items() if isinstance(v, torch.Tensor)}
    if reduction == "mean":
        arguments["normalizer"] = torch.tensor(2.5, dtype=torch.float64)
    arguments = {name: value.detach().requires_grad_() for name, value in arguments.items()}

    def function(*values, **others):
        call = dict(zip(arguments, values, strict=True)) | loss.options | others
        return getattr(F, loss.name)(reduction=reduction, **call)

    values = tuple(arguments.values())
    assert gradcheck(function, values)
    assert gradgradcheck(function, values)
    if reduction == "sample_mean" or reduction == "mean":
        for normalizer in cases.normalizers("sample_mean"):
            assert gradcheck(lambda *v, n=normalizer: function(*v, normalizer=n), values)


def test_gradient_of_tied_positions_goes_to_the_first():
    x = torch.zeros(1, 3, 2, requires_grad=True)
    mask = torch.ones(1, 3, 2, requires_grad=True)
    F.l1_loss(x + 1, torch.zeros(1, 3, 2), mask=mask, normalizer="positions").backward()
    # l = 6 / 2: every mask value adds 1/2 through the sum, the first takes 6/4 off through the 2
    wanted = torch.full((1, 3, 2), 0.5)
    wanted[:, 0] -= 1.5
    torch.testing.assert_close(mask.grad, wanted)


@pytest.mark.parametrize("dtypes", list(itertools.product(FLOATS, FLOATS[:3])), ids=str)
@pytest.mark.parametrize("name", ("mse_loss", "binary_cross_entropy_with_logits"))
def test_gradients_have_the_dtype_of_their_tensor(name, dtypes):
    loss = FUNCTION[name]
    input, target = (
        t.detach().to(d).requires_grad_() for t, d in zip(smooth(loss), dtypes, strict=True)
    )
    weight = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    mask = torch.ones(2, 3, dtype=torch.float16, requires_grad=True)
    tensors = (input, target, weight, mask)
    value = getattr(F, loss.name)(input, target, weight=weight, mask=mask)
    assert value.dtype == input.dtype
    for tensor, gradient in zip(tensors, torch.autograd.grad(value, tensors), strict=True):
        assert gradient.dtype == tensor.dtype and gradient.shape == tensor.shape
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_repeated_backward(backend, loss, reduction, dtype):
    input, target = smooth(loss, (2, 3, 40), dtype)
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
    value.backward(grad_output)  # accumulates in place, into nobody else's memory
    assert torch.equal(first, kept) and torch.equal(second, third)
    torch.testing.assert_close(input.grad, second * 2)


@pytest.mark.parametrize("reduction", ("mean", "none"))
def test_accumulated_gradients_belong_to_the_parameter(backend, reduction):
    """.grad may be the very buffer that the forward pass wrote: nothing may write to it again."""
    x = backend.place(torch.randn(5, 7)).requires_grad_()
    target = torch.zeros_like(x)
    total = backend.functions.mse_loss(x, target, reduction=reduction).sum()
    total.backward(retain_graph=True)
    stolen = x.grad
    x.grad = None
    before = stolen.clone()
    (total * 3).backward()
    assert torch.equal(stolen, before)
    torch.testing.assert_close(x.grad, before * 3)
    x.grad = None
    for _ in range(2):
        backend.functions.mse_loss(x, target, reduction=reduction).sum().backward()
    torch.testing.assert_close(x.grad, before * 2)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_arguments_are_never_written_to(backend, reduction, dtype):
    for loss in FUNCTIONS:
        problem = cases.make_problem(loss, (3, 4, 50), dtype, reduction=reduction)
        tensors = [problem.input, problem.target, torch.rand(3, 50), torch.rand(50)]
        tensors = [backend.place(tensor) for tensor in tensors]
        copies = [tensor.clone() for tensor in tensors]
        versions = [tensor._version for tensor in tensors]
        input = tensors[0].detach().requires_grad_()
        region = (fl.target < 0.5) | tensors[2]
        function = getattr(backend.functions, loss.name)
        value = function(input, tensors[1], mask=region, weight=tensors[3], reduction=reduction)
        kept = value.detach().clone()
        for factor in (1.0, 3.0):
            value.backward(torch.full_like(value, factor), retain_graph=True)
        for tensor, copy, version in zip(tensors, copies, versions, strict=True):
            assert torch.equal(tensor, copy) and tensor._version == version
        assert torch.equal(value.detach(), kept)


@pytest.mark.parametrize("grad_output", (float("nan"), float("inf"), -3e38, 1e-38, 0.0, -1.0))
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_any_grad_output(backend, loss, reduction, grad_output):
    """It reaches every element that takes part, and none that does not."""
    input, target = smooth(loss, (2, 3, 4), torch.float32)
    input = backend.place(input.detach()).requires_grad_()
    mask = backend.place(torch.tensor([True, False, True, False]))
    value = getattr(backend.functions, loss.name)(
        input, backend.place(target), mask=mask, reduction=reduction, **loss.options
    )
    one, seed = torch.ones_like(value), torch.full_like(value, grad_output)
    (gradient,) = torch.autograd.grad(value, input, seed, retain_graph=True)
    (again,) = torch.autograd.grad(value, input, seed, retain_graph=True)
    (slope,) = torch.autograd.grad(value, input, one)
    wanted = torch.where(mask, slope * grad_output, 0.0)
    torch.testing.assert_close(gradient, wanted, equal_nan=True, rtol=2e-6, atol=1e-44)
    torch.testing.assert_close(again, wanted, equal_nan=True, rtol=2e-6, atol=1e-44)


@pytest.mark.parametrize("dtype", FLOATS[:3], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_create_graph_gives_the_same_gradient(reduction, dtype):
    for loss in LOSSES:
        input, target = smooth(loss, (3, 2, 20), dtype)
        input = input.detach().requires_grad_()
        options = dict(loss.options, mask=fl.target > 0.2, reduction=reduction)
        value = getattr(F, loss.name)(input, target, **options)
        ones = torch.ones_like(value)
        (plain,) = torch.autograd.grad(value, input, ones, retain_graph=True)
        (graphed,) = torch.autograd.grad(value, input, ones, create_graph=True)
        tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 2e-3}[dtype]
        error = (plain - graphed.detach()).double().norm()
        assert error <= tolerance * plain.double().norm(), str(loss)
        assert graphed.dtype == dtype


def test_in_place_change_after_forward():
    """Recomputing from changed inputs is refused; a gradient that was already written is right."""
    x = torch.randn(4, 5)
    for dtype, reduction in itertools.product((torch.float16, torch.float32), ("mean", "none")):
        input = x.to(dtype).requires_grad_()
        target = torch.zeros(4, 5, dtype=dtype)
        value = F.mse_loss(input, target, reduction=reduction)
        (wanted,) = torch.autograd.grad(
            F.mse_loss(input, target.clone(), reduction=reduction).sum(), input
        )
        target.add_(1)
        try:
            (gradient,) = torch.autograd.grad(value.sum(), input)
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error)
        else:
            assert torch.equal(gradient, wanted)


def test_batched_grad_outputs():
    """torch.autograd.functional with vectorize=True: the backward pass under vmap."""
    for reduction in REDUCTIONS:
        for loss in FUNCTIONS:
            input, target = smooth(loss, (2, 3))
            options = dict(loss.options, mask=fl.target > 0.2, reduction=reduction)

            def function(x, loss=loss, target=target, options=options):
                return getattr(F, loss.name)(x, target, **options)

            point = input.detach()
            for derive in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):

                def scalar(x, f=function):
                    return f(x).sum()

                f = function if derive is torch.autograd.functional.jacobian else scalar
                torch.testing.assert_close(
                    derive(f, point, vectorize=True), derive(f, point, vectorize=False)
                )


@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_second_derivative_of_a_loss_under_autocast(loss):
    """The loss is float32 there, and so is a grad_output that float16 cannot hold."""
    input, target = smooth(loss, dtype=torch.float16)
    input = input.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = getattr(F, loss.name)(input, target, normalizer=1e7, **loss.options)
    scale = torch.tensor(1e6)
    (plain,) = torch.autograd.grad(value, input, scale, retain_graph=True)
    (graphed,) = torch.autograd.grad(value, input, scale, create_graph=True)
    assert graphed.requires_grad and (plain != 0).any()
    torch.testing.assert_close(graphed.detach(), plain)


def test_stats_are_detached_and_no_graph_is_kept():
    x = torch.randn(3, 4, requires_grad=True)
    loss, stats = F.mse_loss(x, torch.zeros(3, 4), return_stats=True)
    assert not any(value.requires_grad for value in stats[:3])
    with torch.no_grad():
        assert not F.mse_loss(x, torch.zeros(3, 4)).requires_grad
    with torch.inference_mode():
        assert F.mse_loss(x, torch.zeros(3, 4)).is_inference()
    assert not F.mse_loss(x.detach(), torch.zeros(3, 4)).requires_grad


def test_two_losses_of_one_input():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.zeros_like(x).detach()
    (F.l1_loss(x, target) * 2 + F.mse_loss(x, target, mask=fl.target == 0)).backward()
    torch.testing.assert_close(x.grad, (2 * x.sign() + 2 * x).detach() / 12)
