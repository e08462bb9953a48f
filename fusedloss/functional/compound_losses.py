"""The compounds: a Dice loss beside a loss of each position, of the same logits.

    dice_weight * dice_loss + (ce_weight | bce_weight | focal_weight) * the other

with the other's weight 1 - `dice_weight` where it is None. What acts on which part:

====================  ============================================================================
both                  `mask`, `weight_map`, `ignore_index`, `reduction`, which cannot be ``"none"``
pointwise loss        `weight` (per class; in BCE and the sigmoid focal loss it multiplies the
                      elements of its channel), `normalizer`, `label_smoothing`, `pos_weight`,
                      `alpha`, `gamma`
Dice                  `activation` (which also chooses the focal loss), `smooth`, `squared`, `per`,
                      `include_background`, `skip_absent`, `dice_class_weight`
====================  ============================================================================

The options mean what they mean in `fusedloss.functional.overlap_losses` and, for the cross entropy
and the softmax focal loss, `fusedloss.functional.class_losses`: beside those, and under softmax,
mask and weight map hold one value per position, soft targets are floating, and `ignore_index` is
negative with them. Where labels stand beside BCE or the sigmoid focal loss, t is their one-hot.

`Stats` holds `total`, `normalizer` and `selected` of the pointwise loss, and the soft counts of
Dice. Errors are those of both parts.
"""

from torch import Tensor

from .._checks import check_return_stats
from .._compound_checks import check_compound, checked_compound, focal_part
from .._overlap_call import Compound, Operands, Overlap, Pointwise
from .._overlap_dispatch import compound
from ..regions import as_region
from ..weights import WeightSource


