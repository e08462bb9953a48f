"""Strides of every kind, the memory format of the gradient, and how masks and weights broadcast."""

import itertools

import pytest
import torch

import fusedloss as fl
from tests import cases
from tests.cases import FLOATS, FUNCTION, LAYOUTS
from tests.oracle import assert_loss, assert_matches, evaluate, exact

MSE, BCE = FUNCTION["mse_loss"], FUNCTION["binary_cross_entropy_with_logits"]
SHAPES = ((7,), (6, 5), (2, 3, 8), (2, 3, 4, 5), (2, 3, 4, 5, 3), (2, 40, 9, 30), (3, 5, 2500))


def check(problem, backend):
    assert_matches(evaluate(problem, backend), exact(problem), problem)


def assert_stride_of_empty_like(got, input):
    wanted = torch.empty_like(input.detach())
    assert got.stride() == wanted.stride(), f"{got.stride()} != {wanted.stride()}"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_input_and_target_layouts(backend, shape, layout):
    calls = list(itertools.product((MSE, BCE), ("mean", "none")))
    for row, other in backend.thin(enumerate(LAYOUTS), len(layout)):
        loss, reduction = calls[(row + len(shape) + len(layout)) % 4]
        rng = cases.generator(shape, layout, other)
        input = LAYOUTS[layout](cases.make_input(loss, shape, rng=rng))
        target = LAYOUTS[other](cases.make_target(loss, shape, rng=rng))
        mask = LAYOUTS[other](torch.rand(shape, generator=rng) < 0.6)
        weight = LAYOUTS[layout](cases.make_weight(shape, rng=rng))
        grad_output = torch.tensor(1.5)
        if reduction == "none":
            grad_output = LAYOUTS[other](torch.randn(shape, generator=rng))
        problem = cases.Problem(loss, input, target, reduction=reduction, grad_output=grad_output)
        check(problem, backend)
        check(problem.with_(mask=mask, weight=weight), backend)
        if reduction == "mean":
            check(problem.with_(mask=mask, normalizer="positions"), backend)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_every_dtype(backend, layout, dtype):
    shape = (2, 3, 16, 33)
    for other in backend.thin(LAYOUTS, len(layout)):
        rng = cases.generator(layout, other, dtype)
        input = LAYOUTS[layout](cases.make_input(BCE, shape, dtype, rng))
        target = LAYOUTS[other](cases.make_target(BCE, shape, dtype, rng))
        weight = LAYOUTS[other](cases.make_weight((2, 1, 16, 33), dtype, rng))
        mask = (fl.target >= 0) & LAYOUTS[layout](torch.rand(2, 16, 33, generator=rng) < 0.7)
        for reduction in ("sample_mean", "none"):
            others = dict(weight=weight, mask=mask, reduction=reduction)
            check(cases.Problem(BCE, input, target, **others), backend)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_memory_in_any_order(backend, order):
    """Every permutation of the dims in memory, with a mask of positions and weights per channel."""
    shape, back = (2, 3, 5, 7), sorted(range(4), key=order.__getitem__)
    rng = cases.generator(order)
    for step in backend.thin((1, 2), order[0]):
        wide = [shape[axis] * (step if axis == order[1] else 1) for axis in order]
        cut = tuple(slice(None, None, step if axis == order[1] else 1) for axis in order)
        input = torch.randn(wide, generator=rng)[cut].permute(back)
        assert input.shape == shape
        target = torch.randn(shape, generator=rng)
        others = dict(mask=torch.rand(2, 5, 7, generator=rng) < 0.6)
        others |= dict(weight=cases.make_weight((1, 3, 1, 1), rng=rng))
        for reduction, normalizer in (("mean", "positions"), ("sample_mean", None), ("none", None)):
            others |= dict(reduction=reduction, normalizer=normalizer)
            check(cases.Problem(MSE, input, target, **others), backend)


