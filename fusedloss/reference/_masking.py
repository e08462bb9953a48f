"""Who takes part in a loss, and how much each element counts: mask and weight brought together."""

from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import broadcast_view
from ._sources import combined, leaf_values
from ._sums import spread
from ._terms import region_value


class Selection(NamedTuple):
    """Who takes part and how much it counts; None: everyone, once.

    `mask` and `weight` are exactly 0 where the element does not take part, and so is their
    gradient, whatever stood there before. `active` is where both are not 0.
    """

    mask: Tensor | None
    weight: Tensor | None
    active: Tensor | None


def select(
    region,
    weight,
    input: Tensor,
    target: Tensor,
    dtype: torch.dtype,
    positional: bool = False,
    ignored: Tensor | None = None,
) -> Selection:
    """`weight` is a tensor with `input`'s dims or fewer, a weight source, or None.

    `positional`: mask and weight are the same for all channels, and `target` has `input`'s dims
    (class indices a channel dim of size 1). `ignored`: where the target is the ignored one, which
    the mask then leaves out.
    """
    mask = None
    if region is not None:
        mask = region_value(region, input, target, dtype, positional).contiguous()
    if ignored is not None:
        mask = _without(mask, ignored)
    source, leaves = None, ()
    if isinstance(weight, Tensor):
        weight = broadcast_view(weight, input.ndim).to(input.device, dtype)
        shape = (*input.shape[:1], 1, *input.shape[2:]) if positional else input.shape
        weight = spread(weight.contiguous(), shape)
    elif weight is not None:
        source = weight
        values = leaf_values(weight, input, target, dtype, positional)
        leaves = [leaf.contiguous() for leaf in values]
        weight = combined(source, leaves)
    if mask is None and weight is None:
        return Selection(None, None, None)
    if weight is None:
        active = mask != 0
    elif mask is None:
        active = weight != 0
    else:
        active = (mask != 0) & (weight != 0)
    if mask is not None and mask.dtype is not torch.bool:
        mask = torch.where(mask != 0, mask, 0.0)
    if source is not None:  # a factor must not spoil the gradient of another
        weight = combined(source, [torch.where(active, leaf, 1.0) for leaf in leaves])
    if weight is not None:
        weight = torch.where(active, weight, 0.0)
    return Selection(mask, weight, active)


def hidden(values: Tensor, active: Tensor | None, harmless: float) -> Tensor:
    """`values` where they take part; elsewhere a number that every formula takes, without
    gradient: what stands there must not even be computed with."""
    return values if active is None else torch.where(active, values, harmless)


def weighted(loss: Tensor, selection: Selection) -> Tensor:
    """mask x weight x loss; exactly 0, with zero gradients, where the element takes no part."""
    mask, weight, active = selection
    if active is not None:
        loss = torch.where(active, loss, 0.0)
    if weight is not None:
        loss = loss * weight
    if mask is not None and mask.dtype is not torch.bool:
        loss = loss * torch.where(active, mask, 0.0)
    return loss


def _without(mask: Tensor | None, ignored: Tensor) -> Tensor:
    if mask is None:
        return ~ignored
    return mask & ~ignored if mask.dtype is torch.bool else torch.where(ignored, 0.0, mask)
