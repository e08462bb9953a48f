"""The `torch.autograd.Function`s around the kernels: which kernel runs when, and what is saved.

    functional.py -> elementwise() -> reference            transforms, gradients of a weight, ...
                                   -> forward op           no gradient wanted
                                   -> ElementwiseLoss      eager
                                   -> CompiledElementwise  inside torch.compile and torch.export

The forward pass also writes the gradient where that is exact (scalar loss, float32 or float64).
The first backward gives that buffer away, scaled if `grad_output` is not 1; nobody ever sees it
change. A second backward (``retain_graph=True``) runs the forward pass again, to the same bits.
``create_graph=True`` goes through the reference, so any order of derivative works.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from . import _ops, _transforms, reference
from ._checks import broadcast_view
from .regions import Program, Region
from .stats import Stats

_NO_REGION = Program((), (), ())
_WIDE = (torch.float32, torch.float64)  # dtypes in which a finished gradient may be rescaled
_MAX_DIMS = 6  # of the kernels' index space, csrc/core/extents.h


class Call(NamedTuple):
    """An elementwise loss without its tensors."""

    name: str
    options: tuple[float, ...]
    region: Region | None
    program: Program
    reduction: str
    normalizer: str
    number: float
    wants_sums: bool
    float_result: bool


class ElementwiseLoss(torch.autograd.Function):
    """(loss, sums) of `call`; a gradient for `input` only."""

    @staticmethod
    def forward(ctx, call, input, target, weight, pos_weight, divisor, *region_tensors):
        wants_gradient = call.reduction != "none" and input.dtype in _WIDE
        loss, gradient, sums = _forward(
            call, input, target, weight, pos_weight, divisor, region_tensors, wants_gradient
        )
        ctx.call = call
        ctx.wrote_gradient = wants_gradient
        ctx.gradient = gradient if wants_gradient else None
        ctx.save_for_backward(input, target, weight, pos_weight, divisor, sums, *region_tensors)
        ctx.mark_non_differentiable(sums)
        ctx.set_materialize_grads(False)
        return loss, sums

    @staticmethod
    def backward(ctx, grad_output, _):
        gradient = None
        if grad_output is not None:
            if torch.is_grad_enabled() or _transforms.batch_backward():
                gradient = _differentiable_gradient(ctx, grad_output)
            elif ctx.wrote_gradient:
                gradient, ctx.gradient = ctx.gradient, None
                if gradient is None:  # given away before: once more, to the same bits
                    *operands, _ = ctx.saved_tensors[:6]
                    _, gradient, _ = _forward(ctx.call, *operands, ctx.saved_tensors[6:], True)
                _ops.scale_gradient_(gradient, grad_output)
            else:
                gradient = _backward(ctx.call, grad_output, *ctx.saved_tensors)
        return (None, gradient) + (None,) * (len(ctx.needs_input_grad) - 2)


class CompiledElementwise(torch.autograd.Function):
    """The same inside a compiled graph: nothing is changed in place, and the multiplication by
    `grad_output` is left to the compiler, which fuses it with what comes next."""

    @staticmethod
    def forward(ctx, call, input, target, weight, pos_weight, divisor, *region_tensors):
        ctx.holds_gradient = call.reduction != "none" and input.dtype in _WIDE
        loss, gradient, sums = _forward(
            call, input, target, weight, pos_weight, divisor, region_tensors, ctx.holds_gradient
        )
        ctx.call = call
        if ctx.holds_gradient:
            ctx.save_for_backward(gradient)
        else:
            ctx.save_for_backward(input, target, weight, pos_weight, divisor, sums, *region_tensors)
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    def backward(ctx, grad_output, _):
        if ctx.holds_gradient:
            (gradient,) = ctx.saved_tensors
            gradient = torch.where(gradient == 0, gradient, gradient * grad_output)
        else:
            gradient = _backward(ctx.call, grad_output, *ctx.saved_tensors)
        return (None, gradient) + (None,) * (len(ctx.needs_input_grad) - 2)


def elementwise(
    name, options, input, target, weight, pos_weight, region, reduction, normalizer, return_stats
):
    """A checked call of the elementwise family, by the fastest way that gives all gradients."""
    program = _NO_REGION if region is None else region.compile(target.dtype)
    divisor = normalizer if isinstance(normalizer, Tensor) else None
    tensors = () if region is None else region.tensors
    if program is None or not _has_kernel(input, (target, weight, pos_weight, divisor, *tensors)):
        return reference.elementwise(
            name,
            options,
            input,
            target,
            weight,
            pos_weight,
            region,
            reduction,
            normalizer,
            return_stats,
        )
    kind, number = _normalizer(name, normalizer)
    compiling = torch.compiler.is_compiling()
    call = Call(
        name,
        options,
        None if compiling else region,
        program,
        reduction,
        kind,
        number,
        return_stats,
        input.dtype not in _WIDE and torch.is_autocast_enabled(input.device.type),
    )
    if divisor is not None and divisor.device != input.device:
        divisor = divisor.to(input.device)
    operands = (input, target, weight, pos_weight, divisor, *program.tensors)
    if not (input.requires_grad and torch.is_grad_enabled()):
        loss, _, sums = _forward(call, *operands[:5], program.tensors, False)
    elif compiling:
        loss, sums = CompiledElementwise.apply(call, *operands)
    else:
        loss, sums = ElementwiseLoss.apply(call, *operands)
    return (loss, _stats(sums, operands, reduction)) if return_stats else loss


def _forward(
    call, input, target, weight, pos_weight, divisor, region_tensors, wants_gradient
) -> tuple[Tensor, Tensor, Tensor]:
    return _ops.elementwise_forward(
        call.name,
        call.options,
        input,
        target,
        _viewed(weight, input),
        pos_weight,
        [_viewed(tensor, input) for tensor in region_tensors],
        call.program.code,
        call.program.constants,
        call.reduction,
        call.normalizer,
        call.number,
        divisor,
        call.wants_sums,
        wants_gradient,
        call.float_result,
    )


def _backward(
    call, grad_output, input, target, weight, pos_weight, divisor, sums, *region_tensors
) -> Tensor:
    return _ops.elementwise_backward(
        call.name,
        call.options,
        input,
        target,
        _viewed(weight, input),
        pos_weight,
        [_viewed(tensor, input) for tensor in region_tensors],
        call.program.code,
        call.program.constants,
        call.reduction,
        grad_output,
        sums,
    )


def _differentiable_gradient(ctx, grad_output: Tensor) -> Tensor:
    """The gradient as a function of input and grad_output: for derivatives of higher order, and
    for a backward pass under vmap, where the kernels cannot go."""
    call = ctx.call
    input, target, weight, pos_weight, divisor = ctx.saved_tensors[:5]
    normalizer = {"given": call.number if divisor is None else divisor}.get(
        call.normalizer, call.normalizer
    )
    with torch.enable_grad():
        loss = reference.elementwise(
            call.name,
            call.options,
            input.float() if call.float_result else input,
            target,
            weight,
            pos_weight,
            call.region,
            call.reduction,
            normalizer if call.reduction in ("mean", "sample_mean") else None,
        )
    create_graph = torch.is_grad_enabled()
    return torch.autograd.grad(loss, input, grad_output, create_graph=create_graph)[0]


def _viewed(tensor: Tensor | None, input: Tensor) -> Tensor | None:
    """A mask or weight with `input`'s dims and device; free where it has them already."""
    if tensor is None:
        return None
    if tensor.ndim != input.ndim:
        tensor = broadcast_view(tensor, input.ndim)
    return tensor if tensor.device == input.device else tensor.to(input.device)


def _has_kernel(input: Tensor, others: tuple) -> bool:
    """Whether the kernels can serve this call: no transform around it, no gradient but input's."""
    if _transforms.surround() or input.device.type not in _ops.KERNEL_DEVICES:
        return False
    if torch.is_grad_enabled():
        for tensor in others:
            if tensor is not None and tensor.requires_grad:
                return False
    return input.ndim <= _MAX_DIMS


def _normalizer(name: str, normalizer) -> tuple[str, float]:
    if normalizer is None:
        return reference.default_normalizer(name), 1.0
    if isinstance(normalizer, str):
        return normalizer, 1.0
    if isinstance(normalizer, Tensor):
        return "given", 1.0
    return "given", float(normalizer)


def _stats(sums: Tensor, operands: tuple, reduction: str) -> Stats:
    dtype = reference.compute_dtype(*operands[:4], *operands[5:])
    samples = sums.shape[0] // 3
    shape = (samples,) if reduction == "sample_mean" else ()
    total = sums[:samples].to(dtype).reshape(shape)
    normalizer = sums[samples : 2 * samples].to(dtype).reshape(shape)
    return Stats(total, normalizer, sums[3 * samples].to(torch.int64))
