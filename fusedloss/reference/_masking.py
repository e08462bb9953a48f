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


def select(region, weight, input: Tensor, target: Tensor, dtype: torch.dtype) -> Selection:
    """`weight` is a tensor with `input`'s dims or fewer, a weight source, or None."""
    mask = None
    if region is not None:
        mask = region_value(region, input, target, dtype).contiguous()
    source, leaves = None, ()
    if isinstance(weight, Tensor):
        weight = broadcast_view(weight, input.ndim).to(input.device, dtype)
        weight = spread(weight.contiguous(), input.shape)
    elif weight is not None:
        source = weight
        leaves = [leaf.contiguous() for leaf in leaf_values(weight, input, target, dtype)]
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
