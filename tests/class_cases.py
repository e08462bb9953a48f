"""The tables of the class family: losses, targets, class weights, masks, weight maps, problems.

As in `tests/cases.py`, everything here is data and small builders of tensors. A mask or map is a
`Term` (or None): the expression that a loss takes beside what it means in numpy.
"""

from dataclasses import dataclass, field, replace

import torch

import fusedloss as fl
from tests import cases
from tests import numpy_terms as terms
from tests.cases import make_weight
from tests.numpy_terms import Term

FLOATS, REDUCTIONS, LAYOUTS = cases.FLOATS, cases.REDUCTIONS, cases.LAYOUTS
generator, normalizers = cases.generator, cases.normalizers
LABELS = tuple(dtype for dtype in cases.INTEGERS if dtype is not torch.bool)
INDEX, PROBABILITY = "index", "probability"


@dataclass(frozen=True)
class Loss:
    """A function of the family with its own options.

    `kind` says what inputs it takes, `targets` which targets, `normalizers` its default ones.
    """

    name: str
    options: dict = field(default_factory=dict)
    kind: str = "logit"  # "log_probability", "share"
    normalizers: dict = field(default_factory=dict)

    @property
    def targets(self):
        return tuple(self.normalizers)

    def __str__(self):
        short = self.name.removesuffix("_loss")
        return short + "".join(f"-{key}={value:g}" for key, value in self.options.items())


_TORCH = {INDEX: "weights", PROBABILITY: "positions"}
_POSITIONS = {INDEX: "positions", PROBABILITY: "positions"}
LOSSES = (
    Loss("cross_entropy", normalizers=_TORCH),
    Loss("cross_entropy", {"label_smoothing": 0.1}, normalizers=_TORCH),
    Loss("cross_entropy", {"label_smoothing": 1.0}, normalizers=_TORCH),
    Loss("nll_loss", kind="log_probability", normalizers={INDEX: "weights"}),
    Loss("softmax_focal_loss", normalizers=_POSITIONS),
    Loss("softmax_focal_loss", {"gamma": 0.0}, normalizers=_POSITIONS),
    Loss("softmax_focal_loss", {"gamma": 0.5}, normalizers=_POSITIONS),
    Loss("categorical_cross_entropy", kind="share", normalizers=_POSITIONS),
    Loss("categorical_cross_entropy", {"eps": 0.1}, kind="share", normalizers=_POSITIONS),
)
FUNCTION = {loss.name: loss for loss in reversed(LOSSES)}
FUNCTIONS = tuple(FUNCTION[name] for name in dict.fromkeys(loss.name for loss in LOSSES))
# (loss, kind of target)
TARGETS = [(loss, kind) for loss in LOSSES for kind in loss.targets]
FUNCTION_TARGETS = [(loss, kind) for loss in FUNCTIONS for kind in loss.targets]


@dataclass(frozen=True)
class Problem:
    """A call of `loss` with all its tensors; `mask` and `weight_map` are terms."""

    loss: Loss
    input: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor | None = None
    weight_map: Term | None = None
    mask: Term | None = None
    ignore_index: int = -100
    reduction: str = "mean"
    normalizer: object = None
    grad_output: torch.Tensor | None = None  # None: ones

    @property
    def target_kind(self):
        return PROBABILITY if self.target.shape == self.input.shape else INDEX

    def arguments(self) -> dict:
        """Keyword arguments of the function, without `input` and `target`."""
        result = dict(self.loss.options, reduction=self.reduction, normalizer=self.normalizer)
        result |= {"weight": self.weight, "ignore_index": self.ignore_index}
        for name in ("mask", "weight_map"):
            term = getattr(self, name)
            result[name] = None if term is None else term.expression
        return result

    def with_(self, **changes) -> "Problem":
        return replace(self, **changes)


# ---- values ------------------------------------------------------------------------------------


def positions(shape):
    return (*shape[:1], *shape[2:]) if len(shape) >= 2 else ()


def column(shape):
    return (*shape[:1], 1, *shape[2:]) if len(shape) >= 2 else (1,)


def classes(shape):
    return shape[1] if len(shape) >= 2 else shape[0]


def make_input(loss: Loss, shape, dtype=torch.float32, rng=None) -> torch.Tensor:
    values = 2 * torch.randn(shape, generator=rng, dtype=torch.float64)
    if loss.kind == "log_probability":
        values = values.log_softmax(min(1, len(shape) - 1))
    elif loss.kind == "share":
        values = values.exp()
    return values.to(dtype)


def make_target(kind: str, shape, dtype=None, rng=None, ignored=0.15) -> torch.Tensor:
    """Labels (some of them -100, or 255 where that does not fit), or probabilities; `dtype` None
    is int64 or float32."""
    if kind == PROBABILITY:
        values = torch.rand(shape, generator=rng, dtype=torch.float64)
        values = torch.where(values < 0.2, 0.0, values)
        total = values.sum(min(1, len(shape) - 1), keepdim=True).clamp(min=0.1)
        return (values / total).to(dtype or torch.float32)
    dtype = dtype or torch.int64
    labels = torch.randint(0, max(1, classes(shape)), positions(shape), generator=rng)
    out = torch.rand(labels.shape, generator=rng) < ignored
    return torch.where(out, ignored_label(dtype), labels).to(dtype)


def ignored_label(dtype) -> int:
    return -100 if dtype.is_signed else 255


