"""Every region term and weight source once more, in numpy loops: the tests' second opinion.

A `Term` is an expression beside a function of (input, target) as numpy arrays that says what it
should be: for regions the value of the mask, for sources the weight, broadcasting to the input.
Nothing here looks inside an expression.
"""

import itertools
import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

import fusedloss as fl

OPERATORS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


class Term(NamedTuple):
    expression: object
    value: Callable  # (input, target) -> array


def positions(shape):
    """The index of every position: (sample, *spatial)."""
    return itertools.product(range(shape[0]), *(range(size) for size in shape[2:]))


def by_position(shape, value):
    """An array with a channel dim of size 1, `value(sample, spatial index)` at each position."""
    result = np.zeros((shape[0], 1, *shape[2:]))
    for n, *where in positions(shape):
        result[(n, 0, *where)] = value(n, tuple(where))
    return result


def array(tensor):
    return tensor.detach().double().numpy()


# ---- regions -----------------------------------------------------------------------------------


def tensor_mask(mask):
    def value(x, t):
        m = array(mask) if mask.is_floating_point() else (array(mask) != 0).astype(float)
        missing = x.ndim - m.ndim
        if missing == 1 and x.ndim >= 2:
            m = m[:, None]
        return m.reshape((1,) * (x.ndim - m.ndim) + m.shape)

    return Term(fl.regions.as_region(mask), value)


def target(symbol, number):
    compare = OPERATORS[symbol]
    return Term(compare(fl.target, number), lambda x, t: compare(t, number).astype(float))


def finite_target():
    return Term(fl.target.isfinite(), lambda x, t: np.isfinite(t).astype(float))


def variance(symbol, number, correction=1):
    def value(x, t):
        def at(n, where):
            channels = [float(x[(n, c, *where)]) for c in range(x.shape[1])]
            count = len(channels)
            if count <= correction:
                return 0
            mean = sum(channels) / count
            var = sum((v - mean) ** 2 for v in channels) / (count - correction)
            return 0 if np.isnan(var) else OPERATORS[symbol](var, number)

        return by_position(x.shape, at)

    return Term(OPERATORS[symbol](fl.input.var(correction), number), value)


def image_mean(image, symbol, number):
    def value(x, t):
        pixels = array(image)

        def at(n, where):
            sample = 0 if len(pixels) == 1 else n
            mean = sum(pixels[(sample, c, *where)] for c in range(pixels.shape[1]))
            return OPERATORS[symbol](mean / pixels.shape[1], number)

        return by_position(x.shape, at)

    return Term(OPERATORS[symbol](fl.image(image).mean(), number), value)


def center(fraction):
    def value(x, t):
        def at(n, where):
            for index, size in zip(where, x.shape[2:], strict=True):
                low = np.floor(size * (1 - fraction) / 2 + 1e-6)
                high = np.floor(size * (1 + fraction) / 2 + 1e-6)
                if not low <= index < high:
                    return 0
            return 1

        return by_position(x.shape, at)

    return Term(fl.center(fraction), value)


def in_box(row, where):
    """`where` counts from the first spatial dim, a row starts with the last."""
    point = where[::-1]
    dims = len(point)
    return all(low <= p < high for p, low, high in zip(point, row[:dims], row[dims:], strict=True))


def in_disk(row, where):
    *centre, radius = row
    distance = sum((p - c) ** 2 for p, c in zip(where[::-1], centre, strict=True))
    return radius >= 0 and distance <= radius**2


def box(*numbers):
    return Term(
        fl.box(*numbers), lambda x, t: by_position(x.shape, lambda n, p: in_box(numbers, p))
    )


def disk(*numbers):
    return Term(
        fl.disk(*numbers), lambda x, t: by_position(x.shape, lambda n, p: in_disk(numbers, p))
    )


def _any_row(rows, inside):
    def value(x, t):
        table = array(rows)
        return by_position(
            x.shape,
            lambda n, p: any(inside(row, p) for row in (table if table.ndim == 2 else table[n])),
        )

    return value


def boxes(rows):
    return Term(fl.boxes(rows), _any_row(rows, in_box))


def disks(rows):
    return Term(fl.disks(rows), _any_row(rows, in_disk))


def keypoints(points, radius):
    return Term(
        fl.keypoints(points, radius),
        _any_row(points, lambda row, p: in_disk([*row, radius], p)),
    )


def lengths(counts):
    def value(x, t):
        result = np.zeros((x.shape[0], *[1] * (x.ndim - 2), x.shape[-1]))
        for n, count in enumerate(counts.tolist()):
            for index in range(x.shape[-1]):
                result[n, ..., index] = index < count
        return result

    return Term(fl.lengths(counts), value)


def both(a, b):
    def value(x, t):
        left, right = np.broadcast_arrays(a.value(x, t), b.value(x, t))
        with np.errstate(all="ignore"):
            return np.where((left == 0) | (right == 0), 0.0, left * right)

    return Term(a.expression & b.expression, value)


