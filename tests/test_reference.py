"""The reference against torch itself, and against what the contract says where torch has nothing:
values, normalizers, reductions, dtypes. `test_reference_autograd.py` has the derivatives.

Kernels are tested against the reference elsewhere; here it has to be right on its own.
"""

import inspect
import itertools
import math

import mpmath
import pytest
import torch
import torch.nn.functional as F

import fusedloss as fl
from fusedloss import _checks, reference
from tests.reference_cases import IN_TORCH, INF, LOSSES, NAN, SHAPE, call, close, numbers, operands


def torchvision_focal(input, target, alpha=0.25, gamma=2.0):
    """torchvision.ops.sigmoid_focal_loss, reduction="none", as published."""
    p = torch.sigmoid(input)
    ce_loss = F.binary_cross_entropy_with_logits(input, target, reduction="none")
    p_t = p * target + (1 - p) * (1 - target)
    loss = ce_loss * ((1 - p_t) ** gamma)
    if alpha >= 0:
        alpha_t = alpha * target + (1 - alpha) * (1 - target)
        loss = alpha_t * loss
    return loss


# ------------------------------------------------------------------------------- equal to torch's


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(
    ("name", "weighted"),
    [(name, False) for name in IN_TORCH]
    + [(name, True) for name in IN_TORCH if name != "smooth_l1_loss"],
)
def test_equals_torch(name, weighted, reduction):
    input, target = operands(name)
    options = {**LOSSES[name][0], "reduction": reduction}
    if weighted:
        options["weight"] = numbers(*SHAPE, seed=3).abs()
    expected = getattr(F, name)(input, target, **options)
    got = call(name, input, target, **options)
    close(got, expected)
    direction = numbers(*expected.shape, seed=4)
    firsts = [
        torch.autograd.grad(y, input, direction, create_graph=True)[0] for y in (got, expected)
    ]
    close(*firsts)
    if firsts[1].requires_grad:  # torch differentiates twice
        seconds = [torch.autograd.grad(g, input, numbers(*SHAPE, seed=5))[0] for g in firsts]
        close(*seconds)


@pytest.mark.parametrize("name", IN_TORCH)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_dtypes_against_torch_in_float64(name, dtype):
    """Computed in float32 and rounded once."""
    input, target = (tensor.detach().to(dtype) for tensor in operands(name))
    for reduction in ("none", "mean", "sum"):
        options = {**LOSSES[name][0], "reduction": reduction}
        got = getattr(reference, name)(input, target, **options)
        expected = getattr(F, name)(input.double(), target.double(), **options)
        assert got.dtype is dtype
        exact = expected.to(torch.float32)
        tolerance = {torch.float32: 1e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8}[dtype]
        close(got.float(), exact, rtol=tolerance * 1.01, atol=1e-7)


def test_binary_cross_entropy_at_its_ends():
    """Logarithms stop at -100, and the gradient is torch's."""
    x = torch.tensor([0.0, 1.0, 0.0, 1.0, 1e-30, 0.3], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 0.3], dtype=torch.float64)
    got = reference.binary_cross_entropy(x, t, reduction="none")
    expected = F.binary_cross_entropy(x, t, reduction="none")
    close(got, expected)
    gradients = [torch.autograd.grad(y.sum(), x)[0] for y in (got, expected)]
    close(*gradients)
    ends = torch.tensor([0, 1e12, -1e12, 0], dtype=torch.float64)
    close(gradients[0][:4], ends, rtol=1e-8)  # torch's 1e-12 is a float32 number


@pytest.mark.parametrize("pos_shape", [(), (2,), (3, 1, 1), SHAPE], ids=str)
def test_pos_weight(pos_shape):
    name = "binary_cross_entropy_with_logits"
    input, target = operands(name)
    pos_weight = numbers(*pos_shape, seed=6).abs().requires_grad_()
    got = call(name, input, target, pos_weight=pos_weight)
    fixed = pos_weight.detach()
    expected = F.binary_cross_entropy_with_logits(input, target, pos_weight=fixed)
    close(got, expected)
    by_input, by_weight = torch.autograd.grad(got, (input, pos_weight))
    close(by_input, torch.autograd.grad(expected, input)[0])
    positive = target * F.softplus(-input, threshold=1000) / input.numel()
    close(by_weight, positive.detach().sum_to_size(pos_shape))


@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 2), (2, 1, 1), (1, 2, 1, 2), ()], ids=str)
@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_weights_of_the_cross_entropies_broadcast_as_in_torch(name, shape):
    """From the right whatever the number of dims, where other weights would mean positions."""
    input, target = operands(name, (2, 2, 2, 2))
    weight = numbers(*shape, seed=3).abs()
    close(
        call(name, input, target, weight=weight),
        getattr(F, name)(input, target, weight=weight.expand(2, 2, 2, 2)),
    )


