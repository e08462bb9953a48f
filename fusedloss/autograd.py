"""The `torch.autograd.Function`s around the kernels of every family: what is saved, and which op
computes a gradient when.

    computed() -> forward op     no gradient wanted
               -> FusedLoss      eager
               -> CompiledLoss   inside torch.compile and torch.export

The forward pass also writes the gradient where that is exact (scalar loss; not in
float16, where it may underflow before `grad_output`, a loss scale, has multiplied it).
The first backward gives that buffer away, scaled if `grad_output` is not 1; nobody ever sees it
change. A second backward (``retain_graph=True``) runs the forward pass again, to the same bits.
``create_graph=True`` goes through the reference, so any order of derivative works.

A call of an op is a plain tuple, which Dynamo takes apart:

    (family, words, arguments, code)

`family` names the ops, `words` is the line that ``csrc/core/*_problem.h`` read, `arguments` are
those between it and `input`, `code` those of the two programs.
"""

import torch
from torch import Tensor

from . import _ops, _transforms
from ._formats import formatted
from ._kernel_arguments import WIDE
from .stats import Stats

_RESCALABLE = (*WIDE, torch.bfloat16)  # a finished gradient neither under- nor overflows


class FusedLoss(torch.autograd.Function):
    """The loss of a call, or with `returns_sums` (loss, sums); a gradient for `input`.

    Only `input` is an input to autograd, since nothing else requires grad here.
    `reference(input, target)` is the same loss, to be differentiated.
    """

    @staticmethod
    def forward(ctx, input, arguments):
        call, target, others, reference, returns_sums = arguments
        loss, gradient, sums = _forward(call, input, target, others)
        ctx.call = call
        ctx.reference = reference
        ctx.gradient = gradient if _holds_gradient(call) else None
        ctx.save_for_backward(input, sums, target, *others)
        if not returns_sums:
            return loss
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    def backward(ctx, grad_output, *_):
        if torch.is_grad_enabled() or _transforms.batch_backward(grad_output):
            return _differentiable_gradient(ctx, grad_output), None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            input, sums, target, *others = ctx.saved_tensors
            if not _holds_gradient(ctx.call):
                return _backward(ctx.call, input, target, others, grad_output, sums), None
            # Given away before: once more, to the same bits.
            _, gradient, _ = _forward(ctx.call, input, target, others)
        _ops.scale_gradient_(gradient, grad_output)
        return gradient, None


class CompiledLoss(torch.autograd.Function):
    """The same inside a compiled graph: nothing is changed in place, and the multiplication by
    `grad_output` is left to the compiler, which fuses it with what comes next."""

    @staticmethod
    def forward(ctx, input, call, target, *others):
        loss, gradient, sums = _forward(call, input, target, others)
        ctx.call = call
        ctx.others = len(others)
        if _holds_gradient(call):
            ctx.save_for_backward(gradient)
        else:
            ctx.save_for_backward(input, sums, target, *others)
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    def backward(ctx, grad_output, _):
        if _holds_gradient(ctx.call):
            (gradient,) = ctx.saved_tensors
            absent = (gradient == 0) & ~gradient.signbit()  # csrc/core/stored_gradient.h
            gradient = torch.where(absent, gradient, gradient * grad_output)
        else:
            input, sums, target, *others = ctx.saved_tensors
            gradient = _backward(ctx.call, input, target, others, grad_output, sums)
        return (gradient, None, None) + (None,) * ctx.others


_apply_eagerly = _transforms.apply_without_transforms(FusedLoss)


def computed(
    call, input: Tensor, target: Tensor, others, reference, return_stats: bool
) -> tuple[Tensor, Tensor | None]:
    """(loss, the op's sums or None) by the fastest way that gives a gradient for `input`."""
    family, words, arguments, code = call
    if return_stats:
        words += " sums"
    if not (input.requires_grad and torch.is_grad_enabled()):
        loss, _, sums = _forward((family, words, arguments, code), input, target, others)
        return loss, sums
    if words.split(" ", 2)[1] != "none" and input.dtype in _RESCALABLE:
        words += " gradient"
    call = family, words, arguments, code
    if torch.compiler.is_compiling():
        # Views: Dynamo refuses a tensor that comes twice, as target and weight or as two weights.
        return CompiledLoss.apply(input, call, target, *(other.view_as(other) for other in others))
    if torch.jit.is_tracing():
        raise RuntimeError(
            "torch.jit.trace cannot record a loss with its gradient; use torch.compile or "
            "torch.export, or trace under torch.no_grad()"
        )
    result = _apply_eagerly(input, (call, target, others, reference, return_stats))
    return result if return_stats else (result, None)


def stats_of(sums: Tensor, dtype: torch.dtype, reduction: str) -> Stats:
    """An op's `sums` as statistics of the dtype of the arithmetic."""
    samples = sums.shape[0] // 3
    shape = (samples,) if reduction == "sample_mean" else ()
    total = sums[:samples].to(dtype).reshape(shape)
    normalizer = sums[samples : 2 * samples].to(dtype).reshape(shape)
    return Stats(total, normalizer, sums[3 * samples].to(torch.int64))


def _forward(call, input: Tensor, target: Tensor, others):
    family, words, arguments, code = call
    op = getattr(_ops, family + "_forward")
    return op(words, *arguments, input, target, list(others), *code)


def _backward(call, input: Tensor, target: Tensor, others, grad_output: Tensor, sums: Tensor):
    family, words, arguments, code = call
    op = getattr(_ops, family + "_backward")
    return op(words, *arguments, input, target, list(others), *code, grad_output, sums)


def _holds_gradient(call) -> bool:
    """Whether the forward pass writes the gradient too."""
    return call[1].endswith(" gradient")


def _differentiable_gradient(ctx, grad_output: Tensor) -> Tensor:
    """The gradient as a function of input and grad_output: for derivatives of higher order, and
    for a backward pass under vmap, where the kernels cannot go."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        input, _, target, *_ = ctx.saved_tensors
        wide = input.float() if " float_result" in ctx.call[1] else input
        loss = ctx.reference(wide, target)
    gradient = torch.autograd.grad(loss, input, grad_output, create_graph=create_graph)[0]
    if create_graph and not gradient.requires_grad:  # of a loss that is linear in the input
        everywhere = torch.ones((), dtype=torch.bool, device=gradient.device)
        gradient = torch.where(everywhere, gradient, input)
    return gradient if _transforms.batch_backward(grad_output) else formatted(gradient, input)
