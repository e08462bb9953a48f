"""The elementwise losses; what their arguments have in common is said in `fusedloss.functional`."""

from torch import Tensor

from .._checks import check_elementwise, check_legacy, check_number, check_return_stats, torch_view
from .._elementwise_dispatch import elementwise
from ..regions import as_region
from ..weights import WeightSource


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average=None,
    reduce=None,
    reduction: str = "mean",
    weight: Tensor | WeightSource | None = None,
    *,
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """abs(x - t); derivative sign(x - t), 0 at 0. Default normalizer ``"weights"``, as torch.

    Shapes, dtypes, options, errors: see `fusedloss.functional`.

    Example::

        >>> import torch, fusedloss as fl
        >>> input, target = torch.tensor([1.0, 5.0]), torch.tensor([0.0, float("nan")])
        >>> fl.l1_loss(input, target, mask=fl.target.isfinite())
        tensor(1.)
    """
    check_legacy(size_average, reduce)
    operands = (input, target, weight, None)
    return _loss("l1_loss", (), operands, mask, reduction, normalizer, return_stats)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average=None,
    reduce=None,
    reduction: str = "mean",
    weight: Tensor | WeightSource | None = None,
    *,
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """(x - t)^2. Default normalizer ``"weights"``, as torch.

    Shapes, dtypes, options, errors: see `fusedloss.functional`.

    Example::

        >>> import torch, fusedloss as fl
        >>> input, weight = torch.tensor([1.0, 3.0]), torch.tensor([3.0, 1.0])
        >>> fl.mse_loss(input, torch.zeros(2), weight=weight)
        tensor(3.)
    """
    check_legacy(size_average, reduce)
    operands = (input, target, weight, None)
    return _loss("mse_loss", (), operands, mask, reduction, normalizer, return_stats)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average=None,
    reduce=None,
    reduction: str = "mean",
    beta: float = 1.0,
    *,
    weight: Tensor | WeightSource | None = None,
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """d^2 / (2 beta) where abs(d) < beta, else abs(d) - beta / 2, with d = x - t.

    `beta` >= 0, in the unit of `input`; 0 is `l1_loss`. Default normalizer ``"weights"``.
    Source: Girshick, Fast R-CNN (2015), with torch's beta.
    Shapes, dtypes, options, errors: see `fusedloss.functional`.

    Example::

        >>> import torch, fusedloss as fl
        >>> input = torch.tensor([0.5, 3.0])
        >>> fl.smooth_l1_loss(input, torch.zeros(2), reduction="none")
        tensor([0.1250, 2.5000])
    """
    check_legacy(size_average, reduce)
    check_number("beta", beta, 0.0, low_inclusive=True)
    operands = (input, target, weight, None)
    return _loss("smooth_l1_loss", (beta,), operands, mask, reduction, normalizer, return_stats)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | WeightSource | None = None,
    *,
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """d^2 / 2 where abs(d) <= delta, else delta (abs(d) - delta / 2), with d = x - t.

    `delta` > 0, in the unit of `input`. Default normalizer ``"selected"``: unlike in `mse_loss`,
    weights do not count in the mean, as in torch. Source: Huber (1964).
    Shapes, dtypes, options, errors: see `fusedloss.functional`.

    Example::

        >>> import torch, fusedloss as fl
        >>> input = torch.tensor([0.5, 3.0])
        >>> fl.huber_loss(input, torch.zeros(2), delta=2.0, reduction="none")
        tensor([0.1250, 4.0000])
    """
    check_number("delta", delta, 0.0)
    operands = (input, target, weight, None)
    return _loss("huber_loss", (delta,), operands, mask, reduction, normalizer, return_stats)


def charbonnier_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    eps: float = 1e-3,
    *,
    weight: Tensor | WeightSource | None = None,
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """sqrt((x - t)^2 + eps^2), a smooth L1 that is `eps` at its minimum.

    `eps` > 0, in the unit of `input`. Default normalizer ``"weights"``.
    Source: Charbonnier et al., Two deterministic half-quadratic regularization algorithms (1994).
    Shapes, dtypes, options, errors: see `fusedloss.functional`.

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.charbonnier_loss(torch.tensor([3.0]), torch.zeros(1), eps=4.0)
        tensor(5.)
    """
    check_number("eps", eps, 0.0)
    operands = (input, target, weight, None)
    return _loss("charbonnier_loss", (eps,), operands, mask, reduction, normalizer, return_stats)


