"""The overlap losses as modules; what all modules share is said in `fusedloss.modules`.

Every option is given by keyword. `weight`, one per class, is a buffer in the ``state_dict``; a
`weight_map` given at the call multiplies the constructor's.
"""

from torch import Tensor

from .. import functional
from .._class_checks import check_class_weight_tensor
from .._overlap_call import Overlap
from .._overlap_checks import check_overlap_reduction, checked_options
from ..weights import WeightSource
from ._base import LossModule


class _OverlapLoss(LossModule):
    """Keeps the options of `own`, by their names, and the class weights."""

    map_name = "weight_map"
    own = ("activation", "smooth", "per", "ignore_index", "include_background", "skip_absent")

    def __init__(self, options: Overlap, weight, weight_map, mask, reduction, return_stats):
        check_overlap_reduction(checked_options(options), reduction)
        if weight is not None:
            check_class_weight_tensor(weight)
        super().__init__(reduction, weight_map, mask, None, return_stats)
        for name in self.own:
            setattr(self, name, getattr(options, name))
        self.register_buffer("weight", weight)

    def options(self):
        options = {name: getattr(self, name) for name in self.own}
        return options if self.weight is None else options | {"weight": self.weight}


class DiceLoss(_OverlapLoss):
    """`fusedloss.functional.dice_loss` as a module: 1 - (2 I + s) / (P + T + s').

    Example::

        >>> import torch, fusedloss as fl
        >>> criterion = fl.DiceLoss(activation="sigmoid", per="batch", mask=fl.target != 255)
        >>> logits = torch.tensor([[[20.0, 20.0, -20.0]]])
        >>> criterion(logits, torch.tensor([[1, 0, 255]]))
        tensor(0.3333)
    """

    own = ("activation", "smooth", "squared", *_OverlapLoss.own[2:])

    def __init__(
        self,
        *,
        activation: str = "none",
        smooth: float | tuple[float, float] = 1e-6,
        squared: bool = False,
        per: str = "sample",
        weight: Tensor | None = None,
        weight_map: Tensor | WeightSource | None = None,
        ignore_index: int | None = None,
        include_background: bool = True,
        skip_absent: bool = False,
        reduction: str = "mean",
        mask=None,
        return_stats: bool = False,
    ):
        options = Overlap(
            "dice_loss",
            activation,
            smooth,
            per,
            ignore_index,
            include_background,
            skip_absent,
            squared=squared,
        )
        super().__init__(options, weight, weight_map, mask, reduction, return_stats)

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight_map=None):
        return self.call(functional.dice_loss, input, target, mask, weight_map)


class JaccardLoss(_OverlapLoss):
    """`fusedloss.functional.jaccard_loss` as a module: 1 - (I + s) / (P + T - I + s').

    Example::

        >>> import torch, fusedloss as fl
        >>> criterion = fl.JaccardLoss(activation="softmax", per="class", ignore_index=255)
        >>> logits = torch.tensor([[[9.0, 9.0, -9.0], [-9.0, -9.0, 9.0]]])
        >>> criterion(logits, torch.tensor([[0, 1, 255]]))
        tensor(0.7500)
    """

    def __init__(
        self,
        *,
        activation: str = "none",
        smooth: float | tuple[float, float] = 1e-6,
        per: str = "sample",
        weight: Tensor | None = None,
        weight_map: Tensor | WeightSource | None = None,
        ignore_index: int | None = None,
        include_background: bool = True,
        skip_absent: bool = False,
        reduction: str = "mean",
        mask=None,
        return_stats: bool = False,
    ):
        options = Overlap(
            "jaccard_loss", activation, smooth, per, ignore_index, include_background, skip_absent
        )
        super().__init__(options, weight, weight_map, mask, reduction, return_stats)

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight_map=None):
        return self.call(functional.jaccard_loss, input, target, mask, weight_map)


class TverskyLoss(_OverlapLoss):
    """`fusedloss.functional.tversky_loss` as a module; `alpha` weighs false positives, `beta`
    false negatives, `gamma` is the power.

    Example::

        >>> import torch, fusedloss as fl
        >>> criterion = fl.TverskyLoss(alpha=0.2, beta=1.8, smooth=0.0)
        >>> p, t = torch.tensor([[[0.0, 1.0, 1.0, 1.0]]]), torch.tensor([[[1, 1, 1, 0]]])
        >>> criterion(p, t)
        tensor(0.5000)
    """

    own = ("activation", "smooth", "alpha", "beta", "gamma", *_OverlapLoss.own[2:])

    def __init__(
        self,
        *,
        activation: str = "none",
        smooth: float | tuple[float, float] = 1e-6,
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 1.0,
        per: str = "sample",
        weight: Tensor | None = None,
        weight_map: Tensor | WeightSource | None = None,
        ignore_index: int | None = None,
        include_background: bool = True,
        skip_absent: bool = False,
        reduction: str = "mean",
        mask=None,
        return_stats: bool = False,
    ):
        options = Overlap(
            "tversky_loss",
            activation,
            smooth,
            per,
            ignore_index,
            include_background,
            skip_absent,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
        )
        super().__init__(options, weight, weight_map, mask, reduction, return_stats)

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight_map=None):
        return self.call(functional.tversky_loss, input, target, mask, weight_map)
