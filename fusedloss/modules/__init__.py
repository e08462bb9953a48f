"""The losses as modules: the constructor takes the options, `forward` input and target.

Positional order is that of torch's modules where torch has them. Besides, every constructor takes
``mask``, ``normalizer``, ``return_stats`` and ``weight`` by keyword, and every call
``mask`` and ``weight``: a mask given at the call is intersected with the constructor's, a weight
multiplies it. In class, overlap and compound losses, whose ``weight`` has one value per class,
``weight_map`` is what ``weight`` is in the others. What the options mean, and which errors they
raise, is said in ``fusedloss.functional``; wrong options are refused by the constructor.

Tensors given to a constructor, also those inside a region or a weight source, are buffers and move
with ``.to()``. Images, features, labels, coordinates and lengths move to another device only: they
keep their dtype, since in 16 bits a box would be another box. ``weight`` and ``pos_weight`` are in
the ``state_dict`` under torch's names; a weight source (the attribute ``weight_source``), weight
maps, masks and normalizers are not, so the ``state_dict`` can be exchanged with that of torch's
module.

    >>> import torch, fusedloss as fl
    >>> criterion = fl.SmoothL1Loss(beta=0.5, mask=fl.target.isfinite())
    >>> criterion
    SmoothL1Loss(beta=0.5, reduction='mean', mask=fl.target.isfinite())
    >>> target = torch.tensor([[1.0, float("nan"), 5.0]])
    >>> criterion(torch.zeros(1, 3), target, mask=torch.tensor([[True, True, False]]))
    tensor(0.7500)
"""

from .class_losses import (
    CategoricalCrossEntropyLoss,
    CrossEntropyLoss,
    NLLLoss,
    SoftmaxFocalLoss,
)
from .compound_losses import DiceBCELoss, DiceCrossEntropyLoss, DiceFocalLoss
from .elementwise_losses import (
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
from .overlap_losses import DiceLoss, JaccardLoss, TverskyLoss

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
]
