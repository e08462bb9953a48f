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

import torch
from torch import Tensor

from . import _ops, _transforms, reference
from ._checks import broadcast_view
from .regions import Program
from .stats import Stats

_NO_REGION = Program((), (), ())
_WIDE = (torch.float32, torch.float64)  # dtypes in which a finished gradient may be rescaled
_MAX_DIMS = 6  # of the kernels' index space, csrc/core/extents.h


class ElementwiseLoss(torch.autograd.Function):
    """The loss of the op's arguments, or with `returns_sums` (loss, sums); a gradient for `input`.

    `region` is the expression behind `program`, over the same tensors. Only `input` is an input to
    autograd: nothing else requires grad here.
    """

    @staticmethod
    def forward(ctx, input, call, options, others, program, region, returns_sums):
        tensors, region_tensors, divisor = others
        loss, gradient, sums = _ops.elementwise_forward(
            call, options, input, *tensors, region_tensors, *program[:2], divisor
        )
        ctx.call = call, options, program, region, divisor
        ctx.gradient = gradient
        ctx.save_for_backward(input, sums, *tensors, *region_tensors)
        if not returns_sums:
            return loss
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    def backward(ctx, grad_output, *_):
        call, options, program, _, divisor = ctx.call
        if torch.is_grad_enabled() or _transforms.batch_backward():
            gradient = _differentiable_gradient(ctx, grad_output)
        elif call.endswith(" gradient"):
            gradient, ctx.gradient = ctx.gradient, None
            if gradient is None:  # given away before: once more, to the same bits
                input, _, *tensors = ctx.saved_tensors
                _, gradient, _ = _ops.elementwise_forward(
                    call, options, input, *tensors[:3], tensors[3:], *program[:2], divisor
                )
            _ops.scale_gradient_(gradient, grad_output)
        else:
            input, sums, *tensors = ctx.saved_tensors
            gradient = _ops.elementwise_backward(
                call, options, input, *tensors[:3], tensors[3:], *program[:2], grad_output, sums
            )
        return gradient, None, None, None, None, None, None


class CompiledElementwise(torch.autograd.Function):
    """The same inside a compiled graph: nothing is changed in place, and the multiplication by
    `grad_output` is left to the compiler, which fuses it with what comes next."""

    @staticmethod
    def forward(
        ctx, input, call, options, code, constants, target, weight, pos_weight, divisor, *region
    ):
        loss, gradient, sums = _ops.elementwise_forward(
            call, options, input, target, weight, pos_weight, region, code, constants, divisor
        )
        ctx.holds_gradient = call.endswith(" gradient")
        if ctx.holds_gradient:
            ctx.save_for_backward(gradient)
        else:
            ctx.call = call, options, code, constants
            ctx.save_for_backward(input, sums, target, weight, pos_weight, *region)
        ctx.inputs = 9 + len(region)
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    def backward(ctx, grad_output, _):
        if ctx.holds_gradient:
            (gradient,) = ctx.saved_tensors
            gradient = torch.where(gradient == 0, gradient, gradient * grad_output)
        else:
            call, options, code, constants = ctx.call
            input, sums, target, weight, pos_weight, *region = ctx.saved_tensors
            gradient = _ops.elementwise_backward(
                call,
                options,
                input,
                target,
                weight,
                pos_weight,
                region,
                code,
                constants,
                grad_output,
                sums,
            )
        return (gradient,) + (None,) * ctx.inputs


def elementwise(
    name, options, input, target, weight, pos_weight, region, reduction, normalizer, return_stats
):
    """A checked call of the elementwise family, by the fastest way that gives all gradients."""
    program = _NO_REGION if region is None else region.compile(target.dtype)
    divisor = normalizer if isinstance(normalizer, Tensor) else None
    if program is None or not _has_kernel(
        input, target, weight, pos_weight, divisor, *program.tensors
    ):
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
    tensors = target, _viewed(weight, input), pos_weight
    region_tensors = [_viewed(tensor, input) for tensor in program.tensors]
    call, numbers = _call(name, options, input, reduction, normalizer, return_stats)
    if divisor is not None and divisor.device != input.device:
        divisor = divisor.to(input.device)
    if not (input.requires_grad and torch.is_grad_enabled()):
        loss, _, sums = _ops.elementwise_forward(
            call, numbers, input, *tensors, region_tensors, *program[:2], divisor
        )
        result = loss, sums
    else:
        if reduction != "none" and input.dtype in _WIDE:
            call += " gradient"
        if torch.compiler.is_compiling():
            result = CompiledElementwise.apply(
                input, call, numbers, *program[:2], *tensors, divisor, *region_tensors
            )
        else:
            others = tensors, region_tensors, divisor
            result = ElementwiseLoss.apply(
                input, call, numbers, others, program, region, return_stats
            )
            if not return_stats:
                return result
    if not return_stats:
        return result[0]
    dtype = reference.compute_dtype(input, *tensors, *region_tensors)
    return result[0], _stats(result[1], dtype, reduction)


def _call(name, options, input, reduction, normalizer, return_stats) -> tuple[str, tuple]:
    """What an op is told in words and numbers; csrc/core/elementwise_problem.h reads it."""
    if normalizer is None:
        kind = reference.default_normalizer(name)
    elif isinstance(normalizer, str):
        kind = normalizer
    else:
        kind = "given"
        if not isinstance(normalizer, Tensor):
            options = (*options, float(normalizer))
    call = f"{name} {reduction} {kind}"
    if return_stats:
        call += " sums"
    if input.dtype not in _WIDE and torch.is_autocast_enabled(input.device.type):
        call += " float_result"
    return call, options


def _differentiable_gradient(ctx, grad_output: Tensor) -> Tensor:
    """The gradient as a function of input and grad_output: for derivatives of higher order, and
    for a backward pass under vmap, where the kernels cannot go."""
    call, options, _, region, divisor = ctx.call
    name, reduction, kind, *wishes = call.split()
    input, _, target, weight, pos_weight = ctx.saved_tensors[:5]
    normalizer = kind
    if kind == "given":
        normalizer = divisor
        if divisor is None:
            *options, normalizer = options
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        loss = reference.elementwise(
            name,
            tuple(options),
            input.float() if "float_result" in wishes else input,
            target,
            weight,
            pos_weight,
            region,
            reduction,
            normalizer if reduction in ("mean", "sample_mean") else None,
        )
    return torch.autograd.grad(loss, input, grad_output, create_graph=create_graph)[0]


def _viewed(tensor: Tensor | None, input: Tensor) -> Tensor | None:
    """A mask or weight with `input`'s dims and device; free where it has them already."""
    if tensor is None:
        return None
    if tensor.ndim != input.ndim:
        tensor = broadcast_view(tensor, input.ndim)
    return tensor if tensor.device == input.device else tensor.to(input.device)


def _has_kernel(input: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernels can serve this call: no transform around it, no gradient but input's."""
    if _transforms.surround() or input.device.type not in _ops.KERNEL_DEVICES:
        return False
    if torch.is_grad_enabled():
        for tensor in others:
            if tensor is not None and tensor.requires_grad:
                return False
    return input.ndim <= _MAX_DIMS


def _stats(sums: Tensor, dtype: torch.dtype, reduction: str) -> Stats:
    samples = sums.shape[0] // 3
    shape = (samples,) if reduction == "sample_mean" else ()
    total = sums[:samples].to(dtype).reshape(shape)
    normalizer = sums[samples : 2 * samples].to(dtype).reshape(shape)
    return Stats(total, normalizer, sums[3 * samples].to(torch.int64))
