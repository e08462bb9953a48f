"""Any elementwise loss, from formula to result: masking, weighting, reduction.

Nothing here branches on the values of a tensor or writes in place, so every transform of torch
(any order of derivative, forward AD, vmap, compile) goes through. All tensors that are as large as
`input` are made contiguous, so that sums and gradients have the same bits for every number of
threads (`_sums.py`); the layout of a result is its caller's business.
"""

from torch import Tensor

from ._dtypes import compute_dtype, result_dtype
from ._formulas import DEFAULT_NORMALIZERS, ELEMENTWISE
from ._masking import hidden, select, weighted
from ._reduction import reduced
from ._sums import spread
from ._values import first_place, readable


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
    dtype = compute_dtype(input, target, weight, pos_weight, region)
    selection = select(region, weight, input, target, dtype)
    if name == "binary_cross_entropy":
        _check_probabilities(input, selection.active)
    x, t = input.to(dtype).contiguous(), target.to(dtype).contiguous()
    if pos_weight is not None:
        pos_weight = spread(pos_weight.to(input.device, dtype).contiguous(), input.shape)
        options = (*options, hidden(pos_weight, selection.active, 1.0))
    x, t = hidden(x, selection.active, 0.5), hidden(t, selection.active, 0.5)
    loss = weighted(ELEMENTWISE[name].value(x, t, *options), selection)
    default = DEFAULT_NORMALIZERS[name]
    result = result_dtype(input)
    return reduced(loss, selection, default, reduction, normalizer, return_stats, result)


def _check_probabilities(input: Tensor, active: Tensor | None) -> None:
    """An input outside [0, 1] that takes part is an error. NaN passes: it propagates."""
    if not readable(input):
        return
    outside = (input < 0) | (input > 1)
    if active is not None:
        outside = outside & active
    position = first_place(outside)
    if position is not None:
        raise ValueError(
            "input of binary_cross_entropy must lie in [0, 1] where it takes part, got "
            f"{input.detach()[position].item()!r} at position {position}; logits go to "
            "binary_cross_entropy_with_logits"
        )
