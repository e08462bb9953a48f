"""The second return value of every loss called with ``return_stats=True``."""

from typing import NamedTuple

from torch import Tensor


class Stats(NamedTuple):
    """What a loss summed on the way, as detached tensors on the device of `input`.

    Sums are float32 (float64 where the loss was computed in float64), so ``total`` of a float16
    loss does not overflow. Reading a field copies nothing and does not wait for the device.

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

    total: Tensor
    normalizer: Tensor
    selected: Tensor
    intersection: Tensor | None = None
    input_sum: Tensor | None = None
    target_sum: Tensor | None = None
