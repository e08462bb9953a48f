"""The tables of the compounds, and what they should be: the Dice part from the numpy oracle, the
pointwise part from torch's own functions under masks and weights multiplied by hand, in float64."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import numpy_terms as terms
from tests import overlap_cases
from tests.overlap_cases import IGNORED, Problem

# (function, its own options, whether its pointwise part has a loss of each position)
LOSSES = (
    ("dice_cross_entropy_loss", {}, True),
    ("dice_cross_entropy_loss", {"dice_weight": 1.0, "ce_weight": 2.0, "squared": True}, True),
    ("dice_cross_entropy_loss", {"label_smoothing": 0.2, "activation": "sigmoid"}, True),
    ("dice_bce_loss", {}, False),
    ("dice_bce_loss", {"dice_weight": 0.25, "smooth": (0.0, 1.0), "activation": "softmax"}, False),
    ("dice_bce_loss", {"pos_weight": torch.tensor([[2.0]]), "bce_weight": 0.0}, False),
    ("dice_focal_loss", {}, True),
    ("dice_focal_loss", {"gamma": 0.5, "focal_weight": 3.0}, True),
    ("dice_focal_loss", {"activation": "sigmoid"}, False),
    ("dice_focal_loss", {"activation": "sigmoid", "alpha": -1.0, "gamma": 1.5}, False),
)
FUNCTIONS = ("dice_cross_entropy_loss", "dice_bce_loss", "dice_focal_loss")
ACTIVATION = dict(zip(FUNCTIONS, ("softmax", "sigmoid", "softmax"), strict=True))
WEIGHT_NAME = dict(zip(FUNCTIONS, ("ce_weight", "bce_weight", "focal_weight"), strict=True))
DEFAULT_NORMALIZERS = {
    "dice_cross_entropy_loss": "weights",  # of class indices
    "dice_bce_loss": "selected",
    "dice_focal_loss": "positions",  # under softmax
}
NORMALIZERS = (None, "weights", "selected", "positions", "all", 7.5)
POINTWISE_OPTIONS = ("weight", "normalizer", "label_smoothing", "pos_weight", "alpha", "gamma")


def reductions(per: str) -> tuple[str, ...]:
    return tuple(name for name in overlap_cases.reductions(per) if name != "none")


def activation_of(loss) -> str:
    return loss[1].get("activation", ACTIVATION[loss[0]])


def is_positional(loss) -> bool:
    """Whether mask and map have to be per position."""
    return loss[2] or activation_of(loss) == "softmax"


def make_problem(
    loss, shape, target, rng, dtype=torch.float32, mask="none", weight_map="none", **own
):
    """Random operands; masks and maps as the part that allows less of them takes them."""
    name, options, _ = loss
    activation = activation_of(loss)
    plain = {"ignore_index": own.get("ignore_index")}
    problem = overlap_cases.make_problem(name, shape, activation, target, rng, dtype, **plain)
    positional = is_positional(loss)
    masks = overlap_cases.masks(positional) | overlap_cases.SPATIAL_MASKS
    maps = overlap_cases.maps(positional) | overlap_cases.SPATIAL_MAPS | overlap_cases.OWN_LABELS
    options = {"activation": activation} | options | own
    if loss[2] and target == "soft":  # probabilities
        goal = problem.target.double()
        goal = torch.where(goal == IGNORED, 0.5, goal) + 0.1
        problem = problem.with_(target=(goal / goal.sum(1, keepdim=True)).to(dtype))
        options["ignore_index"] = -100
    return problem.with_(
        options=options, mask=masks[mask](shape, rng), weight_map=maps[weight_map](shape, rng)
    )


class Expected(NamedTuple):
    loss: Tensor
    gradient: Tensor
    total: Tensor
    normalizer: Tensor
    selected: int
    counts: tuple


def expected(problem: Problem, loss) -> Expected:
    options = problem.options
    dice_weight = options.get("dice_weight", 0.5)
    other_weight = options.get(WEIGHT_NAME[problem.name])
    other_weight = 1 - dice_weight if other_weight is None else other_weight
    of_dice = {k: v for k, v in options.items() if k not in POINTWISE_OPTIONS}
    of_dice["weight"] = options.get("dice_class_weight")
    if of_dice.get("ignore_index") is None:
        of_dice["ignore_index"] = -100 if problem.name != "dice_bce_loss" else None
    dice = overlap_cases.expected(problem.with_(name="dice_loss", options=of_dice))
    x = problem.input.detach().double().requires_grad_()
    part = pointwise(problem, loss, x, of_dice["ignore_index"])
    (slope,) = torch.autograd.grad(part.loss, x, allow_unused=True, materialize_grads=True)
    return Expected(
        dice_weight * torch.as_tensor(dice.loss) + other_weight * part.loss.detach(),
        dice_weight * torch.as_tensor(dice.gradient) + other_weight * slope,
        part.total.detach(),
        part.normalizer.detach(),
        part.selected,
        dice[5:],
    )


class _Part(NamedTuple):
    loss: Tensor
    total: Tensor
    normalizer: Tensor
    selected: int


def pointwise(problem: Problem, loss, x: Tensor, ignore_index) -> _Part:
    """The pointwise part alone: losses of torch's functions, then sums by hand."""
    options = problem.options
    target = problem.target if problem.target.ndim == x.ndim else problem.target.unsqueeze(1)
    seen = target.double() if target.is_floating_point() else target.long().double()
    mask, weights = (
        torch.ones(x.shape, dtype=torch.float64)
        if term is None
        else torch.from_numpy(
            np.broadcast_to(term.value(terms.array(x), seen.numpy()), x.shape).copy()
        )
        for term in (problem.mask, problem.weight_map)
    )
    ignored = seen == (float("nan") if ignore_index is None else ignore_index)
    labels = problem.labels()
    if loss[2] and not labels:
        ignored = torch.zeros_like(ignored)  # of probabilities nothing is
    mask = torch.where(ignored, 0.0, mask)
    class_weight = options.get("weight")
    class_weight = torch.ones(x.shape[1]) if class_weight is None else class_weight
    class_weight = class_weight.double()
    y = torch.where(ignored, 0, seen) if labels else seen
    t = F.one_hot(y[:, 0].long(), x.shape[1]).movedim(-1, 1).double() if labels else y
    columns = class_weight.reshape(1, -1, *[1] * (x.ndim - 2))
    smoothing = options.get("label_smoothing", 0.0)
    if loss[2]:
        mask, weights = mask[:, :1], weights[:, :1]
        smooth_t = (1 - smoothing) * t + smoothing / x.shape[1]
        log_p = x.log_softmax(1)
        gamma = options.get("gamma", 2.0) if problem.name == "dice_focal_loss" else 0.0
        each = -(columns * smooth_t * (1 - log_p.exp()) ** gamma * log_p).sum(1, keepdim=True)
        counted = weights * (columns * t).sum(1, keepdim=True)
        default = "positions"
        if problem.name == "dice_cross_entropy_loss":
            default = "weights" if labels else "positions"
    else:
        t = torch.where(mask == 0, 0.0, t)
        if problem.name == "dice_bce_loss":
            pos_weight = options.get("pos_weight")
            each = F.binary_cross_entropy_with_logits(x, t, reduction="none", pos_weight=pos_weight)
        else:
            each = sigmoid_focal(x, t, options.get("alpha", 0.25), options.get("gamma", 2.0))
        each, counted, default = each * columns, weights * columns, "selected"
    each = torch.where(mask * weights == 0, 0.0, mask * weights * each)
    return reduced(each, mask, mask * counted, options, default)


def sigmoid_focal(x, t, alpha, gamma):
    p = x.sigmoid()
    q = t * (1 - p) + (1 - t) * p
    each = q**gamma * F.binary_cross_entropy_with_logits(x, t, reduction="none")
    return each * (alpha * t + (1 - alpha) * (1 - t)) if alpha >= 0 else each


def reduced(each, mask, counted, options, default) -> _Part:
    reduction = options.get("reduction", "mean")
    normalizer = options.get("normalizer")
    by_sample = reduction == "sample_mean"

    def total(values):
        return values.flatten(1).sum(1) if by_sample else values.sum()

    kind = default if normalizer is None else normalizer
    denominator = {
        "weights": counted,
        "selected": mask,
        "positions": mask.amax(1),
        "all": torch.ones_like(mask),
    }
    below = (
        total(denominator[kind]) if isinstance(kind, str) else torch.tensor(float(kind)).double()
    )
    ratio = total(each) / torch.where(below == 0, 1.0, below)
    loss = ratio
    if reduction == "sum":
        loss = each.sum()
    elif by_sample:
        present = (mask != 0).flatten(1).any(1)
        loss = ratio[present].mean() if present.any() else 0 * ratio.sum()
    return _Part(loss, total(each), below, int((mask != 0).sum()))
