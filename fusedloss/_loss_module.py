"""What the loss modules share: mask, weight, normalizer and reduction, kept between calls."""

import torch
from torch import Tensor, nn

from . import reference
from ._checks import (
    broadcast_view,
    check_normalizer,
    check_real,
    check_reduction,
    check_torch_weight,
    check_weight,
)
from .regions import And, Region, as_region


class LossModule(nn.Module):
    """Base of the modules: checks and keeps the common options, and makes the call.

    Tensors become buffers: `weight` a persistent one, as in torch, the others not. A subclass adds
    its own options as attributes and names them in `options`.
    """

    def __init__(self, reduction, weight, mask, normalizer, return_stats):
        super().__init__()
        check_reduction(reduction)
        if normalizer is not None:
            check_normalizer(normalizer, reduction)
        if weight is not None:
            check_real("weight", weight)
        self.reduction = reduction
        self.return_stats = bool(return_stats)
        self.register_buffer("weight", weight)
        if isinstance(normalizer, Tensor):
            self.register_buffer("normalizer", normalizer, persistent=False)
        else:
            self.normalizer = normalizer
        # The expression is kept without its tensors, which are buffers mask_0, mask_1, ...
        region = as_region(mask)
        tensors = () if region is None else region.tensors
        for index, tensor in enumerate(tensors):
            check_real("mask", tensor)
            self.register_buffer(f"mask_{index}", tensor, persistent=False)
        self._mask_count = len(tensors)
        self._region = None if region is None else region.rebind((None,) * len(tensors))

    @property
    def mask(self) -> Region | None:
        """The constructor's mask, over the tensors where they are now."""
        if self._region is None:
            return None
        return self._region.rebind(
            tuple(getattr(self, f"mask_{i}") for i in range(self._mask_count))
        )

    def options(self) -> dict:
        """The options that only this loss has."""
        return {}

    def extra_repr(self) -> str:
        shown = {**self.options(), "reduction": self.reduction}
        for name in ("mask", "weight", "normalizer"):
            if getattr(self, name) is not None:
                shown[name] = getattr(self, name)
        if self.return_stats:
            shown["return_stats"] = True
        return ", ".join(f"{name}={_shown(value)}" for name, value in shown.items())

    def call(self, function, input, target, mask, weight, torch_weight=False):
        """`function` of the operands, under the constructor's options and the call's."""
        region = as_region(mask)
        own = self.mask
        if own is not None:
            region = own if region is None else And(own, region)
        return function(
            input,
            target,
            reduction=self.reduction,
            weight=self._combined_weight(weight, input, torch_weight),
            mask=region,
            normalizer=self.normalizer,
            return_stats=self.return_stats,
            **self.options(),
        )

    def _combined_weight(self, weight, input, torch_weight: bool):
        """The constructor's weight times the call's; 0 where either is."""
        own = self.weight
        if own is None or weight is None or not isinstance(input, Tensor):
            return own if weight is None else weight
        for factor in (own, weight):
            if torch_weight:
                check_torch_weight("weight", factor, input)
            else:
                check_weight(factor, input)
        dtype = reference.compute_dtype(own, weight)
        own, weight = own.to(dtype), weight.to(dtype)
        if not torch_weight:
            own, weight = broadcast_view(own, input.ndim), broadcast_view(weight, input.ndim)
        both = (own != 0) & (weight != 0)
        return torch.where(both, own, 0.0) * torch.where(both, weight, 0.0)


def _shown(value) -> str:
    if isinstance(value, Tensor):
        return f"tensor({str(value.dtype)[6:]}, {tuple(value.shape)})"
    return repr(value)
