"""The tables of the overlap family: losses, activations, pools, targets, masks, weight maps.

Everything here is data and small builders of tensors; nothing computes a loss. Masks and maps are
terms of `numpy_terms`: an expression beside what it means.
"""

import zlib
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from tests import numpy_terms as terms
from tests.cases import LAYOUTS, make_weight
from tests.numpy_terms import Term
from tests.overlap_oracle import Answer, Call, answer

ACTIVATIONS = ("none", "sigmoid", "softmax")
PER = ("sample", "sample_class", "class", "batch")
REDUCTIONS = ("mean", "sum", "none", "sample_mean")
LABEL_DTYPES = (torch.int64, torch.uint8, torch.int16, torch.int32, torch.int8)
LABEL_DTYPES += (torch.uint16, torch.uint32, torch.uint64)
IGNORED = 77  # fits every integer dtype, and is exact in every floating one

# (function, its own options)
LOSSES = (
    ("dice_loss", {}),
    ("dice_loss", {"squared": True}),
    ("dice_loss", {"smooth": (0.0, 1.0)}),
    ("dice_loss", {"smooth": 1.0, "squared": True}),
    ("jaccard_loss", {}),
    ("jaccard_loss", {"smooth": (1.0, 0.5)}),
    ("tversky_loss", {}),
    ("tversky_loss", {"alpha": 0.3, "beta": 0.7, "gamma": 0.75}),
    ("tversky_loss", {"alpha": 1.5, "beta": 0.0, "gamma": 2.0, "smooth": 0.0}),
)
FUNCTIONS = ("dice_loss", "jaccard_loss", "tversky_loss")


def reductions(per: str) -> tuple[str, ...]:
    """Those that go with pools."""
    return REDUCTIONS if per.startswith("sample") else REDUCTIONS[:3]


def generator(*key) -> torch.Generator:
    """A random generator that depends on the words of `key` alone."""
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


@dataclass(frozen=True)
class Problem:
    """A call of the function `name` with all its operands."""

    name: str
    input: torch.Tensor
    target: torch.Tensor
    options: dict = field(default_factory=dict)
    mask: Term | None = None
    weight_map: Term | None = None

    def arguments(self) -> dict:
        """Keyword arguments, without `input` and `target`."""
        result = dict(self.options)
        if self.mask is not None:
            result["mask"] = self.mask.expression
        if self.weight_map is not None:
            result["weight_map"] = self.weight_map.expression
        return result

    def with_(self, **changes) -> "Problem":
        return replace(self, **changes)

    def with_options(self, **options) -> "Problem":
        return replace(self, options=self.options | options)

    def labels(self) -> bool:
        return self.input.shape[1] != 1 and self.target.shape != self.input.shape


def expected(problem: Problem) -> Answer:
    """What the oracle says, in float64, about the operands as they are."""
    x, target = terms.array(problem.input), problem.target
    aligned = target if target.ndim == x.ndim else target.unsqueeze(1)
    seen = aligned.to(torch.int64) if not target.is_floating_point() else aligned.detach()
    seen = seen.double().numpy()
    t = seen
    if problem.labels():
        t = np.concatenate([seen == c for c in range(x.shape[1])], 1).astype(float)
    mask, weights = (
        np.ones(x.shape) if term is None else np.broadcast_to(term.value(x, seen), x.shape)
        for term in (problem.mask, problem.weight_map)
    )
    ignore_index = problem.options.get("ignore_index")
    ignored = np.broadcast_to(seen == ignore_index, x.shape)
    options = dict(problem.options)
    if isinstance(options.get("weight"), torch.Tensor):
        options["weight"] = terms.array(options["weight"])
    with np.errstate(all="ignore"):
        return answer(Call(problem.name, x, np.array(t), mask, weights, ignored, options))


# ---- targets: (shape of input, dtype of input, generator) -> tensor ----------------------------


def _positions(shape):
    return (*shape[:1], *shape[2:])


def _column(shape):
    return (*shape[:1], 1, *shape[2:])


def _labels(shape, rng):
    """All classes, and some to be ignored."""
    labels = torch.randint(0, max(1, shape[1]), shape[:1] + shape[2:], generator=rng)
    return torch.where(torch.rand(labels.shape, generator=rng) < 0.15, IGNORED, labels)


def _soft(shape, rng):
    t = torch.rand(shape, generator=rng, dtype=torch.float64)
    t = torch.where(t < 0.3, 0.0, torch.where(t > 0.7, 1.0, t))
    return torch.where(torch.rand(shape, generator=rng) < 0.1, float(IGNORED), t)


def _hard(shape, rng):
    return torch.randint(0, 2, shape, generator=rng)


TARGETS = {
    "labels": lambda shape, dtype, rng: _labels(shape, rng),
    "labels-column": lambda shape, dtype, rng: _labels(shape, rng).unsqueeze(1).to(torch.uint8),
    "soft": lambda shape, dtype, rng: _soft(shape, rng).to(dtype),
    "soft-float64": lambda shape, dtype, rng: _soft(shape, rng),
    "integer": lambda shape, dtype, rng: _hard(shape, rng).to(torch.int32),
    "bool": lambda shape, dtype, rng: _hard(shape, rng) > 0,
}
# With one channel an integer or bool target is t itself, also in the shape of the positions.
BINARY_TARGETS = {
    "positions-int": lambda shape, dtype, rng: _hard(_positions(shape), rng).to(torch.int16),
    "positions-bool": lambda shape, dtype, rng: _hard(_positions(shape), rng) > 0,
    "column-int": lambda shape, dtype, rng: _hard(shape, rng),
    "soft": TARGETS["soft"],
}


