"""Targets that hold class indices instead of one value per channel.

Their shape is that of the positions, ``(N, d1, ..., dk)`` for an input ``(N, C, d1, ..., dk)`` and
``()`` for ``(C,)``, or the same with a channel dim of size 1, which is dropped.
"""

import torch
from torch import Tensor

from ._checks import FLOATING


def is_integer(dtype: torch.dtype) -> bool:
    return dtype not in FLOATING and dtype is not torch.bool


def positions(shape) -> tuple[int, ...]:
    """The shape of the positions of an input of one or more dims."""
    return (*shape[:1], *shape[2:]) if len(shape) >= 2 else ()


def column(shape) -> tuple[int, ...]:
    """The same with a channel dim of size 1."""
    return (*shape[:1], 1, *shape[2:]) if len(shape) >= 2 else (1,)


def has_position_shape(input: Tensor, target: Tensor) -> bool:
    """Whether `target` has one value per position, with or without a channel dim."""
    shape, given = input.shape, target.shape
    if len(given) == len(shape):
        return given == column(shape)
    return len(given) == len(shape) - 1 and given == positions(shape)


def has_input_shape(input: Tensor, target: Tensor) -> bool:
    """Whether `target` has one value per element. Sizes of unlike dims are not compared: for
    torch.export it would be a rule then that a height is never the number of channels."""
    return target.ndim == input.ndim and target.shape == input.shape


def with_channels(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(input, target) with a batch dim, and a channel dim also in the target: what the terms of
    regions and weight sources read."""
    if input.ndim == 1:
        input, target = input.unsqueeze(0), target.reshape(1, -1)
    if target.ndim < input.ndim:
        target = target.unsqueeze(1)
    return input, target


def is_index_target(input: Tensor, target: Tensor) -> bool:
    """Whether a checked target of a class loss holds indices; else it holds probabilities."""
    return is_integer(target.dtype) and has_position_shape(input, target)
