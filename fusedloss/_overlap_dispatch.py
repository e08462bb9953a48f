"""The overlap losses and compounds between their checked arguments and what computes them, as the
elementwise family in `_elementwise_dispatch.py`.

    functional/overlap_losses.py  -> overlap()  -> reference  transforms, ...
    functional/compound_losses.py -> compound() -> autograd   else
"""

from typing import NamedTuple

import torch
from torch import Tensor

from . import _overlap_arguments, _transforms, autograd, reference
from ._formats import keep_format
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

    def by_reference(wide, goal):
        operands = checked.operands._replace(input=wide, target=goal)
        loss = checked._replace(operands=operands).by_reference(False)
        return loss.reshape(-1) if checked.reduction == "none" else loss  # as the op gives pools

    call = "overlap", line, (numbers, ignore_index), code
    loss, sums = autograd.computed(call, input, target, others, by_reference, return_stats)
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


def _formatted(operands: Operands) -> Operands:
    """Gradients of the logits and of soft targets get their memory formats."""
    if torch.compiler.is_compiling() or _transforms.surround():
        return operands
    input, target = keep_format(operands.input), keep_format(operands.target)
    return operands._replace(input=input, target=target)
