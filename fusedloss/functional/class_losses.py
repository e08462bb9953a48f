"""The class losses: one of C classes at every position.

Their arguments, beside those that `fusedloss.functional` describes (`reduction`, `return_stats`):

========================  ========================================================================
`input`                   float16, bfloat16, float32 or float64; (N, C, d1, ..., dk), (N, C), or
                          (C,) for a single position
`target`                  class indices in [0, C) of any integer dtype, one per position:
                          (N, d1, ..., dk), (N,) or (), with or without a channel dim of size 1.
                          Or probabilities t of the shape of `input`, floating (not in `nll_loss`)
`weight`                  w, one number per class, (C,); None is 1
`weight_map`              multiplies the loss of a position: a tensor or a weight source
`ignore_index`            a position with this label takes no part; with probabilities it must be
                          negative, and is not used
========================  ========================================================================

`mask` and `weight_map` hold one value per position: (N, 1, d1, ..., dk), (N, d1, ..., dk), or fewer
dims against the spatial ones. In a region ``fl.target`` is the label, and of probabilities a
comparison has to hold for all channels; ``fl.boundary()`` takes the labels. The loss is a scalar
or, under ``"none"``, has one value per position.

Normalizers: ``"weights"`` is the sum of mask x weight_map x w_y, with w_y the label's weight or,
of probabilities, sum_c w_c t_c; ``"selected"`` and ``"positions"`` the sum of the mask; ``"all"``
the number of positions. Ignored positions count in ``"all"`` alone. ``Stats.selected`` counts
positions.

A position that is masked out, ignored, or of weight 0 has no influence, whatever its label and its
logits are. A label outside [0, C) at any other position is an IndexError with value and position
on the CPU, a device assert on CUDA.
"""

from torch import Tensor

from .._checks import check_legacy, check_number, check_return_stats
from .._class_checks import check_class
from .._classwise_dispatch import classwise
from ..reference import ClassOperands
from ..regions import as_region
from ..weights import WeightSource


def cross_entropy(
    input: Tensor,
    target: Tensor,
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
    """-sum_c w_c t_c log softmax(x)_c of logits x, as torch; -w_y log softmax(x)_y of an index y.

    `label_smoothing` e in [0, 1] makes t into (1 - e) t + e / C. A class of weight 0 drops out of
    the sum whatever its logit is. Default normalizer ``"weights"`` for indices, ``"positions"``
    for probabilities, which are torch's.
    Shapes, dtypes, options, errors: see `fusedloss.functional.class_losses`.

    Example::

        >>> import torch, fusedloss as fl
        >>> logits = torch.tensor([[0.0, 0.0], [9.0, float("nan")]])
        >>> fl.cross_entropy(logits, torch.tensor([1, 255]), mask=fl.target != 255)
        tensor(0.6931)
    """
    check_legacy(size_average, reduce)
    check_number("label_smoothing", label_smoothing, 0.0, low_inclusive=True, high=1.0)
    smoothing = float(label_smoothing)
    operands = ClassOperands(input, target, weight, weight_map, ignore_index, smoothing)
    return _loss("cross_entropy", (), operands, mask, reduction, normalizer, return_stats)


def nll_loss(
    input: Tensor,
    target: Tensor,
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
    """-w_y x_y of log-probabilities x and class indices y, as torch.

    Default normalizer ``"weights"``.
    Shapes, dtypes, options, errors: see `fusedloss.functional.class_losses`.

    Example::

        >>> import torch, fusedloss as fl
        >>> log_p = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()
        >>> fl.nll_loss(log_p, torch.tensor([0, 1]), reduction="none")
        tensor([0.6931, 0.2877])
    """
    check_legacy(size_average, reduce)
    operands = ClassOperands(input, target, weight, weight_map, ignore_index)
    return _loss("nll_loss", (), operands, mask, reduction, normalizer, return_stats)


def softmax_focal_loss(
    input: Tensor,
    target: Tensor,
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
    """-sum_c w_c t_c (1 - p_c)^gamma log p_c with p = softmax(x) of logits x; of an index y,
    -w_y (1 - p_y)^gamma log p_y.

    `gamma` >= 0; 0 is `cross_entropy`. Value and gradients are finite at finite logits.
    Default normalizer ``"positions"``: class weights do not count in the mean.
    Source: Lin et al., Focal Loss for Dense Object Detection (2017), for several classes.
    Shapes, dtypes, options, errors: see `fusedloss.functional.class_losses`.

    Example::

        >>> import torch, fusedloss as fl
        >>> logits = torch.tensor([[0.0, 0.0], [1000.0, 0.0]])
        >>> target = torch.tensor([1, 0])
        >>> fl.softmax_focal_loss(logits, target, gamma=0.5, reduction="none")
        tensor([0.4901, 0.0000])
    """
    check_number("gamma", gamma, 0.0, low_inclusive=True)
    operands = ClassOperands(input, target, weight, weight_map, ignore_index)
    options = (float(gamma),)
    name = "softmax_focal_loss"
    return _loss(name, options, operands, mask, reduction, normalizer, return_stats)


def categorical_cross_entropy(
    input: Tensor,
    target: Tensor,
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
    """-sum_c w_c t_c log p_c of probabilities: p = x / sum_c x_c, clipped to [eps, 1 - eps].

    The gradient is 0 where p is clipped. `eps` in (0, 0.5]. The target holds indices, or the t of
    every class in any real dtype (one-hot or soft). Default normalizer ``"positions"``.
    Source: Keras, ``categorical_crossentropy``.
    Shapes, dtypes, options, errors: see `fusedloss.functional.class_losses`.

    Example::

        >>> import torch, fusedloss as fl
        >>> scores = torch.tensor([[1.0, 3.0], [0.0, 5.0]])
        >>> fl.categorical_cross_entropy(scores, torch.tensor([1, 1]), reduction="none")
        tensor([2.8768e-01, 1.0000e-07])
    """
    check_number("eps", eps, 0.0, high=0.5)
    operands = ClassOperands(input, target, weight, weight_map, ignore_index)
    options = (float(eps),)
    name = "categorical_cross_entropy"
    return _loss(name, options, operands, mask, reduction, normalizer, return_stats)


def _loss(name, options, operands, mask, reduction, normalizer, return_stats):
    check_return_stats(return_stats)
    region = as_region(mask)
    check_class(name, operands, region, reduction, normalizer)
    return classwise(name, options, operands, region, reduction, normalizer, return_stats)
