"""The elementwise losses as modules; what they share is said in `fusedloss.modules`."""

from torch import Tensor

from .. import functional
from .._checks import check_legacy, check_number, check_real
from ..weights import WeightSource
from ._base import LossModule


class L1Loss(LossModule):
    """`fusedloss.functional.l1_loss` as a module: abs(x - t).

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.L1Loss(mask=fl.target > 0)(torch.zeros(2), torch.tensor([3.0, -1.0]))
        tensor(3.)
    """

    def __init__(
        self,
        size_average=None,
        reduce=None,
        reduction: str = "mean",
        *,
        weight: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_legacy(size_average, reduce)
        super().__init__(reduction, weight, mask, normalizer, return_stats)

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight=None):
        return self.call(functional.l1_loss, input, target, mask, weight)


class MSELoss(LossModule):
    """`fusedloss.functional.mse_loss` as a module: (x - t)^2.

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.MSELoss(reduction="sum")(torch.zeros(2), torch.tensor([3.0, 1.0]))
        tensor(10.)
    """

    def __init__(
        self,
        size_average=None,
        reduce=None,
        reduction: str = "mean",
        *,
        weight: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_legacy(size_average, reduce)
        super().__init__(reduction, weight, mask, normalizer, return_stats)

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight=None):
        return self.call(functional.mse_loss, input, target, mask, weight)


class SmoothL1Loss(LossModule):
    """`fusedloss.functional.smooth_l1_loss` as a module; `beta` >= 0 in the unit of the input.

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.SmoothL1Loss(beta=2.0)(torch.zeros(2), torch.tensor([3.0, 1.0]))
        tensor(1.1250)
    """

    def __init__(
        self,
        size_average=None,
        reduce=None,
        reduction: str = "mean",
        beta: float = 1.0,
        *,
        weight: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_legacy(size_average, reduce)
        check_number("beta", beta, 0.0, low_inclusive=True)
        super().__init__(reduction, weight, mask, normalizer, return_stats)
        self.beta = beta

    def options(self):
        return {"beta": self.beta}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight=None):
        return self.call(functional.smooth_l1_loss, input, target, mask, weight)


class HuberLoss(LossModule):
    """`fusedloss.functional.huber_loss` as a module; `delta` > 0 in the unit of the input.

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.HuberLoss(delta=2.0)(torch.zeros(2), torch.tensor([3.0, 1.0]))
        tensor(2.2500)
    """

    def __init__(
        self,
        reduction: str = "mean",
        delta: float = 1.0,
        *,
        weight: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_number("delta", delta, 0.0)
        super().__init__(reduction, weight, mask, normalizer, return_stats)
        self.delta = delta

    def options(self):
        return {"delta": self.delta}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight=None):
        return self.call(functional.huber_loss, input, target, mask, weight)


class CharbonnierLoss(LossModule):
    """`fusedloss.functional.charbonnier_loss` as a module; `eps` > 0 in the unit of the input.

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.CharbonnierLoss(eps=4.0)(torch.zeros(1), torch.tensor([3.0]))
        tensor(5.)
    """

    def __init__(
        self,
        reduction: str = "mean",
        eps: float = 1e-3,
        *,
        weight: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_number("eps", eps, 0.0)
        super().__init__(reduction, weight, mask, normalizer, return_stats)
        self.eps = eps

    def options(self):
        return {"eps": self.eps}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight=None):
        return self.call(functional.charbonnier_loss, input, target, mask, weight)


class LogCoshLoss(LossModule):
    """`fusedloss.functional.log_cosh_loss` as a module: log cosh(x - t).

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.LogCoshLoss()(torch.zeros(1), torch.tensor([100.0]))
        tensor(99.3069)
    """

    def __init__(
        self,
        reduction: str = "mean",
        *,
        weight: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        super().__init__(reduction, weight, mask, normalizer, return_stats)

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight=None):
        return self.call(functional.log_cosh_loss, input, target, mask, weight)


class BCELoss(LossModule):
    """`fusedloss.functional.binary_cross_entropy` as a module, on probabilities.

    `weight`, here and at the call, follows torch's broadcasting rules.

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.BCELoss()(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
        tensor(0.6931)
    """

    def __init__(
        self,
        weight: Tensor | WeightSource | None = None,
        size_average=None,
        reduce=None,
        reduction: str = "mean",
        *,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_legacy(size_average, reduce)
        super().__init__(reduction, weight, mask, normalizer, return_stats)

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight=None):
        return self.call(functional.binary_cross_entropy, input, target, mask, weight, True)


class BCEWithLogitsLoss(LossModule):
    """`fusedloss.functional.binary_cross_entropy_with_logits` as a module.

    `weight`, here and at the call, and `pos_weight` follow torch's broadcasting rules.

    Example::

        >>> import torch, fusedloss as fl
        >>> criterion = fl.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0]), mask=fl.target >= 0)
        >>> criterion(torch.zeros(2, 1), torch.tensor([[1.0], [-1.0]]))
        tensor(2.0794)
    """

    def __init__(
        self,
        weight: Tensor | WeightSource | None = None,
        size_average=None,
        reduce=None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        *,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_legacy(size_average, reduce)
        if pos_weight is not None:
            check_real("pos_weight", pos_weight)
        super().__init__(reduction, weight, mask, normalizer, return_stats)
        self.register_buffer("pos_weight", pos_weight)

    def options(self):
        return {} if self.pos_weight is None else {"pos_weight": self.pos_weight}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight=None):
        function = functional.binary_cross_entropy_with_logits
        return self.call(function, input, target, mask, weight, True)


class SigmoidFocalLoss(LossModule):
    """`fusedloss.functional.sigmoid_focal_loss` as a module, on logits.

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.SigmoidFocalLoss(alpha=-1, gamma=1.0)(torch.zeros(2), torch.tensor([1.0, 0.0]))
        tensor(0.3466)
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        reduction: str = "mean",
        *,
        weight: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_number("alpha", alpha)
        check_number("gamma", gamma, 0.0, low_inclusive=True)
        super().__init__(reduction, weight, mask, normalizer, return_stats)
        self.alpha = alpha
        self.gamma = gamma

    def options(self):
        return {"alpha": self.alpha, "gamma": self.gamma}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight=None):
        return self.call(functional.sigmoid_focal_loss, input, target, mask, weight)
