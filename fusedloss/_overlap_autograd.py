"""The overlap losses and compounds between their checked arguments and what computes them; as
`autograd.py` does for the elementwise family, whose rules for gradients and saved tensors hold here
too.

    functional/overlap_losses.py  -> overlap()  -> reference        transforms, ...
    functional/compound_losses.py -> compound() -> forward op       no gradient wanted
                                                -> OverlapLoss      eager
                                                -> CompiledOverlap  torch.compile, torch.export
"""

from typing import NamedTuple

import torch
from torch import Tensor

from . import _ops, _overlap_arguments, _transforms, autograd, reference
from ._overlap_call import Compound, Operands, Overlap
from .stats import Stats


class _Call(NamedTuple):
    """A checked call, as the reference takes it."""

    options: Overlap | Compound
    operands: Operands
    reduction: str

    @property
    def dice(self) -> Overlap:
        return self.options.dice if isinstance(self.options, Compound) else self.options

    def by_reference(self, return_stats: bool):
        function = reference.compound if self.dice is not self.options else reference.overlap
        return function(self.options, self.operands, self.reduction, return_stats)


class OverlapLoss(torch.autograd.Function):
    """The loss of an op's arguments, or with `returns_sums` (loss, sums); a gradient for `input`.

    `call` are the op's arguments before `input`, `checked` is the `_Call`.
    """

    @staticmethod
    def forward(ctx, input, arguments):
        call, target, others, code, checked, returns_sums = arguments
        loss, gradient, sums = _ops.overlap_forward(*call, input, target, others, *code)
        ctx.call = call, code
        ctx.checked = checked
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
                _, gradient, _ = _ops.overlap_forward(*call, input, target, others, *code)
            _ops.scale_gradient_(gradient, grad_output)
            return gradient, None
        gradient = _ops.overlap_backward(*call, input, target, others, *code, grad_output, sums)
        return gradient, None


class CompiledOverlap(torch.autograd.Function):
    """The same inside a compiled graph: nothing is changed in place."""

    @staticmethod
    def forward(ctx, input, call, code, target, *others):
        loss, gradient, sums = _ops.overlap_forward(*call, input, target, others, *code)
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
            gradient = _ops.overlap_backward(*call, input, target, others, *code, grad_output, sums)
        return (gradient, None, None, None) + (None,) * ctx.others


_apply_eagerly = _transforms.apply_without_transforms(OverlapLoss)


def overlap(options: Overlap, operands: Operands, reduction: str, return_stats: bool):
    """A checked call of dice_loss, jaccard_loss or tversky_loss."""
    arguments = _overlap_arguments.of_overlap(options, operands, reduction)
    return _computed(_Call(options, operands, reduction), arguments, return_stats)


def compound(options: Compound, operands: Operands, reduction: str, return_stats: bool):
    """A checked call of a Dice loss beside a pointwise one, of the same logits."""
    arguments = _overlap_arguments.of_compound(options, operands, reduction)
    return _computed(_Call(options, operands, reduction), arguments, return_stats)


def _computed(checked: _Call, arguments, return_stats: bool):
    """A call by the fastest way that gives all gradients; without `arguments` there is no kernel
    for it."""
    if arguments is None:
        return checked._replace(operands=_formatted(checked.operands)).by_reference(return_stats)
    line, numbers, ignore_index, others, code = arguments
    input, target = checked.operands[:2]
    if return_stats:
        line += " sums"
    if input.requires_grad and torch.is_grad_enabled():
        if checked.reduction != "none" and input.dtype in autograd.RESCALABLE:
            line += " gradient"
        call = line, numbers, ignore_index
        if torch.compiler.is_compiling():
            # Dynamo refuses a tensor that comes twice, as both class weights of a compound may.
            others = [tensor.view_as(tensor) for tensor in others]
            loss, sums = CompiledOverlap.apply(input, call, code, target, *others)
        else:
            result = _apply_eagerly(input, (call, target, others, code, checked, return_stats))
            loss, sums = result if return_stats else (result, None)
    else:
        call = line, numbers, ignore_index
        loss, _, sums = _ops.overlap_forward(*call, input, target, others, *code)
    shape = _pool_shape(checked.dice, input)
    if checked.reduction == "none" and len(shape) != 1:
        loss = loss.reshape(shape)
    return (loss, _stats(sums, checked, shape)) if return_stats else loss


def _pool_shape(options: Overlap, input: Tensor) -> tuple[int, ...]:
    classes = input.shape[1] - (0 if options.include_background else 1)
    rows = input.shape[:1] if options.by_sample else ()
    return (*rows, classes) if options.by_class else tuple(rows)


def _stats(sums: Tensor, checked: _Call, shape: tuple[int, ...]) -> Stats:
    dtype = _overlap_arguments.compute_dtype(checked.options, checked.operands)
    results = checked.operands.input.shape[0] if checked.reduction == "sample_mean" else 1
    pointwise = autograd.stats_of(sums[: 3 * results + 1], dtype, checked.reduction)
    pools = (sums.shape[0] - 3 * results - 1) // 5
    counts = sums[3 * results + 1 :][: 3 * pools].to(dtype).reshape(3, *shape).unbind()
    return Stats(*pointwise[:3], *counts)


def _differentiable_gradient(ctx, grad_output: Tensor) -> Tensor:
    """The gradient as a function of input and grad_output: for derivatives of higher order, and
    for a backward pass under vmap, where the kernels cannot go."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        input, _, target, *_ = ctx.saved_tensors
        wide = input.float() if " float_result" in ctx.call[0][0] else input
        operands = ctx.checked.operands._replace(input=wide, target=target)
        loss = ctx.checked._replace(operands=operands).by_reference(False)
        if ctx.checked.reduction == "none":
            loss = loss.reshape(-1)  # as the op gives the pools
    gradient = torch.autograd.grad(loss, input, grad_output, create_graph=create_graph)[0]
    if _transforms.batch_backward(grad_output):
        return gradient
    return autograd.formatted(gradient, input)


def _formatted(operands: Operands) -> Operands:
    """Gradients of the logits and of soft targets get their memory formats."""
    if torch.compiler.is_compiling() or _transforms.surround():
        return operands
    input, target = autograd.keep_format(operands.input), autograd.keep_format(operands.target)
    return operands._replace(input=input, target=target)
