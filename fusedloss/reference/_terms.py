"""What a region selects: the meaning of every region term, and of ``& | ~``.

The value of a region is a bool tensor, or a floating one where a floating mask takes part; either
broadcasts to `input` by torch's rules. An element takes part where it is not 0. A term that is the
same for all channels has a channel dim of size 1. Nothing here carries a
gradient: neither to `input`, through its variance, nor to images, coordinates or lengths.
"""

import math
import operator

import torch
from torch import Tensor

from .. import _comparison, quantities, regions, shapes
from .._checks import broadcast_view
from ._sums import spread

_OPERATORS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


def region_value(
    region: regions.Region,
    input: Tensor,
    target: Tensor,
    dtype: torch.dtype,
    positional: bool = False,
) -> Tensor:
    """The value of a region: bool, or `dtype` where a floating mask takes part.

    `positional`: one value per position, as in class losses; a comparison of a target with several
    channels means that it holds for all of them.
    """
    term = TERMS.get(type(region))
    if term is not None:
        value = term(region, input, target)
        return value.all(1, keepdim=True) if positional and value.ndim == input.ndim else value
    if isinstance(region, regions.TensorRegion):
        mask = broadcast_view(region.tensor, input.ndim).to(input.device)
        return spread(mask.to(dtype), input.shape) if mask.is_floating_point() else mask != 0
    if isinstance(region, regions.Not):
        return region_value(region.operand, input, target, dtype, positional) == 0
    left = region_value(region.left, input, target, dtype, positional)
    right = region_value(region.right, input, target, dtype, positional)
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


# ---- comparisons -------------------------------------------------------------------------------


def target_compare(region: quantities.TargetCompare, input: Tensor, target: Tensor) -> Tensor:
    return _compare(target, region.operator, region.value)


def target_isfinite(region: quantities.TargetIsFinite, input: Tensor, target: Tensor) -> Tensor:
    return target.isfinite()


def variance_compare(region: quantities.VarianceCompare, input: Tensor, target: Tensor) -> Tensor:
    """The variance over the channels; NaN takes no part, not even under ``!=``."""
    if input.shape[1] <= region.correction or input.numel() == 0:  # 0/0
        return input.new_zeros((*input.shape[:1], 1, *input.shape[2:]), dtype=torch.bool)
    variance = _wide(input.detach()).var(1, correction=region.correction, keepdim=True)
    return _compare(variance, region.operator, region.value) & ~variance.isnan()


def image_mean_compare(
    region: quantities.ImageMeanCompare, input: Tensor, target: Tensor
) -> Tensor:
    mean = _wide(region.tensor.detach()).mean(1, keepdim=True)
    return _compare(mean, region.operator, region.value)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype is torch.float64 else values.to(torch.float32)


def _compare(values: Tensor, symbol: str, number: float) -> Tensor:
    """``values <symbol> number`` as torch means it, also where torch has no kernel for it."""
    compare = _OPERATORS[symbol]
    if isinstance(number, float):
        return compare(values, number)
    if values.is_floating_point():
        return compare(values, number if abs(number) < 1 << 63 else _comparison.as_float(number))
    wrapped = _comparison.wrapped(number, values.dtype)
    if wrapped is None:
        holds = _comparison.holds_everywhere(symbol, value_is_large=number > 0)
        return torch.full_like(values, holds, dtype=torch.bool)
    if values.dtype is torch.uint64:  # order kept: both shifted by 2^63 into int64
        return compare(values.to(torch.int64) ^ -(1 << 63), wrapped - (1 << 63))
    if values.dtype in (torch.uint16, torch.uint32):
        values = values.to(torch.int64)
    return compare(values, wrapped)


# ---- shapes: coordinates x, y, z count along the last spatial dim, the one before, ... ----------


def center(region: shapes.Center, input: Tensor, target: Tensor) -> Tensor:
    inside = _nowhere(input).logical_not()
    for axis, size in zip(_axes(input), reversed(input.shape[2:]), strict=True):
        low = math.floor(size * (1 - region.fraction) / 2 + 1e-6)
        high = math.floor(size * (1 + region.fraction) / 2 + 1e-6)
        inside = inside & (axis >= low) & (axis < high)
    return inside


def box(region: shapes.Box, input: Tensor, target: Tensor) -> Tensor:
    return _nowhere(input) | _in_box(_axes(input), region.numbers)


def boxes(region: shapes.Boxes, input: Tensor, target: Tensor) -> Tensor:
    return _in_any(_in_box, region.tensor, input)


def disk(region: shapes.Disk, input: Tensor, target: Tensor) -> Tensor:
    return _nowhere(input) | _in_disk(_axes(input), region.numbers)


def disks(region: shapes.Disks, input: Tensor, target: Tensor) -> Tensor:
    return _in_any(_in_disk, region.tensor, input)


def keypoints(region: shapes.Keypoints, input: Tensor, target: Tensor) -> Tensor:
    points = region.tensor.to(torch.float64)
    radii = torch.full_like(points[..., :1], region.radius)
    return _in_any(_in_disk, torch.cat((points, radii), dim=-1), input)


def lengths(region: shapes.Lengths, input: Tensor, target: Tensor) -> Tensor:
    length = region.tensor.to(torch.int64).reshape(-1, *[1] * (input.ndim - 1))
    return torch.arange(input.shape[-1], device=input.device) < length


def _axes(input: Tensor) -> list[Tensor]:
    """The x, y (and z) of every position, shaped to broadcast against the spatial dims.

    float64 holds every index and every coordinate of other dtypes exactly.
    """
    options = {"device": input.device, "dtype": torch.float64}
    return [
        torch.arange(size, **options).reshape(-1, *[1] * places)
        for places, size in enumerate(reversed(input.shape[2:]))
    ]


def _nowhere(input: Tensor) -> Tensor:
    """False at every position, the same for all samples."""
    return torch.zeros((1, 1, *input.shape[2:]), dtype=torch.bool, device=input.device)


def _in_any(inside, rows: Tensor, input: Tensor) -> Tensor:
    """Where any of the rows, (K, width) or (N, K, width), holds."""
    rows = rows.detach().to(torch.float64)
    if rows.ndim == 2:
        rows = rows.unsqueeze(0)
    axes, result = _axes(input), _nowhere(input)
    for row in rows.unbind(1):
        numbers = [number.reshape(-1, *[1] * (input.ndim - 1)) for number in row.unbind(1)]
        result = result | inside(axes, numbers)
    return result


def _in_box(axes, numbers) -> Tensor:
    """low <= index < high in every dim; never where one of them is NaN."""
    inside = None
    for axis, low, high in zip(axes, numbers[: len(axes)], numbers[len(axes) :], strict=True):
        within = (axis >= low) & (axis < high)
        inside = within if inside is None else inside & within
    return inside


def _in_disk(axes, numbers) -> Tensor:
    """Squared distance <= radius^2; never where the radius is negative or anything is NaN."""
    *centre, radius = numbers
    squared = sum((axis - number) ** 2 for axis, number in zip(axes, centre, strict=True))
    return (squared <= radius * radius) & (radius >= 0)


TERMS = {
    quantities.TargetCompare: target_compare,
    quantities.TargetIsFinite: target_isfinite,
    quantities.VarianceCompare: variance_compare,
    quantities.ImageMeanCompare: image_mean_compare,
    shapes.Center: center,
    shapes.Box: box,
    shapes.Boxes: boxes,
    shapes.Disk: disk,
    shapes.Disks: disks,
    shapes.Keypoints: keypoints,
    shapes.Lengths: lengths,
}
