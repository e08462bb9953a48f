"""Time and memory of a loss, forward and backward, on tensors of the size that training uses."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch

from .._ops import release_result_memory

Loss = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def one_pinned_thread():
    """Within it torch computes on one thread that stays on one core, so that timings repeat."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    torch.set_num_threads(1)
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)


def milliseconds(
    losses: dict[str, Loss], output: torch.Tensor, rounds: int = 40
) -> dict[str, float]:
    """The median time of forward + backward of each loss, taken in turns within every round.

    On the CPU the processor's time: what others do on the core does not count.
    """
    leaf = output.detach().clone().requires_grad_()
    times = {name: [] for name in losses}
    clock = time.perf_counter if leaf.is_cuda else time.process_time
    with one_pinned_thread():
        for _ in range(rounds + 3):
            for name, loss in losses.items():
                leaf.grad = None
                start = clock()
                loss(leaf).backward()
                synchronize(leaf)
                times[name].append(clock() - start)
    return {name: 1e3 * statistics.median(taken[3:]) for name, taken in times.items()}


def peak_bytes(loss: Loss, output: torch.Tensor) -> int:
    """The most memory that forward + backward held at once beyond what was there before.

    The gradient of `output` counts. On a GPU the allocator's own figure; on the CPU, where torch
    keeps none, the running sum of the allocations that its profiler records. Memory that fusedloss
    kept from an earlier step is given back first, so that its gradient counts as the others'.
    """
    leaf = output.detach().clone().requires_grad_()
    loss(leaf).backward()  # what only the first call needs is no part of the loss
    leaf.grad = None
    synchronize(leaf)
    release_result_memory()
    if leaf.is_cuda:
        before = torch.cuda.memory_allocated(leaf.device)
        torch.cuda.reset_peak_memory_stats(leaf.device)
        loss(leaf).backward()
        return torch.cuda.max_memory_allocated(leaf.device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with _silent_stderr():
        with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
            loss(leaf).backward()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    steps = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    held = peak = 0
    for _, change in steps:
        held += change
        peak = max(peak, held)
    return peak


@contextmanager
def _silent_stderr():
    """Drops what native code writes to stderr: the profiler announces its start and its end."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def synchronize(tensor: torch.Tensor) -> None:
    """Waits until the device of `tensor` has done what it was given."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
