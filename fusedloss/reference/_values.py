"""Looking at the values of a tensor, where that is possible and costs no wait."""

import torch
from torch import Tensor


def readable(tensor: Tensor) -> bool:
    """Whether values may be looked at: on the CPU, and not while a call is compiled."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def first_place(condition: Tensor) -> tuple[int, ...] | None:
    """The index of the first true element of a readable tensor; None where there is none, and
    under vmap and for fake tensors, which have no values."""
    try:
        found = bool(condition.any())
    except RuntimeError:
        return None
    return tuple(condition.nonzero()[0].tolist()) if found else None