@pytest.mark.parametrize("alpha", [0.25, 0.0, 0.9, -1, -0.5])
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 5.0])
@pytest.mark.parametrize("hard", [True, False])
def test_focal_equals_torchvision(alpha, gamma, hard):
    input, target = operands("sigmoid_focal_loss")
    target = (target > 0.5).double() if hard else target
    target.requires_grad_()
    got = reference.sigmoid_focal_loss(input, target, alpha, gamma, "none")
    expected = torchvision_focal(input, target, alpha, gamma)
    close(got, expected)
    for ours, theirs in zip(
        torch.autograd.grad(got.sum(), (input, target), create_graph=True),
        torch.autograd.grad(expected.sum(), (input, target), create_graph=True),
        strict=True,
    ):
        close(ours, theirs, rtol=1e-10, atol=1e-12)
        (ours,) = torch.autograd.grad(ours.sum(), input, retain_graph=True)
        (theirs,) = torch.autograd.grad(theirs.sum(), input, retain_graph=True)
        close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("gamma", [0, 0.01, 0.5, 1, 2, 5])
def test_focal_is_finite_at_saturation(gamma, dtype):
    logits = [-1000, -200, -90, -50, -20, 0, 20, 50, 90, 200, 1000]
    pairs = list(itertools.product(logits, [0, 1e-7, 0.1, 0.5, 0.9, 1]))
    x, t = torch.tensor(pairs, dtype=dtype).unbind(1)
    x, t = x.clone().requires_grad_(), t.clone().requires_grad_()
    loss = reference.sigmoid_focal_loss(x, t, gamma=gamma, reduction="none")
    assert loss.isfinite().all() and (loss >= 0).all()
    by_input, by_target = torch.autograd.grad(loss.sum(), (x, t), create_graph=True)
    assert by_input.isfinite().all() and by_target.isfinite().all()
    (second,) = torch.autograd.grad(by_input.sum(), x)
    assert second.isfinite().all()
    wrong = (x.abs() == 1000) & (((x > 0) & (t == 0)) | ((x < 0) & (t == 1)))
    alpha_t = 0.25 * t + 0.75 * (1 - t)
    close(loss[wrong], 1000 * alpha_t[wrong], rtol=1e-6)
    close(by_input[wrong], alpha_t[wrong] * x[wrong].sign(), rtol=1e-6)


# --------------------------------------------------------------------------- formulas of our own


def test_smooth_l1_without_beta_is_l1():
    input, target = operands("smooth_l1_loss")
    for beta in (0, 0.0):
        got = reference.smooth_l1_loss(input, target, beta=beta)
        assert got == F.l1_loss(input, target)
    (gradient,) = torch.autograd.grad(got, input)
    close(gradient, (input - target).sign() / input.numel())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_log_cosh_is_accurate(dtype):
    d = [0.0, 1e-30, 1e-18, 1e-8, 1e-4, 0.1, 0.99, 1.0, 1.01, 3, 20, 90, 800, 1e30]
    x = torch.tensor([*d, *(-v for v in d)], dtype=dtype, requires_grad=True)
    loss = reference.log_cosh_loss(x, torch.zeros_like(x), reduction="none")
    (first,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    with mpmath.workdps(100):
        exact = [mpmath.mpf(v) for v in x.tolist()]
        small = [abs(v) < 1e3 for v in exact]
        value = [
            mpmath.log(mpmath.cosh(v)) if s else abs(v) - mpmath.log(2)
            for v, s in zip(exact, small, strict=True)
        ]
        expected = torch.tensor([float(v) for v in value], dtype=torch.float64)
        tanh = torch.tensor([float(mpmath.tanh(v)) for v in exact], dtype=torch.float64)
        sech2 = [
            float(mpmath.sech(v) ** 2) if s else 0.0 for v, s in zip(exact, small, strict=True)
        ]
    epsilon = torch.finfo(dtype).eps
    tiny = torch.finfo(dtype).tiny
    close(loss.double(), expected.to(dtype).double(), rtol=8 * epsilon, atol=tiny)
    close(first.double(), tanh, rtol=8 * epsilon, atol=tiny)
    close(
        second.double(), torch.tensor(sech2, dtype=torch.float64), rtol=64 * epsilon, atol=epsilon
    )


def test_charbonnier():
    input, target = operands("charbonnier_loss")
    got = reference.charbonnier_loss(input, target, eps=0.3, reduction="none")
    close(got, ((input - target) ** 2 + 0.09).sqrt())
    close(
        torch.autograd.grad(got.sum(), input)[0],
        (input - target) / ((input - target) ** 2 + 0.09).sqrt(),
    )
    huge = torch.tensor([3e38, 0.0], requires_grad=True)
    loss = reference.charbonnier_loss(huge, torch.zeros(2), eps=1e-30, reduction="none")
    close(loss, torch.tensor([3e38, 1e-30]), rtol=1e-6, atol=0)
    close(torch.autograd.grad(loss.sum(), huge)[0], torch.tensor([1.0, 0.0]))


# ----------------------------------------------------- masks, weights, normalizers and reductions

MASKS = {
    "none": None,
    "bool": torch.tensor([[True, False], [True, True]]),
    "integer": torch.tensor([[3, 0], [-1, 2]]),
    "float": torch.tensor([[0.5, 0.0], [2.0, 1.0]]),
    "position": torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [3.0, 0.0]]]),
    "element": (numbers(*SHAPE, seed=8) > 0).double() * 1.5,
    "region": (fl.target > 0.4) & torch.tensor([[True, False], [True, True]]),
    "empty": torch.zeros(2, 1, 1, 1, dtype=torch.bool),
    "one sample": torch.tensor([True, False]).reshape(2, 1, 1, 1),
}


