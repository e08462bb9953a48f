"""A Dice loss beside a pointwise loss of the same logits: each by its own reference, then added.

Both see the same mask, weight map and ignored positions. Everything is computed in the wide dtype
and rounded once.
"""

from torch import Tensor

from .._overlap_call import Compound, Operands
from ._classwise import ClassOperands, classwise
from ._dtypes import compute_dtype, result_dtype
from ._formulas import DEFAULT_NORMALIZERS, ELEMENTWISE
from ._masking import hidden, weighted
from ._overlap import overlap, overlap_selection, soft_target
from ._reduction import reduced

_NO_LABEL = -(1 << 63)  # a class loss has no None for its ignore_index


def compound(options: Compound, operands: Operands, reduction: str, return_stats: bool):
    """The loss of checked arguments; the statistics are those of the pointwise part, with the soft
    counts of the Dice part."""
    input = operands.input
    dtype = compute_dtype(*operands, options.dice_class_weight, options.pointwise.pos_weight)
    operands = operands._replace(input=input.to(dtype))
    of_dice = operands._replace(weight=options.dice_class_weight)
    dice, counts = overlap(options.dice, of_dice, reduction, True)
    part = _of_positions if options.pointwise.is_classwise else _of_elements
    pointwise, stats = part(options, operands, reduction)
    loss = options.dice_weight * dice + options.pointwise_weight * pointwise
    loss = loss.to(result_dtype(input))
    return (loss, stats._replace(**_soft_counts(counts))) if return_stats else loss


def class_operands(options: Compound, operands: Operands) -> ClassOperands:
    """What the class loss of a compound is computed of."""
    input, target, weight, weight_map, _ = operands
    ignore_index = options.dice.ignore_index
    if ignore_index is None:
        ignore_index = _NO_LABEL
    smoothing = options.pointwise.label_smoothing
    return ClassOperands(input, target, weight, weight_map, ignore_index, smoothing)


def _of_positions(options: Compound, operands: Operands, reduction: str):
    """cross_entropy or softmax_focal_loss."""
    part = options.pointwise
    of_classes = class_operands(options, operands)
    return classwise(
        part.name, part.options, of_classes, operands.region, reduction, part.normalizer, True
    )


def _of_elements(options: Compound, operands: Operands, reduction: str):
    """binary_cross_entropy_with_logits or sigmoid_focal_loss; labels stand for their one-hot, and
    a class weight multiplies the elements of its channel."""
    part, input = options.pointwise, operands.input
    everything = options.dice._replace(include_background=True, per="batch")
    selection = overlap_selection(everything, operands, input.dtype)
    x = hidden(input, selection.active, 0.5)
    t = soft_target(options.dice.name, operands, selection.active, input.dtype)
    numbers = part.options
    if part.pos_weight is not None:
        pos_weight = part.pos_weight.to(input.device, input.dtype)
        numbers = (*numbers, hidden(pos_weight, selection.active, 1.0))
    loss = weighted(ELEMENTWISE[part.name].value(x, t, *numbers), selection)
    default = DEFAULT_NORMALIZERS[part.name]
    return reduced(loss, selection, default, reduction, part.normalizer, True, input.dtype)


def _soft_counts(stats) -> dict[str, Tensor]:
    return {name: getattr(stats, name) for name in ("intersection", "input_sum", "target_sum")}
