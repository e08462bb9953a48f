"""Checked calls of the overlap losses and compounds as the arguments of their ops, which
``csrc/core/overlap_problem.h`` reads: a line of words, numbers, the ignored label, tensors, and the
code of the two programs. None where no kernel can serve a call."""

import torch
from torch import Tensor

from . import autograd, reference
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
    if part.pos_weight is not None and part.pos_weight.requires_grad and torch.is_grad_enabled():
        return None
    return _arguments(options.dice, operands, reduction, options)


def compute_dtype(options: Overlap | Compound, operands: Operands) -> torch.dtype:
    """What the loss and its statistics are computed in."""
    input, target, weight, weight_map, region = operands
    own = ()
    if isinstance(options, Compound):
        own = options.dice_class_weight, options.pointwise.pos_weight
    factors = *reference.factors(weight_map), *reference.factors(region)
    return reference.compute_dtype(input, target, weight, *own, *factors)


def _arguments(dice: Overlap, operands: Operands, reduction: str, compound: Compound | None):
    input, target, weight, weight_map, region = operands
    source = None
    if weight_map is not None and not isinstance(weight_map, Tensor):
        source, weight_map = weight_map, None
    labels = holds_labels(input, target)
    read = with_channels(input, target) if region is not None or source is not None else operands
    program = autograd.compiled(region, source, *read[:2])
    if program is None or not _takes(dice, input, target):
        return None
    pools_weight = weight if compound is None else compound.dice_class_weight
    part = None if compound is None else compound.pointwise
    tensors = (target, weight, pools_weight, weight_map, *program.tensors)
    if not autograd.has_kernel(input, *tensors):
        return None
    words = [dice.name, reduction, "weights", *_words(dice, labels)]
    numbers = (*program.constants, *dice.smooth, dice.alpha, dice.beta, dice.gamma)
    numbers += (1.0 if compound is None else compound.dice_weight,)
    others = []

    def add(word: str, tensor: Tensor | None):
        if tensor is not None:
            words.append(word)
            others.append(tensor)

    add("weight", pools_weight)
    divisor = None
    if part is not None:
        words[2], divisor, given = _normalizer(part, labels)
        if divisor is not None and divisor.requires_grad and torch.is_grad_enabled():
            return None
        words.append(_PARTS[part.name])
        numbers += (compound.pointwise_weight, part.label_smoothing, *part.options, *given)
        add("class_weight", weight)
        if part.pos_weight is not None:
            add("pos_weight", autograd.on_device(part.pos_weight, input))
    if weight_map is not None:
        add("weight_map", autograd.viewed(weight_map, input.ndim, input))
    if divisor is not None:
        add("normalizer", autograd.on_device(divisor, input))
    for tensor in program.tensors:
        others.append(autograd.viewed(tensor, input.ndim, input))
    for tensor in (*program.images, *program.tables):
        others.append(tensor.detach() if tensor.requires_grad else tensor)
    if input.dtype not in autograd.WIDE and reference.result_dtype(input) is torch.float32:
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


def _normalizer(part: Pointwise, labels: bool) -> tuple[str, Tensor | None, tuple]:
    """(word, tensor, numbers) of the pointwise part's normalizer."""
    normalizer = part.normalizer
    if isinstance(normalizer, Tensor):
        return "given", normalizer, ()
    if normalizer is not None and not isinstance(normalizer, str):
        return "given", None, (float(normalizer),)
    if not part.is_classwise:
        default = reference.DEFAULT_NORMALIZERS[part.name]
    elif labels:
        default = CLASSWISE[part.name].index_normalizer
    else:
        default = CLASSWISE[part.name].probability_normalizer
    return normalizer or default, None, ()


def _takes(dice: Overlap, input: Tensor, target: Tensor) -> bool:
    """Whether the kernels know such channels and such an ignored target."""
    if input.shape[1] == 0:
        return False
    if dice.ignore_index is None or holds_labels(input, target) or target.is_floating_point():
        return True
    return abs(dice.ignore_index) < _EXACT  # it is compared as a number of the arithmetic
