"""Large images in 16 bits, saturated and infinite logits, losses of exactly 0 or 1."""

import itertools

import pytest
import torch

import fusedloss as fl
from tests.compound_cases import FUNCTIONS as COMPOUNDS
from tests.overlap_cases import FUNCTIONS, PER, generator

INF = float("inf")
LARGE = {"512 x 512": (2, 2, 512, 512), "128 x 128 x 128": (1, 1, 128, 128, 128)}


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32), ids=str)
@pytest.mark.parametrize("shape", LARGE)
def test_sums_of_large_images(real_backend, shape, dtype):
    """Where a float16 sum would be infinite; counts are exact and the loss is right."""
    shape = LARGE[shape]
    rng = generator(shape)
    activation = "softmax" if shape[1] > 1 else "sigmoid"
    logits = (2 * torch.randn(shape, generator=rng)).to(dtype)
    labels = torch.randint(0, 2, (shape[0], *shape[2:]), generator=rng)
    for name in FUNCTIONS:
        input = real_backend.place(logits).requires_grad_()
        target = real_backend.place(labels)
        options = {"activation": activation, "per": "batch", "return_stats": True}
        loss, stats = getattr(real_backend.functions, name)(input, target, **options)
        (gradient,) = torch.autograd.grad(loss * 4096, input)
        wide = logits.double().requires_grad_()
        wanted, sums = getattr(fl.reference, name)(wide, labels, **options)
        (slope,) = torch.autograd.grad(wanted * 4096, wide)
        assert loss.dtype is dtype and stats.total.dtype is torch.float32
        assert stats.target_sum == sums.target_sum and stats.selected == logits.numel()
        for got, right in zip(stats[3:], sums[3:], strict=True):
            torch.testing.assert_close(got.cpu().double(), right, rtol=1e-6, atol=0)
        epsilon = torch.finfo(dtype).eps
        torch.testing.assert_close(
            loss.detach().cpu().double(), wanted.detach(), rtol=epsilon, atol=1e-6
        )
        error = (gradient.cpu().double() - slope).norm() / slope.norm()
        assert error <= max(1e-5, epsilon) and gradient.isfinite().all()


@pytest.mark.parametrize("dtype", (torch.float16, torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("gamma", (0.1, 0.5, 1.0, 1.5, 4.0))
def test_tversky_is_finite_at_saturation(gamma, dtype):
    """Perfect, completely wrong, and in between; every alpha and beta, also both 0."""
    largest = torch.finfo(dtype).max
    targets = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).unsqueeze(1)
    signs = ((1, 1, -1, -1), (-1, -1, 1, 1), (1, -1, 1, -1), (-1, -1, -1, -1), (1, 1, 1, 1))
    for scale, sign in itertools.product((0.0, 5.0, 30.0, 1e3, largest), signs):
        logits = scale * torch.tensor(sign, dtype=dtype).expand(3, 1, 4)
        for alpha, beta, smooth in itertools.product((0.0, 0.5, 2.0), (0.0, 0.7), (0.0, 1e-6, 1.0)):
            input = logits.clone().requires_grad_()
            loss = fl.tversky_loss(
                input,
                targets,
                activation="sigmoid",
                alpha=alpha,
                beta=beta,
                gamma=gamma,
                smooth=smooth,
                reduction="none",
            )
            (gradient,) = torch.autograd.grad(loss.sum(), input)
            assert loss.isfinite().all() and (loss >= 0).all() and (loss <= 1).all()
            assert gradient.isfinite().all()


@pytest.mark.parametrize("gamma", (0.25, 1.0, 3.0))
def test_tversky_of_a_base_of_zero(gamma):
    """Value and derivative are 0, also where the ratio is above 1 and for a power below 1."""
    for p, smooth in ((1.0, 0.0), (1.0, (1.0, 0.5)), (1.5, 0.0)):
        input = torch.full((1, 1, 3), p, requires_grad=True)
        loss = fl.tversky_loss(input, torch.ones(1, 1, 3), gamma=gamma, smooth=smooth, alpha=0.0)
        (gradient,) = torch.autograd.grad(loss, input, create_graph=True)
        assert loss == 0 and not gradient.any()


@pytest.mark.parametrize("name", (*FUNCTIONS, *COMPOUNDS))
def test_saturated_logits(name):
    """Wrong by all that float32 holds: finite in value and gradient."""
    largest = torch.finfo(torch.float32).max
    labels = torch.tensor([[0, 1, 2, 0]])
    for scale, activation in itertools.product((1e2, 1e4, largest / 4), ("sigmoid", "softmax")):
        logits = torch.zeros(1, 3, 4)
        logits[:, 1] = scale
        input = logits.requires_grad_()
        loss = getattr(fl, name)(input, labels, activation=activation, per="sample_class")
        (gradient,) = torch.autograd.grad(loss, input)
        assert loss.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_infinite_logits_as_torch(name):
    """A class that is ruled out has p = 0; a position where every class is, is NaN."""
    logits = torch.tensor([[[0.0, -INF, 2.0], [1.0, 0.5, -INF], [-INF, -INF, 0.0]]])
    labels = torch.tensor([[0, 1, 2]])
    for per in PER:
        results = []
        for activation in ("softmax", "none"):
            leaf = logits.clone().requires_grad_()
            x = leaf if activation == "softmax" else leaf.softmax(1)
            loss = getattr(fl, name)(x, labels, activation=activation, per=per)
            results.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
        for got, wanted in zip(*results, strict=True):
            assert got.isfinite().all()
            torch.testing.assert_close(got, wanted)
    nothing = torch.full((1, 3, 3), -INF)
    assert getattr(fl, name)(nothing, labels, activation="softmax").isnan()
    sigmoid = getattr(fl, name)(nothing, labels, activation="sigmoid")
    torch.testing.assert_close(sigmoid, getattr(fl, name)(torch.zeros(1, 3, 3), labels))


def test_the_same_bits_every_time(real_backend):
    rng = generator("bits")
    logits = torch.randn(2, 3, 200, 300, generator=rng)
    labels = torch.randint(0, 3, (2, 200, 300), generator=rng)
    for name in (*FUNCTIONS, *COMPOUNDS):
        results = []
        for _ in range(2):
            input = real_backend.place(logits).requires_grad_()
            options = {"activation": "softmax", "per": "class"}
            function = getattr(real_backend.functions, name)
            loss = function(input, real_backend.place(labels), **options)
            results.append((loss.detach(), torch.autograd.grad(loss, input)[0]))
        for got, wanted in zip(*results, strict=True):
            assert torch.equal(got, wanted)