def dense(mask, target):
    """The mask's values at every element, by hand."""
    if mask is None:
        return torch.ones(SHAPE, dtype=torch.float64)
    if isinstance(mask, fl.Region):
        return ((target > 0.4) & MASKS["bool"]).double()
    mask = mask.double() if mask.is_floating_point() else (mask != 0).double()
    return (mask.unsqueeze(1) if mask.ndim == 3 else mask).expand(SHAPE)


REDUCTIONS = [("none", None), ("sum", None)]
REDUCTIONS += [("sample_mean", kind) for kind in (None, *_checks.NORMALIZERS)]
REDUCTIONS += [("mean", kind) for kind in (None, *_checks.NORMALIZERS, 7, torch.tensor(5))]


@pytest.mark.parametrize(("reduction", "normalizer"), REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mask", MASKS)
def test_masks_normalizers_reductions(mask, weighted, reduction, normalizer):
    for name in ("l1_loss", "huber_loss"):
        input, target = operands(name)
        m = dense(MASKS[mask], target)
        weight = torch.tensor([1.5, 0.0, 2.0]).reshape(1, 3, 1, 1) if weighted else None
        w = torch.ones(SHAPE, dtype=torch.float64) if weight is None else weight.expand(SHAPE)
        elements = m * w * call(name, input, target, reduction="none")
        default = {"l1_loss": "weights", "huber_loss": "selected"}[name]
        by_sample = reduction == "sample_mean"
        denominators = {
            "weights": m * w,
            "selected": m,
            "positions": m.amax(1),
            "all": torch.ones(SHAPE, dtype=torch.float64),
        }

        def total(values, by_sample=by_sample):
            return values.flatten(1).sum(1) if by_sample else values.sum()

        kind = default if normalizer is None else normalizer
        denominator = (
            total(denominators[kind])
            if isinstance(kind, str)
            else torch.tensor(float(kind), dtype=torch.float64)
        )
        ratio = total(elements) / torch.where(denominator == 0, 1.0, denominator)
        present = (m != 0).flatten(1).any(1)
        expected = {
            "none": elements,
            "sum": elements.sum(),
            "mean": ratio,
            "sample_mean": ratio[present].mean()
            if by_sample and present.any()
            else 0 * ratio.sum(),
        }[reduction]
        options = {
            "reduction": reduction,
            "weight": weight,
            "mask": MASKS[mask],
            "normalizer": normalizer,
        }
        got, stats = call(name, input, target, return_stats=True, **options)
        close(got, expected)
        close(stats.total, total(elements).detach())
        close(stats.normalizer, denominator)
        assert stats.selected == (m != 0).sum() and stats.selected.dtype is torch.int64
        assert not stats.total.requires_grad and not stats.normalizer.requires_grad
        assert stats.intersection is stats.input_sum is stats.target_sum is None
        alone = call(name, input, target, **options)
        assert torch.equal(alone, got)
        (gradient,) = torch.autograd.grad(got.sum(), input)
        close(gradient, torch.autograd.grad(expected.sum(), input)[0])


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4)], ids=str)
def test_samples_and_positions_of_few_dims(shape):
    """Without a second dim there is one sample, and positions are the elements."""
    input, target = numbers(*shape, seed=1), numbers(*shape, seed=2)
    loss, stats = reference.mse_loss(
        input, target, reduction="sample_mean", normalizer="positions", return_stats=True
    )
    samples = shape[0] if len(shape) >= 2 else 1
    positions = input.numel() // (shape[1] if len(shape) >= 2 else 1)
    assert stats.total.shape == stats.normalizer.shape == (samples,)
    close(stats.normalizer, torch.full((samples,), positions / samples, dtype=torch.float64))
    close(loss, (input - target).square().sum() / positions)
    _, stats = reference.mse_loss(input, target, reduction="none", return_stats=True)
    assert stats.total.shape == () and stats.normalizer == input.numel()


