"""Regions and weight sources as dense tensors, for looking at them."""

import torch
from torch import Tensor

from .._checks import check_elementwise, check_input, check_real, refuse_device
from .._class_checks import check_positions
from .._labels import has_input_shape, has_position_shape, with_channels
from .._overlap_checks import check_elements
from ..regions import as_region
from ..weights import as_source
from ._dtypes import compute_dtype
from ._sources import combined, leaf_values
from ._terms import region_value


def region_mask(region, input: Tensor, target: Tensor) -> Tensor:
    """Where a region takes part, as a dense bool tensor that broadcasts to `input`.

    It has `input`'s shape, with a channel dim (dim 1) of size 1 where every term of the region is
    the same for all channels. `region` may be a tensor; a floating mask becomes ``mask != 0``.
    `target` has `input`'s shape, or holds class indices as in the class losses. The losses never
    make such a tensor.

    Raises what a loss called with ``mask=region`` raises.

    Example::

        >>> import torch, fusedloss as fl
        >>> depth = torch.tensor([[[[2.0, float("nan"), 5.0, 4.0]]]])
        >>> region = fl.target.isfinite() & fl.box(0, 0, 3, 1)
        >>> fl.region_mask(region, torch.zeros(1, 1, 1, 4), depth)
        tensor([[[[ True, False,  True, False]]]])
    """
    if region is None:
        raise TypeError("region must be a tensor or a region, got NoneType")
    region = as_region(region)
    view, labels, positional = _checked(input, target, None, region)
    value = region_value(region, view, labels, torch.float64, positional)
    return _dense(value != 0, view, input)


def weight_map(source, input: Tensor, target: Tensor) -> Tensor:
    """What a weight source weighs each position with, as a dense tensor that broadcasts to `input`.

    Shaped like `region_mask`, in float32 (float64 where `input`, `target` or a tensor that is
    itself a weight is). `source` may be a tensor. The losses never make such a tensor.

    Raises what a loss called with ``weight=source`` raises.

    Example::

        >>> import torch, fusedloss as fl
        >>> labels = torch.tensor([[[[0, 0, 0, 1]]]])
        >>> fl.weight_map(1 + 4 * fl.boundary(), torch.zeros(1, 1, 1, 4), labels)
        tensor([[[[1., 1., 5., 5.]]]])
    """
    if source is None:
        raise TypeError("source must be a tensor or a weight source, got NoneType")
    view, labels, positional = _checked(input, target, source, None)
    source = as_source(source)
    dtype = compute_dtype(input, target, source)
    values = combined(source, leaf_values(source, view, labels, dtype, positional))
    return _dense(values, view, input)


def _checked(input, target, source, region) -> tuple[Tensor, Tensor, bool]:
    """(input, target, positional) as the terms take them; `positional` for class indices."""
    check_input(input)
    check_real("target", target)
    positional = not (has_input_shape(input, target) or target.is_floating_point())
    if not positional or not has_position_shape(input, target):
        check_elementwise(input, target, source, None, region, "none", None)
        return input, target, False
    if target.device != input.device:
        refuse_device("target", target, input.device)
    if input.ndim == 1:
        check_positions(input, target, source, region)
        return *with_channels(input, target), True
    view, labels = with_channels(input, target)
    check_elements(view, labels, source, region)  # a sigmoid Dice takes a mask of each channel
    return view, labels, True


def _dense(values: Tensor, view: Tensor, input: Tensor) -> Tensor:
    """`values` in the shape of `view`; without the batch dim that `input` may not have."""
    shape = view.shape
    if view.ndim >= 2 and values.shape[1] == 1:
        shape = (*shape[:1], 1, *shape[2:])
    values = values.expand(shape).contiguous()
    return values if view.ndim == input.ndim else values.squeeze(0)
