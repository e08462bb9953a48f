"""Checked calls of the overlap losses and compounds as the arguments of their ops, which
``csrc/core/overlap_problem.h`` reads: a line of words, numbers, the ignored label, tensors, and the
code of the two programs. None where no kernel can serve a call."""

import torch
from torch import Tensor

from . import reference
from ._kernel_arguments import (
    add_tensors,
    compiled,
    has_float_result,
    has_kernel,
    normalizer_of,
    on_device,
    viewed,
)
from ._labels import with_channels
from ._overlap_call import Compound, Operands, Overlap, Pointwise, holds_labels
from .reference._class_formulas import CLASSWISE

_PARTS = {
    "cross_entropy": "cross_entropy",
    "softmax_focal_loss": "softmax_focal",
    "binary_cross_entropy_with_logits": "binary_cross_entropy",
    "sigmoid_focal_loss": "sigmoid_focal",
}
_EXACT = 1 << 24  # integers below it are exact in float32


def of_overlap(options: Overlap, operands: Operands, reduction: str):
    """Of dice_loss, jaccard_loss, tversky_loss."""
    return _arguments(options, operands, reduction, None)


def of_compound(options: Compound, operands: Operands, reduction: str):
    """Of a Dice loss beside a pointwise one."""
    part = options.pointwise
    if part.is_classwise != (options.dice.activation == "softmax"):
        return None  # p would be another function of the logits than that of the part
    return _arguments(options.dice, operands, reduction, options)


def compute_dtype(options: Overlap | Compound, operands: Operands) -> torch.dtype:
    """What the loss and its statistics are computed in."""
    own = ()
    if isinstance(options, Compound):
        own = options.dice_class_weight, options.pointwise.pos_weight
    return reference.compute_dtype(*operands, *own)


def _arguments(dice: Overlap, operands: Operands, reduction: str, compound: Compound | None):
    input, target, weight, weight_map, region = operands
    source = None
    if weight_map is not None and not isinstance(weight_map, Tensor):
        source, weight_map = weight_map, None
    labels = holds_labels(input, target)
    read = with_channels(input, target) if region is not None or source is not None else operands
    program = compiled(region, source, *read[:2])
    if program is None or not _takes(dice, input, target):
        return None
    pools_weight = weight if compound is None else compound.dice_class_weight
    part = None if compound is None else compound.pointwise
    kind, divisor, given, pos_weight = "weights", None, (), None
    if part is not None:
        kind, divisor, given = normalizer_of(part.normalizer, _default_normalizer(part, labels))
        pos_weight = part.pos_weight
    tensors = (weight, pools_weight, pos_weight, weight_map, divisor, *program.tensors)
    if not has_kernel(input, target, *tensors):
        return None
    words = [dice.name, reduction, kind, *_words(dice, labels)]
    numbers = (*program.constants, *dice.smooth, dice.alpha, dice.beta, dice.gamma)
    numbers += (1.0 if compound is None else compound.dice_weight,)
    others = []

    def add(word: str, tensor: Tensor | None):
        if tensor is not None:
            words.append(word)
            others.append(tensor)

    add("weight", pools_weight)
    if part is not None:
        words.append(_PARTS[part.name])
        numbers += (compound.pointwise_weight, part.label_smoothing, *part.options, *given)
        add("class_weight", weight)
    if pos_weight is not None:
        add("pos_weight", on_device(pos_weight, input))
    if weight_map is not None:
        add("weight_map", viewed(weight_map, input.ndim, input))
    if divisor is not None:
        add("normalizer", on_device(divisor, input))
    add_tensors(others, program, input)
    if has_float_result(input):
        words.append("float_result")
    ignore_index = 0 if dice.ignore_index is None else dice.ignore_index
    return " ".join(words), numbers, ignore_index, others, (program.region, program.source)


def _words(dice: Overlap, labels: bool) -> list[str]:
    flags = {
        dice.activation: dice.activation != "none",
        dice.per: dice.per != "sample",
        "squared": dice.squared,
        "skip_absent": dice.skip_absent,
        "foreground": not dice.include_background,
        "ignores": dice.ignore_index is not None,
        "labels": labels,
    }
    return [word for word, is_set in flags.items() if is_set]


def _default_normalizer(part: Pointwise, labels: bool) -> str:
    if not part.is_classwise:
        return reference.DEFAULT_NORMALIZERS[part.name]
    formula = CLASSWISE[part.name]
    return formula.index_normalizer if labels else formula.probability_normalizer


def _takes(dice: Overlap, input: Tensor, target: Tensor) -> bool:
    """Whether the kernels know such channels and such an ignored target."""
    if input.shape[1] == 0:
        return False
    if dice.ignore_index is None or holds_labels(input, target) or target.is_floating_point():
        return True
    return abs(dice.ignore_index) < _EXACT  # it is compared as a number of the arithmetic
