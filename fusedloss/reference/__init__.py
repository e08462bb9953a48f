"""Every loss in plain, readable, differentiable PyTorch, under the same name and signature.

This is the executable specification: the kernels are tested against it (in float64), and what no
kernel does (double backward, transforms, gradients of weights, other devices) is computed by it.

Read `_formulas.py` and `_class_formulas.py` for the losses, `_classwise.py` for class weights and
labels, `_overlap.py` for soft counts and pools, `_terms.py` for regions, `_sources.py` for weight
sources, `_reduction.py` for normalizers, reductions and statistics, `*_losses.py` for the
signatures.
"""

from ._class_formulas import CLASS_NORMALIZERS
from ._classwise import ClassOperands, classwise
from ._compounds import compound
from ._dtypes import compute_dtype, factors, result_dtype
from ._elementwise import elementwise
from ._formulas import DEFAULT_NORMALIZERS
from ._overlap import overlap
from .class_losses import (
    categorical_cross_entropy,
    cross_entropy,
    nll_loss,
    softmax_focal_loss,
)
from .compound_losses import dice_bce_loss, dice_cross_entropy_loss, dice_focal_loss
from .elementwise_losses import (
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
from .maps import region_mask, weight_map
from .overlap_losses import dice_loss, jaccard_loss, tversky_loss

__all__ = [
    "CLASS_NORMALIZERS",
    "ClassOperands",
    "DEFAULT_NORMALIZERS",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "categorical_cross_entropy",
    "charbonnier_loss",
    "classwise",
    "compound",
    "compute_dtype",
    "cross_entropy",
    "dice_bce_loss",
    "dice_cross_entropy_loss",
    "dice_focal_loss",
    "dice_loss",
    "elementwise",
    "factors",
    "huber_loss",
    "jaccard_loss",
    "l1_loss",
    "log_cosh_loss",
    "mse_loss",
    "nll_loss",
    "overlap",
    "region_mask",
    "result_dtype",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "softmax_focal_loss",
    "tversky_loss",
    "weight_map",
]
