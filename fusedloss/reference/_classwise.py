"""Any class loss, from formula to result: labels, masking, class weights, smoothing, reduction.

Everything has the dims of (N, C, ...); what belongs to a position has a channel dim of size 1.
Nothing here branches on the values of a tensor or writes in place, so every transform of torch
(any order of derivative, forward AD, vmap, compile) goes through.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .._labels import is_index_target, positions, with_channels
from ._class_formulas import CLASSWISE, ClassFormula
from ._dtypes import compute_dtype, result_dtype
from ._labels import check_labels, is_ignored
from ._masking import hidden, select, weighted
from ._reduction import reduced


class ClassOperands(NamedTuple):
    """What a class loss is computed of, and how its target is read.

    `weight` has one value per class, `weight_map` (a tensor or a weight source) one per position.
    """

    input: Tensor
    target: Tensor
    weight: Tensor | None = None
    weight_map: object = None
    ignore_index: int = -100
    label_smoothing: float = 0.0


class _Positions(NamedTuple):
    """The loss of each position and what belongs to it, (N, 1, ...) each."""

    loss: Tensor  # without mask and weight map; arbitrary where not live
    weight: Tensor | None  # of the position's class; for soft targets sum_c w_c t_c; None: 1
    live: Tensor | None  # where anything is computed at all; None: everywhere


def classwise(
    name: str,
    options: tuple[float, ...],
    operands: ClassOperands,
    region=None,
    reduction: str = "mean",
    normalizer=None,
    return_stats: bool = False,
):
    """The loss `name` of checked arguments; `options` are its own numbers in order."""
    input, target, weight, weight_map, ignore_index, _ = operands
    dtype = compute_dtype(input, target, weight, weight_map, region)
    formula = CLASSWISE[name]
    view, y = with_channels(input, target)
    x = view.to(dtype)
    if weight is not None:
        weight = weight.to(dtype).reshape(-1, *[1] * (x.ndim - 2))
        weight = torch.where(weight == 0, 0.0, weight)  # without gradient where it is 0
    operands = operands._replace(input=x, target=y, weight=weight)
    if is_index_target(input, target):
        default = formula.index_normalizer
        ignored = is_ignored(y, ignore_index)
        selection = select(region, weight_map, view, y, dtype, True, ignored)
        advice = f"mask such positions, or mark them by ignore_index ({ignore_index})"
        check_labels(name, y, selection.active, x.shape[1], advice, input.ndim)
        labels = torch.where(selection.active, y.to(torch.int64), 0)
        result = _of_indices(formula, options, operands, labels, selection.active)
    else:
        default = formula.probability_normalizer
        selection = select(region, weight_map, view, y, dtype, True)
        result = _of_probabilities(formula, options, operands, selection.active)
    loss = weighted(result.loss, selection._replace(active=result.live))
    counted = selection._replace(weight=_product(selection.weight, result.weight))
    result = reduced(
        loss, counted, default, reduction, normalizer, return_stats, result_dtype(input)
    )
    return _without_channels(result, reduction, positions(input.shape), return_stats)


def _of_indices(
    formula: ClassFormula, options, operands: ClassOperands, labels: Tensor, active: Tensor
) -> _Positions:
    """l = (1 - e) w_y cost_y + e / C sum_c w_c cost_c, e = label_smoothing."""
    x, _, weight, _, _, smoothing = operands
    if x.shape[1] == 0:  # no classes: nobody takes part
        return _Positions(x.sum(1, keepdim=True), None, active)
    class_weight, live = None, active
    if weight is not None:
        class_weight = torch.where(active, weight.reshape(-1)[labels], 0.0)
        live = active & ((weight != 0).any() if smoothing else class_weight != 0)
    parts = formula.parts(hidden(x, live, 1.0))
    of_label = tuple(part.gather(1, labels) for part in parts)
    loss = _weighted_cost(formula, options, of_label, class_weight)
    if smoothing:
        every = _weighted_cost(formula, options, parts, weight).sum(1, keepdim=True)
        loss = (1 - smoothing) * loss + smoothing / x.shape[1] * every
    return _Positions(loss, class_weight, live)


def _of_probabilities(
    formula: ClassFormula, options, operands: ClassOperands, active: Tensor | None
) -> _Positions:
    """l = sum_c w_c t'_c cost_c, t' = (1 - e) t + e / C, e = label_smoothing."""
    x, target, weight, _, _, smoothing = operands
    t = hidden(target.to(x.dtype), active, 0.0)
    if weight is not None:
        t = torch.where(weight == 0, 0.0, t)
    position_weight = (t if weight is None else weight * t).sum(1, keepdim=True)
    if x.shape[1] == 0:
        return _Positions(x.sum(1, keepdim=True), position_weight, active)
    if smoothing:
        t = (1 - smoothing) * t + smoothing / x.shape[1]
    live = active
    if weight is not None:  # where every w_c t'_c is 0, x is left out if t could get no gradient
        live = ((weight != 0) & (t != 0)).any(1, keepdim=True) | _has_costs(formula, options, x)
        live = live if active is None else live & active
    parts = formula.parts(hidden(x, live, 1.0))
    loss = (t * _weighted_cost(formula, options, parts, weight)).sum(1, keepdim=True)
    return _Positions(loss, position_weight, live)


def _has_costs(formula: ClassFormula, options, x: Tensor) -> Tensor:
    """Where the costs of all classes are finite."""
    cost = formula.cost(*formula.parts(x.detach()), *options)
    return cost.isfinite().all(1, keepdim=True)


def _weighted_cost(formula: ClassFormula, options, parts, weight: Tensor | None) -> Tensor:
    """weight x cost; exactly 0, with zero gradients, where the weight is 0, whatever the cost."""
    if weight is None:
        return formula.cost(*parts, *options)
    parts = (torch.where(weight == 0, 0.0, part) for part in parts)
    return weight * formula.cost(*parts, *options)


def _product(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return left if right is None else right
    return left * right


def _without_channels(result, reduction: str, shape, return_stats: bool):
    """Under ``"none"`` the loss gets the shape of the positions."""
    if reduction != "none":
        return result
    if return_stats:
        return result[0].reshape(shape), result[1]
    return result.reshape(shape)
