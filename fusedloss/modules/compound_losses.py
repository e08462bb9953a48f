"""The compounds as modules; what all modules share is said in `fusedloss.modules`.

Every option is given by keyword. The class weights `weight` and `dice_class_weight` are buffers in
the ``state_dict``, and so is `pos_weight`.
"""

from torch import Tensor

from .. import functional
from .._checks import check_real
from .._class_checks import check_class_weight_tensor
from .._compound_checks import check_compound_reduction, checked_compound, focal_part
from .._overlap_call import Compound, Overlap, Pointwise
from ..weights import WeightSource
from ._base import LossModule

_OF_DICE = ("activation", "smooth", "squared", "per", "ignore_index")
_OF_DICE += ("include_background", "skip_absent")


class _CompoundLoss(LossModule):
    """Keeps the options of the Dice part and both parts' weights; a subclass keeps what only its
    pointwise part has, and names it in `options`."""

    map_name = "weight_map"
    weight_name = ""  # of the pointwise part's weight

    def __init__(self, options: Compound, weight, weight_map, mask, reduction, return_stats):
        check_compound_reduction(checked_compound(options), reduction)
        dice, pointwise, dice_weight, pointwise_weight, dice_class_weight = options
        super().__init__(reduction, weight_map, mask, pointwise.normalizer, return_stats)
        self.dice_weight = dice_weight
        setattr(self, self.weight_name, pointwise_weight)
        for name in _OF_DICE:
            setattr(self, name, getattr(dice, name))
        for name, tensor in (("weight", weight), ("dice_class_weight", dice_class_weight)):
            if tensor is not None:
                check_class_weight_tensor(tensor, name)
            self.register_buffer(name, tensor)

    def options(self):
        names = ("dice_weight", self.weight_name, *_OF_DICE)
        options = {name: getattr(self, name) for name in names}
        for name in ("weight", "dice_class_weight"):
            if getattr(self, name) is not None:
                options[name] = getattr(self, name)
        return options


class DiceCrossEntropyLoss(_CompoundLoss):
    """`fusedloss.functional.dice_cross_entropy_loss` as a module, on logits.

    Example::

        >>> import torch, fusedloss as fl
        >>> criterion = fl.DiceCrossEntropyLoss(ignore_index=255)
        >>> criterion(torch.zeros(1, 2, 3), torch.tensor([[0, 1, 255]]))  # 0.5 / 2 + log(2) / 2
        tensor(0.5966)
    """

    weight_name = "ce_weight"

    def __init__(
        self,
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
        of_dice = activation, smooth, per, ignore_index, include_background, skip_absent, squared
        dice = Overlap("dice_cross_entropy_loss", *of_dice)
        part = Pointwise("cross_entropy", (), label_smoothing, normalizer=normalizer)
        options = Compound(dice, part, dice_weight, ce_weight, dice_class_weight)
        super().__init__(options, weight, weight_map, mask, reduction, return_stats)
        self.label_smoothing = label_smoothing

    def options(self):
        return super().options() | {"label_smoothing": self.label_smoothing}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight_map=None):
        return self.call(functional.dice_cross_entropy_loss, input, target, mask, weight_map)


class DiceBCELoss(_CompoundLoss):
    """`fusedloss.functional.dice_bce_loss` as a module, on logits.

    Example::

        >>> import torch, fusedloss as fl
        >>> criterion = fl.DiceBCELoss(dice_weight=1.0, bce_weight=1.0, mask=fl.target >= 0)
        >>> criterion(torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0.0, -1.0]]]))  # 0.5 + log(2)
        tensor(1.1931)
    """

    weight_name = "bce_weight"

    def __init__(
        self,
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
        of_dice = activation, smooth, per, ignore_index, include_background, skip_absent, squared
        dice = Overlap("dice_bce_loss", *of_dice)
        if pos_weight is not None:
            check_real("pos_weight", pos_weight)
        part = Pointwise("binary_cross_entropy_with_logits", normalizer=normalizer)
        options = Compound(dice, part, dice_weight, bce_weight, dice_class_weight)
        super().__init__(options, weight, weight_map, mask, reduction, return_stats)
        self.register_buffer("pos_weight", pos_weight)

    def options(self):
        options = super().options()
        return options if self.pos_weight is None else options | {"pos_weight": self.pos_weight}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight_map=None):
        return self.call(functional.dice_bce_loss, input, target, mask, weight_map)


class DiceFocalLoss(_CompoundLoss):
    """`fusedloss.functional.dice_focal_loss` as a module, on logits: softmax focal loss under
    `activation` ``"softmax"``, the sigmoid one with `alpha` under ``"sigmoid"``.

    Example::

        >>> import torch, fusedloss as fl
        >>> criterion = fl.DiceFocalLoss(gamma=1.0)
        >>> criterion(torch.zeros(1, 2, 4), torch.tensor([[0, 1, 1, 0]]))  # 0.5 / 2 + log(2) / 4
        tensor(0.4233)
    """

    weight_name = "focal_weight"

    def __init__(
        self,
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
        of_dice = activation, smooth, per, ignore_index, include_background, skip_absent, squared
        dice = Overlap("dice_focal_loss", *of_dice)
        part = focal_part(activation, alpha, gamma, normalizer)
        options = Compound(dice, part, dice_weight, focal_weight, dice_class_weight)
        super().__init__(options, weight, weight_map, mask, reduction, return_stats)
        self.alpha = alpha
        self.gamma = gamma

    def options(self):
        return super().options() | {"alpha": self.alpha, "gamma": self.gamma}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight_map=None):
        return self.call(functional.dice_focal_loss, input, target, mask, weight_map)
