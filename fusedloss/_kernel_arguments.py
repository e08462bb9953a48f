"""What the families' ways from a checked call to the arguments of its op have in common: whether a
kernel can serve the call, the two programs, the normalizer, and the tensors as kernels read them.
"""

import torch
from torch import Tensor

from . import _ops, _program, _transforms, reference
from ._checks import broadcast_view
from .regions import TensorRegion

WIDE = (torch.float32, torch.float64)
_ONE_MASK = (_program.TENSOR, 0, 0, 0)
_MAX_DIMS = 6  # of the kernels' index space, csrc/core/extents.h


def has_kernel(input: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernels can serve this call: no transform around it, no gradient but input's."""
    if _transforms.surround() or input.device.type not in _ops.KERNEL_DEVICES:
        return False
    if torch.is_grad_enabled():
        for tensor in others:
            if tensor is not None and tensor.requires_grad:
                return False
    return input.ndim <= _MAX_DIMS


def compiled(region, source, input: Tensor, target: Tensor) -> _program.Program | None:
    """The programs of a mask and a weight source, or None where no kernel can run them."""
    if source is None:
        if region is None:
            return _program.NOTHING
        if type(region) is TensorRegion:
            return _program.Program(_ONE_MASK, (), (), (region.tensor,))
    return _program.compile(region, source, input, target)


def normalizer_of(normalizer, default: str) -> tuple[str, Tensor | None, tuple[float, ...]]:
    """(word, tensor, numbers) of what a mean is divided by."""
    if normalizer is None:
        return default, None, ()
    if isinstance(normalizer, str):
        return normalizer, None, ()
    if isinstance(normalizer, Tensor):
        return "given", normalizer, ()
    return "given", None, (float(normalizer),)


def add_tensors(others: list[Tensor], program: _program.Program, input: Tensor) -> None:
    """Appends what the programs read."""
    for tensor in program.tensors:
        others.append(viewed(tensor, input.ndim, input))
    for tensor in (*program.images, *program.tables):
        others.append(tensor.detach() if tensor.requires_grad else tensor)


def has_float_result(input: Tensor) -> bool:
    """Whether the loss is float32 although `input` is not."""
    return input.dtype not in WIDE and reference.result_dtype(input) is torch.float32


def viewed(tensor: Tensor, ndim: int, input: Tensor) -> Tensor:
    """A mask or weight with `input`'s dims and device; free where it has them already."""
    if tensor.ndim == ndim > 0:
        return tensor
    return broadcast_view(on_device(tensor, input), ndim)


def on_device(tensor: Tensor, input: Tensor) -> Tensor:
    """A tensor without dims may stand on the CPU beside an input that does not."""
    return tensor if tensor.device == input.device else tensor.to(input.device)
