"""The elementwise family between its checked arguments and what computes them, and what the other
families' ways to the kernels share with it.

    functional/elementwise_losses.py -> elementwise() -> reference         transforms, gradients of
                                                                           a weight, ...
                                                      -> _kernel_autograd  else
"""

import torch
from torch import Tensor

from . import _kernel_autograd, _ops, _program, _transforms, reference
from ._checks import broadcast_view
from ._formats import formatted, keep_format
from ._kernel_autograd import WIDE
from .regions import TensorRegion
from .stats import Stats

_DEFAULT_NORMALIZERS = reference.DEFAULT_NORMALIZERS
_ONE_MASK = (_program.TENSOR, 0, 0, 0)
_MAX_DIMS = 6  # of the kernels' index space, csrc/core/extents.h


def elementwise(
    name, options, input, target, weight, pos_weight, region, reduction, normalizer, return_stats
):
    """A checked call of the elementwise family, by the fastest way that gives all gradients."""
    rest = name, options, weight, pos_weight, region, reduction, normalizer
    arguments = _op_arguments(input, target, *rest)
    if arguments is None:
        return _by_reference(input, target, rest, return_stats)
    words, numbers, others, code = arguments

    def by_reference(wide, goal):
        return reference.elementwise(name, options, wide, goal, *rest[2:])

    call = "elementwise", words, (numbers,), code
    loss, sums = _kernel_autograd.computed(call, input, target, others, by_reference, return_stats)
    if not return_stats:
        return loss
    factors = *reference.factors(weight), *reference.factors(region)
    dtype = reference.compute_dtype(input, target, pos_weight, *factors)
    return loss, stats_of(sums, dtype, reduction)


def _op_arguments(
    input, target, name, options, weight, pos_weight, region, reduction, normalizer
) -> tuple[str, tuple, list, tuple] | None:
    """What csrc/core/elementwise_problem.h reads: (call, numbers, others, (region, source)), the
    last the two programs' code.

    None where no kernel can serve the call.
    """
    source = None
    if weight is not None and not isinstance(weight, Tensor):
        source, weight = weight, None
    program = compiled(region, source, input, target)
    if program is None or not has_kernel(input, target, weight, pos_weight, *program.tensors):
        return None
    numbers = program.constants + options
    others = []
    divisor = None
    if normalizer is None:
        kind = _DEFAULT_NORMALIZERS[name]
    elif isinstance(normalizer, str):
        kind = normalizer
    else:
        kind = "given"
        if isinstance(normalizer, Tensor):
            divisor = normalizer
        else:
            numbers += (float(normalizer),)
    call = f"{name} {reduction} {kind}"
    if weight is not None:
        call += " weight"
        others.append(viewed(weight, input.ndim, input))
    if pos_weight is not None:
        call += " pos_weight"
        others.append(on_device(pos_weight, input))
    if divisor is not None:
        if divisor.requires_grad and torch.is_grad_enabled():
            return None
        call += " normalizer"
        others.append(on_device(divisor, input))
    for tensor in program.tensors:
        others.append(viewed(tensor, input.ndim, input))
    for tensor in (*program.images, *program.tables):
        others.append(tensor.detach() if tensor.requires_grad else tensor)
    if input.dtype not in WIDE and reference.result_dtype(input) is torch.float32:
        call += " float_result"
    return call, numbers, others, (program.region, program.source)


def compiled(region, source, input: Tensor, target: Tensor) -> _program.Program | None:
    """The programs of a mask and a weight source, or None where no kernel can run them."""
    if source is None:
        if region is None:
            return _program.NOTHING
        if type(region) is TensorRegion:
            return _program.Program(_ONE_MASK, (), (), (region.tensor,))
    return _program.compile(region, source, input, target)


def _by_reference(input, target, rest, return_stats: bool):
    """The reference; results and gradients in the memory format of what they belong to."""
    name, options, weight, pos_weight, region, reduction, normalizer = rest
    if not (torch.compiler.is_compiling() or _transforms.surround()):
        input, target, pos_weight = map(keep_format, (input, target, pos_weight))
        if isinstance(weight, Tensor):
            weight = keep_format(weight)
        elif weight is not None:
            weight = weight.rebind(tuple(map(keep_format, weight.tensors)))
        if region is not None:
            region = region.rebind(tuple(map(keep_format, region.tensors)))
    operands = input, target, weight, pos_weight, region, reduction, normalizer
    result = reference.elementwise(name, options, *operands, return_stats)
    if reduction != "none" or torch.compiler.is_compiling() or _transforms.surround():
        return result
    if not return_stats:
        return formatted(result, input)
    return formatted(result[0], input), result[1]


def viewed(tensor: Tensor, ndim: int, input: Tensor) -> Tensor:
    """A mask or weight with `input`'s dims and device; free where it has them already."""
    if tensor.ndim == ndim > 0:
        return tensor
    return broadcast_view(on_device(tensor, input), ndim)


def on_device(tensor: Tensor, input: Tensor) -> Tensor:
    """A tensor without dims may stand on the CPU beside an input that does not."""
    return tensor if tensor.device == input.device else tensor.to(input.device)


def has_kernel(input: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernels can serve this call: no transform around it, no gradient but input's."""
    if _transforms.surround() or input.device.type not in _ops.KERNEL_DEVICES:
        return False
    if torch.is_grad_enabled():
        for tensor in others:
            if tensor is not None and tensor.requires_grad:
                return False
    return input.ndim <= _MAX_DIMS


def stats_of(sums: Tensor, dtype: torch.dtype, reduction: str) -> Stats:
    """An op's `sums` as statistics of the dtype of the arithmetic."""
    samples = sums.shape[0] // 3
    shape = (samples,) if reduction == "sample_mean" else ()
    total = sums[:samples].to(dtype).reshape(shape)
    normalizer = sums[samples : 2 * samples].to(dtype).reshape(shape)
    return Stats(total, normalizer, sums[3 * samples].to(torch.int64))
