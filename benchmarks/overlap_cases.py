"""Rows of the overlap losses and compounds: what people write takes a softmax, a one-hot of the
labels and three sums; the library reads the logits once or twice and writes the gradient once."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as tf
from torch import Tensor

import fusedloss as fl

from .case import Case

SMOOTH = 1e-5  # of MONAI


def labelled(shape):
    """Logits and class indices."""

    def make(device: str) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        input = 2 * torch.randn(shape, generator=generator)
        target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
        return input.to(device).requires_grad_(), target.to(device)

    return make


def binary(shape):
    """Logits, and a target of 0 and 1 of their dtype."""

    def make(device: str) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        input = 2 * torch.randn(shape, generator=generator)
        target = (torch.randn(shape, generator=generator) > 0).float()
        return input.to(device).requires_grad_(), target.to(device)

    return make


# ---- what people write ---------------------------------------------------------------------------


def one_hot(labels: Tensor, input: Tensor) -> Tensor:
    return tf.one_hot(labels, input.shape[1]).movedim(-1, 1).to(input.dtype)


def dice_of(p: Tensor, t: Tensor) -> Tensor:
    """One pool per sample."""
    dims = tuple(range(1, p.ndim))
    intersection = (p * t).sum(dims)
    return 1 - (2 * intersection + 1e-6) / (p.sum(dims) + t.sum(dims) + 1e-6)


def softmax_dice(input, target):
    return dice_of(torch.softmax(input, 1), one_hot(target, input)).mean()


def sigmoid_dice(input, target):
    return dice_of(torch.sigmoid(input), target).mean()


def monai_dice_ce(input, target):
    """monai.losses.DiceCELoss(softmax=True, to_onehot_y=True), line by line: a pool per sample and
    channel, and the cross entropy of the labels."""
    p, t = torch.softmax(input, 1), one_hot(target, input)
    dims = tuple(range(2, input.ndim))
    intersection = torch.sum(t * p, dims)
    denominator = torch.sum(t, dims) + torch.sum(p, dims)
    dice = 1.0 - (2.0 * intersection + SMOOTH) / (denominator + SMOOTH)
    return dice.mean() + tf.cross_entropy(input, target)


# ---- the rows ------------------------------------------------------------------------------------


def row(name, make, shape, target_bytes, fused: Callable, eager: Callable, aim, **options) -> Case:
    """Logits and target read, gradient written."""
    floats = 4 * math.prod(shape)
    aims = {"eager": aim}
    return Case(name, make, fused, eager, floats + target_bytes, floats, aims, **options)


SEGMENTATION, TILES = (4, 19, 512, 512), (4, 19, 256, 256)
VOLUMES, MASKS = (2, 4, 96, 96, 96), (8, 1, 512, 512)


def _labels(shape) -> int:
    """Bytes of class indices."""
    return 8 * math.prod(shape) // shape[1]


OVERLAP = [
    row(
        "dice of softmax, 19 classes",
        labelled(SEGMENTATION),
        SEGMENTATION,
        _labels(SEGMENTATION),
        lambda input, target: fl.dice_loss(input, target, activation="softmax"),
        softmax_dice,
        25.0,
        quick=True,
    ),
    row(
        "dice + cross_entropy, 19 classes, per class (MONAI)",
        labelled(TILES),
        TILES,
        _labels(TILES),
        lambda input, target: fl.dice_cross_entropy_loss(
            input, target, per="sample_class", smooth=SMOOTH, dice_weight=1.0, ce_weight=1.0
        ),
        monai_dice_ce,
        15.0,
        compiled=False,
        quick=True,
    ),
    row(
        "dice of sigmoid, one channel",
        binary(MASKS),
        MASKS,
        4 * math.prod(MASKS),
        lambda input, target: fl.dice_loss(input, target, activation="sigmoid"),
        sigmoid_dice,
        7.0,
        compiled=False,
    ),
    row(
        "dice of softmax, 4 classes, 3-D",
        labelled(VOLUMES),
        VOLUMES,
        _labels(VOLUMES),
        lambda input, target: fl.dice_loss(input, target, activation="softmax"),
        softmax_dice,
        12.0,
        compiled=False,
    ),
]
