"""The overlap losses in plain PyTorch; arguments, shapes and errors are those of
`fusedloss.functional.overlap_losses`.

Every operation is differentiable to any order, by every argument that can be, and works under
``torch.func``, forward AD and ``torch.compile``.
"""

from torch import Tensor

from .._checks import check_return_stats
from .._overlap_call import Operands, Overlap
from .._overlap_checks import check_overlap, checked_options
from ..regions import as_region
from ..weights import WeightSource
from ._overlap import overlap


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
        >>> fl.reference.dice_loss(p, torch.tensor([[1, 0], [1, 0]]), smooth=0.0, reduction="none")
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
        >>> fl.reference.jaccard_loss(p, labels, per="class", ignore_index=9, reduction="none")
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
        >>> fl.reference.tversky_loss(p, t, alpha=0.2, beta=1.8, smooth=0.0)
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
