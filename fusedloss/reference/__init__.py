"""Every loss in plain, readable, differentiable PyTorch, under the same name and signature.

This is the executable specification: the kernels are tested against it (in float64), and what no
kernel does (double backward, transforms, gradients of weights, other devices) is computed by it.

Read `_formulas.py` for the losses, `_terms.py` for regions, `_sources.py` for weight sources,
`_reduction.py` for normalizers, reductions and statistics, `*_losses.py` for the signatures.
"""

from ._dtypes import compute_dtype, factors, result_dtype
from ._elementwise import elementwise
from ._formulas import DEFAULT_NORMALIZERS
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

__all__ = [
    "DEFAULT_NORMALIZERS",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "charbonnier_loss",
    "compute_dtype",
    "elementwise",
    "factors",
    "huber_loss",
    "l1_loss",
    "log_cosh_loss",
    "mse_loss",
    "region_mask",
    "result_dtype",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "weight_map",
]
