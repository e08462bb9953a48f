"""Where a checked call of the overlap family goes: to its reference, until a kernel takes it.

functional/overlap_losses.py -> overlap()            -> reference
                             -> overlap_compound()   -> reference
"""

from . import reference
from ._overlap_call import Operands, Overlap


def overlap(options: Overlap, operands: Operands, reduction: str, return_stats: bool):
    """A checked call of dice_loss, jaccard_loss or tversky_loss."""
    return reference.overlap(options, operands, reduction, return_stats)
