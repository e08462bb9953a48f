"""Interleaved measurement: every provider and the streaming bound take turns, round after round.

One thread, pinned to the quieter core, the garbage collector off. The allocator is as it comes:
glibc gives blocks of 32 MB and more back to the system, and what is asked for next comes page by
page; only the library keeps the memory of its results (csrc/ops/result_memory.h). Or all memory is
warm: the allocator keeps what anybody frees, and everything is written into pages that exist. A
sample is the processor time of the process, so that waiting for a core that others use does not
count; one that had to wait is still marked (its caches were not its own), and left out as long as
enough others remain. On a GPU a sample is what its events say, between two synchronisations.

    with one_thread(), quiet_core():
        samples = interleave({"fused": step, "stream": other}, reset, device="cpu", seconds=2.0)
    samples["fused"].minimum, samples["fused"].median
"""

import ctypes
import functools
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

SHORTEST = 3e-3  # seconds; steps that take less than a tenth are repeated up to this, caches hot
MOST_CALLS = 8  # samples of one provider in a row, per round
FEWEST_ROUNDS = 5
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # of glibc's malloc.h
_HEAP_BYTES = 1 << 30


@dataclass
class Samples:
    """Seconds per step, in the order of measuring."""

    undisturbed: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)

    @property
    def kept(self) -> list[float]:
        if len(self.undisturbed) >= FEWEST_ROUNDS:
            return self.undisturbed
        return self.undisturbed + self.disturbed

    @property
    def minimum(self) -> float:
        return min(self.kept)

    @property
    def median(self) -> float:
        return statistics.median(self.kept)

    @property
    def shared(self) -> float:
        """The fraction of all samples during which something else had the core."""
        return len(self.disturbed) / (len(self.undisturbed) + len(self.disturbed))

    @property
    def spread(self) -> float:
        """Median over minimum: 1 on a machine that does nothing else."""
        return self.median / self.minimum


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def quiet_core(warm_memory: bool = False) -> Iterator[int]:
    """This thread on the quieter core, no garbage collection; `warm_memory` stays mapped."""
    core, allowed = 0, None
    if warm_memory:
        _keep_freed_memory()
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        core = min(allowed, key=_busyness)
        os.sched_setaffinity(0, {core})
    gc.collect()
    gc.disable()
    try:
        yield core
    finally:
        gc.enable()
        if allowed is not None:
            os.sched_setaffinity(0, allowed)


def interleave(
    steps: dict[str, Callable[[], None]], reset: Callable[[], None], device: str, seconds: float
) -> dict[str, Samples]:
    """Samples of every step, taken in turns for about `seconds`, after a warm-up."""
    sample = _sample_on_gpu if device == "cuda" else _sample_on_cpu
    durations = {name: _warm_up(step, reset, sample) for name, step in steps.items()}
    repeats = {
        name: round(SHORTEST / duration) if duration < SHORTEST / 10 else 1
        for name, duration in durations.items()
    }
    longest = max(duration * repeats[name] for name, duration in durations.items())
    calls = {
        name: min(MOST_CALLS, max(1, int(longest / (duration * repeats[name]))))
        for name, duration in durations.items()
    }
    found = {name: Samples() for name in steps}
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < FEWEST_ROUNDS or time.perf_counter() < end:
        rounds += 1
        for name, step in steps.items():
            for _ in range(calls[name]):
                duration, disturbed = sample(step, reset, repeats[name])
                samples = found[name]
                (samples.disturbed if disturbed else samples.undisturbed).append(duration)
    reset()
    return found


def _warm_up(step, reset, sample) -> float:
    """About how long a step takes, once it has all its memory."""
    for _ in range(2):
        sample(step, reset, 1)
    first, _ = sample(step, reset, 1)
    return sample(step, reset, 20)[0] if first < SHORTEST / 10 else first


def _sample_on_cpu(step, reset, repeats: int) -> tuple[float, bool]:
    """Seconds of processor time per step, and whether the core was taken away meanwhile."""
    reset()
    wall, start = time.perf_counter(), time.process_time()
    step()
    for _ in range(repeats - 1):
        reset()
        step()
    duration = time.process_time() - start
    waited = time.perf_counter() - wall - duration
    return duration / repeats, waited > 2e-5 + 0.01 * duration


def _sample_on_gpu(step, reset, repeats: int) -> tuple[float, bool]:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    reset()
    torch.cuda.synchronize()
    start.record()
    step()
    for _ in range(repeats - 1):
        reset()
        step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats, False


def _busyness(core: int) -> float:
    """Seconds that a fixed piece of work takes on a core."""
    os.sched_setaffinity(0, {core})
    start = time.perf_counter()
    for _ in range(20):
        sum(range(50_000))
    return time.perf_counter() - start


@functools.cache
def _keep_freed_memory() -> None:
    """Tells glibc to serve large blocks from its heap and never to give them back; the heap begins
    with a block that has been written to, since blocks do not always fit where others were."""
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, -1)
            torch.zeros(_HEAP_BYTES, dtype=torch.uint8).add_(1)
