"""The overlap losses once more, in numpy loops over pools: the tests' second opinion.

Nothing here imports the library. The gradient is written down by hand: d loss / d(I, P) of a pool,
d(I, P) / dp of an element, dp / dx of the activation.
"""

import itertools
from typing import NamedTuple

import numpy as np


class Call(NamedTuple):
    """A call in float64 arrays of `input`'s shape; options as the functions take them."""

    name: str
    x: np.ndarray
    t: np.ndarray  # soft target or one-hot
    mask: np.ndarray  # 0: takes no part; else multiplies
    map: np.ndarray
    ignored: np.ndarray  # bool
    options: dict


class Answer(NamedTuple):
    loss: np.ndarray
    gradient: np.ndarray  # of the loss, under "none" of the sum of the pools
    total: np.ndarray
    normalizer: np.ndarray
    selected: int
    intersection: np.ndarray
    input_sum: np.ndarray
    target_sum: np.ndarray


DEFAULTS = {
    "activation": "none",
    "smooth": 1e-6,
    "squared": False,
    "alpha": 0.5,
    "beta": 0.5,
    "gamma": 1.0,
    "per": "sample",
    "weight": None,
    "include_background": True,
    "skip_absent": False,
    "reduction": "mean",
}


def answer(call: Call) -> Answer:
    o = {**DEFAULTS, **call.options}
    samples, classes = call.x.shape[:2]
    weight = np.ones(classes) if o["weight"] is None else np.asarray(o["weight"], float)
    first = 0 if o["include_background"] else 1
    by_class = o["per"] in ("class", "sample_class")
    counted = (call.mask != 0) & ~call.ignored
    counted[:, :first] = False
    factor = np.where(counted, call.mask * call.map, 0.0)
    columns = weight.reshape(1, -1, *[1] * (call.x.ndim - 2))
    factor = np.where(columns == 0, 0.0, factor * (1.0 if by_class else columns))
    p = activated(o["activation"], call.x, factor)
    t = np.where(factor == 0, 0.0, call.t)

    pools = [*pools_of(o["per"], samples, range(first, classes))]
    losses, slopes, sums = [], np.zeros_like(p), []
    for pool in pools:
        here = np.ix_(*pool)
        f, q, g = factor[here], p[here], t[here]
        q = np.where(f == 0, 0.0, q)
        counts = (f * q * g).sum(), (f * power(q, o)).sum(), (f * power(g, o)).sum()
        loss, by_i, by_p = formula(call.name, *counts, o)
        slopes[here] = f * (by_i * g + by_p * (2 * q if o["squared"] else 1.0))
        losses.append(loss)
        sums.append(counts)

    share = np.array([weight[pool[1][0]] if by_class else 1.0 for pool in pools])
    if o["skip_absent"]:
        share = share * [counts[2] != 0 for counts in sums]
    losses = np.array(losses)
    scale, loss, total, normalizer = reduced(o, losses, share, pools, counted)
    for pool, factor_of_pool in zip(pools, scale, strict=True):
        slopes[np.ix_(*pool)] *= factor_of_pool
    shape = {"sample": (samples,), "class": (classes - first,), "batch": ()}.get(
        o["per"], (samples, classes - first)
    )
    loss = loss.reshape(shape) if o["reduction"] == "none" else loss
    counts = [np.array([c[i] for c in sums]).reshape(shape) for i in range(3)]
    gradient = through(o["activation"], p, slopes)
    gradient = np.where(taking_part(o["activation"], factor), gradient, 0.0)
    return Answer(loss, gradient, total, normalizer, int(counted.sum()), *counts)


def pools_of(per, samples, classes):
    """The index ranges (samples, classes) of every pool, in the order in which they are returned;
    a pool holds all positions."""
    if per == "sample":
        return (([n], [*classes]) for n in range(samples))
    if per == "sample_class":
        return (([n], [c]) for n, c in itertools.product(range(samples), classes))
    if per == "class":
        return (([*range(samples)], [c]) for c in classes)
    return iter([([*range(samples)], [*classes])])


def power(values, o):
    return values**2 if o["squared"] else values


def formula(name, i, p, t, o):
    """(loss, d loss / dI, d loss / dP) of a pool."""
    s, below = o["smooth"] if isinstance(o["smooth"], tuple) else (o["smooth"],) * 2
    if name == "dice_loss":
        over, under, by_i, by_p, twice = 2 * i + s, p + t + below, 0.0, 1.0, 2.0
    elif name == "jaccard_loss":
        over, under, by_i, by_p, twice = i + s, p + t - i + below, -1.0, 1.0, 1.0
    else:
        a, b = o["alpha"], o["beta"]
        over, under = i + s, i + a * (p - i) + b * (t - i) + below
        by_i, by_p, twice = 1 - a - b, a, 1.0
    if under == 0:
        return 0.0, 0.0, 0.0
    base = 1 - over / under
    slope_i = -(twice / under - over / under**2 * by_i)
    slope_p = over / under**2 * by_p
    if name != "tversky_loss":
        return base, slope_i, slope_p
    if base <= 0:
        return 0.0, 0.0, 0.0
    outer = o["gamma"] * base ** (o["gamma"] - 1)
    return base ** o["gamma"], outer * slope_i, outer * slope_p


def reduced(o, losses, share, pools, counted):
    """(d loss / d pool for every pool, loss, total, normalizer)."""
    weighted = np.where(share == 0, 0.0, losses) * share
    total, normalizer = weighted.sum(), share.sum()
    if o["reduction"] == "none":
        return share, weighted, total, normalizer
    if o["reduction"] == "sum":
        return share, total, total, normalizer
    if o["reduction"] == "mean":
        scale = share / normalizer if normalizer else 0 * share
        return scale, total / normalizer if normalizer else np.float64(0), total, normalizer
    sample = np.array([pool[0][0] for pool in pools])
    count = counted.shape[0]
    totals = np.array([weighted[sample == n].sum() for n in range(count)])
    normalizers = np.array([share[sample == n].sum() for n in range(count)])
    present = sum(bool(counted[n].any()) for n in range(count))
    means = [a / b if b else 0.0 for a, b in zip(totals, normalizers, strict=True)]
    loss = sum(means) / present if present else 0.0
    scale = [
        w / normalizers[n] / present if normalizers[n] and present else 0.0
        for w, n in zip(share, sample, strict=True)
    ]
    return np.array(scale), np.float64(loss), totals, normalizers


def taking_part(activation, factor):
    """Where `input` has an influence: under softmax wherever a class of the position has."""
    if activation == "softmax":
        return np.broadcast_to((factor != 0).any(1, keepdims=True), factor.shape)
    return factor != 0


def activated(activation, x, factor):
    x = np.where(taking_part(activation, factor), x, 0.0)
    if activation == "none":
        return x
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-x))
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def through(activation, p, slopes):
    """d loss / dx from d loss / dp."""
    if activation == "none":
        return slopes
    if activation == "sigmoid":
        return slopes * p * (1 - p)
    return p * (slopes - (slopes * p).sum(1, keepdims=True))
