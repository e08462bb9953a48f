"""What the loss modules share: mask, weight, normalizer and reduction, kept between calls."""

import torch
from torch import Tensor, nn

from .. import reference
from .._checks import (
    broadcast_view,
    check_normalizer,
    check_real,
    check_reduction,
    check_return_stats,
    check_source_type,
    check_torch_weight,
    check_weight,
    torch_view,
)
from .._expression import Expression, tensor_text
from ..regions import And, Region, as_region
from ..weights import Product, WeightSource, as_source


class LossModule(nn.Module):
    """Base of the modules: checks and keeps the common options, and makes the call.

    Tensors become buffers: `weight` a persistent one, as in torch, the others not. Images,
    features, labels, coordinates and lengths keep their dtype when the module is cast (rounding
    them to 16 bits would move a mask), and only follow it to another device. A subclass adds its
    own options as attributes and names them in `options`.

    `map_name` is the argument, and the attribute, that multiplies the loss of an element or
    position: `weight` here, `weight_map` in families whose `weight` is one per class.
    """

    map_name = "weight"

    def __init__(self, reduction, weight_map, mask, normalizer, return_stats):
        super().__init__()
        check_reduction(reduction)
        if normalizer is not None:
            check_normalizer(normalizer, reduction)
        self.reduction = reduction
        check_return_stats(return_stats)
        self.return_stats = return_stats
        self._keep_dtype = ()  # names of the buffers that a cast leaves alone
        self._source = None
        name = self.map_name
        persistent = name == "weight"
        if weight_map is None or isinstance(weight_map, Tensor):
            if weight_map is not None:
                check_real(name, weight_map)
            self.register_buffer(name, weight_map, persistent)
        else:
            check_source_type(weight_map, name)
            self.register_buffer(name, None, persistent)
            self._source = self._emptied(name, weight_map)
        if isinstance(normalizer, Tensor):
            self.register_buffer("normalizer", normalizer, persistent=False)
        else:
            self.normalizer = normalizer
        self._region = None if mask is None else self._emptied("mask", as_region(mask))

    @property
    def mask(self) -> Region | None:
        """The constructor's mask, over the tensors where they are now."""
        return self._filled("mask", self._region)

    @property
    def weight_source(self) -> WeightSource | None:
        """The constructor's weight (map) where that is a source, over the tensors where they are
        now."""
        return self._filled(self.map_name, self._source)

    def _emptied(self, name: str, expression: Expression) -> Expression:
        """The expression without its tensors, which become buffers <name>_0, <name>_1, ..."""
        tensors, factors = expression.tensors, expression.factors
        for index, tensor in enumerate(tensors):
            check_real(name, tensor)
            self.register_buffer(f"{name}_{index}", tensor, persistent=False)
            if not any(tensor is factor for factor in factors):
                self._keep_dtype += (f"{name}_{index}",)
        return expression.rebind((None,) * len(tensors))

    def _filled(self, name: str, expression: Expression | None):
        if expression is None:
            return None
        count = len(expression.tensors)
        return expression.rebind(tuple(getattr(self, f"{name}_{i}") for i in range(count)))

    def _apply(self, fn, recurse=True):
        before = {name: self._buffers[name] for name in self._keep_dtype}
        super()._apply(fn, recurse)
        for name, tensor in before.items():
            moved = self._buffers[name]
            if moved.dtype is not tensor.dtype:
                self._buffers[name] = tensor.to(moved.device)
        return self

    def options(self) -> dict:
        """The options that only this loss has."""
        return {}

    def extra_repr(self) -> str:
        shown = {**self.options(), "reduction": self.reduction}
        for name, value in (
            ("mask", self.mask),
            (self.map_name, self._own_map()),
            ("normalizer", self.normalizer),
        ):
            if value is not None:
                shown[name] = value
        if self.return_stats:
            shown["return_stats"] = True
        return ", ".join(f"{name}={_shown(value)}" for name, value in shown.items())

    def _own_map(self):
        return getattr(self, self.map_name) if self._source is None else self.weight_source

    def call(self, function, input, target, mask, weight_map, torch_weight=False):
        """`function` of the operands, under the constructor's options and the call's."""
        region = as_region(mask)
        own = self.mask
        if own is not None:
            region = own if region is None else And(own, region)
        arguments = self.options()
        arguments[self.map_name] = self._combined_map(weight_map, input, torch_weight)
        if self.normalizer is not None:  # overlap losses have none
            arguments["normalizer"] = self.normalizer
        return function(
            input,
            target,
            reduction=self.reduction,
            mask=region,
            return_stats=self.return_stats,
            **arguments,
        )

    def _combined_map(self, given, input, torch_weight: bool):
        """The constructor's weight (map) times the call's; 0 where either is."""
        own, name = self._own_map(), self.map_name
        if own is None or given is None or not isinstance(input, Tensor):
            return own if given is None else given
        if not isinstance(own, Tensor) or not isinstance(given, Tensor):
            return _product(name, own, given, input, torch_weight)
        for factor in (own, given):
            if torch_weight:
                check_torch_weight(name, factor, input)
            else:
                check_weight(factor, input, name)
        dtype = reference.compute_dtype(own, given)
        own, given = own.to(dtype), given.to(dtype)
        if not torch_weight:
            own, given = broadcast_view(own, input.ndim), broadcast_view(given, input.ndim)
        both = (own != 0) & (given != 0)
        return torch.where(both, own, 0.0) * torch.where(both, given, 0.0)


def _product(name: str, own, given, input: Tensor, torch_weight: bool) -> WeightSource:
    """The product of two weights, one of them a source."""
    factors = []
    for factor in (own, given):
        if not isinstance(factor, Tensor):
            check_source_type(factor, name)
        elif torch_weight:
            check_torch_weight(name, factor, input)
            factor = torch_view(factor, input.ndim)
        factors.append(as_source(factor))
    return Product(*factors)


def _shown(value) -> str:
    return tensor_text(value) if isinstance(value, Tensor) else repr(value)
