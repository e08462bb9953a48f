"""The `torch.autograd.Function`s around the kernels: which kernel runs when, and what is saved.

    functional/   -> elementwise() -> reference            transforms, gradients of a weight, ...
                                   -> forward op           no gradient wanted
                                   -> ElementwiseLoss      eager
                                   -> CompiledElementwise  inside torch.compile and torch.export

The forward pass also writes the gradient where that is exact (scalar loss; not in
float16, where it may underflow before `grad_output`, a loss scale, has multiplied it).
The first backward gives that buffer away, scaled if `grad_output` is not 1; nobody ever sees it
change. A second backward (``retain_graph=True``) runs the forward pass again, to the same bits.
``create_graph=True`` goes through the reference, so any order of derivative works.
"""

import torch
from torch import Tensor

from . import _ops, _program, _transforms, reference
from ._checks import broadcast_view
from .regions import TensorRegion
from .stats import Stats

_DEFAULT_NORMALIZERS = reference.DEFAULT_NORMALIZERS
_ONE_MASK = _program.Program((_program.TENSOR, 0, 0, 0))
WIDE = (torch.float32, torch.float64)
RESCALABLE = (*WIDE, torch.bfloat16)  # a finished gradient neither under- nor overflows
_MAX_DIMS = 6  # of the kernels' index space, csrc/core/extents.h


class ElementwiseLoss(torch.autograd.Function):
    """The loss of an op's arguments, or with `returns_sums` (loss, sums); a gradient for `input`.

    Only `input` is an input to autograd, since nothing else requires grad here. `rest` are the
    arguments of the reference but for input and target.
    """

    @staticmethod
    def forward(ctx, input, arguments):
        call, numbers, target, others, code, rest, returns_sums = arguments
        loss, gradient, sums = _ops.elementwise_forward(call, numbers, input, target, others, *code)
        ctx.call = call, numbers, code
        ctx.rest = rest
        ctx.gradient = gradient
        ctx.save_for_backward(input, sums, target, *others)
        if not returns_sums:
            return loss
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    def backward(ctx, grad_output, *_):
        call, numbers, code = ctx.call
        if torch.is_grad_enabled() or _transforms.batch_backward(grad_output):
            return _differentiable_gradient(ctx, grad_output), None
        if holds_gradient(call):
            gradient, ctx.gradient = ctx.gradient, None
            if gradient is None:  # given away before: once more, to the same bits
                input, _, target, *others = ctx.saved_tensors
                _, gradient, _ = _ops.elementwise_forward(
                    call, numbers, input, target, others, *code
                )
            _ops.scale_gradient_(gradient, grad_output)
            return gradient, None
        input, sums, target, *others = ctx.saved_tensors
        gradient = _ops.elementwise_backward(
            call, numbers, input, target, others, *code, grad_output, sums
        )
        return gradient, None


class CompiledElementwise(torch.autograd.Function):
    """The same inside a compiled graph: nothing is changed in place, and the multiplication by
    `grad_output` is left to the compiler, which fuses it with what comes next."""

    @staticmethod
    def forward(ctx, input, call, numbers, region, source, target, *others):
        code = region, source
        loss, gradient, sums = _ops.elementwise_forward(call, numbers, input, target, others, *code)
        ctx.call = call, numbers, code
        ctx.others = len(others)
        if holds_gradient(call):
            ctx.save_for_backward(gradient)
        else:
            ctx.save_for_backward(input, sums, target, *others)
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    def backward(ctx, grad_output, _):
        call, numbers, code = ctx.call
        if holds_gradient(call):
            (gradient,) = ctx.saved_tensors
            absent = (gradient == 0) & ~gradient.signbit()  # csrc/core/stored_gradient.h
            gradient = torch.where(absent, gradient, gradient * grad_output)
        else:
            input, sums, target, *others = ctx.saved_tensors
            gradient = _ops.elementwise_backward(
                call, numbers, input, target, others, *code, grad_output, sums
            )
        return (gradient, None, None, None, None, None) + (None,) * ctx.others


class Formatted(torch.autograd.Function):
    """The tensor itself; its gradient gets the strides that the kernels give."""

    @staticmethod
    def forward(ctx, tensor):
        ctx.save_for_backward(tensor)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, gradient):
        if _transforms.batch_backward(gradient):
            return gradient
        return formatted(gradient, ctx.saved_tensors[0])


_apply_eagerly = _transforms.apply_without_transforms(ElementwiseLoss)


def elementwise(
    name, options, input, target, weight, pos_weight, region, reduction, normalizer, return_stats
):
    """A checked call of the elementwise family, by the fastest way that gives all gradients."""
    rest = name, options, weight, pos_weight, region, reduction, normalizer
    arguments = _op_arguments(input, target, *rest)
    if arguments is None:
        return _by_reference(input, target, rest, return_stats)
    call, numbers, others, code = arguments
    if return_stats:
        call += " sums"
    if input.requires_grad and torch.is_grad_enabled():
        if reduction != "none" and input.dtype in RESCALABLE:
            call += " gradient"
        if torch.compiler.is_compiling():
            others = distinct(others)
            loss, sums = CompiledElementwise.apply(input, call, numbers, *code, target, *others)
        else:
            result = _apply_eagerly(
                input, (call, numbers, target, others, code, rest, return_stats)
            )
            if not return_stats:
                return result
            loss, sums = result
    else:
        loss, _, sums = _ops.elementwise_forward(call, numbers, input, target, others, *code)
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
            return _ONE_MASK._replace(tensors=(region.tensor,))
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


def keep_format(tensor: Tensor | None) -> Tensor | None:
    """The tensor itself, whose gradient will have its memory format."""
    if tensor is None or not (tensor.requires_grad and torch.is_grad_enabled()):
        return tensor
    return Formatted.apply(tensor)


def formatted(values: Tensor, like: Tensor) -> Tensor:
    """`values` with the strides of ``torch.empty_like(like)``."""
    layout = torch.empty_like(like, dtype=values.dtype, device="meta").stride()
    if values.stride() == layout:
        return values
    return values.new_empty_strided(values.shape, layout).copy_(values)


def holds_gradient(call: str) -> bool:
    """Whether the forward pass of an op's line of words writes the gradient too."""
    return call.endswith(" gradient")


def _differentiable_gradient(ctx, grad_output: Tensor) -> Tensor:
    """The gradient as a function of input and grad_output: for derivatives of higher order, and
    for a backward pass under vmap, where the kernels cannot go."""
    name, options, *operands = ctx.rest
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        input, _, target, *_ = ctx.saved_tensors
        wide = input.float() if " float_result" in ctx.call[0] else input
        loss = reference.elementwise(name, options, wide, target, *operands)
    gradient = torch.autograd.grad(loss, input, grad_output, create_graph=create_graph)[0]
    return gradient if _transforms.batch_backward(grad_output) else formatted(gradient, input)


def viewed(tensor: Tensor, ndim: int, input: Tensor) -> Tensor:
    """A mask or weight with `input`'s dims and device; free where it has them already."""
    if tensor.ndim == ndim > 0:
        return tensor
    return broadcast_view(on_device(tensor, input), ndim)


def distinct(tensors: list[Tensor]) -> list[Tensor]:
    """Views: Dynamo refuses a tensor that comes twice, as target and weight or as two weights."""
    return [tensor.view_as(tensor) for tensor in tensors]


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
