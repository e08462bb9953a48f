"""What the class losses accept beside the rules of `_checks.py`: one checker per rule.

As there, no checker looks at the values of a tensor.
"""

import numbers
from typing import NoReturn

import torch
from torch import Tensor

from ._checks import (
    check_input,
    check_normalizer,
    check_operand,
    check_positional,
    check_real,
    check_reduction,
    check_source_type,
    refuse_device,
    refuse_tensor,
    shape_text,
)
from ._expression import Expression
from ._labels import has_input_shape, has_position_shape, is_integer, positions, with_channels

_INTEGERS = "uint8, int8, int16, int32, int64, uint16, uint32, uint64"
# Which dtypes probabilities may have, where a loss does not take floating ones alone.
_PROBABILITIES = {"nll_loss": "none", "categorical_cross_entropy": "real"}


def check_class(name: str, operands, region, reduction, normalizer) -> None:
    """All rules of the class family but those of a loss's own numbers."""
    input, target, weight, weight_map, ignore_index, _ = operands
    check_input(input)
    if input.ndim == 0:
        raise ValueError(
            f"input of {name} must be (C,), (N, C) or (N, C, spatial dims), got a tensor of "
            "shape ()"
        )
    check_real("target", target)
    is_index = _check_target(name, input, target)
    if target.device != input.device:
        refuse_device("target", target, input.device)
    if weight is not None:
        check_class_weight(weight, input)
    check_ignore_index(ignore_index)
    if not is_index and ignore_index >= 0:
        raise ValueError(
            "ignore_index must be negative (unused) where target holds probabilities, got "
            f"{ignore_index}; give mask=..., a tensor or a region, instead"
        )
    check_positions(input, target, weight_map, region)
    check_reduction(reduction)
    if normalizer is not None:
        check_normalizer(normalizer, reduction, input.device)


def check_positions(input: Tensor, target: Tensor, weight_map, region) -> None:
    """Mask and weight map of losses whose positions count as a whole: the same for all channels.

    `target` has `input`'s shape or holds class indices.
    """
    operands = with_channels(input, target)
    if isinstance(weight_map, Tensor):
        check_positional("weight_map", weight_map, input)
    elif weight_map is not None:
        check_source_type(weight_map, "weight_map")
        weight_map.check_positional(input)
        weight_map.check(*operands)
    if region is not None:
        region.check_positional(input)
        region.check(*operands)


def check_class_weight_tensor(weight, name: str = "weight") -> None:
    """A dense tensor of one dim; what a module can say before it sees an input."""
    if isinstance(weight, Expression):
        raise TypeError(
            f"{name} must be a tensor with one value per class, got {weight!r}; a weight per "
            "position goes into weight_map"
        )
    check_real(name, weight)
    if weight.ndim != 1:
        raise ValueError(
            f"{name} must be (C,), one value per class, got {shape_text(weight.shape)}; a weight "
            "per position goes into weight_map"
        )


def check_class_weight(weight, input: Tensor, name: str = "weight") -> None:
    check_class_weight_tensor(weight, name)
    check_operand(name, weight, input.device)
    classes = input.shape[min(1, input.ndim - 1)]
    if weight.shape[0] != classes:
        raise ValueError(
            f"{name} must have one value per class, ({classes},) for input "
            f"{shape_text(input.shape)}, got {shape_text(weight.shape)}; a weight per position "
            "goes into weight_map"
        )


def check_ignore_index(ignore_index) -> None:
    if type(ignore_index) is not int and (
        isinstance(ignore_index, bool) or not isinstance(ignore_index, numbers.Integral)
    ):
        raise TypeError(
            f"ignore_index must be an int, got {type(ignore_index).__name__} {ignore_index!r}"
        )
    if not -(1 << 63) <= ignore_index < 1 << 63:
        raise ValueError(f"ignore_index must fit into 64 bits, got {ignore_index}")


def _check_target(name: str, input: Tensor, target: Tensor) -> bool:
    """True where the target holds class indices, False where it holds probabilities."""
    dtype, accepted = target.dtype, _PROBABILITIES.get(name, "floating")
    if has_position_shape(input, target) and is_integer(dtype):
        return True
    if has_input_shape(input, target) and accepted != "none":
        if accepted == "real" or dtype.is_floating_point:
            return False
        _refuse_probabilities(input, target)
    if dtype is torch.bool or has_position_shape(input, target):
        accepted = f"class indices of an integer dtype ({_INTEGERS})"
        refuse_tensor("target", target, accepted, _given(target) + "; target.long() has them")
    _refuse_shape(name, accepted, input, target)


def _given(target: Tensor) -> str:
    return f"dtype {target.dtype} of shape {shape_text(target.shape)}"


def _refuse_probabilities(input: Tensor, target: Tensor) -> NoReturn:
    refuse_tensor(
        "target",
        target,
        "a floating tensor of probabilities, having the shape of input, or class indices of "
        f"shape {shape_text(positions(input.shape))}",
        _given(target) + "; a one-hot target is target.float()",
    )


def _refuse_shape(name: str, accepted: str, input: Tensor, target: Tensor) -> NoReturn:
    message = f"target of {name} must hold class indices of shape "
    message += f"{shape_text(positions(input.shape))}, with or without a channel dim of size 1"
    if accepted != "none":
        message += f", or probabilities of shape {shape_text(input.shape)}"
    advice = ""
    if target.shape == input.shape[:-1]:
        advice = "; the classes are along dim 1 of input, as input.movedim(-1, 1) has them"
    raise ValueError(
        f"{message}, for input {shape_text(input.shape)}; got {shape_text(target.shape)}{advice}"
    )