def log_cosh_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    *,
    weight: Tensor | WeightSource | None = None,
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """log cosh(x - t): d^2 / 2 near 0, abs(d) - log 2 far away, accurate in both.

    Default normalizer ``"weights"``. Shapes, dtypes, options, errors: see `fusedloss.functional`.

    Example::

        >>> import torch, fusedloss as fl
        >>> fl.log_cosh_loss(torch.tensor([1e-4, 1e4]), torch.zeros(2), reduction="none")
        tensor([5.0000e-09, 9.9993e+03])
    """
    operands = (input, target, weight, None)
    return _loss("log_cosh_loss", (), operands, mask, reduction, normalizer, return_stats)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | WeightSource | None = None,
    size_average=None,
    reduce=None,
    reduction: str = "mean",
    *,
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """-(t log x + (1 - t) log(1 - x)) of probabilities x, no logarithm below -100, as torch.

    Derivative (x - t) / max(x (1 - x), 1e-12). Default normalizer ``"selected"``. `weight` follows
    torch's broadcasting. An input outside [0, 1] that takes part is a ValueError with value and
    position on the CPU and a device assert on CUDA; NaN propagates; the target is not checked.
    Shapes, dtypes, options, other errors: see `fusedloss.functional`.

    Example::

        >>> import torch, fusedloss as fl
        >>> input, target = torch.tensor([0.5, 7.0]), torch.tensor([1.0, -1.0])
        >>> fl.binary_cross_entropy(input, target, mask=fl.target >= 0)
        tensor(0.6931)
    """
    check_legacy(size_average, reduce)
    operands = (input, target, weight, None)
    name = "binary_cross_entropy"
    return _loss(name, (), operands, mask, reduction, normalizer, return_stats, True)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | WeightSource | None = None,
    size_average=None,
    reduce=None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
    *,
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """pos_weight t softplus(-x) + (1 - t) softplus(x) of logits x.

    `pos_weight` (1 where None) and `weight` follow torch's broadcasting: from the right, so one per
    channel of (N, C, H, W) is (C, 1, 1). Default normalizer ``"selected"``.
    Shapes, dtypes, options, errors: see `fusedloss.functional`.

    Example::

        >>> import torch, fusedloss as fl
        >>> input, target = torch.tensor([0.0, 1000.0]), torch.tensor([1.0, 0.0])
        >>> fl.binary_cross_entropy_with_logits(input, target, reduction="none")
        tensor([6.9315e-01, 1.0000e+03])
    """
    check_legacy(size_average, reduce)
    operands = (input, target, weight, pos_weight)
    name = "binary_cross_entropy_with_logits"
    return _loss(name, (), operands, mask, reduction, normalizer, return_stats, True)


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: str = "mean",
    *,
    weight: Tensor | WeightSource | None = None,
    mask=None,
    normalizer=None,
    return_stats: bool = False,
):
    """alpha_t (1 - p_t)^gamma BCE(x, t) of logits x, with p = sigmoid(x),
    p_t = p t + (1 - p)(1 - t) and alpha_t = alpha t + (1 - alpha)(1 - t).

    `alpha` is the weight of positives, any negative number switches alpha_t off; `gamma` >= 0.
    Value and gradients are finite at every finite logit. Default normalizer ``"selected"``.
    Source: Lin et al., Focal Loss for Dense Object Detection (2017), as in torchvision.
    Shapes, dtypes, options, errors: see `fusedloss.functional`.

    Example::

        >>> import torch, fusedloss as fl
        >>> input, target = torch.tensor([0.0, 1000.0]), torch.tensor([1.0, 1.0])
        >>> fl.sigmoid_focal_loss(input, target, gamma=0.5, alpha=-1, reduction="none")
        tensor([0.4901, 0.0000])
    """
    check_number("alpha", alpha)
    check_number("gamma", gamma, 0.0, low_inclusive=True)
    operands = (input, target, weight, None)
    name = "sigmoid_focal_loss"
    return _loss(name, (alpha, gamma), operands, mask, reduction, normalizer, return_stats)


def _loss(name, options, operands, mask, reduction, normalizer, return_stats, torch_weight=False):
    if options:
        options = tuple(map(float, options))
    check_return_stats(return_stats)
    region = as_region(mask)
    check_elementwise(*operands, region, reduction, normalizer, torch_weight)
    if torch_weight:
        input, target, weight, pos_weight = operands
        if isinstance(weight, Tensor):
            weight = torch_view(weight, input.ndim)
        operands = (input, target, weight, pos_weight)
    return elementwise(name, options, *operands, region, reduction, normalizer, return_stats)
