"""The table under pytest-benchmark: one test per case and provider, one group per case.

A case is measured once, all providers interleaved (measure.py); each test then hands its provider's
samples to pytest-benchmark by a clock that jumps by the next sample, so that its statistics,
comparisons and JSON are those of the interleaved run. Nothing here asserts a time.
"""

import pytest

from .cases import CASES
from .providers import COMPILED, EAGER, FUSED, STREAM


class Replay:
    """A clock, and a function that advances it by one recorded duration per call."""

    now = 0.0

    def clock(self) -> float:
        return Replay.now

    def step(self, durations) -> None:
        Replay.now += next(durations)


REPLAY = Replay()


def rows():
    for case in CASES:
        names = [FUSED, EAGER] + [COMPILED] * case.compiled + [*case.peers, STREAM]
        for name in names:
            yield pytest.param(case, name, id=f"{case.name}-{name}".replace(" ", "_"))


@pytest.mark.benchmark(timer=REPLAY.clock)
@pytest.mark.parametrize("case, provider", list(rows()))
def test_bench(case, provider, measured, benchmark, request):
    if request.config.option.quick and not case.quick:
        pytest.skip("not among the quick cases")
    samples = measured(case).samples[provider].kept
    benchmark.group = case.name
    benchmark.name = provider
    benchmark.extra_info.update(read=case.read, written=case.written)
    benchmark.pedantic(REPLAY.step, args=(iter(samples),), rounds=len(samples))