def either(a, b):
    return Term(a.expression | b.expression, lambda x, t: np.maximum(a.value(x, t), b.value(x, t)))


def inverted(a):
    return Term(~a.expression, lambda x, t: (a.value(x, t) == 0).astype(float))


# ---- weight sources ----------------------------------------------------------------------------


def normalise(g):
    """Per sample; what is not finite is left out of minimum and maximum."""
    result = np.empty_like(g)
    for n, sample in enumerate(g):
        finite = sample[np.isfinite(sample)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        with np.errstate(all="ignore"):
            result[n] = (sample - low) / (high - low + 1e-7)
    return result


def edges(image, kind="forward"):
    def value(x, t):
        pixels = array(image)
        shape = (len(pixels), 1, *x.shape[2:])
        spatial = len(x.shape) - 2

        def forward(n, where):
            if 0 in where:
                return 0.0
            before = tuple(index - 1 for index in where)
            total = 0.0
            for c in range(pixels.shape[1]):
                for dim in range(spatial):
                    step = tuple(b + (d == dim) for d, b in enumerate(before))
                    total += abs(pixels[(n, c, *before)] - pixels[(n, c, *step)])
            return total

        def sobel(n, where):
            y, x = where
            total = 0.0
            for c in range(pixels.shape[1]):
                gx = gy = 0.0
                for dy, dx in itertools.product((-1, 0, 1), repeat=2):
                    if dy == dx == 0:
                        continue
                    i = min(max(y + dy, 0), shape[2] - 1)
                    j = min(max(x + dx, 0), shape[3] - 1)
                    gx += dx * (2 - abs(dy)) * pixels[n, c, i, j] if dx else 0
                    gy += dy * (2 - abs(dx)) * pixels[n, c, i, j] if dy else 0
                total += np.sqrt(gx**2 + gy**2)
            return total

        with np.errstate(all="ignore"):
            return normalise(by_position(shape, sobel if kind == "sobel" else forward))

    options = {} if kind == "forward" else {"operator": kind}
    return Term(fl.edges(image, **options), value)


def activation(features):
    def value(x, t):
        g = np.abs(array(features)).sum(1, keepdims=True)

        def at(n, where):
            """Sum over the corners of the cell that a half-pixel centre falls into."""
            corners = []
            for index, new, old in zip(where, x.shape[2:], g.shape[2:], strict=True):
                place = min(max((index + 0.5) * old / new - 0.5, 0.0), old - 1.0)
                low = int(np.floor(place))
                corners.append([(low, 1 - (place - low)), (min(low + 1, old - 1), place - low)])
            total = 0.0
            for corner in itertools.product(*corners):
                share = np.prod([s for _, s in corner])
                if share:
                    total += share * g[(n, 0, *(i for i, _ in corner))]
            return total

        return normalise(by_position((len(g), 1, *x.shape[2:]), at))

    return Term(fl.activation(features), value)


def normalized(a):
    def value(x, t):
        mask = (a.value(x, t) != 0).astype(float)
        return normalise(mask) if x.ndim >= 2 else normalise(mask[None])[0]

    return Term(fl.normalized(a.expression), value)


def boundary(labels=None, radius=1, inside=1.0, outside=0.0):
    def value(x, t):
        own = t if labels is None else array(labels)
        if own.ndim == x.ndim:
            own = own[:, 0]

        def at(n, where):
            window = itertools.product(
                *(
                    range(max(0, index - radius), min(size, index + radius + 1))
                    for index, size in zip(where, x.shape[2:], strict=True)
                )
            )
            differs = any(own[(n, *other)] != own[(n, *where)] for other in window)
            return inside if differs else outside

        return by_position((len(own), 1, *x.shape[2:]), at)

    return Term(fl.boundary(labels, radius, inside, outside), value)


def tensor_weight(weight):
    """Not an expression yet: it becomes one beside a source."""
    return Term(weight, tensor_mask(weight.double()).value)


def number(value):
    return Term(value, lambda x, t: np.full((1,) * x.ndim, float(value)))


def total(a, b):
    return Term(a.expression + b.expression, lambda x, t: a.value(x, t) + b.value(x, t))


def difference(a, b):
    return Term(a.expression - b.expression, lambda x, t: a.value(x, t) - b.value(x, t))


def product(a, b):
    def value(x, t):
        left, right = np.broadcast_arrays(a.value(x, t), b.value(x, t))
        with np.errstate(all="ignore"):
            return np.where((left == 0) | (right == 0), 0.0, left * right)

    return Term(a.expression * b.expression, value)


def quotient(a, divisor):
    return Term(a.expression / divisor, lambda x, t: a.value(x, t) / divisor)


# ---- comparison --------------------------------------------------------------------------------


def expected_mask(term, input, goal):
    return torch.from_numpy(np.array(term.value(input.numpy(), goal.numpy()) != 0))


def expected_map(term, input, goal):
    return torch.from_numpy(np.array(term.value(array(input), array(goal)), dtype=np.float64))
