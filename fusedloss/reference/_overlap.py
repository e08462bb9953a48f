"""The overlap losses from soft counts to result: sums over pools, formulas, reduction, statistics.

    p = activation(input)      I = sum(p t)      P = sum(p)      T = sum(t)

over the elements of a pool, every term multiplied by mask, weight map and, where a pool holds
several classes, class weight. Nothing here branches on the values of a tensor or writes in place,
so every transform of torch goes through.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .._labels import with_channels
from .._overlap_call import Operands, Overlap, holds_labels
from ..regions import And, TensorRegion
from ..stats import Stats
from ..weights import Product, TensorWeight, WeightSource, as_source
from ._dtypes import compute_dtype, result_dtype
from ._labels import is_ignored, one_hot
from ._masking import Selection, hidden, select, weighted
from ._reduction import divide


class Sums(NamedTuple):
    """I, P and T of every pool."""

    intersection: Tensor
    input_sum: Tensor
    target_sum: Tensor


def overlap(options: Overlap, operands: Operands, reduction: str, return_stats: bool):
    """The loss of checked arguments."""
    input, target, weight, weight_map, region = operands
    dtype = compute_dtype(*operands)
    selection = overlap_selection(options, operands, dtype)
    p = _activated(options.activation, input.to(dtype), selection.active)
    t = soft_target(options.name, operands, selection.active, dtype)
    sums = _summed(options, p, t, selection)
    share = _share(options, sums, weight)
    pools = _pool_losses(options, sums, share)
    selected = _selected(selection.mask, input)
    result, total, normalizer = _reduced(pools, share, selected, reduction)
    result = result.to(result_dtype(input))
    if not return_stats:
        return result
    total, normalizer, *counts = (value.detach() for value in (total, normalizer, *sums))
    return result, Stats(total, normalizer, selected.sum(), *counts)


# ---- who takes part ----------------------------------------------------------------------------


def overlap_selection(options: Overlap, operands: Operands, dtype: torch.dtype) -> Selection:
    """Mask and weight of every element.

    An ignored element and a background that is left out are masked out; a class of weight 0 is
    hidden, also where the class weights multiply pools instead of elements.
    """
    input, target, weight, weight_map, region = operands
    ignored, (_, seen) = None, with_channels(input, target)
    if options.ignore_index is not None:
        ignored = is_ignored(seen, options.ignore_index)
    if not options.include_background:
        channels = torch.arange(input.shape[1], device=input.device)
        keep = TensorRegion(_by_channel(channels != 0, input))
        region = keep if region is None else And(region, keep)
    if weight is not None:
        shown = weight != 0 if options.by_class else weight
        weight_map = _multiplied(weight_map, _by_channel(shown, input))
    return select(region, weight_map, input, seen, dtype, options.positional, ignored)


def _multiplied(weight_map: Tensor | WeightSource | None, weight: Tensor) -> Tensor | WeightSource:
    return weight if weight_map is None else Product(as_source(weight_map), TensorWeight(weight))


def _by_channel(values: Tensor, input: Tensor) -> Tensor:
    """One value per channel, with `input`'s number of dims."""
    return values.reshape(1, -1, *[1] * (input.ndim - 2))


def _selected(mask: Tensor | None, input: Tensor) -> Tensor:
    """How many elements the mask selects in every sample, int64."""
    chosen = input.new_ones((1,) * input.ndim) if mask is None else mask
    return (chosen != 0).expand(input.shape).sum(tuple(range(1, input.ndim)))


# ---- soft counts -------------------------------------------------------------------------------


def _activated(activation: str, x: Tensor, active: Tensor | None) -> Tensor:
    """p; what takes no part is hidden first, under softmax where no channel of a position does."""
    if activation == "softmax":
        positions = None if active is None else active.any(1, keepdim=True)
        return torch.softmax(hidden(x, positions, 0.0), 1)
    x = hidden(x, active, 0.0)
    return torch.sigmoid(x) if activation == "sigmoid" else x