# ---- masks and weight maps: (shape, generator) -> Term; the second: the same for all channels ---


def _bools(shape, rng, share=0.7):
    return torch.rand(shape, generator=rng) < share


def held(term: Term) -> Term:
    """A comparison of a target with several channels, where it has to hold for all of them."""
    return Term(term.expression, lambda x, t: term.value(x, t).min(1, keepdims=True))


def _target(symbol, number, positional):
    term = terms.target(symbol, number)
    return held(term) if positional else term


ELEMENT_MASKS = {
    "bool": lambda shape, rng: terms.tensor_mask(_bools(shape, rng)),
    "float": lambda shape, rng: terms.tensor_mask(make_weight(shape, torch.float32, rng, 0.4)),
    "channels": lambda shape, rng: terms.tensor_mask(
        _bools((1, shape[1], *[1] * (len(shape) - 2)), rng)
    ),
}


def masks(positional: bool) -> dict:
    """By name; `positional`: those that go with softmax, and what they mean there."""
    table = {
        "none": lambda shape, rng: None,
        "positions": lambda shape, rng: terms.tensor_mask(_bools(_positions(shape), rng)),
        "uint8-column": lambda shape, rng: terms.tensor_mask(
            3 * _bools(_column(shape), rng).byte()
        ),
        "float-column": lambda shape, rng: terms.tensor_mask(
            make_weight(_column(shape), torch.float32, rng, 0.4)
        ),
        "target": lambda shape, rng: _target("<", 1, positional),
        "nested": lambda shape, rng: terms.either(
            terms.inverted(_target(">", 0.5, positional)),
            terms.tensor_mask(make_weight(_column(shape), torch.float32, rng, 0.5)),
        ),
        "variance": lambda shape, rng: terms.variance(">", 0.4),
        "nothing": lambda shape, rng: terms.tensor_mask(torch.zeros(_positions(shape))),
    }
    return table if positional else table | ELEMENT_MASKS


SPATIAL_MASKS = {
    "box": lambda shape, rng: terms.box(*[1] * len(shape[2:]), *shape[:1:-1]),
    "disks": lambda shape, rng: terms.disks(
        torch.tensor([[1.0] * len(shape[2:]) + [1.5], [3.0] * len(shape[2:]) + [1.0]])
    ),
    "dark": lambda shape, rng: terms.image_mean(
        torch.rand((shape[0], 3, *shape[2:]), generator=rng), "<", 0.5
    ),
}


def maps(positional: bool) -> dict:
    table = {
        "none": lambda shape, rng: None,
        "positions": lambda shape, rng: terms.tensor_weight(
            make_weight(_positions(shape), torch.float32, rng)
        ),
        "int-samples": lambda shape, rng: terms.tensor_weight(
            make_weight((shape[0], *[1] * (len(shape) - 1)), torch.int64, rng)
        ),
    }
    if not positional:
        table["elements"] = lambda shape, rng: terms.tensor_weight(
            make_weight(shape, torch.float32, rng)
        )
    return table


SPATIAL_MAPS = {
    "edges": lambda shape, rng: terms.edges(torch.rand((shape[0], 3, *shape[2:]), generator=rng)),
    "affine": lambda shape, rng: terms.total(
        terms.number(1),
        terms.product(
            terms.number(4),
            terms.boundary(torch.randint(0, 2, _positions(shape), generator=rng)),
        ),
    ),
    "product": lambda shape, rng: terms.product(
        terms.tensor_weight(make_weight(_column(shape), torch.float32, rng)),
        terms.edges(torch.rand((shape[0], 1, *shape[2:]), generator=rng)),
    ),
}
OWN_LABELS = {  # of the target, which has to have them
    "boundary": lambda shape, rng: terms.boundary(radius=1, inside=3.0, outside=0.5),
}


def make_problem(
    name, shape, activation, target, rng, dtype=torch.float32, mask="none", weight_map="none", **own
) -> Problem:
    """Random operands; `mask` and `weight_map` are names in the tables above."""
    input = 2 * torch.randn(shape, generator=rng, dtype=torch.float64)
    input = input.sigmoid() if activation == "none" else input
    table = BINARY_TARGETS if target in BINARY_TARGETS and target != "soft" else TARGETS
    positional = activation == "softmax"
    goal = table[target](shape, dtype, rng)
    if own.get("ignore_index") is None and goal.dtype is not torch.bool:
        goal = torch.where(goal == IGNORED, 0, goal).to(goal.dtype)
    return Problem(
        name,
        input.to(dtype),
        goal,
        {"activation": activation, **own},
        (masks(positional) | SPATIAL_MASKS)[mask](shape, rng),
        (maps(positional) | SPATIAL_MAPS | OWN_LABELS)[weight_map](shape, rng),
    )


def placed(problem: Problem, layout: str) -> Problem:
    """The same values in other strides."""
    move = LAYOUTS[layout]
    return problem.with_(input=move(problem.input), target=move(problem.target))
