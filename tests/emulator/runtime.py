"""Sessions: run emulated kernels on tensors under one random schedule, and read what was found.

with emulator.session(PROJECT, seed=3, preempt=0.05, traced=True) as s:
    s.register(x, "input")
    s.register(loss, "loss", writable=True)
    s.module.mse(x.data_ptr(), loss.data_ptr(), x.numel())
    report = s.report()
assert not report.errors, report
"""

import contextlib
import dataclasses
import functools

from . import builder
from .lines import resolve

# Errors of two places that turn out to be one source line are no errors: the compiler made two
# copies of one barrier.
_TWO_PLACES = ("divergent_barrier", "divergent_warp")

# Sectors a line may waste before its pattern is judged: a few partials may lie as they like.
_WASTE = 64


@dataclasses.dataclass(frozen=True)
class Error:
    """One finding: ``kind`` is a word to test for, ``text`` names the source lines."""

    kind: str
    text: str
    count: int = 1

    def __str__(self):
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.kind}: {self.text}{times}"


@dataclasses.dataclass(frozen=True)
class Line:
    """What a source line asked of memory, in warp requests: one access by the lanes of a warp."""

    line: str
    write: bool
    requests: int
    bytes: int
    sectors: int
    ideal: int
    worst: int

    @property
    def sectors_per_request(self):
        return self.sectors / self.requests

    @property
    def excess(self):
        """Sectors touched, against what as many distinct bytes need; 1 is perfect."""
        return self.sectors / self.ideal


@dataclasses.dataclass(frozen=True)
class Launch:
    kernel: str
    grid: tuple
    block: tuple
    cooperative: bool
    dynamic_shared: int


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes requested by threads, and distinct 32-byte sectors touched, of one buffer."""

    bytes_read: int
    bytes_written: int
    sectors_read: int
    sectors_written: int


class Report:
    """What a session found. Bytes, sectors and lines are there only for traced sessions."""

    def __init__(self, raw, library, max_excess):
        self.launched = raw["launches"]
        self.launches = len(self.launched)
        self.memsets = raw["memsets"]
        self.buffers = {name: Traffic(**values) for name, values in raw["buffers"].items()}
        self.bytes_read = sum(b.bytes_read for b in self.buffers.values())
        self.bytes_written = sum(b.bytes_written for b in self.buffers.values())
        self.sectors_read = sum(b.sectors_read for b in self.buffers.values())
        self.sectors_written = sum(b.sectors_written for b in self.buffers.values())
        self.sectors = self.sectors_read + self.sectors_written
        self._raw = raw
        self._library = library
        self._max_excess = max_excess

    @functools.cached_property
    def found(self):
        """The errors as objects, in the order in which they were found."""
        found = []
        for kind, text, pcs, count in self._raw["errors"]:
            places = resolve(self._library, pcs)
            if kind in _TWO_PLACES and "{1}" in text and places[0] == places[1]:
                continue
            found.append(Error(kind, text.format(*places), count))
        found += map(self._uncoalesced, self.uncoalesced)
        return found

    @property
    def errors(self):
        """The errors as readable strings; empty is good."""
        return [str(error) for error in self.found]

    @property
    def kinds(self):
        """The kinds of the errors, as a set."""
        return {error.kind for error in self.found}

    @functools.cached_property
    def coalescing(self):
        """A `Line` per source line and direction, the worst first."""
        rows = {}
        places = resolve(self._library, [row[0] for row in self._raw["requests"]])
        for place, (_, write, *numbers) in zip(places, self._raw["requests"], strict=True):
            old = rows.get((place, write), (0, 0, 0, 0, 0))
            summed = [a + b for a, b in zip(old[:4], numbers[:4], strict=True)]
            rows[place, write] = (*summed, max(old[4], numbers[4]))
        lines = [Line(place, write, *numbers) for (place, write), numbers in rows.items()]
        return sorted(lines, key=lambda line: -line.excess)

    @property
    def uncoalesced(self):
        """The lines beyond the session's `max_excess` that waste enough to matter."""
        wasted = sum(row[4] - row[5] for row in self._raw["requests"])
        if self._max_excess is None or wasted < _WASTE:
            return []
        return [
            line
            for line in self.coalescing
            if line.excess > self._max_excess and line.sectors - line.ideal >= _WASTE
        ]

    @functools.cached_property
    def kernels(self):
        """A `Launch` for each launch, with the kernel's name."""
        addresses = [launch["kernel"] for launch in self.launched]
        names = resolve(self._library, addresses, functions=True)
        return [
            Launch(**{**launch, "kernel": name})
            for name, launch in zip(names, self.launched, strict=True)
        ]

    def _uncoalesced(self, line):
        return Error(
            "uncoalesced",
            f"{'write' if line.write else 'read'} at {line.line} touches "
            f"{line.sectors_per_request:.1f} sectors a warp request, "
            f"{line.excess:.1f} times what its bytes need",
            line.requests,
        )

    def __str__(self):
        head = (
            f"{self.launches} launches, {self.bytes_read} B read, {self.bytes_written} B written, "
            f"{len(self.found)} errors"
        )
        return "\n".join([head, *(f"  {error}" for error in self.errors)])


class Session:
    """One run of emulated kernels; made by `session`."""

    def __init__(self, project, mode, max_excess):
        self.module = builder.load(project, mode)
        self._library = builder.build(project, mode)
        self._max_excess = max_excess
        self._kept = []

    def register(self, tensor, name, writable=False, initialised=None):
        """Lets kernels use ``tensor``'s storage; returns its ``data_ptr()``.

        ``initialised`` says that the kernel may read what was there before (a ticket, a buffer that
        it adds to); by default only what is not writable counts as filled.
        """
        storage = tensor.untyped_storage()
        whole = tensor.is_contiguous()
        start = tensor.data_ptr() if whole else storage.data_ptr()
        size = tensor.numel() * tensor.element_size() if whole else storage.nbytes()
        self._kept.append(tensor)
        self.register_address(
            start, size, name, tensor.element_size(), writable=writable, initialised=initialised
        )
        return tensor.data_ptr()

    def register_address(self, start, size, name, granule=4, writable=False, initialised=None):
        """`register` for memory that is no tensor; ``granule`` is the size of its elements."""
        initialised = not writable if initialised is None else initialised
        self.module.register_buffer(start, size, granule, name, writable, initialised)

    def report(self):
        """What was found so far."""
        return Report(self.module.report(), self._library, self._max_excess)


@contextlib.contextmanager
def session(
    project,
    seed=0,
    preempt=0.0,
    traced=False,
    mode=None,
    resident=4,
    multiprocessors=4,
    blocks_per_multiprocessor=2,
    max_excess=2.0,
):
    """Starts a session on ``project``'s module, built if need be.

    seed                the schedule: the same seed gives the same one
    preempt             chance to switch threads at an access (traced), an atomic or a fence
    traced              judge every access; else only barriers, shuffles, launches
    mode                "plain", "traced" or "sanitized", if ``traced`` does not say it
    resident            blocks alive at once in a launch that is not cooperative
    multiprocessors, blocks_per_multiprocessor   what the device queries answer
    max_excess          more sectors than this multiple of the ideal are an error; None: never
    """
    mode = mode or ("traced" if traced else "plain")
    current = Session(project, mode, max_excess)
    current.module.begin(
        seed, preempt, mode == "traced", resident, multiprocessors, blocks_per_multiprocessor
    )
    yield current
