"""The class family between its checked arguments and what computes them.

    functional/class_losses.py -> classwise() -> reference.classwise

As `autograd.elementwise` does for its family, `classwise` decides which way a call goes. Every call
goes to the reference, which gives every gradient under every transform; a kernel would be asked
here, before it, for the calls that it takes.
"""

from . import reference
from .reference import ClassOperands


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
    return reference.classwise(name, options, operands, region, reduction, normalizer, return_stats)
