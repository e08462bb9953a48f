"""The streaming bound: a plain vectorised loop that moves as many bytes as a case must.

    step = stream(read=8 * N, written=4 * N, device="cpu")    # torch.add(a, b, out=c) over N floats

Two reads to one write is what a loss with its gradient does, so the bound is torch's own `add` into
memory that exists already. Bytes beyond that shape are read by a dot product, or filled. A plain
loop fetches each line that it is about to overwrite; streaming stores do not, so a kernel that uses
them can come out above 1 where memory, and not the core, is the limit.
"""

from collections.abc import Callable

import torch


def stream(read: int, written: int, device: str = "cpu") -> Callable[[], None]:
    """A function that reads `read` bytes and writes `written` bytes, in float32 tensors."""
    paired = min(read // 2, written) // 4
    a, b, result = (_floats(paired, device) for _ in range(3))
    halves = (
        _floats((read // 4 - 2 * paired) // 2, device),
        _floats((read // 4 - 2 * paired) // 2, device),
    )
    filled = _floats(written // 4 - paired, device)

    def step() -> None:
        if paired:
            torch.add(a, b, out=result)
        if halves[0].numel():
            torch.dot(*halves)
        if filled.numel():
            filled.fill_(1.0)

    return step


def _floats(count: int, device: str) -> torch.Tensor:
    return torch.ones(count, device=device)
