"""The class family between its checked arguments and what computes them; as `autograd.py` does for
the elementwise family, whose rules for gradients and saved tensors hold here too.

    functional/class_losses.py -> classwise() -> reference           transforms, ...
                                              -> forward op          no gradient wanted
                                              -> ClasswiseLoss       eager
                                              -> CompiledClasswise   torch.compile, torch.export
"""

import torch
from torch import Tensor

from . import _ops, _transforms, autograd, reference
from ._labels import is_index_target, with_channels
from .reference import ClassOperands
from .reference._class_formulas import CLASSWISE
from .stats import Stats


class ClasswiseLoss(torch.autograd.Function):
    """The loss of an op's arguments, or with `returns_sums` (loss, sums); a gradient for `input`.

    `call` are the op's arguments before `input`, `rest` those of the reference but for input and
    target.
    """

    @staticmethod
    def forward(ctx, input, arguments):
        call, target, others, code, rest, returns_sums = arguments
        loss, gradient, sums = _ops.classwise_forward(*call, input, target, others, *code)
        ctx.call = call, code
        ctx.rest = rest
        ctx.gradient = gradient
        ctx.save_for_backward(input, sums, target, *others)
        if not returns_sums:
            return loss
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    def backward(ctx, grad_output, *_):
        call, code = ctx.call
        if torch.is_grad_enabled() or _transforms.batch_backward(grad_output):
            return _differentiable_gradient(ctx, grad_output), None
        input, sums, target, *others = ctx.saved_tensors
        if autograd.holds_gradient(call[0]):
            gradient, ctx.gradient = ctx.gradient, None
            if gradient is None:  # given away before: once more, to the same bits
                _, gradient, _ = _ops.classwise_forward(*call, input, target, others, *code)
            _ops.scale_gradient_(gradient, grad_output)
            return gradient, None
        gradient = _ops.classwise_backward(*call, input, target, others, *code, grad_output, sums)
        return gradient, None


class CompiledClasswise(torch.autograd.Function):
    """The same inside a compiled graph: nothing is changed in place."""

    @staticmethod
    def forward(ctx, input, call, code, target, *others):
        loss, gradient, sums = _ops.classwise_forward(*call, input, target, others, *code)
        ctx.call = call, code
        ctx.others = len(others)
        if autograd.holds_gradient(call[0]):
            ctx.save_for_backward(gradient)
        else:
            ctx.save_for_backward(input, sums, target, *others)
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    def backward(ctx, grad_output, _):
        call, code = ctx.call
        if autograd.holds_gradient(call[0]):
            (gradient,) = ctx.saved_tensors
            absent = (gradient == 0) & ~gradient.signbit()  # csrc/core/stored_gradient.h
            gradient = torch.where(absent, gradient, gradient * grad_output)
        else:
            input, sums, target, *others = ctx.saved_tensors
            gradient = _ops.classwise_backward(
                *call, input, target, others, *code, grad_output, sums
            )
        return (gradient, None, None, None) + (None,) * ctx.others


_apply_eagerly = _transforms.apply_without_transforms(ClasswiseLoss)


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
    if return_stats:
        line += " sums"
    if input.requires_grad and torch.is_grad_enabled():
        if reduction != "none" and input.dtype in autograd.RESCALABLE:
            line += " gradient"
        call = line, numbers, operands.ignore_index
        if torch.compiler.is_compiling():
            others = autograd.distinct(others)
            loss, sums = CompiledClasswise.apply(input, call, code, target, *others)
        else:
            result = _apply_eagerly(input, (call, target, others, code, rest, return_stats))
            if not return_stats:
                return result
            loss, sums = result
    else:
        call = line, numbers, operands.ignore_index
        loss, _, sums = _ops.classwise_forward(*call, input, target, others, *code)
    if not return_stats:
        return loss
    return loss, _stats(sums, operands, region, reduction)


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
    program = autograd.compiled(region, source, *read)
    if program is None:
        return None
    if not autograd.has_kernel(input, target, weight, weight_map, *program.tensors):
        return None
    formula = CLASSWISE[name]
    default = formula.index_normalizer if has_labels else formula.probability_normalizer
    numbers = (*program.constants, smoothing, *options)
    others = []
    divisor = None
    if normalizer is None or isinstance(normalizer, str):
        kind = normalizer or default
    else:
        kind = "given"
        if isinstance(normalizer, Tensor):
            divisor = normalizer
        else:
            numbers += (float(normalizer),)
    line = f"{name} {reduction} {kind}"
    if has_labels:
        line += " labels"
    if weight is not None:
        line += " weight"
        others.append(weight)
    if weight_map is not None:
        line += " weight_map"
        others.append(autograd.viewed(weight_map, input.ndim, input))
    if divisor is not None:
        if divisor.requires_grad and torch.is_grad_enabled():
            return None
        line += " normalizer"
        others.append(autograd.on_device(divisor, input))
    for tensor in program.tensors:
        others.append(autograd.viewed(tensor, input.ndim, input))
    for tensor in (*program.images, *program.tables):
        others.append(tensor.detach() if tensor.requires_grad else tensor)
    if input.dtype not in autograd.WIDE and reference.result_dtype(input) is torch.float32:
        line += " float_result"
    return line, numbers, others, (program.region, program.source)


def _differentiable_gradient(ctx, grad_output: Tensor) -> Tensor:
    """The gradient as a function of input and grad_output: for derivatives of higher order, and
    for a backward pass under vmap, where the kernels cannot go."""
    name, options, operands, *rest = ctx.rest
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        input, _, target, *_ = ctx.saved_tensors
        wide = input.float() if " float_result" in ctx.call[0][0] else input
        operands = operands._replace(input=wide, target=target)
        loss = reference.classwise(name, options, operands, *rest)
    return torch.autograd.grad(loss, input, grad_output, create_graph=create_graph)[0]


def _stats(sums: Tensor, operands: ClassOperands, region, reduction: str) -> Stats:
    input, target, weight, weight_map, *_ = operands
    factors = *reference.factors(weight_map), *reference.factors(region)
    dtype = reference.compute_dtype(input, target, weight, *factors)
    return autograd.stats_of(sums, dtype, reduction)
