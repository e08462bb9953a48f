"""The class losses as modules; what they share is said in `fusedloss.modules`."""

from torch import Tensor

from .. import functional
from .._checks import check_legacy, check_number
from .._class_checks import check_class_weight_tensor, check_ignore_index
from ..weights import WeightSource
from ._base import LossModule


class _ClassLoss(LossModule):
    """`weight`, one value per class, is a buffer of the state_dict, as in torch's modules; the
    `weight_map` of the positions is not in it."""

    map_name = "weight_map"

    def __init__(self, weight, ignore_index, reduction, weight_map, mask, normalizer, return_stats):
        super().__init__(reduction, weight_map, mask, normalizer, return_stats)
        if weight is not None:
            check_class_weight_tensor(weight)
        check_ignore_index(ignore_index)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def options(self):
        options = {} if self.weight is None else {"weight": self.weight}
        return {**options, "ignore_index": self.ignore_index}


class CrossEntropyLoss(_ClassLoss):
    """`fusedloss.functional.cross_entropy` as a module, on logits.

    Example::

        >>> import torch, fusedloss as fl
        >>> criterion = fl.CrossEntropyLoss(torch.tensor([1.0, 3.0]), ignore_index=255)
        >>> criterion(torch.zeros(1, 2, 3), torch.tensor([[0, 1, 255]], dtype=torch.uint8))
        tensor(0.6931)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average=None,
        ignore_index: int = -100,
        reduce=None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        weight_map: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_legacy(size_average, reduce)
        check_number("label_smoothing", label_smoothing, 0.0, low_inclusive=True, high=1.0)
        super().__init__(
            weight, ignore_index, reduction, weight_map, mask, normalizer, return_stats
        )
        self.label_smoothing = label_smoothing

    def options(self):
        return {**super().options(), "label_smoothing": self.label_smoothing}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight_map=None):
        return self.call(functional.cross_entropy, input, target, mask, weight_map)


class NLLLoss(_ClassLoss):
    """`fusedloss.functional.nll_loss` as a module, on log-probabilities.

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.NLLLoss()(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([1]))
        tensor(0.2877)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average=None,
        ignore_index: int = -100,
        reduce=None,
        reduction: str = "mean",
        *,
        weight_map: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_legacy(size_average, reduce)
        super().__init__(
            weight, ignore_index, reduction, weight_map, mask, normalizer, return_stats
        )

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight_map=None):
        return self.call(functional.nll_loss, input, target, mask, weight_map)


class SoftmaxFocalLoss(_ClassLoss):
    """`fusedloss.functional.softmax_focal_loss` as a module, on logits.

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.SoftmaxFocalLoss(gamma=1.0)(torch.zeros(1, 2), torch.tensor([1]))
        tensor(0.3466)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: str = "mean",
        *,
        weight_map: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_number("gamma", gamma, 0.0, low_inclusive=True)
        super().__init__(
            weight, ignore_index, reduction, weight_map, mask, normalizer, return_stats
        )
        self.gamma = gamma

    def options(self):
        return {**super().options(), "gamma": self.gamma}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight_map=None):
        return self.call(functional.softmax_focal_loss, input, target, mask, weight_map)


class CategoricalCrossEntropyLoss(_ClassLoss):
    """`fusedloss.functional.categorical_cross_entropy` as a module, on probabilities.

    Example::

        >>> import torch, fusedloss as fl
        >>> criterion = fl.CategoricalCrossEntropyLoss()
        >>> criterion(torch.tensor([[1.0, 3.0]]), torch.tensor([[0, 1]]))
        tensor(0.2877)
    """

    def __init__(
        self,
        eps: float = 1e-7,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        *,
        weight_map: Tensor | WeightSource | None = None,
        mask=None,
        normalizer=None,
        return_stats: bool = False,
    ):
        check_number("eps", eps, 0.0, high=0.5)
        super().__init__(
            weight, ignore_index, reduction, weight_map, mask, normalizer, return_stats
        )
        self.eps = eps

    def options(self):
        return {**super().options(), "eps": self.eps}

    def forward(self, input: Tensor, target: Tensor, *, mask=None, weight_map=None):
        return self.call(functional.categorical_cross_entropy, input, target, mask, weight_map)
