"""Masks and weights that are born in the kernel, against what people build of tensors first."""

from collections.abc import Callable

import torch
import torch.nn.functional as tf
from torch import Tensor

import fusedloss as fl

from .case import IMAGES, Case, N, P, bce_logits, images, mse


def with_image(channels: int, side: int = 512, low: int = 0, high: int = 0):
    """Input, target and an image `(N, channels, side, side)`; integer labels of [low, high)."""

    def make(device: str) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(2)
        shape = (IMAGES[0], channels, side, side)
        if high > low:  # blobs of labels: 16 pixels across
            coarse = (*shape[:2], side // 16, side // 16)
            image = torch.randint(low, high, coarse, generator=generator)
            image = image.repeat_interleave(16, 2).repeat_interleave(16, 3)
        else:
            image = torch.rand(shape, generator=generator)
        return *images()(device), image.to(device)

    return make


def positive_target_mean(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def function(input: Tensor, target: Tensor) -> Tensor:
        mask = target > 0
        return (loss(input, target) * mask).sum() / mask.sum()

    return function


def variance_mean(input: Tensor, target: Tensor) -> Tensor:
    mask = input.detach().var(1, keepdim=True) > 0.1
    return (mse(input, target) * mask).sum() / mask.sum()


def center_mean(input: Tensor, target: Tensor) -> Tensor:
    height, width = input.shape[2:]
    mask = torch.zeros_like(input)
    mask[..., height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    return (bce_logits(input, target) * mask).sum() / mask.sum()


def nested_mean(input: Tensor, target: Tensor) -> Tensor:
    """The target's positive part in a box, and a disk."""
    y = torch.arange(input.shape[2], device=input.device)[:, None]
    x = torch.arange(input.shape[3], device=input.device)
    box = (x >= 64) & (x < 448) & (y >= 64) & (y < 448)
    disk = (x - 100) ** 2 + (y - 100) ** 2 <= 90**2
    mask = ((target > 0) & box) | disk
    return (mse(input, target) * mask).sum() / mask.sum()


def edge_mean(input: Tensor, target: Tensor, image: Tensor) -> Tensor:
    before = image[:, :, :-1, :-1]
    g = (before - image[:, :, 1:, :-1]).abs() + (before - image[:, :, :-1, 1:]).abs()
    g = tf.pad(g.sum(1, keepdim=True), (1, 0, 1, 0))
    low, high = g.amin((1, 2, 3), keepdim=True), g.amax((1, 2, 3), keepdim=True)
    weight = (g - low) / (high - low + 1e-7)
    return (mse(input, target) * weight).sum() / (weight.sum() * input.shape[1])


def boundary_mean(input: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    values = labels.to(input.dtype)
    largest = tf.max_pool2d(values, 3, 1, 1)
    smallest = -tf.max_pool2d(-values, 3, 1, 1)
    weight = 1 + 4 * (largest != smallest).to(input.dtype)
    return (mse(input, target) * weight).sum() / (weight.sum() * input.shape[1])


def activation_mean(input: Tensor, target: Tensor, features: Tensor) -> Tensor:
    g = features.abs().sum(1, keepdim=True)
    g = tf.interpolate(g, size=input.shape[2:], mode="bilinear", align_corners=False)
    low, high = g.amin((1, 2, 3), keepdim=True), g.amax((1, 2, 3), keepdim=True)
    weight = (g - low) / (high - low + 1e-7)
    return (mse(input, target) * weight).sum() / (weight.sum() * input.shape[1])


REGIONS = [
    Case(
        "mse, fl.target > 0",
        images(),
        lambda input, target: fl.mse_loss(input, target, mask=fl.target > 0),
        positive_target_mean(mse),
        read=8 * N,
        written=4 * N,
        aims={"eager": 15.0, "compiled": 2.2},
        quick=True,
    ),
    Case(
        "mse, fl.input.var() > 0.1",
        images(),
        lambda input, target: fl.mse_loss(
            input, target, mask=fl.input.var() > 0.1, normalizer="positions"
        ),
        variance_mean,
        read=8 * N,
        written=4 * N,
        aims={"eager": 60.0, "compiled": 15.0},
        quick=True,
    ),
    Case(
        "bce_with_logits, fl.center()",
        images(labels=True),
        lambda input, target: fl.binary_cross_entropy_with_logits(
            input, target, mask=fl.center(0.5)
        ),
        center_mean,
        read=8 * N // 4,  # tiles outside are not read
        written=4 * N,
        aims={"eager": 20.0, "compiled": 6.0},
        quick=True,
    ),
    Case(
        "mse, fl.target > 0 & box | disk",
        images(),
        lambda input, target: fl.mse_loss(
            input,
            target,
            mask=(fl.target > 0) & fl.box(64, 64, 448, 448) | fl.disk(100, 100, 90),
        ),
        nested_mean,
        read=8 * N,
        written=4 * N,
        aims={"eager": 15.0},
        compiled=False,
    ),
    Case(
        "mse, fl.edges(image)",
        with_image(3),
        lambda input, target, image: fl.mse_loss(input, target, weight=fl.edges(image)),
        edge_mean,
        read=12 * N,
        written=4 * N,
        aims={"eager": 12.0, "compiled": 3.0},
        quick=True,
    ),
    Case(
        "mse, 1 + 4 fl.boundary(labels)",
        with_image(1, low=0, high=5),
        lambda input, target, labels: fl.mse_loss(
            input, target, weight=1 + 4 * fl.boundary(labels)
        ),
        boundary_mean,
        read=8 * N + 8 * P,
        written=4 * N,
        aims={"eager": 15.0, "compiled": 5.0},
        quick=True,
    ),
    Case(
        "mse, fl.activation(features)",
        with_image(64, side=64),
        lambda input, target, features: fl.mse_loss(input, target, weight=fl.activation(features)),
        activation_mean,
        read=8 * N + 4 * 8 * 64 * 64 * 64,
        written=4 * N,
        compiled=False,
    ),
]
