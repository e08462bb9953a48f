"""Class indices: which of them are ignored, which are wrong, and their one-hot."""

import torch
from torch import Tensor

from ._values import first_place, readable


def is_ignored(target: Tensor, ignore_index: int) -> Tensor:
    """Where a target of any real dtype equals `ignore_index`, as numbers."""
    if target.is_floating_point():
        return target == ignore_index
    if ignore_index < 0 and target.dtype is torch.uint64:  # what int64 cannot hold turns negative
        return torch.zeros_like(target, dtype=torch.bool)
    return target.to(torch.int64) == ignore_index


def one_hot(name: str, labels: Tensor, active: Tensor | None, classes: int) -> Tensor:
    """Bool, the classes along dim 1, of labels (N, 1, ...) of any integer dtype.

    A label outside [0, C) where a position takes part is an IndexError on the CPU and fails a
    device assert elsewhere; where none does, it stands for class 0.
    """
    every = torch.arange(classes, device=labels.device).reshape(1, -1, *[1] * (labels.ndim - 2))
    index = labels.to(torch.int64)
    if classes == 0:  # nobody takes part
        return index == every
    if active is not None:
        index = torch.where(active.any(1, keepdim=True), index, 0)
    if readable(index):
        place = first_place((index < 0) | (index >= classes))
        if place is not None:
            raise IndexError(
                f"target of {name} must be a class index in [0, {classes}) where it takes part, "
                f"got {labels[place].item()} at position {(place[0], *place[2:])}; leave it out by "
                "mask or ignore_index"
            )
    # a look-up, which fails where the comparison alone would find no class
    found = every.expand(index.shape[0], classes, *index.shape[2:]).gather(1, index)
    return found == every
