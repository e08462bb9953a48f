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


def check_labels(
    name: str, labels: Tensor, active: Tensor | None, classes: int, advice: str, ndim: int = 2
) -> None:
    """Raises IndexError for a label (N, 1, ...) outside [0, C) at a position that takes part, where
    values may be looked at; `ndim` is the input's."""
    if not readable(labels):
        return
    index = labels.to(torch.int64)
    wrong = (index < 0) | (index >= classes)
    place = first_place(wrong if active is None else wrong & active)
    if place is not None:
        shown = (place[0], *place[2:]) if ndim >= 2 else ()
        raise IndexError(
            f"target of {name} must be a class index in [0, {classes}) where it takes part, got "
            f"{labels[place].item()} at position {shown}; {advice}"
        )


def one_hot(name: str, labels: Tensor, active: Tensor | None, classes: int) -> Tensor:
    """Bool, the classes along dim 1, of labels (N, 1, ...) of any integer dtype.

    A label where no position takes part stands for class 0; a wrong one fails a device assert where
    `check_labels` cannot read it.
    """
    every = torch.arange(classes, device=labels.device).reshape(1, -1, *[1] * (labels.ndim - 2))
    index = labels.to(torch.int64)
    if classes == 0:  # nobody takes part
        return index == every
    if active is not None:
        active = active.any(1, keepdim=True)
        index = torch.where(active, index, 0)
    check_labels(name, labels, active, classes, "leave it out by mask or ignore_index")
    # a look-up, which fails where the comparison alone would find no class
    found = every.expand(index.shape[0], classes, *index.shape[2:]).gather(1, index)
    return found == every
