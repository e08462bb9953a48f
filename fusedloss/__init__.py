"""fusedloss: masked losses for PyTorch whose mask, loss, reduction and backward are one kernel.

>>> import torch, fusedloss as fl
>>> depth = torch.tensor([[2.0, float("inf")], [float("nan"), 4.0]])
>>> prediction = torch.zeros(2, 2, requires_grad=True)
>>> loss = fl.smooth_l1_loss(prediction, depth, mask=fl.target.isfinite())
>>> loss.backward()
>>> prediction.grad
tensor([[-0.5000,  0.0000],
        [ 0.0000, -0.5000]])

``fusedloss.functional`` holds the functions, ``fusedloss.reference`` the same in plain PyTorch; a
region (``fl.target > 0``) says which elements take part.
"""

from . import _dynamo, functional, reference
from ._version import __version__
from .functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    charbonnier_loss,
    huber_loss,
    l1_loss,
    log_cosh_loss,
    mse_loss,
    sigmoid_focal_loss,
    smooth_l1_loss,
)
from .modules import (
    BCELoss,
    BCEWithLogitsLoss,
    CharbonnierLoss,
    HuberLoss,
    L1Loss,
    LogCoshLoss,
    MSELoss,
    SigmoidFocalLoss,
    SmoothL1Loss,
)
from .regions import Region
from .regions import target as target  # not in __all__: too common a name for a star import
from .stats import Stats

_dynamo.install()

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CharbonnierLoss",
    "HuberLoss",
    "L1Loss",
    "LogCoshLoss",
    "MSELoss",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
    "Region",
    "Stats",
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "charbonnier_loss",
    "functional",
    "huber_loss",
    "l1_loss",
    "log_cosh_loss",
    "mse_loss",
    "reference",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
]
