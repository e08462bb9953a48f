"""What the tests of the reference share: the losses, their operands, and comparison."""

import math

import torch
import torch.nn.functional as F

from fusedloss import reference

SHAPE = (2, 3, 2, 2)
INF, NAN = math.inf, math.nan


def identity(x):
    return x


# name: (options, how an input is made of any number, and a target)
LOSSES = {
    "l1_loss": ({}, identity, identity),
    "mse_loss": ({}, identity, identity),
    "smooth_l1_loss": ({"beta": 0.7}, identity, identity),
    "huber_loss": ({"delta": 0.6}, identity, identity),
    "charbonnier_loss": ({"eps": 0.3}, identity, identity),
    "log_cosh_loss": ({}, identity, identity),
    "binary_cross_entropy": ({}, torch.sigmoid, torch.sigmoid),
    "binary_cross_entropy_with_logits": ({}, identity, torch.sigmoid),
    "sigmoid_focal_loss": ({"gamma": 1.5}, identity, torch.sigmoid),
}
IN_TORCH = [name for name in LOSSES if hasattr(F, name)]


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def operands(name, shape=SHAPE, dtype=torch.float64):
    """(input, requiring grad, and target), away from the corners of the formulas."""
    _, make_input, make_target = LOSSES[name]
    input = make_input(numbers(*shape, seed=1, dtype=dtype))
    return input.requires_grad_(), make_target(numbers(*shape, seed=2, dtype=dtype))


def call(name, *args, **options):
    return getattr(reference, name)(*args, **{**LOSSES[name][0], **options})


def close(got, expected, rtol=1e-12, atol=1e-14):
    torch.testing.assert_close(got, expected, rtol=rtol, atol=atol, check_dtype=False)
