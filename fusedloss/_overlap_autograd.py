"""The overlap losses and compounds between their checked arguments and what computes them.

    functional/overlap_losses.py  -> overlap()  -> reference.overlap
    functional/compound_losses.py -> compound() -> reference.compound

Every call goes to the reference, which gives every gradient under every transform; a kernel would
be asked here, before it, for the calls that it takes.
"""

import torch

from . import _transforms, reference
from ._overlap_call import Compound, Operands, Overlap
from .autograd import keep_format


def overlap(options: Overlap, operands: Operands, reduction: str, return_stats: bool):
    """A checked call of dice_loss, jaccard_loss or tversky_loss."""
    return reference.overlap(options, _formatted(operands), reduction, return_stats)


def compound(options: Compound, operands: Operands, reduction: str, return_stats: bool):
    """A checked call of a Dice loss beside a pointwise one, of the same logits."""
    return reference.compound(options, _formatted(operands), reduction, return_stats)


def _formatted(operands: Operands) -> Operands:
    """Gradients of the logits and of soft targets get their memory formats."""
    if torch.compiler.is_compiling() or _transforms.surround():
        return operands
    input, target = keep_format(operands.input), keep_format(operands.target)
    return operands._replace(input=input, target=target)
