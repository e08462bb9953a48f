"""From the weighted losses to the result: normalizers, reductions, statistics.

Losses stand in a tensor with `input`'s dims; in the class family, whose losses belong to positions,
its channel dim has size 1. Sample n is index n of dim 0, where there are two dims or more.
"""

import torch
from torch import Tensor

from ..stats import without_pools
from ._masking import Selection
from ._sums import total


def reduced(loss, selection, default, reduction, normalizer, return_stats, dtype):
    """The result of a call: a tensor of `dtype`, or with `return_stats` (tensor, Stats).

    `loss` is mask x weight x loss, `default` the normalizer that None stands for. Under ``"none"``
    the result has `loss`'s shape.
    """
    by_sample = reduction == "sample_mean"
    if reduction == "none" and not return_stats:
        return loss.to(dtype)
    summed = total(loss, loss.shape, by_sample)
    selected = _selected(selection.mask, loss, by_sample)
    if normalizer is None or reduction in ("none", "sum"):
        normalizer = default
    if isinstance(normalizer, str):
        denominator = _denominator(normalizer, selection, loss, by_sample)
    elif isinstance(normalizer, Tensor):
        denominator = normalizer.to(loss.device, loss.dtype)
    else:
        denominator = loss.new_full((), float(normalizer))
    if reduction == "none":
        result = loss
    elif reduction == "sum":
        result = summed
    elif reduction == "mean":
        result = divide(summed, denominator)
    else:  # over the samples that have a selected element
        samples = (selected > 0).sum().to(loss.dtype)
        result = divide(total(divide(summed, denominator), selected.shape, False), samples)
    result = result.to(dtype)
    if not return_stats:
        return result
    return result, without_pools(summed.detach(), denominator.detach(), selected.sum())


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator; 0, attached to the graph with zero gradients, where that is 0."""
    empty = denominator == 0
    return torch.where(empty, 0.0, numerator) / torch.where(empty, 1.0, denominator)


def _denominator(normalizer: str, selection: Selection, loss: Tensor, by_sample: bool) -> Tensor:
    """What a mean divides by: () or, `by_sample`, (N,)."""
    mask, weight, active = selection
    if normalizer == "positions":
        return _positions(mask, loss, by_sample)
    if normalizer == "all" or (mask is None and (weight is None or normalizer == "selected")):
        counted = None
    elif normalizer == "selected" or weight is None:
        counted = mask
    elif mask is None or mask.dtype is torch.bool:
        counted = weight
    else:
        counted = weight * torch.where(active, mask, 0.0)
    return _counted(counted, loss.shape, loss, by_sample)


def _positions(mask: Tensor | None, loss: Tensor, by_sample: bool) -> Tensor:
    """The mask once per position: its largest value over the channels."""
    shape = loss.shape
    if loss.ndim >= 2:  # the channel dim stays, so that dim 0 is told from a tensor of one dim
        shape = (*shape[:1], 1, *shape[2:])
        if loss.shape[1] == 0:  # positions without channels hold nothing
            mask = loss.new_zeros(shape, dtype=torch.bool)
        if mask is not None:
            if mask.dtype is torch.bool:
                mask = mask.any(dim=1, keepdim=True)
            else:  # the gradient goes to the first of equal ones
                mask = mask.max(dim=1, keepdim=True).values
    return _counted(mask, shape, loss, by_sample)


def _selected(mask: Tensor | None, loss: Tensor, by_sample: bool) -> Tensor:
    """How many elements the mask selects, int64."""
    return _count(None if mask is None else mask != 0, loss.shape, loss, by_sample)


def _counted(values: Tensor | None, shape, like: Tensor, by_sample: bool) -> Tensor:
    """The sum of `values` (None: ones) broadcast to `shape`; counts are exact."""
    if values is None or values.dtype is torch.bool:
        return _count(values, shape, like, by_sample).to(like.dtype)
    return total(values, shape, by_sample)


def _count(values: Tensor | None, shape, like: Tensor, by_sample: bool) -> Tensor:
    if values is not None:
        return total(values, shape, by_sample)  # int64 for bool
    kept = 1 if by_sample and like.ndim >= 2 else 0
    number = 1
    for size in shape[kept:]:
        number = number * size
    size = shape[:kept] if kept or not by_sample else (1,)
    return like.new_full(size, number, dtype=torch.int64)