# Section 1: what a mask or weight of these dims means on (N, C, H, W) = (2, 3, 4, 5), written out.
BROADCASTS = {
    (2, 3, 4, 5): lambda m: m,
    (1, 3, 1, 1): lambda m: m,
    (2, 1, 4, 5): lambda m: m,
    (2, 1, 1, 1): lambda m: m,
    (1, 1, 1, 1): lambda m: m,
    (1, 1, 4, 1): lambda m: m,
    (2, 4, 5): lambda m: m[:, None],
    (1, 4, 5): lambda m: m[:, None],
    (2, 1, 1): lambda m: m[:, None],
    (2, 4, 1): lambda m: m[:, None],
    (4, 5): lambda m: m,
    (4, 1): lambda m: m,
    (1, 5): lambda m: m,
    (5,): lambda m: m,
    (1,): lambda m: m,
    (): lambda m: m,
}


@pytest.mark.parametrize("shape", BROADCASTS, ids=str)
@pytest.mark.parametrize("layout", ("contiguous", "channels_last", "transposed"))
def test_broadcast_shapes(backend, shape, layout):
    """A mask or weight gives the same as its dense form, for every option that reads it."""
    full = (2, 3, 4, 5)
    rng = cases.generator(shape)
    input = LAYOUTS[layout](cases.make_input(MSE, full, rng=rng))
    target = cases.make_target(MSE, full, rng=rng)
    short = cases.make_weight(shape, rng=rng, zeros=0.4)
    dense = BROADCASTS[shape](short).expand(full).contiguous()
    table = itertools.product(("mask", "bool-mask", "weight"), cases.normalizers("sample_mean"))
    for (kind, normalizer), reduction in backend.thin(
        itertools.product(table, ("mean", "sample_mean")), len(shape)
    ):
        values = (short, dense) if kind != "bool-mask" else (short != 0, dense != 0)
        name = kind.removeprefix("bool-")
        problem = cases.Problem(MSE, input, target, reduction=reduction, normalizer=normalizer)
        got = evaluate(problem.with_(**{name: values[0]}), backend)
        wanted = evaluate(problem.with_(**{name: values[1]}), backend)
        torch.testing.assert_close(got.loss, wanted.loss, rtol=1e-6, atol=0)
        torch.testing.assert_close(got.gradient, wanted.gradient, rtol=1e-6, atol=0)
        torch.testing.assert_close(tuple(got.stats[:3]), tuple(wanted.stats[:3]), rtol=1e-6, atol=0)
        assert_stride_of_empty_like(got.gradient, input)


