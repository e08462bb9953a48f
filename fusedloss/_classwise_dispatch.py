"""The class family between its checked arguments and what computes them, as the elementwise family
in `_elementwise_dispatch.py`.

    functional/class_losses.py -> classwise() -> reference  transforms, ...
                                              -> autograd   else
"""

from torch import Tensor

from . import autograd, reference
from ._kernel_arguments import (
    add_tensors,
    compiled,
    has_float_result,
    has_kernel,
    normalizer_of,
    on_device,
    viewed,
)
from ._labels import is_index_target, with_channels
from .reference import ClassOperands
from .reference._class_formulas import CLASSWISE


def classwise(
    name: str,
    options: tuple[float, ...],
    operands: ClassOperands,
    region,
    reduction: str,
    normalizer,
    return_stats: bool,
):
    """A checked call of the class family, by the fastest way that gives all gradients."""
    rest = name, options, operands, region, reduction, normalizer
    arguments = _op_arguments(*rest)
    if arguments is None:
        return reference.classwise(*rest, return_stats)
    line, numbers, others, code = arguments
    input, target = operands.input, operands.target

    def by_reference(wide, goal):
        return reference.classwise(
            name,
            options,
            operands._replace(input=wide, target=goal),
            region,
            reduction,
            normalizer,
        )

    call = "classwise", line, (numbers, operands.ignore_index), code
    loss, sums = autograd.computed(call, input, target, others, by_reference, return_stats)
    if not return_stats:
        return loss
    dtype = reference.compute_dtype(input, target, operands.weight, operands.weight_map, region)
    return loss, autograd.stats_of(sums, dtype, reduction)


def _op_arguments(
    name, options, operands: ClassOperands, region, reduction, normalizer
) -> tuple[str, tuple, list, tuple] | None:
    """What csrc/core/classwise_problem.h reads: (line of words, numbers, others, the two programs'
    code). None where no kernel can serve the call.
    """
    input, target, weight, weight_map, _, smoothing = operands
    has_labels = is_index_target(input, target)
    source = None
    if weight_map is not None and not isinstance(weight_map, Tensor):
        source, weight_map = weight_map, None
    read = input, target
    if region is not None or source is not None:
        read = with_channels(input, target)
    program = compiled(region, source, *read)
    if program is None:
        return None
    formula = CLASSWISE[name]
    default = formula.index_normalizer if has_labels else formula.probability_normalizer
    kind, divisor, given = normalizer_of(normalizer, default)
    if not has_kernel(input, target, weight, weight_map, divisor, *program.tensors):
        return None
    line = f"{name} {reduction} {kind}"
    others = []
    if has_labels:
        line += " labels"
    if weight is not None:
        line += " weight"
        others.append(weight)
    if weight_map is not None:
        line += " weight_map"
        others.append(viewed(weight_map, input.ndim, input))
    if divisor is not None:
        line += " normalizer"
        others.append(on_device(divisor, input))
    add_tensors(others, program, input)
    if has_float_result(input):
        line += " float_result"
    numbers = (*program.constants, smoothing, *options, *given)
    return line, numbers, others, (program.region, program.source)
