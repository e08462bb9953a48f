"""The formula of each class loss: what it costs at a position that its class is c.

The loss of a position is the sum over c of w_c t_c cost_c, where t holds the probabilities that the
target gives to the classes (a class index stands for a one-hot t) and w the class weights. A
formula has two steps, so that a cost is computed for the classes alone that have a part in the sum
(a cost that is infinite elsewhere would spoil the gradient by 0 * inf):

    parts = formula.parts(x)                  # everything that takes all classes, (N, C, ...) each
    cost = formula.cost(*parts, *options)     # elementwise, of the parts at some classes

Derivatives are those of autograd, finite to any order wherever the mathematical ones are.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class ClassFormula(NamedTuple):
    parts: Callable  # x -> tuple of tensors of its shape; the classes are dim 1, at least one
    cost: Callable  # (*parts, *options) -> Tensor
    index_normalizer: str  # the default one for class indices
    probability_normalizer: str | None  # and for probabilities; None: not taken


def log_probability(x: Tensor) -> tuple[Tensor]:
    """log p of p = softmax(x)."""
    log_p, _, _ = _log_softmax(x)
    return (log_p,)


def itself(x: Tensor) -> tuple[Tensor]:
    return (x,)


def negative(log_p: Tensor) -> Tensor:
    return 0 - log_p  # which is never -0


def log_probability_and_complement(x: Tensor) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p) of p = softmax(x).

    Where p is the largest, 1 - p is the sum of the others, in logarithms; elsewhere p <= 1/2 and
    1 - p loses nothing. Where p is 0, as of a logit of -inf, 1 - p is the constant 1, so that an
    infinite log p beside it meets no derivative of 0.
    """
    log_p, z, largest = _log_softmax(x)
    others = torch.where(largest, -torch.inf, z)
    alone = (others == -torch.inf).all(1, keepdim=True)
    log_rest = torch.where(alone, 0.0, others).logsumexp(1, keepdim=True)
    log_rest = torch.where(alone, -torch.inf, log_rest + torch.where(largest, log_p, 0.0))
    p = torch.where(largest, 0.0, log_p).exp()
    small = torch.where(largest | (p == 0), 0.0, p)
    return log_p, torch.where(largest, log_rest, torch.log1p(-small))


def focal(log_p: Tensor, log_q: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p, with log_q = log(1 - p)."""
    return negative(log_p) if gamma == 0 else torch.exp(gamma * log_q) * negative(log_p)


def share_and_complement(x: Tensor) -> tuple[Tensor, Tensor]:
    """p = x / sum of x, and 1 - p, which of the largest is the sum of the others / sum of x."""
    total = x.sum(1, keepdim=True)
    p, largest = x / total, _largest(x)
    rest = torch.where(largest, 0.0, x).sum(1, keepdim=True)
    return p, torch.where(largest, rest / total, 1 - p)


def clipped_logarithm(p: Tensor, q: Tensor, eps: float) -> Tensor:
    """-log of p clipped to [eps, 1 - eps], with q = 1 - p; near 1 from q, which has more digits."""
    near_one = p > 0.5
    small, rest = torch.where(near_one, 0.5, p), torch.where(near_one, q, 0.5)
    return -torch.where(near_one, torch.log1p(-rest.clamp(min=eps)), small.clamp(min=eps).log())


def _log_softmax(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(log p, z, largest): log p = z - log(1 + sum of the others' exp z), z = x - the largest x.

    Unlike torch's it has all digits, and its derivative too, where p is next to 1.
    """
    largest = _largest(x)
    top = torch.where(largest, x, 0.0).sum(1, keepdim=True)
    z = torch.where(largest, 0.0, x - top)
    rest = torch.where(largest, 0.0, z.exp()).sum(1, keepdim=True)
    rest = rest + (top - top)  # NaN, and its derivative, where the largest is not finite, as torch
    return z - rest.log1p(), z, largest


def _largest(x: Tensor) -> Tensor:
    """True at the largest class of each position; of equal ones at one of them."""
    classes = torch.arange(x.shape[1], device=x.device).reshape(-1, *[1] * (x.ndim - 2))
    return classes == x.argmax(1, keepdim=True)


CLASSWISE = {
    "cross_entropy": ClassFormula(log_probability, negative, "weights", "positions"),
    "nll_loss": ClassFormula(itself, negative, "weights", None),
    "softmax_focal_loss": ClassFormula(
        log_probability_and_complement, focal, "positions", "positions"
    ),
    "categorical_cross_entropy": ClassFormula(
        share_and_complement, clipped_logarithm, "positions", "positions"
    ),
}

CLASS_NORMALIZERS = {name: formula.index_normalizer for name, formula in CLASSWISE.items()}
