"""The table of cases. A row is a `Case`; adding one is adding a row.

Each row states the fewest bytes that it can move (inputs read once, the gradient written once); the
report divides them by the time. `aims` are what the project wants of the ratios:
"stream" (fraction of the streaming bound), "eager" and "compiled" (times as fast).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as tf
from torch import Tensor

import fusedloss as fl

from .case import Case, N, P, bce_logits, images, mse
from .overlap_cases import OVERLAP
from .region_cases import REGIONS

# ---- operands ------------------------------------------------------------------------------------


def logits(shape, layout=torch.contiguous_format, ignored: float = 0.0):
    """Logits, and class indices of which the fraction `ignored` is 255."""

    def make(device: str) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        input = 2 * torch.randn(shape, generator=generator)
        positions = (shape[0], *shape[2:])
        target = torch.randint(0, shape[1], positions, generator=generator)
        target[torch.rand(positions, generator=generator) < ignored] = 255
        if len(shape) == 4:
            input = input.contiguous(memory_format=layout)
        return input.to(device).requires_grad_(), target.to(device)

    return make


def vector(count: int):
    """A short input, target and bool mask: what a call costs by itself."""

    def make(device: str) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        input, target = (torch.randn(count, generator=generator).to(device) for _ in range(2))
        mask = torch.arange(count, device=device) % 4 != 0
        return input.requires_grad_(), target, mask

    return make


# ---- what people write ---------------------------------------------------------------------------


def masked_mean(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``(loss * mask).sum() / mask.sum()``; a mask of positions counts once per channel."""

    def function(input: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        values = loss(input, target)
        return (values * mask).sum() / (mask.sum() * (values.numel() // mask.numel()))

    return function


def mean(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda input, target: loss(input, target).mean()


def l1(input, target):
    return tf.l1_loss(input, target, reduction="none")


def smooth_l1(input, target):
    return tf.smooth_l1_loss(input, target, reduction="none")


def huber(input, target):
    return tf.huber_loss(input, target, reduction="none")


def charbonnier(input, target):
    return torch.sqrt((input - target) ** 2 + 1e-6)


def log_cosh(input, target):
    d = input - target
    return d + tf.softplus(-2 * d) - 0.6931471805599453


def focal(input, target):
    """torchvision.ops.sigmoid_focal_loss, line by line."""
    p = torch.sigmoid(input)
    ce = tf.binary_cross_entropy_with_logits(input, target, reduction="none")
    p_t = p * target + (1 - p) * (1 - target)
    alpha_t = 0.25 * target + 0.75 * (1 - target)
    return alpha_t * (ce * (1 - p_t) ** 2)


def ignoring(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda input, target: loss(input, target, ignore_index=255)


def softmax_focal(input, target):
    """The usual composition; the mean over the positions that are not 255."""
    kept = target != 255
    log_p = tf.log_softmax(input, 1).gather(1, torch.where(kept, target, 0).unsqueeze(1)).squeeze(1)
    return -((1 - log_p.exp()) ** 2 * log_p * kept).sum() / kept.sum()


# ---- the table -----------------------------------------------------------------------------------


def masked(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The library's function with the third operand as mask."""
    return lambda input, target, mask: loss(input, target, mask=mask)


def row(name, mask, fused, eager, aims=None, **options) -> Case:
    """Images under a mask of the dtype `mask`: input, target and mask read, gradient written."""
    make = images(mask, labels=options.pop("labels", False))
    read = 8 * N + mask.itemsize * P
    return Case(name, make, masked(fused), masked_mean(eager), read, 4 * N, aims or {}, **options)


BOOL, FLOAT = torch.bool, torch.float32
POINTWISE = {"stream": 0.8, "eager": 11.0}
POINTWISE_FLOAT = {**POINTWISE, "compiled": 2.5}
LOGITS = {"eager": 14.0, "compiled": 5.0}

# One dense pass forward and backward, and the variations of MSE.
ELEMENTWISE = [
    row("mse, bool mask", BOOL, fl.mse_loss, mse, POINTWISE, quick=True),
    row("mse, float mask", FLOAT, fl.mse_loss, mse, POINTWISE_FLOAT, quick=True),
    row("l1, bool mask", BOOL, fl.l1_loss, l1, POINTWISE, compiled=False),
    row("l1, float mask", FLOAT, fl.l1_loss, l1, POINTWISE_FLOAT, quick=True),
    row("smooth_l1, bool mask", BOOL, fl.smooth_l1_loss, smooth_l1, POINTWISE, compiled=False),
    row("smooth_l1, float mask", FLOAT, fl.smooth_l1_loss, smooth_l1, POINTWISE_FLOAT, quick=True),
    row("huber, float mask", FLOAT, fl.huber_loss, huber),
    row("charbonnier, float mask", FLOAT, fl.charbonnier_loss, charbonnier),
    row("log_cosh, float mask", FLOAT, fl.log_cosh_loss, log_cosh),
    row(
        "bce_with_logits, bool mask",
        BOOL,
        fl.binary_cross_entropy_with_logits,
        bce_logits,
        {"eager": 14.0},
        labels=True,
        compiled=False,
    ),
    row(
        "bce_with_logits, float mask",
        FLOAT,
        fl.binary_cross_entropy_with_logits,
        bce_logits,
        LOGITS,
        labels=True,
        quick=True,
    ),
    row(
        "sigmoid_focal, float mask",
        FLOAT,
        fl.sigmoid_focal_loss,
        focal,
        {"eager": 30.0},
        labels=True,
        quick=True,
    ),
    Case(
        "mse, no mask",
        images(),
        fl.mse_loss,
        mean(mse),
        read=8 * N,
        written=4 * N,
    ),
    Case(
        "mse, forward only, float mask",
        images(FLOAT),
        masked(fl.mse_loss),
        masked_mean(mse),
        read=8 * N + 4 * P,
        written=0,
        backward=False,
    ),
    Case(
        "mse, channels_last, float mask",
        images(FLOAT, layout=torch.channels_last),
        masked(fl.mse_loss),
        masked_mean(mse),
        read=8 * N + 4 * P,
        written=4 * N,
    ),
    Case(
        "mse, bfloat16, bool mask",
        images(BOOL, torch.bfloat16),
        masked(fl.mse_loss),
        masked_mean(mse),
        read=4 * N + P,
        written=2 * N,
        compiled=False,
        tolerance=2e-2,
    ),
    Case(
        "mse, float16, bool mask",
        images(BOOL, torch.float16),
        masked(fl.mse_loss),
        # In float16 the sum of 5 million squares overflows: people sum in float32.
        masked_mean(lambda input, target: mse(input, target).float()),
        read=4 * N + P,
        written=2 * N,
        compiled=False,
        tolerance=2e-2,
    ),
]

SEGMENTATION = (4, 19, 512, 512)
TOKENS = (2048, 32_000)


def classes(name, shape, fused, eager, aims, **options) -> Case:
    """Logits and class indices read, gradient written."""
    make = logits(shape, options.pop("layout", torch.contiguous_format), options.pop("ignored", 0))
    floats = 4 * math.prod(shape)
    read = floats + 8 * math.prod(shape) // shape[1]
    return Case(name, make, fused, eager, read, floats, aims, **options)


# Logits read once, the gradient written once: softmax and one-hot targets are never stored.
CLASSES = [
    classes(
        "cross_entropy, 19 classes, 255 ignored",
        SEGMENTATION,
        ignoring(fl.cross_entropy),
        ignoring(tf.cross_entropy),
        {"stream": 0.5, "eager": 8.0, "compiled": 4.0},
        ignored=0.1,
        quick=True,
    ),
    classes(
        "cross_entropy, channels_last, 19 classes",
        SEGMENTATION,
        ignoring(fl.cross_entropy),
        ignoring(tf.cross_entropy),
        {"stream": 0.45, "eager": 15.0},
        layout=torch.channels_last,
        ignored=0.1,
        compiled=False,
    ),
    classes(
        "cross_entropy, rows of 32000 classes",
        TOKENS,
        fl.cross_entropy,
        tf.cross_entropy,
        {"stream": 0.4, "eager": 6.0, "compiled": 4.0},
    ),
    classes(
        "softmax_focal, 19 classes, 255 ignored",
        SEGMENTATION,
        ignoring(fl.softmax_focal_loss),
        softmax_focal,
        {"eager": 12.0},
        ignored=0.1,
        compiled=False,
    ),
]

# What a call costs by itself.
SMALL = [
    Case(
        "mse, 32 elements, bool mask",
        vector(32),
        masked(fl.mse_loss),
        masked_mean(mse),
        read=32 * 9,
        written=32 * 4,
        aims={"eager": 1 / 0.65},
        quick=True,
    ),
]

CASES: list[Case] = [*ELEMENTWISE, *REGIONS, *CLASSES, *OVERLAP, *SMALL]