def dice_cross_entropy_loss(
    input: Tensor,
    target: Tensor,
    *,
    dice_weight: float = 0.5,
    ce_weight: float | None = None,
    activation: str = "softmax",
    smooth: float | tuple[float, float] = 1e-6,
    squared: bool = False,
    per: str = "sample",
    weight: Tensor | None = None,
    dice_class_weight: Tensor | None = None,
    weight_map: Tensor | WeightSource | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    include_background: bool = True,
    skip_absent: bool = False,
    reduction: str = "mean",
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """dice_weight * dice_loss + ce_weight * cross_entropy of logits.

    `dice_weight` and `ce_weight` >= 0; None is 1 - `dice_weight`. `weight`, `label_smoothing` and
    `normalizer` act on the cross entropy; `activation`, `smooth`, `squared`, `per`,
    `include_background`, `skip_absent` and `dice_class_weight` on Dice; `mask`, `weight_map` and
    `ignore_index` on both. Default normalizer ``"weights"`` for indices, ``"positions"`` for
    probabilities, as in `cross_entropy`.
    Shapes, dtypes, options, errors: see `fusedloss.functional.compound_losses`.

    Example::

        >>> import torch, fusedloss as fl
        >>> logits, labels = torch.zeros(1, 2, 3), torch.tensor([[0, 1, 255]])
        >>> # 0.5 / 2 + log(2) / 2
        >>> fl.dice_cross_entropy_loss(logits, labels, ignore_index=255)
        tensor(0.5966)
    """
    of_dice = activation, smooth, per, ignore_index, include_background, skip_absent, squared
    dice = Overlap("dice_cross_entropy_loss", *of_dice)
    part = Pointwise("cross_entropy", (), label_smoothing, normalizer=normalizer)
    options = Compound(dice, part, dice_weight, ce_weight, dice_class_weight)
    operands = Operands(input, target, weight, weight_map, as_region(mask))
    return _loss(options, operands, reduction, return_stats)


def dice_bce_loss(
    input: Tensor,
    target: Tensor,
    *,
    dice_weight: float = 0.5,
    bce_weight: float | None = None,
    activation: str = "sigmoid",
    smooth: float | tuple[float, float] = 1e-6,
    squared: bool = False,
    per: str = "sample",
    weight: Tensor | None = None,
    dice_class_weight: Tensor | None = None,
    weight_map: Tensor | WeightSource | None = None,
    pos_weight: Tensor | None = None,
    ignore_index: int | None = None,
    include_background: bool = True,
    skip_absent: bool = False,
    reduction: str = "mean",
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """dice_weight * dice_loss + bce_weight * binary_cross_entropy_with_logits.

    `dice_weight` and `bce_weight` >= 0; None is 1 - `dice_weight`. `weight`, `pos_weight` (by
    torch's broadcasting rules) and `normalizer` act on the cross entropy; `activation`, `smooth`,
    `squared`, `per`, `include_background`, `skip_absent` and `dice_class_weight` on Dice; `mask`,
    `weight_map` and `ignore_index` on both. Default normalizer ``"selected"``.
    Shapes, dtypes, options, errors: see `fusedloss.functional.compound_losses`.

    Example::

        >>> import torch, fusedloss as fl
        >>> logits, target = torch.zeros(1, 1, 4), torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
        >>> fl.dice_bce_loss(logits, target)  # 0.5 / 2 + log(2) / 2
        tensor(0.5966)
    """
    of_dice = activation, smooth, per, ignore_index, include_background, skip_absent, squared
    dice = Overlap("dice_bce_loss", *of_dice)
    name = "binary_cross_entropy_with_logits"
    part = Pointwise(name, pos_weight=pos_weight, normalizer=normalizer)
    options = Compound(dice, part, dice_weight, bce_weight, dice_class_weight)
    operands = Operands(input, target, weight, weight_map, as_region(mask))
    return _loss(options, operands, reduction, return_stats)


def dice_focal_loss(
    input: Tensor,
    target: Tensor,
    *,
    dice_weight: float = 0.5,
    focal_weight: float | None = None,
    activation: str = "softmax",
    smooth: float | tuple[float, float] = 1e-6,
    squared: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    per: str = "sample",
    weight: Tensor | None = None,
    dice_class_weight: Tensor | None = None,
    weight_map: Tensor | WeightSource | None = None,
    ignore_index: int | None = -100,
    include_background: bool = True,
    skip_absent: bool = False,
    reduction: str = "mean",
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """dice_weight * dice_loss + focal_weight * focal loss of logits: under `activation`
    ``"softmax"`` softmax_focal_loss, under ``"sigmoid"`` sigmoid_focal_loss.

    `dice_weight` and `focal_weight` >= 0; None is 1 - `dice_weight`. `gamma` >= 0, `weight` and
    `normalizer` act on the focal loss, and so does `alpha` under sigmoid (any negative number: off;
    softmax has none); `smooth`, `squared`, `per`, `include_background`, `skip_absent` and
    `dice_class_weight` on Dice; `mask`, `weight_map` and `ignore_index` on both.
    Default normalizer ``"positions"`` under softmax, ``"selected"`` under sigmoid.
    Shapes, dtypes, options, errors: see `fusedloss.functional.compound_losses`.

    Example::

        >>> import torch, fusedloss as fl
        >>> logits, labels = torch.zeros(1, 2, 4), torch.tensor([[0, 1, 1, 0]])
        >>> fl.dice_focal_loss(logits, labels, gamma=1.0)  # 0.5 / 2 + log(2) / 4
        tensor(0.4233)
    """
    of_dice = activation, smooth, per, ignore_index, include_background, skip_absent, squared
    dice = Overlap("dice_focal_loss", *of_dice)
    part = focal_part(activation, alpha, gamma, normalizer)
    options = Compound(dice, part, dice_weight, focal_weight, dice_class_weight)
    operands = Operands(input, target, weight, weight_map, as_region(mask))
    return _loss(options, operands, reduction, return_stats)


def _loss(options: Compound, operands: Operands, reduction, return_stats):
    check_return_stats(return_stats)
    options = checked_compound(options)
    check_compound(options, operands, reduction)
    return compound(options, operands, reduction, return_stats)
