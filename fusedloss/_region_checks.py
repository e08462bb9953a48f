"""What region terms and weight sources accept: one checker per rule.

Rules that need no operands run when an expression is made, the others at the call, from the
`check` method of the term. As in `_checks.py`, no checker looks at the values of a tensor.
"""

import numbers
from typing import NoReturn

import torch
from torch import Tensor

from ._checks import FLOATING, check_number, check_operand, check_real

IMAGE_MIN_DIMS = 2  # batch and channels; edges and features need a spatial dim as well
_EDGE_OPERATORS = '"forward", "sobel"'
_COUNTS = {0: "none", 1: "one", 2: "two", 3: "three"}
_LAYOUTS = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


# ---- when an expression is made ----------------------------------------------------------------


def plain_number(name: str, value, *low, **bounds) -> float:
    """`value` as a Python number, checked as by `check_number`."""
    check_number(name, value, *low, **bounds)
    if type(value) in (int, float):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def named_numbers(name: str, layouts, given: tuple, named: dict) -> tuple[float, ...]:
    """The finite numbers of one of the `layouts` (tuples of names), by place and by name."""
    for layout in layouts:
        rest = layout[len(given) :]
        if len(given) + len(named) == len(layout) and set(rest) == set(named):
            values = given + tuple(named[key] for key in rest)
            return tuple(
                _coordinate(name, key, value) for key, value in zip(layout, values, strict=True)
            )
    accepted = " or ".join(f"{name}({', '.join(layout)})" for layout in layouts)
    shown = [repr(value) if _is_number(value) else type(value).__name__ for value in given]
    shown += [f"{key}={value!r}" for key, value in named.items()]
    raise TypeError(f"{name} must be called as {accepted}, got {name}({', '.join(shown)})")


def check_coordinates(name: str, tensor, widths: dict[int, str]) -> None:
    """(K, width) or (N, K, width) integer or floating coordinates."""
    check_real(name, tensor)
    if tensor.dtype is torch.bool:
        raise TypeError(f"{name} must be an integer or floating tensor, got dtype torch.bool")
    if tensor.ndim not in (2, 3) or tensor.shape[-1] not in widths:
        (plane, row), (space, row_3d) = widths.items()
        raise ValueError(
            f"{name} must be (K, {plane}) or (N, K, {plane}), rows {row}, or in 3-D "
            f"(K, {space}) or (N, K, {space}), rows {row_3d}; got {tuple(tensor.shape)}"
        )


def check_lengths_tensor(tensor) -> None:
    check_real("fl.lengths", tensor)
    if tensor.dtype in FLOATING or tensor.dtype is torch.bool:
        raise TypeError(f"fl.lengths must be an integer tensor, got dtype {tensor.dtype}")
    if tensor.ndim != 1:
        raise ValueError(f"fl.lengths must be (N,), one per sample, got {tuple(tensor.shape)}")


def check_image_tensor(name: str, tensor, least_dims: int, filled: bool = False) -> None:
    """(N or 1, C >= 1, ...), floating or uint8; `filled`: no spatial dim may be 0."""
    check_real(name, tensor)
    if tensor.dtype not in FLOATING and tensor.dtype is not torch.uint8:
        raise TypeError(f"{name} must be a floating or uint8 tensor, got dtype {tensor.dtype}")
    if tensor.ndim < least_dims or tensor.shape[1] == 0:
        spatial = ", spatial dims" if least_dims > IMAGE_MIN_DIMS else ", spatial dims if any"
        raise ValueError(
            f"{name} must be (N, channels{spatial}), got {tuple(tensor.shape)}; an image without "
            "channels takes unsqueeze(1)"
        )
    if filled and 0 in tensor.shape[2:]:
        raise ValueError(f"{name} must not be empty, got {tuple(tensor.shape)}")


def check_edge_operator(operator, image: Tensor) -> None:
    if not isinstance(operator, str):
        raise TypeError(
            f"operator must be a str, got {type(operator).__name__}; accepted: {_EDGE_OPERATORS}"
        )
    if operator not in ("forward", "sobel"):
        raise ValueError(f"operator must be one of {_EDGE_OPERATORS}, got {operator!r}")
    if operator == "sobel" and image.ndim != 4:
        raise ValueError(
            f'operator="sobel" needs a 2-D image (N, channels, H, W), got {tuple(image.shape)}'
        )


def check_labels_tensor(name: str, labels) -> None:
    check_real(name, labels)
    if labels.ndim < 2:
        raise ValueError(f"{name} must be (N, spatial dims), got {tuple(labels.shape)}")


def check_radius(radius) -> None:
    if isinstance(radius, bool) or not isinstance(radius, numbers.Integral):
        raise TypeError(f"radius must be an integer, got {type(radius).__name__} {radius!r}")
    if radius < 0:
        raise ValueError(f"radius must be >= 0, got {radius}")


# ---- at the call -------------------------------------------------------------------------------


def check_channels(name: str, input: Tensor) -> None:
    if input.ndim < 2:
        raise ValueError(
            f"{name} needs a channel dim (dim 1): input of two or more dims, got "
            f"{tuple(input.shape)}; input without channels takes input.unsqueeze(1)"
        )


