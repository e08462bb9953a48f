"""A call of an overlap loss or compound as plain records, for functions, reference and kernels."""

from typing import NamedTuple

from torch import Tensor

from ._labels import has_input_shape
from .regions import Region
from .weights import WeightSource

ACTIVATIONS = ("none", "sigmoid", "softmax")
PER = ("sample", "sample_class", "class", "batch")


class Operands(NamedTuple):
    """The tensors of a call, and the rules that stand for tensors."""

    input: Tensor
    target: Tensor
    weight: Tensor | None = None  # per class
    weight_map: Tensor | WeightSource | None = None
    region: Region | None = None


class Overlap(NamedTuple):
    """How soft counts become losses: the options of an overlap loss, or of a compound's Dice part.

    `smooth` is (s, s'): what is added to numerator and denominator. An option that a loss does not
    have keeps its default, which changes nothing.
    """

    name: str  # of the function that is called
    activation: str
    smooth: float | tuple[float, float]
    per: str
    ignore_index: int | None = None
    include_background: bool = True
    skip_absent: bool = False
    squared: bool = False
    alpha: float = 0.5
    beta: float = 0.5
    gamma: float = 1.0
    positional: bool = False  # mask and weight map are the same for all channels of a position

    @property
    def by_class(self) -> bool:
        """Whether a pool holds one class."""
        return self.per in ("class", "sample_class")

    @property
    def by_sample(self) -> bool:
        """Whether a pool lies within one sample."""
        return self.per in ("sample", "sample_class")


class Pointwise(NamedTuple):
    """The part of a compound that has a loss at every position or element."""

    name: str  # cross_entropy, softmax_focal_loss, sigmoid_focal_loss, binary_cross_entropy_...
    options: tuple[float, ...] = ()  # its own numbers in order
    label_smoothing: float = 0.0
    pos_weight: Tensor | None = None
    normalizer: object = None

    @property
    def is_classwise(self) -> bool:
        """Whether it has a loss of each position, instead of each element."""
        return self.name in ("cross_entropy", "softmax_focal_loss")


class Compound(NamedTuple):
    """A Dice part and a pointwise part, each with its weight; the class weight of the operands is
    the pointwise part's."""

    dice: Overlap
    pointwise: Pointwise
    dice_weight: float
    pointwise_weight: float | None
    dice_class_weight: Tensor | None = None


def holds_labels(input: Tensor, target: Tensor) -> bool:
    """Whether the target holds class indices; with one channel it is the soft target itself."""
    return input.shape[1] != 1 and not has_input_shape(input, target)