def soft_target(name: str, operands: Operands, active: Tensor | None, dtype: torch.dtype) -> Tensor:
    """t of `input`'s shape: the target itself, or the one-hot of its labels."""
    input, target = operands.input, operands.target
    _, seen = with_channels(input, target)
    if holds_labels(input, target):
        return one_hot(name, seen, active, input.shape[1]).to(dtype)
    return hidden(seen.to(dtype), active, 0.0)


def _summed(options: Overlap, p: Tensor, t: Tensor, selection: Selection) -> Sums:
    by_class, by_sample = options.by_class, options.by_sample
    dims = (() if by_sample else (0,)) + (() if by_class else (1,)) + tuple(range(2, p.ndim))

    def total(terms: Tensor) -> Tensor:
        terms = weighted(terms, selection)
        sums = terms.sum(dims) if dims else terms
        return sums[..., 1:] if by_class and not options.include_background else sums

    squares = (p * p, t * t) if options.squared else (p, t)
    return Sums(total(p * t), total(squares[0]), total(squares[1]))


# ---- formulas ----------------------------------------------------------------------------------


def dice(sums: Sums, options: Overlap) -> Tensor:
    """1 - (2I + s)/(P + T + s')."""
    s, s_below = options.smooth
    return _one_minus_ratio(2 * sums.intersection + s, sums.input_sum + sums.target_sum + s_below)


def jaccard(sums: Sums, options: Overlap) -> Tensor:
    """1 - (I + s)/(P + T - I + s')."""
    s, s_below = options.smooth
    union = sums.input_sum + sums.target_sum - sums.intersection
    return _one_minus_ratio(sums.intersection + s, union + s_below)


def tversky(sums: Sums, options: Overlap) -> Tensor:
    """max(0, 1 - (I + s)/(I + alpha FP + beta FN + s'))^gamma; derivative 0 where the base is."""
    s, s_below = options.smooth
    false_positive = sums.input_sum - sums.intersection
    false_negative = sums.target_sum - sums.intersection
    errors = options.alpha * false_positive + options.beta * false_negative
    base = _one_minus_ratio(sums.intersection + s, sums.intersection + errors + s_below)
    zero = base <= 0  # not of NaN, which propagates
    return torch.where(zero, 0.0, torch.where(zero, 1.0, base) ** options.gamma)


def _one_minus_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """1 - numerator/denominator; 0 with zero gradients where the denominator is 0."""
    return torch.where(denominator == 0, 0.0, 1 - divide(numerator, denominator))


FORMULAS = {"jaccard_loss": jaccard, "tversky_loss": tversky}  # the others have a Dice part


# ---- reduction ---------------------------------------------------------------------------------


def _share(options: Overlap, sums: Sums, weight: Tensor | None) -> Tensor:
    """What every pool counts: 1, or its class weight; 0 where it is absent and that is skipped."""
    share = torch.ones_like(sums.target_sum)
    if weight is not None and options.by_class:
        weight = torch.where(weight != 0, weight, 0).to(share.device, share.dtype)
        share = share * (weight if options.include_background else weight[1:])
    return torch.where(sums.target_sum == 0, 0.0, share) if options.skip_absent else share


def _pool_losses(options: Overlap, sums: Sums, share: Tensor) -> Tensor:
    """share x loss; where a pool does not count, its sums are not even computed with."""
    counted = share != 0
    shown = Sums(*(hidden(values, counted, 0.0) for values in sums))
    return FORMULAS.get(options.name, dice)(shown, options) * share


def _reduced(
    pools: Tensor, share: Tensor, selected: Tensor, reduction: str
) -> tuple[Tensor, Tensor, Tensor]:
    """(result, total, normalizer); `selected` counts the elements of every sample."""
    if reduction == "sample_mean":
        total, normalizer = _by_sample(pools), _by_sample(share)
        samples = (selected > 0).sum().to(pools.dtype)
        return divide(divide(total, normalizer).sum(), samples), total, normalizer
    total, normalizer = pools.sum(), share.sum()
    if reduction == "none":
        return pools, total, normalizer
    return total if reduction == "sum" else divide(total, normalizer), total, normalizer


def _by_sample(pools: Tensor) -> Tensor:
    return pools if pools.ndim == 1 else pools.sum(1)
