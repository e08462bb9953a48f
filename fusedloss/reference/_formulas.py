"""The formula of each elementwise loss: value of every element from x = input and t = target.

Arguments come in the dtype of the computation (float32 or float64); results have their shape.
Derivatives are those of autograd, so a formula must be written such that all of them are finite
wherever the mathematical ones are. Where two branches meet, each is given arguments at which it is
harmless (else the branch not taken would add 0 * inf = NaN to the gradient). sinh, sigmoid and pow
of torch have other last bits in vectors than one by one, so that they depend on the number of
threads; exp, expm1, log and log1p do not.
"""

import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Formula(NamedTuple):
    value: Callable  # (x, t, *options) -> Tensor; pos_weight, where there is one, comes last
    default_normalizer: str


def l1(x: Tensor, t: Tensor) -> Tensor:
    return (x - t).abs()


def mse(x: Tensor, t: Tensor) -> Tensor:
    d = x - t
    return d * d


def smooth_l1(x: Tensor, t: Tensor, beta: float) -> Tensor:
    d = x - t
    if beta == 0:
        return d.abs()
    near = d.abs() < beta
    d_near = torch.where(near, d, 0.0)
    loss = torch.where(near, 0.5 * d_near * d_near / beta, d.abs() - 0.5 * beta)
    return _with_nan(loss, d)


def huber(x: Tensor, t: Tensor, delta: float) -> Tensor:
    d = x - t
    near = d.abs() <= delta
    d_near = torch.where(near, d, 0.0)
    loss = torch.where(near, 0.5 * d_near * d_near, delta * (d.abs() - 0.5 * delta))
    return _with_nan(loss, d)


def _with_nan(loss: Tensor, d: Tensor) -> Tensor:
    """`loss`, and NaN with a gradient of NaN where d is."""
    nan = d.isnan()
    spoiled = torch.where(nan, d, 0.0)
    return torch.where(nan, spoiled * spoiled, loss)


def charbonnier(x: Tensor, t: Tensor, eps: float) -> Tensor:
    d = x - t
    return torch.hypot(d, d.new_full((), eps))  # sqrt(d^2 + eps^2) without overflow


def log_cosh(x: Tensor, t: Tensor) -> Tensor:
    d = x - t
    near = d.abs() < 1
    grown = torch.expm1(torch.where(near, d, 0.0))
    sinh = 0.5 * (grown + grown / (grown + 1))
    far = torch.where(near, 1.0, d).abs()
    # cosh^2 = 1 + sinh^2 keeps all digits near 0; the other form does not overflow
    return torch.where(
        near,
        0.5 * torch.log1p(sinh * sinh),
        far + torch.log1p(torch.exp(-2 * far)) - math.log(2),
    )


def binary_cross_entropy(x: Tensor, t: Tensor) -> Tensor:
    """torch's own: -(t log x + (1 - t) log(1 - x)), logarithms not below -100, and the derivative
    (x - t) / max(x (1 - x), 1e-12). It is linear in t; torch is asked for t = 1 and t = 0 because
    it refuses other targets than [0, 1]. On the CPU it refuses NaN as well, which propagates here.
    """
    nan = x.isnan()
    p = torch.where(nan, 0.5, x)
    with _without_autocast(x.device.type):
        positive = F.binary_cross_entropy(p, torch.ones_like(p), reduction="none")
        negative = F.binary_cross_entropy(p, torch.zeros_like(p), reduction="none")
    return torch.where(nan, x * x, t * positive + (1 - t) * negative)  # x * x: gradient NaN too


def binary_cross_entropy_with_logits(
    x: Tensor, t: Tensor, pos_weight: Tensor | None = None
) -> Tensor:
    positive, negative = -t * _log_sigmoid(x), -(1 - t) * _log_sigmoid(-x)
    negative = negative + x.clamp(max=0) * 0  # NaN at -inf, as torch
    return negative + (positive if pos_weight is None else pos_weight * positive)


def sigmoid_focal(x: Tensor, t: Tensor, alpha: float, gamma: float) -> Tensor:
    """alpha_t (1 - p_t)^gamma BCE with p_t = p t + (1 - p)(1 - t) and, for alpha >= 0 (else 1),
    alpha_t = alpha t + (1 - alpha)(1 - t)."""
    loss = _one_minus_pt_power(x, t, gamma) * binary_cross_entropy_with_logits(x, t)
    return (alpha * t + (1 - alpha) * (1 - t)) * loss if alpha >= 0 else loss


def _one_minus_pt_power(x: Tensor, t: Tensor, gamma: float) -> Tensor:
    """q^gamma for q = 1 - p_t = t sigmoid(-x) + (1 - t) sigmoid(x), at any logit.

    At a hard label (t is 0 or 1) q underflows, and autograd's q^(gamma - 1) would be infinite, so
    log q is summed instead. With y = x for t = 1, -x for t = 0, and r = abs(t - label) = 0:
    log q = log sigmoid(-y) + log(1 + r expm1(y)); the second term is 0 but carries the derivative
    with respect to t, which the cap at y = 40 keeps finite (where it multiplies a loss < 1e-17).
    """
    label = (t >= 0.5).to(t.dtype)
    hard = t == label
    y = torch.where(t >= 0.5, x, -x)
    r = torch.where(hard, (1 - 2 * label) * (t - label), 0.0)
    log_q = _log_sigmoid(-y) + torch.log1p(r * torch.expm1(y.clamp(max=40.0)))
    soft_t = torch.where(hard, 0.5, t)
    soft_q = soft_t * _sigmoid(-x) + (1 - soft_t) * _sigmoid(x)
    power = torch.exp(gamma * torch.where(hard, log_q, torch.log(soft_q.abs())))
    if gamma == 0:
        return torch.ones_like(power)
    sign = math.nan if gamma % 1 else -1.0 if gamma % 2 else 1.0  # targets beyond [0, 1]
    return torch.where(hard | (soft_q >= 0), 1.0, sign) * power


def _log_sigmoid(x: Tensor) -> Tensor:
    negative = x < 0
    minus_abs = torch.where(negative, x, -x)  # with the derivative of the branch at 0
    return torch.where(negative, x, 0.0) - torch.log1p(torch.exp(minus_abs))


def _sigmoid(x: Tensor) -> Tensor:
    """Absolutely as exact as torch's, for sums with larger numbers."""
    return 1 / (1 + torch.exp(-x.clamp(min=-80.0)))


def _without_autocast(device: str):
    """torch bans binary_cross_entropy under autocast, even in float32."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


ELEMENTWISE = {
    "l1_loss": Formula(l1, "weights"),
    "mse_loss": Formula(mse, "weights"),
    "smooth_l1_loss": Formula(smooth_l1, "weights"),
    "huber_loss": Formula(huber, "selected"),
    "charbonnier_loss": Formula(charbonnier, "weights"),
    "log_cosh_loss": Formula(log_cosh, "weights"),
    "binary_cross_entropy": Formula(binary_cross_entropy, "selected"),
    "binary_cross_entropy_with_logits": Formula(binary_cross_entropy_with_logits, "selected"),
    "sigmoid_focal_loss": Formula(sigmoid_focal, "selected"),
}

DEFAULT_NORMALIZERS = {name: loss.default_normalizer for name, loss in ELEMENTWISE.items()}
