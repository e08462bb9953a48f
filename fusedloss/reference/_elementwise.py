"""Any elementwise loss, from formula to result: masking, normalizer, reduction, statistics.

Nothing here branches on the values of a tensor or writes in place, so every transform of torch
(any order of derivative, forward AD, vmap, compile) goes through. All tensors that are as large as
`input` are made contiguous, so that sums and gradients have the same bits for every number of
threads (`_sums.py`); the layout of a result is its caller's business.
"""

import torch
from torch import Tensor

from ..stats import Stats
from ._formulas import DEFAULT_NORMALIZERS, ELEMENTWISE
from ._masking import Selection, select
from ._sums import spread, total


def elementwise(
    name: str,
    options: tuple[float, ...],
    input: Tensor,
    target: Tensor,
    weight=None,
    pos_weight: Tensor | None = None,
    region=None,
    reduction: str = "mean",
    normalizer=None,
    return_stats: bool = False,
):
    """The loss `name` of checked arguments; `options` are its own numbers in order.

    `weight` is a tensor, a weight source or None.
    """
    dtype = compute_dtype(input, target, pos_weight, *factors(weight), *factors(region))
    selection = select(region, weight, input, target, dtype)
    if name == "binary_cross_entropy":
        _check_probabilities(input, selection.active)
    x, t = input.to(dtype).contiguous(), target.to(dtype).contiguous()
    if pos_weight is not None:
        pos_weight = spread(pos_weight.to(input.device, dtype).contiguous(), input.shape)
        options = (*options, _hidden(pos_weight, selection.active, 1.0))
    x, t = _hidden(x, selection.active, 0.5), _hidden(t, selection.active, 0.5)
    loss = _weighted(ELEMENTWISE[name].value(x, t, *options), selection)
    default = DEFAULT_NORMALIZERS[name]
    return _reduced(loss, selection, default, reduction, normalizer, return_stats, input)


def factors(operand) -> tuple[Tensor, ...]:
    """The tensors in a mask or weight (None, a tensor, an expression) whose values count."""
    if operand is None:
        return ()
    return (operand,) if isinstance(operand, Tensor) else operand.factors


def compute_dtype(*operands: Tensor | None) -> torch.dtype:
    """float64 if any operand is, else float32."""
    for operand in operands:
        if operand is not None and operand.dtype is torch.float64:
            return torch.float64
    return torch.float32


def result_dtype(input: Tensor) -> torch.dtype:
    """That of `input`; float32 for 16 bits under autocast."""
    if input.dtype in (torch.float16, torch.bfloat16):
        device = input.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            return torch.float32
    return input.dtype


def _hidden(values: Tensor, active: Tensor | None, harmless: float) -> Tensor:
    """`values` where they take part; elsewhere a number that every formula takes, without
    gradient: what stands there must not even be computed with."""
    return values if active is None else torch.where(active, values, harmless)


def _weighted(loss: Tensor, selection: Selection) -> Tensor:
    """mask x weight x loss; exactly 0, with zero gradients, where the element takes no part."""
    mask, weight, active = selection
    if active is not None:
        loss = torch.where(active, loss, 0.0)
    if weight is not None:
        loss = loss * weight
    if mask is not None and mask.dtype is not torch.bool:
        loss = loss * torch.where(active, mask, 0.0)
    return loss


def _reduced(loss, selection, default, reduction, normalizer, return_stats, input):
    by_sample = reduction == "sample_mean"
    if reduction == "none" and not return_stats:
        return loss.to(result_dtype(input))
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
    result = result.to(result_dtype(input))
    if not return_stats:
        return result
    return result, Stats(summed.detach(), denominator.detach(), selected.sum())


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


def _check_probabilities(input: Tensor, active: Tensor | None) -> None:
    """An input outside [0, 1] that takes part is an error; looked at on the CPU alone, where that
    costs no wait, and only where values exist. NaN passes: it propagates."""
    if torch.compiler.is_compiling() or input.device.type != "cpu":
        return
    outside = (input < 0) | (input > 1)
    if active is not None:
        outside = outside & active
    try:
        found = bool(outside.any())
    except RuntimeError:  # vmap and fake tensors have no values to look at
        return
    if found:
        position = tuple(outside.nonzero()[0].tolist())
        raise ValueError(
            "input of binary_cross_entropy must lie in [0, 1] where it takes part, got "
            f"{input.detach()[position].item()!r} at position {position}; logits go to "
            "binary_cross_entropy_with_logits"
        )
