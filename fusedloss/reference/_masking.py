"""What a region selects, as dense tensors; `_terms.py` has the meaning of each term.

A region's value is a bool tensor, or a floating one where a floating mask takes part; either
broadcasts to `input` by torch's rules. An element takes part where the value is not 0.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import regions
from .._checks import broadcast_view
from ._terms import TERMS


class Selection(NamedTuple):
    """Who takes part and how much it counts; None: everyone, once.

    `mask` and `weight` are exactly 0 where the element does not take part, and so is their
    gradient, whatever stood there before. `active` is where both are not 0.
    """

    mask: Tensor | None
    weight: Tensor | None
    active: Tensor | None


def select(
    region, weight: Tensor | None, input: Tensor, target: Tensor, dtype: torch.dtype
) -> Selection:
    mask = None if region is None else region_value(region, input, target, dtype)
    if weight is not None:
        weight = broadcast_view(weight, target.ndim).to(target.device, dtype)
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
    if weight is not None:
        weight = torch.where(active, weight, 0.0)
    return Selection(mask, weight, active)


def region_value(
    region: regions.Region, input: Tensor, target: Tensor, dtype: torch.dtype
) -> Tensor:
    """The value of a region: bool, or `dtype` where a floating mask takes part."""
    term = TERMS.get(type(region))
    if term is not None:
        return term(region, input, target)
    if isinstance(region, regions.TensorRegion):
        mask = broadcast_view(region.tensor, input.ndim).to(input.device)
        return mask.to(dtype) if mask.is_floating_point() else mask != 0
    if isinstance(region, regions.Not):
        return region_value(region.operand, input, target, dtype) == 0
    left = region_value(region.left, input, target, dtype)
    right = region_value(region.right, input, target, dtype)
    if left.dtype is torch.bool and right.dtype is torch.bool:
        return left & right if isinstance(region, regions.And) else left | right
    left, right = left.to(dtype), right.to(dtype)
    if isinstance(region, regions.Or):
        return torch.maximum(left, right)
    return product(left, right)


def product(left: Tensor, right: Tensor) -> Tensor:
    """left * right, and 0 with zero gradients where either is 0, whatever the other holds."""
    both = (left != 0) & (right != 0)
    return torch.where(both, left, 0.0) * torch.where(both, right, 0.0)
