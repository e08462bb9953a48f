"""What the compounds of a Dice and a pointwise loss accept beside the rules of `_overlap_checks.py`
and, for their class losses, `_class_checks.py`."""

from ._checks import check_normalizer, check_number, check_torch_weight
from ._class_checks import check_class, check_class_weight
from ._overlap_call import ACTIVATIONS, Compound, Operands, Pointwise
from ._overlap_checks import check_choice, check_overlap, check_overlap_reduction, checked_options
from .reference._compounds import class_operands

_WEIGHT_NAMES = {
    "dice_cross_entropy_loss": "ce_weight",
    "dice_bce_loss": "bce_weight",
    "dice_focal_loss": "focal_weight",
}


def focal_part(activation, alpha, gamma, normalizer) -> Pointwise:
    """The focal loss that goes with the activation."""
    check_choice("activation", activation, ACTIVATIONS)
    if activation == "none":
        raise ValueError(
            'activation must be "softmax" or "sigmoid" in dice_focal_loss, which says which focal '
            'loss it takes, got "none"'
        )
    check_number("alpha", alpha)
    check_number("gamma", gamma, 0.0, low_inclusive=True)
    if activation == "softmax":
        return Pointwise("softmax_focal_loss", (float(gamma),), normalizer=normalizer)
    return Pointwise("sigmoid_focal_loss", (float(alpha), float(gamma)), normalizer=normalizer)


def checked_compound(options: Compound) -> Compound:
    """The options, which need no operands to be checked, as the reference and kernels read them."""
    dice, pointwise, dice_weight, pointwise_weight, _ = options
    dice = checked_options(dice)
    check_number("label_smoothing", pointwise.label_smoothing, 0.0, low_inclusive=True, high=1.0)
    if pointwise_weight is None:
        check_number("dice_weight", dice_weight, 0.0, low_inclusive=True, high=1.0)
        pointwise_weight = 1 - dice_weight
    else:
        check_number("dice_weight", dice_weight, 0.0, low_inclusive=True)
        check_number(_WEIGHT_NAMES[dice.name], pointwise_weight, 0.0, low_inclusive=True)
    return options._replace(
        dice=dice._replace(positional=dice.positional or pointwise.is_classwise),
        pointwise=pointwise._replace(label_smoothing=float(pointwise.label_smoothing)),
        dice_weight=float(dice_weight),
        pointwise_weight=float(pointwise_weight),
    )


def check_compound_reduction(options: Compound, reduction) -> None:
    check_overlap_reduction(options.dice, reduction)
    if reduction == "none":
        raise ValueError(
            f'reduction="none" has no meaning in {options.dice.name}, whose parts have losses of '
            'pools and of positions; accepted: "mean", "sum", "sample_mean"'
        )
    if options.pointwise.normalizer is not None:
        check_normalizer(options.pointwise.normalizer, reduction)


def check_compound(options: Compound, operands: Operands, reduction) -> None:
    """All rules that need the operands; `options` are checked ones."""
    dice, pointwise = options.dice, options.pointwise
    of_dice = operands._replace(weight=options.dice_class_weight)
    check_overlap(dice, of_dice, reduction, "dice_class_weight")
    check_compound_reduction(options, reduction)
    if pointwise.is_classwise:
        of_classes = class_operands(options, operands)
        check_class(dice.name, of_classes, operands.region, reduction, pointwise.normalizer)
        return
    if operands.weight is not None:
        check_class_weight(operands.weight, operands.input)
    if pointwise.pos_weight is not None:
        check_torch_weight("pos_weight", pointwise.pos_weight, operands.input)
    if pointwise.normalizer is not None:
        check_normalizer(pointwise.normalizer, reduction, operands.input.device)
