"""The elementwise family between its checked arguments and what computes them.

functional/elementwise_losses.py -> elementwise() -> reference  transforms, gradients of a
                                                                weight, ...
                                                  -> autograd   else
"""

import torch
from torch import Tensor

from . import _transforms, autograd, reference
from ._formats import formatted, keep_format
from ._kernel_arguments import (
    add_tensors,
    compiled,
    has_float_result,
    has_kernel,
    normalizer_of,
    on_device,
    viewed,
)

_DEFAULT_NORMALIZERS = reference.DEFAULT_NORMALIZERS


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
    loss, sums = autograd.computed(call, input, target, others, by_reference, return_stats)
    if not return_stats:
        return loss
    dtype = reference.compute_dtype(input, target, weight, pos_weight, region)
    return loss, autograd.stats_of(sums, dtype, reduction)


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
    if program is None:
        return None
    kind, divisor, given = normalizer_of(normalizer, _DEFAULT_NORMALIZERS[name])
    if not has_kernel(input, target, weight, pos_weight, divisor, *program.tensors):
        return None
    call = f"{name} {reduction} {kind}"
    others = []
    if weight is not None:
        call += " weight"
        others.append(viewed(weight, input.ndim, input))
    if pos_weight is not None:
        call += " pos_weight"
        others.append(on_device(pos_weight, input))
    if divisor is not None:
        call += " normalizer"
        others.append(on_device(divisor, input))
    add_tensors(others, program, input)
    if has_float_result(input):
        call += " float_result"
    return call, program.constants + options + given, others, (program.region, program.source)


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