def make_problem(loss, kind, shape, dtype=torch.float32, target_dtype=None, rng=None, **others):
    """`loss` of random values; `others` are fields of Problem."""
    rng = rng or generator(str(loss), kind, tuple(shape), dtype)
    input = make_input(loss, shape, dtype, rng)
    if target_dtype is None and kind == PROBABILITY:
        target_dtype = dtype
    target = make_target(kind, shape, target_dtype, rng)
    if kind == INDEX and "ignore_index" not in others:
        others["ignore_index"] = ignored_label(target.dtype)
    return Problem(loss, input, target, **others)


# ---- by name: (shape of the input, generator) -> tensor or term --------------------------------


def _bools(shape, rng):
    return torch.rand(shape, generator=rng) < 0.6


def label(symbol, number):
    """``fl.target <symbol> number``: of the label, or of the probabilities of every channel."""
    compare = terms.OPERATORS[symbol]

    def value(x, t):
        return compare(t, number).all(1, keepdims=True).astype(float)

    return Term(compare(fl.target, number), value)


CLASS_WEIGHTS = {
    "none": lambda shape, rng: None,
    "float": lambda shape, rng: 0.25 + torch.rand(classes(shape), generator=rng),
    "zeros": lambda shape, rng: make_weight((classes(shape),), torch.float32, rng, 0.4),
    "int64": lambda shape, rng: make_weight((classes(shape),), torch.int64, rng, 0.3),
    "float16": lambda shape, rng: make_weight((classes(shape),), torch.float16, rng, 0.3),
}

MASKS = {
    "none": lambda shape, rng: None,
    "bool": lambda shape, rng: terms.tensor_mask(_bools(positions(shape), rng)),
    "bool-column": lambda shape, rng: terms.tensor_mask(_bools(column(shape), rng)),
    "bool-spatial": lambda shape, rng: terms.tensor_mask(_bools(shape[2:], rng)),
    "uint8": lambda shape, rng: terms.tensor_mask(3 * _bools(positions(shape), rng).byte()),
    "float": lambda shape, rng: terms.tensor_mask(
        make_weight(positions(shape), torch.float32, rng, 0.4)
    ),
    "float-spatial": lambda shape, rng: terms.tensor_mask(
        make_weight(shape[2:], torch.float32, rng, 0.3)
    ),
    "label": lambda shape, rng: label("!=", 1),
    "label-band": lambda shape, rng: terms.both(label(">=", 0), terms.inverted(label(">", 0.6))),
    "nested": lambda shape, rng: terms.either(
        terms.both(
            terms.tensor_mask(make_weight(column(shape), torch.float32, rng)), label("<", 2)
        ),
        terms.inverted(terms.either(label("<", 1), terms.tensor_mask(_bools(shape[2:], rng)))),
    ),
    "nothing": lambda shape, rng: terms.tensor_mask(torch.zeros(positions(shape)).bool()),
}

MAPS = {
    "none": lambda shape, rng: None,
    "positions": lambda shape, rng: terms.tensor_weight(
        make_weight(positions(shape), torch.float32, rng)
    ),
    "int64-column": lambda shape, rng: terms.tensor_weight(
        make_weight(column(shape), torch.int64, rng)
    ),
    "spatial": lambda shape, rng: terms.tensor_weight(make_weight(shape[2:], torch.float32, rng)),
}

# For inputs with two spatial dims.


def _photo(shape, rng):
    return torch.rand((shape[0], 2, *shape[2:]), generator=rng)


def _boxes(shape, rng):
    size = torch.tensor([*shape[:1:-1]] * 2)
    return 1.2 * size * torch.rand((shape[0], 3, 4), generator=rng)


REGIONS = {
    "variance": lambda shape, rng: terms.variance(">", 3.0),
    "dark": lambda shape, rng: terms.image_mean(_photo(shape, rng), "<", 0.5),
    "center": lambda shape, rng: terms.center(0.6),
    "box": lambda shape, rng: terms.box(1, 0.5, 4, 3),
    "boxes": lambda shape, rng: terms.boxes(_boxes(shape, rng)),
    "disk-and-label": lambda shape, rng: terms.both(terms.disk(2, 2, 2.5), label("!=", 0)),
    "keypoints-or-label": lambda shape, rng: terms.either(
        terms.keypoints(torch.tensor([[1.0, 1.0], [4.0, 3.0]]), 1), label(">", 1)
    ),
}

SOURCES = {
    "edges": lambda shape, rng: terms.edges(_photo(shape, rng)),
    "affine": lambda shape, rng: terms.total(
        terms.number(1), terms.product(terms.number(4), terms.edges(_photo(shape, rng), "sobel"))
    ),
    "activation": lambda shape, rng: terms.activation(
        torch.randn((shape[0], 2, 3, 2), generator=rng)
    ),
    "normalized-label": lambda shape, rng: terms.normalized(label("!=", 1)),
    "labels": lambda shape, rng: terms.boundary(
        torch.randint(0, 2, positions(shape), generator=rng), inside=5.0, outside=0.5
    ),
    "product": lambda shape, rng: terms.product(
        terms.tensor_weight(make_weight(positions(shape), rng=rng)),
        terms.quotient(terms.edges(_photo(shape, rng)), 2),
    ),
}
OWN_LABELS = {  # of class indices alone
    "boundary": lambda shape, rng: terms.boundary(),
    "boundary-2": lambda shape, rng: terms.total(
        terms.number(1), terms.boundary(radius=2, inside=3.0, outside=0.25)
    ),
}