def test_positions_gradient_goes_to_the_first_of_equal_ones():
    mask = torch.tensor([[0.5, 2.0, 2.0]], requires_grad=True)
    options = {"mask": mask, "reduction": "mean", "normalizer": "positions", "return_stats": True}
    loss, stats = reference.l1_loss(torch.ones(1, 3), torch.zeros(1, 3), **options)
    assert stats.normalizer == 2
    (gradient,) = torch.autograd.grad(loss, mask)  # loss = sum / largest = 4.5 / 2
    close(gradient, torch.tensor([[0.5, 0.5 - 4.5 / 4, 0.5]]))


def test_region_algebra_of_float_masks():
    """& multiplies, | takes the larger, ~ is 1 where 0; 0 wins over NaN."""
    a = torch.tensor([0.0, 0.0, 0.5, 2.0, NAN])
    b = torch.tensor([0.0, NAN, 3.0, 0.5, 0.0])
    x = torch.ones(5)

    def values(region):
        return reference.l1_loss(x, 0 * x, reduction="none", mask=region)

    as_region = fl.regions.as_region
    both = as_region(a) & b
    assert torch.equal(values(both), torch.tensor([0, 0, 1.5, 1, 0]))
    assert torch.equal(values(~as_region(a)), torch.tensor([1.0, 1, 0, 0, 0]))
    either = values(as_region(a) | b)
    assert torch.equal(either.nan_to_num(-1), torch.tensor([0, -1, 3, 2, -1.0]))


@pytest.mark.parametrize("name", LOSSES)
def test_integer_and_bool_operands_are_numbers(name):
    input, target = operands(name)
    for dtype in (torch.bool, torch.uint8, torch.int16, torch.int64, torch.uint16, torch.uint64):
        hard = (target > 0.5).to(dtype)
        got = call(name, input, hard, weight=hard, mask=fl.target.isfinite())
        expected = call(name, input, hard.to(torch.float64), weight=hard.to(torch.float64))
        assert torch.equal(got, expected)


def test_dtype_of_result_and_arithmetic():
    half = torch.full((4,), 300.0, dtype=torch.float16)
    zero = torch.zeros(4)
    loss, stats = reference.mse_loss(half, zero, reduction="sum", return_stats=True)
    assert loss.dtype is torch.float16 and loss == INF
    assert stats.total.dtype is torch.float32 and stats.total == 4 * 300**2
    fine = torch.tensor([1 + 2**-40], dtype=torch.float64)
    one = torch.ones(1)
    for extra in (
        {"target": fine},
        {"weight": fine},
        {"mask": fine},
        {"mask": (fl.target > 0) & fine},
    ):
        loss, stats = reference.l1_loss(2 * one, **{"target": one, **extra}, return_stats=True)
        assert loss.dtype is torch.float32 and stats.total.dtype is torch.float64
        assert stats.total != 1
    loss = reference.mse_loss(half, zero.bfloat16())
    assert loss.dtype is torch.float16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for name in LOSSES:
            assert call(name, half / 300, zero).dtype is torch.float32
            assert call(name, zero.double(), zero).dtype is torch.float64


def test_targets_of_binary_cross_entropy_are_not_checked():
    x = torch.tensor([0.25], requires_grad=True)
    loss = reference.binary_cross_entropy(x, torch.tensor([3.0]))
    close(loss, torch.tensor(-3 * math.log(0.25) + 2 * math.log(0.75)), rtol=1e-6)
    close(torch.autograd.grad(loss, x)[0], torch.tensor([(0.25 - 3) / (0.25 * 0.75)]), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_signatures_are_those_of_functional(name):
    ours = inspect.signature(getattr(reference, name))
    assert ours == inspect.signature(getattr(fl.functional, name))
    if name in IN_TORCH:
        theirs = [*inspect.signature(getattr(F, name)).parameters]
        positional = [p.name for p in ours.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == theirs
    assert [*ours.parameters][-3:] == ["mask", "normalizer", "return_stats"]
