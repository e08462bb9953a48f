"""Every class loss once more, position by position in numpy: the tests' second opinion.

    wanted = opinion(problem)      # loss, gradient by `input`, statistics; all in float64

The derivatives are written down by hand: nothing here uses autograd, torch's losses or ours.
"""

import itertools
from typing import NamedTuple

import numpy as np

from tests.class_cases import INDEX
from tests.numpy_terms import array


class Opinion(NamedTuple):
    loss: np.ndarray
    gradient: np.ndarray
    total: np.ndarray
    normalizer: np.ndarray
    selected: int


def softmax(x):
    shares = np.exp(x - x.max())
    return shares / shares.sum()


def cross_entropy(x, label_smoothing=0.0):
    """(cost of every class, its derivative by every x): cost[c], slope[c, j]."""
    p = softmax(x)
    cost = x.max() - x + np.log(np.exp(x - x.max()).sum())
    return cost, p[None, :] - np.eye(len(x))


def nll_loss(x):
    return -x, -np.eye(len(x))


def softmax_focal_loss(x, gamma=2.0):
    p = softmax(x)
    cost, slope = cross_entropy(x)
    q = np.array([np.delete(p, c).sum() for c in range(len(x))])
    # d cost / d p * p, with d p_c / d x_j = p_c (delta_cj - p_j)
    by_p = -(q**gamma)
    if gamma and len(x) > 1:  # q is 0 and the loss too where there is one class
        by_p = by_p - gamma * q ** (gamma - 1) * cost * p
    return q**gamma * cost, -by_p[:, None] * slope


def categorical_cross_entropy(x, eps=1e-7):
    p = x / x.sum()
    inside = (p >= eps) & (p <= 1 - eps)
    clipped = np.clip(p, eps, 1 - eps)
    slope = (np.eye(len(x)) - p[:, None]) / x.sum()
    return -np.log(clipped), -np.where(inside, 1 / clipped, 0.0)[:, None] * slope


FORMULAS = {
    "cross_entropy": cross_entropy,
    "nll_loss": nll_loss,
    "softmax_focal_loss": softmax_focal_loss,
    "categorical_cross_entropy": categorical_cross_entropy,
}


def opinion(problem) -> Opinion:
    x, t = array(problem.input), array(problem.target)
    if x.ndim == 1:
        x, t = x[None], t.reshape(1, -1)
    if t.ndim < x.ndim:
        t = t[:, None]
    column = (x.shape[0], 1, *x.shape[2:])
    mask, weight_map = (
        np.ones(column)
        if term is None
        else np.broadcast_to(np.asarray(term.value(x, t), dtype=float), column)
        for term in (problem.mask, problem.weight_map)
    )
    w = np.ones(x.shape[1]) if problem.weight is None else array(problem.weight)
    losses, slopes = np.zeros(column), np.zeros(x.shape)
    counts = {kind: np.zeros(column) for kind in ("weights", "selected", "all")}
    counts["positions"] = counts["selected"]
    for n, *where in itertools.product(range(x.shape[0]), *map(range, x.shape[2:])):
        at, row = (n, 0, *where), (n, slice(None), *where)
        counts["all"][at] = 1
        if problem.target_kind == INDEX:
            if t[at] == problem.ignore_index:
                continue
            shares = (np.arange(x.shape[1]) == t[at]).astype(float)
        else:
            shares = t[row]
        counts["selected"][at] = mask[at]
        if mask[at] == 0 or weight_map[at] == 0:
            continue
        w_y = sum(w[c] * shares[c] for c in range(len(w)) if w[c] != 0)
        counts["weights"][at] = mask[at] * weight_map[at] * w_y
        losses[at], slopes[row] = _at_a_position(problem.loss, x[row], shares, w)
        losses[at] *= mask[at] * weight_map[at]
        slopes[row] *= mask[at] * weight_map[at]
    return _reduced(problem, losses, slopes, counts)


def _at_a_position(loss, x, shares, w):
    cost, slope = FORMULAS[loss.name](x, **loss.options)
    smoothing = loss.options.get("label_smoothing", 0.0)
    value, by_input = 0.0, np.zeros(len(x))
    for c in range(len(x)):
        factor = w[c] * ((1 - smoothing) * shares[c] + smoothing / len(x))
        if w[c] != 0 and factor != 0:
            value += factor * cost[c]
            by_input += factor * slope[c]
    return value, by_input


def _reduced(problem, losses, slopes, counts):
    reduction, kind = problem.reduction, problem.normalizer
    if kind is None or reduction in ("sum", "none"):
        kind = problem.loss.normalizers[problem.target_kind]
    by_sample = reduction == "sample_mean"
    dims = tuple(range(1, losses.ndim)) if by_sample else None
    total = losses.sum(dims)
    denominator = counts[kind].sum(dims) if isinstance(kind, str) else np.float64(kind)
    scale = np.where(denominator == 0, 0.0, 1 / np.where(denominator == 0, 1.0, denominator))
    if reduction in ("sum", "none"):
        scale = np.ones(())
    if by_sample:
        present = (counts["selected"] != 0).any(dims)
        scale = scale / max(1, present.sum())
    result = (total * scale).sum()
    shape = (-1, *[1] * (losses.ndim - 1)) if by_sample else ()
    gradient = slopes * scale.reshape(shape)
    if reduction == "none":
        result = losses.reshape(_positions(problem.input.shape))
    selected = int((counts["selected"] != 0).sum())
    gradient = gradient.reshape(problem.input.shape)
    return Opinion(np.asarray(result), gradient, total, denominator, selected)


def _positions(shape):
    return (*shape[:1], *shape[2:]) if len(shape) >= 2 else ()