@pytest.mark.parametrize("others", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduction", ("mean", "none"))
def test_results_of_the_reference_path_have_the_format_of_their_tensor(reduction, layout, others):
    """Where gradients of more than the input are wanted, and with create_graph."""
    rng = cases.generator(layout, others)
    shape = (2, 3, 4, 5)
    tensors = {name: torch.rand(shape, generator=rng) for name in ("target", "weight", "mask")}
    tensors = {name: LAYOUTS[others](tensor).requires_grad_() for name, tensor in tensors.items()}
    mask = tensors.pop("mask")
    tensors["input"] = LAYOUTS[layout](torch.rand(shape, generator=rng)).requires_grad_()
    value = fl.mse_loss(**tensors, mask=mask & (fl.target > 0.1), reduction=reduction)
    if reduction == "none":
        assert_stride_of_empty_like(value, tensors["input"])
    leaves = (*tensors.values(), mask)
    for create_graph in (False, True):
        gradients = torch.autograd.grad(
            value, leaves, torch.ones_like(value), retain_graph=True, create_graph=create_graph
        )
        for leaf, gradient in zip(leaves, gradients, strict=True):
            assert_stride_of_empty_like(gradient, leaf)
    value = fl.mse_loss(tensors["input"], tensors["target"].detach(), mask=mask.detach() > 0.5)
    (gradient,) = torch.autograd.grad(value, tensors["input"], create_graph=True)
    assert_stride_of_empty_like(gradient, tensors["input"])


@pytest.mark.parametrize("name", ("weight", "pos_weight"))
@pytest.mark.parametrize("shape", ((3, 3, 3), (3, 3), (3, 1), (3,), (1,), ()), ids=str)
def test_bce_weights_follow_torch_alone(backend, shape, name):
    """One dim fewer is aligned from the right, not read as positions: sizes cannot tell here."""
    rng = cases.generator(shape)
    input = torch.randn(3, 3, 3, generator=rng)
    target = torch.rand(3, 3, 3, generator=rng)
    weight = torch.rand(shape, generator=rng)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(input, target, **{name: weight})
    got = backend.functions.binary_cross_entropy_with_logits(
        backend.place(input), backend.place(target), **{name: backend.place(weight)}
    )
    torch.testing.assert_close(got.cpu(), wanted)
    if name == "weight":
        wanted = torch.nn.functional.binary_cross_entropy(input.sigmoid(), target, weight)
        got = backend.functions.binary_cross_entropy(
            backend.place(input.sigmoid()), backend.place(target), backend.place(weight)
        )
        torch.testing.assert_close(got.cpu(), wanted)


def test_more_dims_than_the_kernels_walk(backend):
    """Seven dims and more go by the reference; six that cannot be merged go through the kernels."""
    for shape in ((2, 3, 2, 3, 2, 2), (2, 2, 2, 3, 2, 2, 2), (1, 2, 1, 2, 1, 2, 1, 2, 1)):
        input = LAYOUTS["cropped"](torch.randn(shape))
        target = LAYOUTS["transposed"](torch.randn(shape))
        problem = cases.Problem(MSE, input, target, mask=fl.target > 0)
        result, wanted = evaluate(problem, backend), exact(problem)
        assert_loss(result.loss, wanted.loss, problem)
        torch.testing.assert_close(result.gradient.double(), wanted.gradient, rtol=1e-5, atol=0)


def test_overlapping_input(backend):
    """Elements that share memory: values as if they did not; the gradient is of the view."""
    base = torch.randn(10)
    windows = base.as_strided((8, 3), (1, 1))
    problem = cases.Problem(MSE, windows, torch.randn(8, 3), mask=torch.rand(8) < 0.7)
    check(problem, backend)


def test_conj_and_neg_views_are_resolved(backend):
    """The negative bit of a lazily negated view must not be lost."""
    z = torch.randn(4, 3, dtype=torch.complex64)
    lazy = z.conj().imag
    assert lazy.is_neg()
    target = torch.randn(4, 3)
    got = backend.functions.mse_loss(backend.place(lazy), backend.place(target))
    torch.testing.assert_close(got.cpu(), torch.nn.functional.mse_loss(-z.imag, target))
    got = backend.functions.mse_loss(backend.place(target), backend.place(lazy))
    torch.testing.assert_close(got.cpu(), torch.nn.functional.mse_loss(-z.imag, target))
    mask = backend.place(lazy).abs()
    lazy_mask = torch._neg_view(backend.place(-lazy.abs().resolve_neg()))
    got = backend.functions.mse_loss(backend.place(target), 0 * backend.place(target), mask=mask)
    wanted = backend.functions.mse_loss(
        backend.place(target), 0 * backend.place(target), mask=lazy_mask
    )
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("shape", ((2, 3, 40, 40), (2, 3, 5, 7)), ids=str)
def test_mask_and_weight_shared_by_the_channels_under_none(backend, shape):
    """Both are worked out once for all channels; grad_output must not find its way into them."""
    input, target, grad_output = (torch.randn(shape) for _ in range(3))
    mask, weight = torch.rand(2, 1, *shape[2:]) > 0.3, torch.rand(2, 1, *shape[2:])
    placed = backend.place(input).requires_grad_()
    loss = backend.functions.mse_loss(
        placed,
        backend.place(target),
        mask=backend.place(mask),
        weight=backend.place(weight),
        reduction="none",
    )
    (gradient,) = torch.autograd.grad(loss, placed, backend.place(grad_output))
    torch.testing.assert_close(gradient.cpu(), 2 * (input - target) * (mask * weight) * grad_output)
