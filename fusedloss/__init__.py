"""fusedloss: masked losses for PyTorch whose mask, loss, reduction and backward are one kernel.

>>> import torch, fusedloss as fl
>>> depth = torch.tensor([[2.0, float("inf")], [float("nan"), 4.0]])
>>> prediction = torch.zeros(2, 2, requires_grad=True)
>>> loss = fl.smooth_l1_loss(prediction, depth, mask=fl.target.isfinite())
>>> loss.backward()
>>> prediction.grad
tensor([[-0.5000,  0.0000],
        [ 0.0000, -0.5000]])

``fusedloss.functional`` holds the functions, ``fusedloss.reference`` the same in plain PyTorch. A
region says which elements take part (``fl.target > 0``: `quantities.py`; ``fl.boxes(found)``:
`shapes.py`), a weight source how much each counts (``1 + fl.edges(photo)``: `sources.py`);
``fl.region_mask`` and ``fl.weight_map`` show either.
"""

from . import _dynamo, functional, reference
from ._version import __version__
from .functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    categorical_cross_entropy,
    charbonnier_loss,
    cross_entropy,
    dice_bce_loss,
    dice_cross_entropy_loss,
    dice_focal_loss,
    dice_loss,
    huber_loss,
    jaccard_loss,
    l1_loss,
    log_cosh_loss,
    mse_loss,
    nll_loss,
    sigmoid_focal_loss,
    smooth_l1_loss,
    softmax_focal_loss,
    tversky_loss,
)
from .modules import (
    BCELoss,
    BCEWithLogitsLoss,
    CategoricalCrossEntropyLoss,
    CharbonnierLoss,
    CrossEntropyLoss,
    DiceBCELoss,
    DiceCrossEntropyLoss,
    DiceFocalLoss,
    DiceLoss,
    HuberLoss,
    JaccardLoss,
    L1Loss,
    LogCoshLoss,
    MSELoss,
    NLLLoss,
    SigmoidFocalLoss,
    SmoothL1Loss,
    SoftmaxFocalLoss,
    TverskyLoss,
)
from .quantities import image
from .quantities import input as input  # not in __all__: too common names for a star import
from .quantities import target as target
from .reference import region_mask, weight_map
from .regions import Region
from .shapes import box, boxes, center, disk, disks, keypoints, lengths
from .sources import activation, boundary, edges, normalized
from .stats import Stats
from .weights import WeightSource

_dynamo.install()

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CategoricalCrossEntropyLoss",
    "CharbonnierLoss",
    "CrossEntropyLoss",
    "DiceBCELoss",
    "DiceCrossEntropyLoss",
    "DiceFocalLoss",
    "DiceLoss",
    "HuberLoss",
    "JaccardLoss",
    "L1Loss",
    "LogCoshLoss",
    "MSELoss",
    "NLLLoss",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
    "SoftmaxFocalLoss",
    "TverskyLoss",
    "Region",
    "Stats",
    "WeightSource",
    "__version__",
    "activation",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "boundary",
    "box",
    "boxes",
    "categorical_cross_entropy",
    "center",
    "charbonnier_loss",
    "cross_entropy",
    "dice_bce_loss",
    "dice_cross_entropy_loss",
    "dice_focal_loss",
    "dice_loss",
    "disk",
    "disks",
    "edges",
    "functional",
    "huber_loss",
    "image",
    "jaccard_loss",
    "keypoints",
    "l1_loss",
    "lengths",
    "log_cosh_loss",
    "mse_loss",
    "nll_loss",
    "normalized",
    "reference",
    "region_mask",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "softmax_focal_loss",
    "tversky_loss",
    "weight_map",
]
