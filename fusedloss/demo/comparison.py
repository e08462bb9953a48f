"""Trains one job twice, fused and eager, and says in a table how the two differ.

What is the same for every job is here; a job brings its network, its data, its losses, the rows of
the table that only it can fill, and its pictures.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from fusedloss.demo import measure, report, training


class Job(NamedTuple):
    """What is trained, and the ways to write its loss.

    losses: a function of the network's output per column of the table. The first is the fused one,
    the second the eager one that is trained beside it; any further ones are only measured.
    notes: lines below the table, on what is particular to this job.
    """

    title: str
    make_model: Callable[[], nn.Module]
    inputs: tuple[torch.Tensor, ...]
    losses: dict[str, measure.Loss]
    notes: str
    learning_rate: float = 5e-3


def train_both(job: Job, steps: int) -> dict[str, training.Run]:
    """The runs of the first two losses, from the same seed; a progress bar each."""
    return {name: _train(job, name, steps) for name in list(job.losses)[:2]}


def table(job: Job, runs: dict[str, training.Run], rows: list[report.Row]) -> str:
    """The job's own `rows`, then the curves, time and memory, and the notes."""
    output = runs["fused"].output
    times = list(measure.milliseconds(job.losses, output).values())
    memory = [measure.peak_bytes(loss, output) / 1e6 for loss in job.losses.values()]
    apart = max(abs(a - b) for a, b in zip(*(r.losses for r in runs.values()), strict=True))
    size = "x".join(map(str, output.shape[1:]))
    device, gradient = output.device.type, output.nbytes / 1e6
    rows = [
        *rows,
        report.Row("largest difference of the loss curves", [None, apart], "{:.1e}"),
        report.Row("whole training, s", [run.seconds for run in runs.values()], "{:.1f}"),
        report.Row("loss forward + backward, ms", times),
        report.Row("  times the fused loss", [t / times[0] for t in times], "{:.1f}"),
        report.Row("peak extra memory, MB", memory, "{:.2f}"),
    ]
    notes = f"""\
Times: median of interleaved rounds on the {size} output, on one pinned thread ({device}).
Memory: most held at once by forward + backward, the gradient ({gradient:.2f} MB) included."""
    return "\n".join([report.table(job.title, list(job.losses), rows), notes, job.notes])


def _train(job: Job, name: str, steps: int) -> training.Run:
    rest = 0.1 if sys.stderr.isatty() else 10.0  # seconds: a log keeps every state of the bar
    with tqdm(
        total=steps, desc=f"{job.title}: {name}", unit="step", mininterval=rest, maxinterval=rest
    ) as bar:

        def tick(value):
            bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            bar.update()

        return training.train(
            job.make_model, job.inputs, job.losses[name], steps, tick, job.learning_rate
        )
