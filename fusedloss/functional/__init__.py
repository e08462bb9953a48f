"""Masked losses, fused: mask, loss, reduction and backward in one pass over memory.

A drop-in for the names that ``torch.nn.functional`` has: positional order and names are torch
2.13's, and without `mask` value and gradient equal torch's. What torch does not have is
keyword-only. What all functions have in common is said here once; the class losses take other
targets, and a `weight` per class beside a ``weight_map`` per position (`class_losses.py`), and so
do the losses of overlap (`overlap_losses.py`) and the compounds of both (`compound_losses.py`).

Every function computes ``l(x, t)`` for each element x of `input` and t of `target`, multiplies it
by mask and weight, and reduces:

========================  ========================================================================
`input`                   float16, bfloat16, float32 or float64, any shape; dim 1 is the channel
                          dim where there are two or more
`target`                  the same shape; floating, integer or bool (read as numbers)
`weight`                  multiplies an element's loss: a tensor, broadcast as `mask` is (in the
                          binary cross-entropies: as in torch), or a weight source (``fl.edges``)
`mask`                    a tensor or a region such as ``fl.target > 0``: which elements take part.
                          Non-zero takes part; a floating value multiplies the loss as well. As many
                          dims as `input`: torch's broadcasting; one fewer: positions (no channel
                          dim); fewer still: from the right against the spatial dims
`reduction`               ``"mean"``, ``"sum"``, ``"none"`` or ``"sample_mean"`` (the mean of each
                          sample, then over the samples that have a selected element)
`normalizer`              what a mean divides by: ``"weights"`` (sum of mask x weight),
                          ``"selected"`` (sum of the mask), ``"positions"`` (the mask once per
                          position), ``"all"`` (every element), a positive number or a 0-d tensor;
                          None is the function's own default
`return_stats`            return ``(loss, fusedloss.Stats)``
========================  ========================================================================

The loss is a scalar, or has `input`'s shape under ``"none"``, in `input`'s dtype (float32 for 16
bits under autocast). Arithmetic and sums are in float32, in float64 if any floating operand is.
Losses have the unit of their formula; nothing is scaled.

What is masked out, or has weight 0, does not exist: whatever it holds, NaN included, changes
neither the loss nor any gradient, which is exactly 0 there. A mean over nothing is 0 with zero
gradients. The same call gives the same bits, run to run and for every number of threads.

Raises TypeError for a wrong type or dtype and ValueError for a wrong shape, device, reduction or
option, naming the argument, before anything is computed; IndexError for a class index out of range.

Gradients flow to `input` through the kernels; to `target`, `weight`, a floating `mask`,
`pos_weight` and a `normalizer` tensor where they require grad, and to any order, through
``fusedloss.reference``, which also serves ``torch.func``, forward AD and devices without kernels.
"""

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
from .overlap_losses import dice_loss, jaccard_loss, tversky_loss

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "categorical_cross_entropy",
    "charbonnier_loss",
    "cross_entropy",
    "dice_bce_loss",
    "dice_cross_entropy_loss",
    "dice_focal_loss",
    "dice_loss",
    "huber_loss",
    "jaccard_loss",
    "l1_loss",
    "log_cosh_loss",
    "mse_loss",
    "nll_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "softmax_focal_loss",
    "tversky_loss",
]
