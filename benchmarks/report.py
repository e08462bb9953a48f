"""The closing report: a text table, the same as JSON, and a chart, in bench-output/."""

import json
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from .cases import Case
from .measure import Samples
from .providers import COMPILED, EAGER, FUSED, STREAM

OUTPUT = Path("bench-output")
# A row is marked when the bound's median is this far above its minimum, when the bound itself is
# this much slower than in the best row of the same run, or when this fraction of the bound's
# samples shared the core: a machine that is busy throughout has even minima, all of them too high.
NOISY, SLOW, SHARED = 1.15, 1.4, 0.1
CACHED = 1 << 22  # bytes; smaller cases do not go to memory
COLOURS = {FUSED: "#1b7837", EAGER: "#b2182b", COMPILED: "#e08214", STREAM: "#878787"}


@dataclass
class Result:
    """One row of the table, measured."""

    case: Case
    samples: dict[str, Samples]

    def best(self, name: str) -> float:
        return self.samples[name].minimum

    def times_faster(self, name: str, median: bool = False) -> float | None:
        """How much longer `name` takes than the library; for the stream: the fraction of it."""
        if name not in self.samples:
            return None
        if median:
            return self.samples[name].median / self.samples[FUSED].median
        return self.best(name) / self.best(FUSED)

    @property
    def gigabytes_per_second(self) -> float:
        return self.bytes / self.best(FUSED) / 1e9

    @property
    def bytes(self) -> int:
        return self.case.read + self.case.written


def disturbed(results: list[Result]) -> list[Result]:
    """The rows during which something else used the machine, judged by the plain stream alone."""
    large = [r for r in results if r.bytes > CACHED]
    best = max((r.bytes / r.best(STREAM) for r in large), default=0.0)
    return [
        r
        for r in results
        if r.samples[STREAM].spread > NOISY
        or r.samples[STREAM].shared > SHARED
        or (r.bytes > CACHED and best > SLOW * r.bytes / r.best(STREAM))
    ]


def table(results: list[Result]) -> str:
    """The text table; a figure below its aim is followed by what it should be."""
    peers = sorted({name for r in results for name in r.case.peers})
    header = ["case", FUSED, EAGER, COMPILED, *peers, "GB/s", "of stream"]
    header += [f"x {name}" for name in (EAGER, COMPILED, *peers)] + [""]
    rows, noisy = [header], disturbed(results)
    for r in results:
        times = [_duration(r, name) for name in (FUSED, EAGER, COMPILED, *peers)]
        ratios = [_ratio(r, name) for name in (STREAM, EAGER, COMPILED, *peers)]
        speed = f"{r.gigabytes_per_second:.1f}"
        if r.bytes <= CACHED:  # what a call costs, not memory
            speed = ratios[0] = "-"
        rows.append([r.case.name, *times, speed, *ratios, "noisy" if r in noisy else ""])
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i in (0, len(header) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, "", *_legend(results)])


def _legend(results: list[Result]) -> list[str]:
    aims = [(name, aim, r.times_faster(name)) for r in results for name, aim in r.case.aims.items()]
    met = sum(1 for _, aim, ratio in aims if ratio is not None and ratio >= aim)
    lines = [
        "times: the shortest of the interleaved rounds. GB/s: the case's minimal bytes over fused.",
        "of stream: time of a plain loop over the same bytes / fused. x: times as fast as.",
        f"aims met: {met} of {len(aims)} ('<' shows the aim that a ratio missed)",
    ]
    noisy = disturbed(results)
    if noisy:
        lines += [
            f"INTERFERENCE: something else used the machine in {len(noisy)} of {len(results)} rows"
            " (noisy). The plain stream's",
            f"median is > {NOISY:g}x its minimum, or > {SHARED:.0%} of its samples shared the core,"
            f" or it is > {SLOW:g}x slower than in the",
            "best row. Times of such rows are too long, most where memory is the limit:"
            " do not quote ratios.",
        ]
    return lines


def _duration(result: Result, name: str) -> str:
    if name not in result.samples:
        return "-"
    seconds = result.best(name)
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.1f} us"


def _ratio(result: Result, name: str) -> str:
    ratio, aim = result.times_faster(name), result.case.aims.get(name)
    if ratio is None:
        return "-"
    text = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"
    return text if aim is None or ratio >= aim else f"{text} <{aim:.3g}"


def write(results: list[Result], folder: Path = OUTPUT) -> list[Path]:
    """Writes table, JSON and, where matplotlib is installed, the chart; returns their paths."""
    folder.mkdir(exist_ok=True)
    written = [folder / "table.txt", folder / "results.json"]
    written[0].write_text(f"{machine()}\n\n{table(results)}\n")
    written[1].write_text(json.dumps(_records(results), indent=1) + "\n")
    picture = folder / "chart.png"
    if chart(results, picture):
        written.append(picture)
    return written


def machine() -> str:
    """What was measured on."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f"torch {torch.__version__}, Python {platform.python_version()}, {where}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _records(results: list[Result]) -> list[dict]:
    noisy = disturbed(results)
    return [{**_record(r), "noisy": r in noisy} for r in results]


def _record(result: Result) -> dict:
    ratios = {name: result.times_faster(name) for name in result.samples if name != FUSED}
    medians = {name: result.times_faster(name, True) for name in result.samples if name != FUSED}
    return {
        "case": result.case.name,
        "bytes": {"read": result.case.read, "written": result.case.written},
        "seconds": {
            name: {"min": s.minimum, "median": s.median, "samples": len(s.kept)}
            for name, s in result.samples.items()
        },
        "ratios_of_minima": ratios,
        "ratios_of_medians": medians,
        "aims": dict(result.case.aims),
    }


def chart(results: list[Result], path: Path) -> bool:
    """Bars of every provider over every case, on a logarithmic axis; False without matplotlib.

    Where there are cases that go to memory, the small ones stay in the table: they would need two
    more decades of the axis.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    results = [r for r in results if r.bytes > CACHED] or results
    names = list(dict.fromkeys(name for r in results for name in r.samples))
    figure = Figure(figsize=(9, 1.2 + 0.42 * len(results)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = 0.84 / len(names)
    for k, name in enumerate(names):
        rows = [i for i, r in enumerate(results) if name in r.samples]
        axes.barh(
            [i + (k - (len(names) - 1) / 2) * height for i in rows],
            [results[i].best(name) * 1e3 for i in rows],
            height,
            label=name,
            color=COLOURS.get(name),
        )
    axes.set_xscale("log")
    axes.set_yticks(range(len(results)), [r.case.name for r in results], fontsize=8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("ms per step, shortest round (shorter is better)")
    axes.grid(axis="x", which="both", linewidth=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    axes.set_title(f"fusedloss, {machine()}", fontsize=9)
    figure.savefig(path, dpi=110)
    return True
