"""What the functions accept: one checker per rule, run before anything is computed.

The common case must cost next to nothing, so a checker compares and returns; the message of a
failure is put together by a `_refuse_...` function that runs only then. Nothing here looks at the
values of a tensor, so nothing waits for a device, and everything is traced by Dynamo.
"""

import math
import numbers
import sys
from typing import NoReturn

import torch
from torch import Tensor

from ._expression import Expression

FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
REAL = frozenset(
    FLOATING
    + (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    + (torch.uint16, torch.uint32, torch.uint64)
)
REDUCTIONS = ("mean", "none", "sum", "sample_mean")
NORMALIZERS = ("weights", "selected", "positions", "all")
_STRIDED = torch.strided
_MAX_FLOAT = sys.float_info.max  # a Python integer may be larger


def check_legacy(size_average, reduce) -> None:
    """torch's deprecated flags keep their places in the signatures, and nothing else."""
    if size_average is not None or reduce is not None:
        legacy = {"size_average": size_average, "reduce": reduce}
        name, value = next((n, v) for n, v in legacy.items() if v is not None)
        raise TypeError(
            f'give mask and weight by keyword, and reduction="mean", "sum" or "none"; got '
            f"{name}={_shown(value)}, which is deprecated in torch and not supported"
        )


def check_return_stats(return_stats) -> None:
    if return_stats is not True and return_stats is not False:
        raise TypeError(
            f"return_stats must be True or False, got {type(return_stats).__name__} "
            f"{_shown(return_stats)}"
        )


def check_elementwise(
    input, target, weight, pos_weight, region, reduction, normalizer, torch_weight=False
) -> None:
    """All rules of the elementwise family but those of a loss's own numbers.

    `torch_weight`: `weight` follows torch's broadcasting rules alone (the binary cross-entropies).
    """
    check_input(input)
    check_real("target", target)
    shape = input.shape
    if target.shape != shape:
        _refuse_target_shape(target, shape)
    device = input.device
    if target.device != device:
        refuse_device("target", target, device)
    if weight is not None:
        if not isinstance(weight, Tensor):
            check_source(weight, input, target)
        elif torch_weight:
            check_torch_weight("weight", weight, input)
        else:
            check_weight(weight, input)
    if pos_weight is not None:
        check_torch_weight("pos_weight", pos_weight, input)
    if region is not None:
        region.check(input, target)
    check_reduction(reduction)
    if normalizer is not None:
        check_normalizer(normalizer, reduction, device)


def check_input(input) -> None:
    """A dense tensor of a dtype that losses compute in."""
    if not isinstance(input, Tensor) or input.dtype not in FLOATING:
        refuse_tensor("input", input, "a floating tensor")
    if input.layout is not _STRIDED or input.is_nested:
        refuse_tensor("input", input, "a dense tensor", _layout(input))


def check_mask(mask, input) -> None:
    check_operand("mask", mask, input.device)
    _check_broadcast("mask", mask.shape, input.shape)


def check_weight(weight, input, name: str = "weight") -> None:
    """A weight follows the broadcasting rule of masks: decided by the number of dims."""
    check_operand(name, weight, input.device)
    _check_broadcast(name, weight.shape, input.shape)


def check_positional(name: str, tensor, input) -> None:
    """A mask or weight map that is the same for all channels of a position."""
    check_operand(name, tensor, input.device)
    given, shape = tensor.shape, input.shape
    channel = 1 if len(shape) >= 2 else 0
    if len(given) == len(shape) and given[channel] != 1:
        _refuse_channels(name, given, shape, channel)
    column = (*shape[:channel], 1, *shape[channel + 1 :])
    if not _broadcasts(given, column):
        _refuse_broadcast(name, given, shape, column)


def check_source(weight, input, target, name: str = "weight") -> None:
    """What is no tensor must be a weight source that goes with the operands."""
    check_source_type(weight, name)
    weight.check(input, target)


def check_source_type(weight, name: str = "weight") -> None:
    if isinstance(weight, Expression):
        if weight.yields_weight:
            return
        raise TypeError(
            f"{name} must be a tensor or a weight source, got the region {weight!r}; pass it as "
            f"mask, or as {name}=fl.normalized(region)"
        )
    refuse_tensor(name, weight, "a real tensor or a weight source")


def check_torch_weight(name: str, weight, input) -> None:
    """A weight that broadcasts to `input` by torch's rules, from the right."""
    check_operand(name, weight, input.device)
    shape, given = input.shape, weight.shape
    missing = len(shape) - len(given)
    if missing < 0 or not _fits(given, shape[missing:] if missing else shape):
        _refuse_torch_broadcast(name, given, shape)


def check_real(name: str, tensor) -> None:
    """A dense tensor of real numbers."""
    if not isinstance(tensor, Tensor) or tensor.dtype not in REAL:
        refuse_tensor(name, tensor, "a real tensor")
    if tensor.layout is not _STRIDED or tensor.is_nested:
        refuse_tensor(name, tensor, "a dense tensor", _layout(tensor))


def check_reduction(reduction) -> None:
    if reduction not in REDUCTIONS:
        if not isinstance(reduction, str):
            raise TypeError(
                f"reduction must be a str, got {type(reduction).__name__}; "
                f"accepted: {_quoted(REDUCTIONS)}"
            )
        raise ValueError(f"reduction must be one of {_quoted(REDUCTIONS)}, got {reduction!r}")


def check_normalizer(normalizer, reduction: str, device=None) -> None:
    """What a mean is divided by; `device` None (a module's constructor): not known yet."""
    is_tensor = isinstance(normalizer, Tensor)
    if is_tensor:
        _check_normalizer_tensor(normalizer, device)
    elif isinstance(normalizer, str):
        if normalizer not in NORMALIZERS:
            _refuse_normalizer(ValueError, repr(normalizer))
    elif isinstance(normalizer, bool) or not isinstance(normalizer, numbers.Real):
        _refuse_normalizer(TypeError, f"{type(normalizer).__name__} {normalizer!r}")
    elif not (normalizer > 0 and _is_finite(normalizer)):
        _refuse_normalizer(ValueError, repr(normalizer))
    if reduction not in ("mean", "sample_mean"):
        raise ValueError(
            'normalizer needs reduction="mean" or "sample_mean", got '
            f"normalizer={_shown(normalizer)} with reduction={reduction!r}"
        )
    if reduction == "sample_mean" and not isinstance(normalizer, str):
        raise ValueError(
            f'normalizer must be one of {_quoted(NORMALIZERS)} with reduction="sample_mean", '
            f'got {_shown(normalizer)}; a number or tensor works with reduction="mean"'
        )


def check_number(
    name: str, value, low: float = -math.inf, low_inclusive: bool = False, high: float = math.inf
) -> None:
    """A finite number in the interval; `low_inclusive` says whether `low` itself is in.

    `high`, where finite, is always in.
    """
    if type(value) is not float and (
        isinstance(value, bool) or not isinstance(value, numbers.Real)
    ):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {_shown(value)}")
    if low < value < high or (value == low and low_inclusive) or (value == high < math.inf):
        if _is_finite(value):
            return
    bounds = "finite"
    if low != -math.inf:
        bounds += f" and {'>=' if low_inclusive else '>'} {low:g}"
    if high != math.inf:
        bounds += f" and <= {high:g}"
    raise ValueError(f"{name} must be {bounds}, got {value!r}")


def _is_finite(value) -> bool:
    """Whether a double holds it; numpy's float32 would take the bounds for infinite, and warn."""
    if type(value) is not float and isinstance(value, numbers.Rational):
        return -_MAX_FLOAT <= value <= _MAX_FLOAT
    return -math.inf < value < math.inf


def broadcast_view(tensor: Tensor, input_ndim: int) -> Tensor:
    """A mask or weight with `input_ndim` dims, so that torch's broadcasting rules apply.

    Decided by the number of dims, never by sizes: one dim fewer than `input` is a tensor of
    positions and gets a channel dim of size 1; fewer still is aligned from the right.
    """
    missing = input_ndim - tensor.ndim
    if missing == 0:
        return tensor
    if missing == 1 and input_ndim >= 2:
        return tensor.unsqueeze(1)
    return tensor[(None,) * missing]


def torch_view(tensor: Tensor, input_ndim: int) -> Tensor:
    """A weight that follows torch's rules alone, its `input_ndim` dims written out."""
    if tensor.ndim == input_ndim:
        return tensor
    return tensor[(None,) * (input_ndim - tensor.ndim)]


def check_operand(name: str, tensor, device) -> None:
    """A real, dense tensor on the device of `input` (one of no dims may stay on the CPU)."""
    check_real(name, tensor)
    if tensor.device != device and (tensor.ndim > 0 or tensor.device.type != "cpu"):
        refuse_device(name, tensor, device)


def _check_broadcast(name: str, given, shape) -> None:
    if not _broadcasts(given, shape):
        _refuse_broadcast(name, given, shape, shape)


def _broadcasts(given, shape) -> bool:
    """Section 1 of the contract: `given` against `shape`, its positions or its spatial dims."""
    missing = len(shape) - len(given)
    if missing == 0:
        return _fits(given, shape)
    if missing < 0:
        return False
    if missing == 1 and len(shape) >= 2:
        return _fits(given, (*shape[:1], *shape[2:]))
    return _fits(given, shape[missing:])


def _fits(given, against) -> bool:
    for size, full in zip(given, against, strict=True):
        if size != full and size != 1:
            return False
    return True


def _check_normalizer_tensor(normalizer: Tensor, device) -> None:
    if normalizer.dtype not in REAL or normalizer.dtype is torch.bool:
        _refuse_normalizer(TypeError, f"a tensor of dtype {normalizer.dtype}")
    if normalizer.ndim != 0:
        _refuse_normalizer(ValueError, f"a tensor of shape {shape_text(normalizer.shape)}")
    if device is not None and normalizer.device != device and normalizer.device.type != "cpu":
        refuse_device("normalizer", normalizer, device)


def refuse_tensor(name: str, value, accepted: str, given: str | None = None) -> NoReturn:
    dtypes = ", ".join(str(dtype)[6:] for dtype in FLOATING)
    if accepted == "a floating tensor":
        accepted += f" ({dtypes})"
    else:
        accepted = accepted.replace("real tensor", f"real tensor (bool, integer, {dtypes})")
    if given is None:
        given = f"dtype {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
    if isinstance(value, (list, tuple)) or hasattr(value, "__array__"):
        if not isinstance(value, Tensor):
            given += "; " + advice_to_convert(value)
    elif callable(value):
        given += "; call it"
    raise TypeError(f"{name} must be {accepted}, got {given}")


def advice_to_convert(value) -> str:
    """How what is no tensor becomes one."""
    if isinstance(value, (list, tuple)) and any(isinstance(part, Tensor) for part in value):
        return (
            "put tensors of one shape together with torch.stack(...), of several lengths with "
            "torch.nn.utils.rnn.pad_sequence(..., batch_first=True, padding_value=torch.nan)"
        )
    return "convert it with torch.as_tensor(...) first"


def _layout(tensor: Tensor) -> str:
    return "a nested tensor" if tensor.is_nested else f"layout {tensor.layout}"


def _refuse_target_shape(target: Tensor, shape) -> NoReturn:
    advice = "expand it explicitly where a broadcast is meant"
    if not target.is_floating_point() and target.shape == shape[:1] + shape[2:] != shape:
        advice = (
            "class indices of each position are the target of a cross_entropy; an elementwise loss "
            "takes them as torch.nn.functional.one_hot(target, "
            f"{shape[1]}).movedim(-1, 1)"
        )
    if target.shape == shape[:1] + shape[2:] != shape and shape[1] == 1:
        advice = "target.unsqueeze(1) has its one channel"
    if target.ndim >= 2 and target.shape[1] == 1 and target.shape[:1] + target.shape[2:] == shape:
        advice = "target.squeeze(1) lacks its channel dim, as input does"
    raise ValueError(
        f"target must have the shape of input, got target {shape_text(target.shape)} for input "
        f"{shape_text(shape)}; {advice}"
    )


def refuse_device(name: str, tensor: Tensor, device) -> NoReturn:
    raise ValueError(f"{name} must be on the device of input ({device}), got {tensor.device}")


def _refuse_channels(name: str, given, shape, channel: int) -> NoReturn:
    positions = (*shape[:channel], *shape[channel + 1 :])
    raise ValueError(
        f"{name} must hold one value per position, {shape_text(positions)} with or without a "
        f"channel dim of size 1, got {shape_text(given)}, which varies over the channels of input "
        f"{shape_text(shape)}"
    )


def _refuse_broadcast(name: str, given, shape, full) -> NoReturn:
    """`full`: what as many dims as `input` must broadcast to."""
    ndim = len(shape)
    message = f"{name} {shape_text(given)} does not broadcast to input {shape_text(shape)}: "
    message += "accepted are "
    accepted = [f"{_dims(ndim)} to {shape_text(full)}"]
    if ndim >= 2:
        positions = shape[:1] + shape[2:]
        accepted.append(f"{_dims(ndim - 1)} to the positions {shape_text(positions)}")
    if ndim >= 3:
        accepted.append(f"fewer dims, from the right, to the spatial dims {shape_text(shape[2:])}")
    message += "; ".join(accepted) + ". Dim 1 of input is its channel dim"
    hints = []
    if full is shape and 2 <= ndim == len(given) + 1:
        if _fits(given, shape[1:]):
            hints.append(f"a {name} per channel must be written {shape_text((1, *given))}")
            if ndim == 3:
                hints.append("images without channels take input.unsqueeze(1)")
        if _fits(given, shape[:-1]):
            hints.append(
                f"one for all of the last dim must be written {name}.unsqueeze(-1), "
                f"{shape_text((*given, 1))}"
            )
    if full is shape and len(given) == 1 < ndim - 1:
        ones = (1,) * (ndim - 2)
        for owner, size, written in (
            ("sample", shape[0], (*given, 1, *ones)),
            ("channel", shape[1], (1, *given, *ones)),
        ):
            if given[0] == size:
                hints.append(f"one per {owner} must be written {shape_text(written)}")
    raise ValueError(message + (": " + ", and ".join(hints) if hints else ""))


def _dims(count: int) -> str:
    return f"{count} dims that broadcast" if count != 1 else "1 dim that broadcasts"


def _refuse_torch_broadcast(name: str, given, shape) -> NoReturn:
    message = (
        f"{name} must broadcast to the shape of input by torch's rules (aligned from the right), "
        f"got {shape_text(given)} for input {shape_text(shape)}"
    )
    if 2 <= len(shape) == len(given) + 1 and _fits(given, shape[:1] + shape[2:]):
        message += f"; one per position must be written {name}.unsqueeze(1)"
    elif len(shape) >= 3 and given == shape[1:2]:
        spatial = ", ".join(["1"] * (len(shape) - 2))
        message += f"; one per channel must be written {name}.reshape(-1, {spatial})"
    raise ValueError(message)


def _refuse_normalizer(kind, given: str) -> NoReturn:
    raise kind(
        f"normalizer must be None, one of {_quoted(NORMALIZERS)}, a positive finite number or a "
        f"real tensor without dims, got {given}"
    )


def shape_text(shape) -> str:
    sizes = ", ".join([str(size) for size in shape])  # Dynamo has no str(tuple)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def _quoted(names) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _shown(value) -> str:
    return (
        f"a tensor of shape {shape_text(value.shape)}" if isinstance(value, Tensor) else repr(value)
    )