def check_spatial(name: str, input: Tensor, dims: int | None = None) -> None:
    """`dims` spatial dims; None: any number but 0."""
    found = max(0, input.ndim - 2)
    if found == dims or (dims is None and found > 0):
        return
    if dims is None:
        needs = "one or more spatial dims: input (N, C, ...)"
    else:
        needs = f"{_COUNTS[dims]} spatial dims: input {_LAYOUTS[dims]}"
    raise ValueError(f"{name} needs {needs}, got {_found(input)}")


def check_points(name: str, tensor: Tensor, input: Tensor, per_dim: int, extra: int) -> None:
    """Rows of `per_dim` numbers per spatial dim and `extra` more, for 2-D and 3-D inputs."""
    width, found = tensor.shape[-1], max(0, input.ndim - 2)
    if found not in (2, 3):
        raise ValueError(
            f"{name} needs two or three spatial dims: input {_LAYOUTS[2]} or {_LAYOUTS[3]}, got "
            f"{_found(input)}"
        )
    if width != per_dim * found + extra:
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} needs "
            f"{_COUNTS[(width - extra) // per_dim]} spatial dims, got {_found(input)}; there a row "
            f"has {per_dim * found + extra} numbers"
        )
    check_operand(name, tensor, input.device)
    if tensor.ndim == 3 and tensor.shape[0] != input.shape[0]:
        _refuse_batch(name, tensor, input, "")


def check_lengths(tensor: Tensor, input: Tensor) -> None:
    if input.ndim not in (2, 3):
        raise ValueError(
            f"fl.lengths needs sequences: input (N, T) or (N, C, T), got {tuple(input.shape)}"
        )
    check_operand("fl.lengths", tensor, input.device)
    if tensor.shape[0] != input.shape[0]:
        _refuse_batch("fl.lengths", tensor, input, "")


def check_class_sequences(input: Tensor) -> None:
    if input.ndim != 3:
        raise ValueError(
            "fl.lengths needs sequences of positions: input (N, C, T), as dim 1 holds the classes; "
            f"got {tuple(input.shape)}"
        )


def check_image(name: str, image: Tensor, input: Tensor) -> None:
    """An image that lies over `input`: (N or 1, channels, spatial shape of `input`)."""
    check_channels(name, input)
    check_operand(name, image, input.device)
    if image.shape[2:] != input.shape[2:]:
        accepted = ", ".join(str(size) for size in ("N or 1", "channels", *input.shape[2:]))
        raise ValueError(
            f"{name} must have the spatial shape of input: ({accepted}) for input "
            f"{tuple(input.shape)}, got {tuple(image.shape)}"
        )
    _check_image_batch(name, image, input)


def check_features(name: str, features: Tensor, input: Tensor) -> None:
    """Features that are stretched over `input`: as many spatial dims, each of any size."""
    if not 3 <= input.ndim <= 5 or features.ndim != input.ndim:
        raise ValueError(
            f"{name} must have as many spatial dims as input, one to three, got "
            f"{tuple(features.shape)} for input {tuple(input.shape)}"
        )
    check_operand(name, features, input.device)
    _check_image_batch(name, features, input)


def check_labels(name: str, labels: Tensor, input: Tensor) -> None:
    """(N or 1, spatial shape of `input`), also with a channel dim of size 1."""
    check_spatial("fl.boundary", input)
    check_operand(name, labels, input.device)
    spatial, given = input.shape[2:], labels.shape
    if given[1:] != spatial and given[1:] != (1, *spatial):
        accepted = ", ".join(str(size) for size in ("N or 1", *spatial))
        raise ValueError(
            f"{name} must have the spatial shape of input, ({accepted}), with or without a "
            f"channel dim of size 1, for input {tuple(input.shape)}; got {tuple(given)}"
        )
    _check_image_batch(name, labels, input)


def check_target_labels(name: str, target: Tensor) -> None:
    if target.ndim < 3 or target.shape[1] != 1:
        raise ValueError(
            f"{name} without labels takes those of the target: class indices, or (N, 1, spatial "
            f"dims); got target {tuple(target.shape)}; pass fl.boundary(labels)"
        )


def _check_image_batch(name: str, image: Tensor, input: Tensor) -> None:
    if image.shape[0] != input.shape[0] and image.shape[0] != 1:
        _refuse_batch(name, image, input, " or 1")


def _coordinate(name: str, key: str, value) -> float:
    if isinstance(value, Tensor):
        raise TypeError(
            f"{name}: {key} must be a number, got a tensor; pass coordinates on a device to "
            "fl.boxes, fl.disks or fl.keypoints"
        )
    return plain_number(f"{name}: {key}", value)


def _is_number(value) -> bool:
    return isinstance(value, (int, float))


def _found(input: Tensor) -> str:
    """How many spatial dims `input` has, and the likely reason for one too few."""
    shape = tuple(input.shape)
    text = f"{shape}, which has {_COUNTS.get(max(0, input.ndim - 2), input.ndim - 2)}"
    if 0 < input.ndim < 5:
        text += " (dim 1 is the channel dim); input without channels takes input.unsqueeze(1)"
    return text


def _refuse_batch(name: str, tensor: Tensor, input: Tensor, alternative: str) -> NoReturn:
    raise ValueError(
        f"{name} must have the batch size of input, {input.shape[0]}{alternative}, got "
        f"{tuple(tensor.shape)} for input {tuple(input.shape)}"
    )
