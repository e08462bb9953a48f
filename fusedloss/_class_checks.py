"""What the class losses accept beside the rules of `_checks.py`: one checker per rule.

As there, no checker looks at the values of a tensor.
"""

from torch import Tensor

from ._checks import check_positional, check_source_type
from ._labels import with_channels


def check_positions(input: Tensor, target: Tensor, weight_map, region) -> None:
    """Mask and weight map of losses whose positions count as a whole: the same for all channels.

    `target` has `input`'s shape or holds class indices.
    """
    operands = with_channels(input, target)
    if isinstance(weight_map, Tensor):
        check_positional("weight_map", weight_map, input)
    elif weight_map is not None:
        check_source_type(weight_map, "weight_map")
        weight_map.check_positional(input)
        weight_map.check(*operands)
    if region is not None:
        region.check_positional(input)
        region.check(*operands)
