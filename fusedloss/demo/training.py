"""The training loop that every run of the demo shares; only the loss function differs."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn


class Run(NamedTuple):
    """What one training left: the loss of every step, the trained output, how long it took."""

    losses: list[float]
    output: torch.Tensor
    seconds: float


def train(
    make_model: Callable[[], nn.Module],
    inputs: tuple[torch.Tensor, ...],
    loss: Callable[[torch.Tensor], torch.Tensor],
    steps: int,
    tick: Callable[[float], None],
    learning_rate: float,
    seed: int = 0,
) -> Run:
    """Trains `make_model()` on `inputs` for `steps` steps of `loss(output)`.

    Two calls that differ only in `loss` start from the same weights. `tick(loss)` is called after
    every step, for a progress bar.
    """
    torch.manual_seed(seed)
    model = make_model().to(inputs[0].device)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=max(steps, 2), pct_start=0.2
    )
    losses, start = [], time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        value = loss(model(*inputs))
        value.backward()
        optimizer.step()
        schedule.step()
        losses.append(value.item())
        tick(losses[-1])
    seconds = time.perf_counter() - start
    with torch.no_grad():
        output = model(*inputs)
    return Run(losses, output, seconds)
