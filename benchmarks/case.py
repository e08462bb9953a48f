"""What a row of the table says, and what several rows share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as tf
from torch import Tensor


@dataclass(frozen=True)
class Case:
    name: str
    operands: Callable[[str], tuple[Tensor, ...]]  # of the device; the first one requires grad
    fused: Callable[..., Tensor]
    eager: Callable[..., Tensor]
    read: int  # bytes
    written: int
    aims: Mapping[str, float] = field(default_factory=dict)
    backward: bool = True
    compiled: bool = True
    quick: bool = False  # part of --quick
    tolerance: float = 2e-5  # of the loss, and of the gradient in norm, against float64
    peers: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)


IMAGES = (8, 3, 512, 512)
N = 8 * 3 * 512 * 512  # elements
P = 8 * 512 * 512  # positions


def images(
    mask=None, dtype=torch.float32, shape=IMAGES, layout=torch.contiguous_format, labels=False
):
    """Input, target and mask `(N, 1, H, W)` of the dtype `mask` (None: no mask)."""

    def make(device: str) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)

        def draw(*size):
            return torch.randn(size, generator=generator)

        input, target = 2 * draw(*shape), draw(*shape)
        if labels:
            target = (target > 0).to(target.dtype)
        operands = [
            operand.to(device, dtype).contiguous(memory_format=layout)
            for operand in (input, target)
        ]
        if mask is not None:
            operands.append((draw(shape[0], 1, *shape[2:]) > -0.5).to(device, mask))
        operands[0].requires_grad_()
        return tuple(operands)

    return make


def mse(input, target):
    return tf.mse_loss(input, target, reduction="none")


def bce_logits(input, target):
    return tf.binary_cross_entropy_with_logits(input, target, reduction="none")
