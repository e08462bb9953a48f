"""What the overlap losses accept: one checker per rule, as in `_checks.py`.

Nothing here looks at the values of a tensor; a class index that is out of range is found on the
way, by the reference and by the kernels.
"""

import torch
from torch import Tensor

from ._checks import (
    FLOATING,
    check_input,
    check_number,
    check_real,
    check_reduction,
    check_source,
    check_weight,
    refuse_device,
    shape_text,
)
from ._class_checks import check_class_weight, check_ignore_index, check_positions
from ._labels import has_input_shape, has_position_shape, positions, with_channels
from ._overlap_call import ACTIVATIONS, PER, Operands, Overlap


def checked_options(options: Overlap) -> Overlap:
    """The options, which need no operands to be checked, as the reference and kernels read them."""
    check_choice("activation", options.activation, ACTIVATIONS)
    check_choice("per", options.per, PER)
    for name in ("squared", "include_background", "skip_absent"):
        check_flag(name, getattr(options, name))
    if options.ignore_index is not None:
        check_ignore_index(options.ignore_index)
    check_number("alpha", options.alpha, 0.0, low_inclusive=True)
    check_number("beta", options.beta, 0.0, low_inclusive=True)
    check_number("gamma", options.gamma, 0.0)
    return options._replace(
        smooth=checked_smooth(options.smooth),
        positional=options.positional or options.activation == "softmax",
    )


def check_overlap(
    options: Overlap, operands: Operands, reduction, weight_name: str = "weight"
) -> None:
    """All rules that need the operands; `options` are checked ones."""
    input, target, weight, weight_map, region = operands
    check_input(input)
    if input.ndim < 2:
        raise ValueError(
            f"input must be (N, C) or (N, C, spatial dims), got {shape_text(input.shape)}; input "
            "without channels takes input.unsqueeze(1)"
        )
    check_target(input, target)
    _check_channels(options, input.shape[1])
    if weight is not None:
        check_class_weight(weight, input, weight_name)
    if options.positional:
        check_positions(input, target, weight_map, region)
    else:
        check_elements(*with_channels(input, target), weight_map, region)
    check_overlap_reduction(options, reduction)


def check_overlap_reduction(options: Overlap, reduction) -> None:
    check_reduction(reduction)
    if reduction == "sample_mean" and not options.by_sample:
        raise ValueError(
            f'reduction="sample_mean" needs pools within a sample, per="sample" or '
            f'"sample_class", got per="{options.per}"'
        )


def check_target(input: Tensor, target) -> None:
    """Soft targets of `input`'s shape, or class indices of the position shape."""
    check_real("target", target)
    if target.device != input.device:
        refuse_device("target", target, input.device)
    shape = input.shape
    if has_input_shape(input, target):
        return
    if not has_position_shape(input, target):
        raise ValueError(
            f"target must have the shape of input, {shape_text(shape)}, or hold class indices of "
            f"shape {shape_text(positions(shape))}, with or without a channel dim of size 1, got "
            f"{shape_text(target.shape)}"
        )
    one_channel = shape[1] == 1
    if target.dtype in FLOATING or (target.dtype is torch.bool and not one_channel):
        accepted = "an integer or bool tensor" if one_channel else "an integer tensor of classes"
        advice = "target.unsqueeze(1) has it" if one_channel else "class indices are target.long()"
        raise TypeError(
            f"target {shape_text(target.shape)} for input {shape_text(shape)} must be {accepted}, "
            f"got dtype {target.dtype}; soft and bool targets have the shape of input; {advice}"
        )


def checked_smooth(smooth) -> tuple[float, float]:
    """(s, s') from a number that is both, or a pair."""
    if isinstance(smooth, (tuple, list)):
        if len(smooth) != 2:
            raise ValueError(
                f"smooth must be a number or a pair (s, s'), got {len(smooth)} numbers: {smooth!r}"
            )
        pair = tuple(smooth)
    else:
        pair = (smooth, smooth)
    for value in pair:
        check_number("smooth", value, 0.0, low_inclusive=True)
    return float(pair[0]), float(pair[1])


def check_choice(name: str, value, accepted: tuple[str, ...]) -> None:
    if value in accepted if isinstance(value, str) else False:
        return
    shown = ", ".join(f'"{choice}"' for choice in accepted)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}; accepted: {shown}")
    raise ValueError(f"{name} must be one of {shown}, got {value!r}")


def check_flag(name: str, value) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__} {value!r}")


def _check_channels(options: Overlap, channels: int) -> None:
    if channels != 1:
        return
    if options.activation == "softmax":
        raise ValueError(
            'activation="softmax" needs two or more classes, got an input with one channel; use '
            'activation="sigmoid"'
        )
    if not options.include_background:
        raise ValueError(
            "include_background=False leaves out channel 0, which is all of an input with one "
            "channel"
        )


def check_elements(input: Tensor, target: Tensor, weight_map, region) -> None:
    """Mask and weight map that may differ from channel to channel."""
    if isinstance(weight_map, Tensor):
        check_weight(weight_map, input, "weight_map")
    elif weight_map is not None:
        check_source(weight_map, input, target, "weight_map")
    if region is not None:
        region.check(input, target)
