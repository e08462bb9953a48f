"""The meaning of every weight source: tensors that broadcast to `input`.

    leaves = leaf_values(source, input, target, dtype)    # images to maps
    weight = combined(source, leaves)                     # + - * /

No gradient flows into images, features, labels or what a region reads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import sources, weights
from .._checks import broadcast_view
from ._sums import spread
from ._terms import region_value


def leaf_values(
    source, input: Tensor, target: Tensor, dtype: torch.dtype, positional: bool = False
) -> list[Tensor]:
    """The leaves of a source in `dtype`, each broadcasting to `input` by torch's rules.

    `positional`: one value per position, as `_terms.region_value` says.
    """
    return [
        normalized(leaf, input, target, dtype, positional)
        if isinstance(leaf, sources.Normalized)
        else LEAVES[type(leaf)](leaf, input, target, dtype)
        for leaf in source.leaves
    ]


def combined(source, leaves: list[Tensor]) -> Tensor:
    """The value of a source whose leaves have these values."""
    if len(source.leaves) == 1:
        return leaves[0]
    count = len(source.left.leaves)
    left, right = combined(source.left, leaves[:count]), combined(source.right, leaves[count:])
    if isinstance(source, weights.Sum):
        return left + right
    if isinstance(source, weights.Difference):
        return left - right
    if isinstance(source, weights.Quotient):
        return left / right
    return _product(left, right)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left * right; 0 where either is 0, also beside NaN and infinity, which are then replaced by
    0 and thus get no gradient, while finite factors keep the gradient of a product."""
    hidden_left = (right == 0) & ~left.isfinite()
    hidden_right = (left == 0) & ~right.isfinite()
    return torch.where(hidden_left, 0.0, left) * torch.where(hidden_right, 0.0, right)


# ---- leaves ------------------------------------------------------------------------------------


def tensor_weight(source: weights.TensorWeight, input, target, dtype) -> Tensor:
    tensor = broadcast_view(source.tensor, input.ndim).to(input.device, dtype)
    return spread(tensor, input.shape)


def number(source: weights.Number, input, target, dtype) -> Tensor:
    return input.new_full((), source.value, dtype=dtype)


def edges(source: sources.Edges, input, target, dtype) -> Tensor:
    image = source.tensor.detach().to(dtype)
    if image.numel() == 0:
        return image.sum(1, keepdim=True)
    g = _sobel(image) if source.operator == "sobel" else _forward_differences(image)
    return _normalised(g)


def _forward_differences(image: Tensor) -> Tensor:
    """abs(I[p - 1] - I[p - 1 + e_dim]) summed over channels and dims; 0 where p has a 0 index."""
    dims = range(2, image.ndim)
    before = _shifted(image, {dim: 0 for dim in dims})
    g = sum(
        (before - _shifted(image, {other: int(other == dim) for other in dims})).abs()
        for dim in dims
    )
    return F.pad(g.sum(1, keepdim=True), [1, 0] * len(dims))


def _shifted(image: Tensor, steps: dict[int, int]) -> Tensor:
    """I[p - 1 + step] for every p without a zero index."""
    for dim, step in steps.items():
        image = image.narrow(dim, step, image.shape[dim] - 1)
    return image


def _sobel(image: Tensor) -> Tensor:
    """sqrt(gx^2 + gy^2) summed over channels."""

    def at(down: int, right: int) -> Tensor:  # the image moved, its border replicated
        return _moved(_moved(image, 2, down), 3, right)

    gx = sum(scale * (at(step, 1) - at(step, -1)) for step, scale in ((-1, 1), (0, 2), (1, 1)))
    gy = sum(scale * (at(1, step) - at(-1, step)) for step, scale in ((-1, 1), (0, 2), (1, 1)))
    return (gx * gx + gy * gy).sqrt().sum(1, keepdim=True)


def _moved(values: Tensor, dim: int, step: int) -> Tensor:
    """values[p + step] along `dim`, the index kept inside."""
    size = values.shape[dim]
    index = torch.arange(step, size + step, device=values.device).clamp(0, max(0, size - 1))
    return values.index_select(dim, index)


def activation(source: sources.Activation, input, target, dtype) -> Tensor:
    g = source.tensor.detach().to(dtype).abs().sum(1, keepdim=True)
    for dim in range(2, input.ndim):
        g = _resized(g, dim, input.shape[dim])
    return _normalised(g)


def _resized(values: Tensor, dim: int, size: int) -> Tensor:
    """Linear interpolation along `dim` with half-pixel centres; a neighbour of weight 0 has no
    part in it, so that a size that stays the same changes nothing. Between equal values it is
    exactly they: rounding would pass for activity where constant features are normalised."""
    old = values.shape[dim]
    if old == size:
        return values
    places = torch.arange(size, device=values.device, dtype=torch.float64)
    places = ((places + 0.5) * (old / max(1, size)) - 0.5).clamp(0, old - 1)
    low = places.floor().to(torch.int64)
    high = (low + 1).clamp(max=old - 1)
    share = (places - low).to(values.dtype).reshape(-1, *[1] * (values.ndim - 1 - dim))
    low_values, high_values = values.index_select(dim, low), values.index_select(dim, high)
    between = low_values * (1 - share) + high_values * share
    return torch.where((share == 0) | (low_values == high_values), low_values, between)


def normalized(source: sources.Normalized, input, target, dtype, positional) -> Tensor:
    value = region_value(source.region, input, target, dtype, positional)
    return _normalised((value != 0).to(dtype))


def boundary(source: sources.Boundary, input, target, dtype) -> Tensor:
    """A label in the window differs where the window's smallest and largest labels do (any NaN
    makes them NaN, which differs as well)."""
    labels = (source.tensor if source.own else target).detach()
    if labels.ndim < input.ndim:
        labels = labels.unsqueeze(1)
    if not labels.is_floating_point():
        labels = labels.to(torch.int64)  # of uint64 the order changes, not what is equal
    smallest = largest = labels
    for dim in range(2, input.ndim):
        reach = min(source.radius, labels.shape[dim])
        lows = [_moved(smallest, dim, step) for step in range(-reach, reach + 1)]
        highs = [_moved(largest, dim, step) for step in range(-reach, reach + 1)]
        for low, high in zip(lows, highs, strict=True):
            smallest, largest = torch.minimum(smallest, low), torch.maximum(largest, high)
    inside, outside = (
        torch.full((), value, dtype=dtype, device=input.device)
        for value in (source.inside, source.outside)
    )
    return torch.where(smallest != largest, inside, outside)


def _normalised(g: Tensor) -> Tensor:
    """(g - min) / (max - min + 1e-7) per sample; what is not finite is left out of both."""
    if g.numel() == 0:
        return g
    dims = tuple(range(1, g.ndim)) if g.ndim >= 2 else tuple(range(g.ndim))
    finite = g.isfinite()
    low = torch.where(finite, g, torch.inf).amin(dims, keepdim=True)
    high = torch.where(finite, g, -torch.inf).amax(dims, keepdim=True)
    nothing = low > high
    low, high = torch.where(nothing, 0.0, low), torch.where(nothing, 0.0, high)
    return (g - low) / (high - low + 1e-7)


LEAVES = {
    weights.TensorWeight: tensor_weight,
    weights.Number: number,
    sources.Edges: edges,
    sources.Activation: activation,
    sources.Boundary: boundary,
}
