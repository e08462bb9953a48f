"""The second return value of every loss called with ``return_stats=True``."""

from typing import NamedTuple

import torch.utils._pytree as pytree
from torch import Tensor

from ._transforms import surround


class _Fields(NamedTuple):
    total: Tensor
    normalizer: Tensor
    selected: Tensor
    intersection: Tensor | tuple[()] | None = None
    input_sum: Tensor | tuple[()] | None = None
    target_sum: Tensor | tuple[()] | None = None


class Stats(_Fields):
    """What a loss summed on the way, as detached tensors on the device of `input`.

    Sums are float32 (float64 where the loss was computed in float64), so ``total`` of a float16
    loss does not overflow. Reading a field copies nothing and does not wait for the device.
    A named tuple; goes through torch.func (``has_aux=True``), torch.compile and torch.export.

    Attributes:
        total: sum of mask x weight x loss; shape () or, under ``"sample_mean"``, (N,).
            Overlap losses: the sum of the losses of the pools, times their class weights.
        normalizer: what the mean divides ``total`` by, same shape; under ``"sum"`` and ``"none"``
            what the default normalizer of the function would be. Overlap losses: how many pools
            count, or the sum of their class weights.
        selected: int64, shape (): how many elements (class losses: positions) take part.
        intersection, input_sum, target_sum: sums of p t, p and t per pool, for overlap losses;
            None elsewhere.

    Compounds: the first three of the pointwise loss, the others of Dice.

    Example::

        >>> import torch, fusedloss as fl
        >>> input, target = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, -1.0, 1.0])
        >>> loss, stats = fl.l1_loss(input, target, mask=fl.target >= 0, return_stats=True)
        >>> loss.item(), stats.total.item(), stats.normalizer.item(), stats.selected.item()
        (1.5, 3.0, 2.0, 2)
    """

    __slots__ = ()

    def __getitem__(self, index):
        values = tuple.__getitem__(self, index)
        if isinstance(index, slice):
            return tuple(_present(value) for value in values)
        return _present(values)

    @property
    def intersection(self) -> Tensor | None:
        return self[3]

    @property
    def input_sum(self) -> Tensor | None:
        return self[4]

    @property
    def target_sum(self) -> Tensor | None:
        return self[5]

    def _asdict(self):
        return {name: getattr(self, name) for name in self._fields}

    def __repr__(self):
        shown = [f"{name}={value!r}" for name, value in self._asdict().items() if value is not None]
        return f"Stats({', '.join(shown)})"


def without_pools(total: Tensor, normalizer: Tensor, selected: Tensor) -> Stats:
    """Under a transform with empty tuples, which read as None: torch's trees of outputs take None
    for a leaf, which torch.func refuses; an empty tuple has none."""
    absent = () if surround() else None
    return Stats(total, normalizer, selected, absent, absent, absent)


def _present(value) -> Tensor | None:
    return None if isinstance(value, tuple) else value


# torch.export.save writes the name of the type into the file.
if hasattr(pytree, "_register_namedtuple"):
    pytree._register_namedtuple(Stats, serialized_type_name="fusedloss.Stats")
