"""Options of the benchmarks, the measurements of this run, and the report at its end."""

import pytest
import torch

from . import measure, providers, report
from .cases import CASES, Case
from .stream import stream

RESULTS = pytest.StashKey[dict[str, report.Result]]()


def pytest_addoption(parser):
    parser.addoption(
        "--quick", action="store_true", help="only the cases that carry the aims, fewer rounds"
    )
    parser.addoption(
        "--seconds", type=float, default=None, help="measuring time per case (default 3; quick: 1)"
    )
    parser.addoption(
        "--warm", action="store_true", help="keep all freed memory mapped, eager PyTorch's too"
    )


def pytest_configure(config):
    config.stash[RESULTS] = {}


@pytest.fixture(scope="session")
def measured(request):
    """case -> its Result; measures a case, all providers in turns, when it is first asked for."""
    option = request.config.option
    seconds = option.seconds or (1.0 if option.quick else 3.0)
    known = request.config.stash[RESULTS]

    def get(case: Case) -> report.Result:
        if case.name not in known:
            known[case.name] = run(case, seconds, warm_memory=option.warm)
        return known[case.name]

    return get


def run(case: Case, seconds: float, warm_memory: bool) -> report.Result:
    """Checks that all providers compute the same, then measures them together."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    operands = case.operands(device)
    torch.compiler.reset()
    with measure.one_thread():  # torch.compile bakes the number of threads into its code
        functions = providers.functions(case)
        providers.check(case, functions, operands)
        steps = {
            name: providers.step(case, function, operands) for name, function in functions.items()
        }
        steps[providers.STREAM] = stream(case.read, case.written, device)
        with measure.quiet_core(warm_memory):
            samples = measure.interleave(steps, lambda: providers.reset(operands), device, seconds)
    return report.Result(case, samples)


@pytest.hookimpl(trylast=True)  # below pytest-benchmark's own tables
def pytest_terminal_summary(terminalreporter, config):
    results = config.stash[RESULTS]
    if not results:
        return
    ordered = [results[case.name] for case in CASES if case.name in results]
    terminalreporter.section("fusedloss")
    memory = "all memory warm" if config.option.warm else "the allocator as it comes"
    terminalreporter.write_line(f"{report.machine()}, {memory}")
    terminalreporter.write_line("")
    terminalreporter.write_line(report.table(ordered))
    written = report.write(ordered)
    terminalreporter.write_line("written: " + ", ".join(map(str, written)))
    if len(written) < 3:
        terminalreporter.write_line("no chart: matplotlib is not installed")
