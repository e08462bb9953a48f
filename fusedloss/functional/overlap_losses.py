"""The overlap losses: how far two soft sets overlap; what they have in common is said here once.

With p = activation(input) and t = `target`, every loss is a function of three soft counts, the
sums over the elements that a pool holds of ::

    I = sum(p t)        P = sum(p)        T = sum(t)

Mask and weight map multiply each term. A pool whose denominator is 0 has loss 0.

====================  ============================================================================
`input`               (N, C) or (N, C, spatial dims), floating
`target`              class indices of an integer dtype, (N, spatial dims) with or without a channel
                      dim of size 1, which stand for their one-hot; or t itself in `input`'s shape,
                      any real dtype. With one channel an integer or bool target is t in either
                      shape
`activation`          ``"none"``, ``"sigmoid"`` or ``"softmax"`` (over dim 1, two or more classes)
`smooth`              added to numerator and denominator; a pair (s, s') adds s above and s' below
`per`                 the pools: ``"sample"`` one per sample, its classes together,
                      ``"sample_class"`` one per sample and class, ``"class"`` one per class over
                      the batch, ``"batch"`` one
`weight`              (C,), one per class: multiplies each term where a pool holds several classes,
                      else the losses of the pools, whose mean is then sum(w l) / sum(w)
`weight_map`          one weight per element, a tensor or a weight source, broadcast as `mask` is
`mask`                a tensor or a region; as everywhere (`fusedloss.functional`). Under softmax
                      mask and weight map are per position: the same for all channels
`ignore_index`        positions with this label, or elements with this t, take no part
`include_background`  False: channel 0 has no pool and counts in none
`skip_absent`         True: pools with T = 0 leave ``"mean"``, ``"sample_mean"`` and ``"sum"``, and
                      are 0 under ``"none"``
`reduction`           ``"mean"`` over the pools, ``"sum"``, ``"none"`` (the pools themselves: (N,),
                      (N, C), (C,) or ()) or ``"sample_mean"``: the mean within each sample, then
                      over the samples in which an element takes part
`return_stats`        return ``(loss, fusedloss.Stats)``; I, P, T of each pool are its
                      `intersection`, `input_sum` and `target_sum`
====================  ============================================================================

Raises TypeError and ValueError for wrong arguments before anything is computed. A class index
outside [0, C) where a position takes part is an IndexError on the CPU and a device assert on CUDA.
"""

from torch import Tensor

from .._checks import check_return_stats
from .._overlap_call import Operands, Overlap
from .._overlap_checks import check_overlap, checked_options
from .._overlap_dispatch import overlap
from ..regions import as_region
from ..weights import WeightSource


def dice_loss(
    input: Tensor,
    target: Tensor,
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
    """1 - (2 I + s) / (P + T + s') of each pool.

    `activation` makes p of the input, `smooth` is s and s', `squared` sums squares in P and T.
    `per` says what a pool is, `weight` is per class, `weight_map` per element; `ignore_index`,
    `include_background` and `skip_absent` leave elements or pools out.
    Source: Milletari et al., V-Net (2016), with squares; Drozdzal et al. (2016), without.
    Shapes, dtypes, options, errors: see `fusedloss.functional.overlap_losses`.

    Example::

        >>> import torch, fusedloss as fl
        >>> p = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).unsqueeze(1)  # (N, 1, L)
        >>> fl.dice_loss(p, torch.tensor([[1, 0], [1, 0]]), smooth=0.0, reduction="none")
        tensor([0.5000, 0.0000])
    """
    options = Overlap(
        "dice_loss", activation, smooth, per, ignore_index, include_background, skip_absent, squared
    )
    operands = Operands(input, target, weight, weight_map, as_region(mask))
    return _loss(options, operands, reduction, return_stats)


def jaccard_loss(
    input: Tensor,
    target: Tensor,
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
    """1 - (I + s) / (P + T - I + s') of each pool, also known as IoU loss.

    `activation` makes p of the input, `smooth` is s and s'. `per` says what a pool is, `weight` is
    per class, `weight_map` per element; `ignore_index`, `include_background` and `skip_absent`
    leave elements or pools out.
    Source: Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural Networks (2016).
    Shapes, dtypes, options, errors: see `fusedloss.functional.overlap_losses`.

    Example::

        >>> import torch, fusedloss as fl
        >>> p, labels = torch.tensor([[[1.0, 1, 0], [0, 0, 1]]]), torch.tensor([[0, 1, 9]])
        >>> fl.jaccard_loss(p, labels, per="class", ignore_index=9, reduction="none")
        tensor([0.5000, 1.0000])
    """
    options = Overlap(
        "jaccard_loss", activation, smooth, per, ignore_index, include_background, skip_absent
    )
    operands = Operands(input, target, weight, weight_map, as_region(mask))
    return _loss(options, operands, reduction, return_stats)


def tversky_loss(
    input: Tensor,
    target: Tensor,
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
    """max(0, 1 - (I + s) / (I + alpha FP + beta FN + s'))^gamma of each pool, with FP = P - I and
    FN = T - I; the derivative is 0 where the base is 0.

    `alpha` >= 0 weighs false positives, `beta` >= 0 false negatives, `gamma` > 0 is the power.
    `activation` makes p of the input, `smooth` is s and s'. `per` says what a pool is, `weight` is
    per class, `weight_map` per element; `ignore_index`, `include_background` and `skip_absent`
    leave elements or pools out.
    Source: Salehi et al., Tversky loss function for image segmentation (2017); with `gamma`:
    Abraham and Khan, A novel focal Tversky loss function (2018).
    Shapes, dtypes, options, errors: see `fusedloss.functional.overlap_losses`.

    Example::

        >>> import torch, fusedloss as fl
        >>> p, t = torch.tensor([[[0.0, 1.0, 1.0, 1.0]]]), torch.tensor([[[1, 1, 1, 0]]])
        >>> fl.tversky_loss(p, t, alpha=0.2, beta=1.8, smooth=0.0)
        tensor(0.5000)
    """
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
    operands = Operands(input, target, weight, weight_map, as_region(mask))
    return _loss(options, operands, reduction, return_stats)


def _loss(options: Overlap, operands: Operands, reduction, return_stats):
    check_return_stats(return_stats)
    options = checked_options(options)
    check_overlap(options, operands, reduction)
    return overlap(options, operands, reduction, return_stats)
