"""The class kernels under emulation: memory traffic, races, schedules and seeded bugs. Their values
are tested by the ordinary tables, which run over them too."""

import functools

import pytest
import torch

import fusedloss as fl

from . import builder, classwise
from .classes import LAST, LONG, LONGEST, MASK, ROWS, Row
from .mutants import SEARCH, WRONG, Mutant, check_is_caught
from .row_checks import (
    check_every_schedule,
    check_label_outside,
    check_what_takes_no_part_is_not_read,
)
from .rows import excess, rand

pytestmark = pytest.mark.skipif(
    not builder.available(), reason="needs g++ and the CUDA toolkit's headers"
)

QUICK = [row for row in ROWS if row.name in ("with a mask", "channels last", "rows of 1000")]


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=() if row in QUICK else pytest.mark.slow) for row in ROWS],
    ids=str,
)
def test_one_launch_and_ideal_traffic(row):
    """Both ways: logits as often as they must be, the gradient once, neighbours side by side."""
    with row.traced(preempt=0.01) as reports:
        loss, gradient, _, again = row.both()
    assert row.is_right(loss, gradient) and row.is_right(loss, again)
    whole = row.operands[0].nbytes
    for report, phases in zip(reports, (2, 1), strict=True):
        assert report.launches == 1 and not report.errors, report
        assert row.kernel in report.kernels[0].kernel
        waits = phases == 2 and not row.probabilities  # for the sums; or for ranges of weights
        assert report.kernels[0].cooperative == (waits or row.weight_map is not None)
        # A tile of whole rows is moved if any of them takes part.
        read = report.buffers["input"].bytes_read
        assert read == (whole if row.kernel == "class_staged" else row.ideal)
        assert report.buffers["gradient"].bytes_written == whole
        if not row.probabilities:
            assert report.buffers["target"].bytes_read == phases * row.operands[1].nbytes
        assert excess(report) < (2.2 if row.active < row.operands[1].numel() else 1.01)


WHERE = fl.box(2, 1, 30, 9) & ~fl.disk(5, 5, 3)
EVERYTHING = {
    "planes": Row("", region=WHERE, weight_map=1 + fl.edges(rand(2, 3, 24, 64)), smoothing=0.2),
    "planes of samples": Row("", shape=(3, 5, 300), reduction="sample_mean", weight=True),
    "many planes": Row("", "softmax_focal_loss", shape=(2, 60, 9, 31), weight=True),
    "no reduction": Row("", reduction="none", weight=True),
    "rows": Row("", shape=(300, 19), kernel="class_staged", smoothing=0.1, weight=True),
    "probabilities": Row("", probabilities=True, weight=True, smoothing=0.1, **LAST),
    "a warp for a row": Row("", smoothing=0.1, weight=True, **LONG),
    "a block for a row": Row("", "softmax_focal_loss", **LONGEST),
    "probabilities of long rows": Row("", probabilities=True, weight=True, **LONG),
    "sliced": Row("", shape=(2, 5, 7, 33), strides=(2,), kernel="class_columns"),
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_same_bits_under_every_schedule_and_grid(name):
    check_every_schedule(EVERYTHING[name])


@pytest.mark.parametrize("offset", [1, 3])
@pytest.mark.parametrize("shape", [(1, 3), (5, 19), (257, 7), (3, 1001), (2, 2051)], ids=str)
def test_head_and_tail(shape, offset):
    """Rows that begin within 16 bytes; the gradient is a tensor of its own."""
    row = Row("", shape=shape, offset=offset, weight=True)
    with row.traced() as reports:
        loss, gradient, _, again = row.both()
    assert row.is_right(loss, gradient) and row.is_right(loss, again)
    assert not reports[0].errors + reports[1].errors


@pytest.mark.parametrize("layout", [{}, LAST, LONG, {"strides": (2,)}], ids=str)
@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss", "categorical_cross_entropy"])
def test_what_takes_no_part_is_not_read(loss, layout):
    check_what_takes_no_part_is_not_read(Row("", loss, **layout), -100)


@pytest.mark.parametrize("layout", [{}, LAST, LONG], ids=str)
@pytest.mark.parametrize("label", [-1, 10**6, 2**40])
def test_label_outside_is_a_device_assert(layout, label):
    check_label_outside(Row("", **layout), label)


# ---- seeded bugs ----------------------------------------------------------------

SUMS = "csrc/cuda/class_sums.cuh"
POSITIONS = "csrc/cuda/class_positions.cuh"
CELLS = "csrc/cuda/class_cells.cuh"
LONG_ROWS = "csrc/cuda/class_rows.cuh"
FACTORS = "csrc/cuda/position_factors.cuh"
PLAN = "csrc/cuda/class_plan.h"

MUTANTS = [
    Mutant(
        "the tile is looked at before it is filled",
        POSITIONS,
        "(memory, ::min(count, kThreads));\n    }\n    __syncthreads();\n",
        "(memory, ::min(count, kThreads));\n    }\n",
        "",
    ),
    Mutant(
        "the gradient leaves before it is there",
        POSITIONS,
        "if (call_.pass == Pass::kForward) return;\n    __syncthreads();\n",
        "if (call_.pass == Pass::kForward) return;\n",
        "shared_race",
    ),
    Mutant(
        "the next tile comes before the last has left",
        POSITIONS,
        "if (__syncthreads_or(is_read)) {",
        "if (true) {",
        "shared_race",
    ),
    Mutant(
        "columns of neighbours overlap",
        CELLS,
        "call.kept ? tile + threadIdx.x :",
        "call.kept ? tile + threadIdx.x / 2 :",
        "shared_race",
    ),
    Mutant(
        "a row is padded by nothing",
        PLAN,
        "(Cut::divide_up(classes, per_word) | 1) * per_word",
        "(classes - 1) * per_word",
        "",
    ),
    Mutant(
        "the last classes of a pack beyond the row",
        LONG_ROWS,
        "classes_ - c < kPack ? classes_ - c : kPack",
        "kPack",
        "out_of_bounds",
    ),
    Mutant(
        "the warps' sums are read before they are written",
        LONG_ROWS,
        "    }\n    __syncthreads();\n#pragma unroll\n    for (int i = 0; i < kCount; ++i) {\n"
        "      values[i] = of_warp[0][i];",
        "    }\n#pragma unroll\n    for (int i = 0; i < kCount; ++i) {\n"
        "      values[i] = of_warp[0][i];",
        "shared_race",
    ),
    Mutant(
        "the warps' sums of the last call are overwritten",
        LONG_ROWS,
        "    __syncthreads();  // the array may still be read from the last call\n",
        "",
        "shared_race",
    ),
    Mutant(
        "factors are read before they are written",
        LONG_ROWS,
        "    if (sums_only) return;\n    __syncthreads();\n",
        "    if (sums_only) return;\n",
        "",
    ),
    Mutant(
        "sums are not scaled down for a larger logit",
        SUMS,
        "    others_.scale(math::exp(largest_ - largest));\n",
        "",
        WRONG,
    ),
    Mutant(
        "threads add up sums of different scales",
        SUMS,
        "if (exponentials_ && largest != largest_) sums[0] *=",
        "if (false) sums[0] *=",
        WRONG,
    ),
    Mutant(
        "the label's class is in the sum",
        SUMS,
        "      if (c + lane == label_) {\n        own_ = value;\n"
        "      } else if (!exponentials_) {",
        "      if (c + lane == label_) own_ = value;\n      if (!exponentials_) {",
        WRONG,
    ),
    Mutant(
        "a label beyond the classes is looked up",
        FACTORS,
        '    assert(is_class && "target must be a class index where it takes part");\n'
        "    if (!is_class) return at;  // where asserts are compiled out\n",
        "    static_cast<void>(is_class);\n",
        "out_of_bounds",
    ),
    Mutant(
        "an ignored label takes part",
        FACTORS,
        "if (p.matches_ignored && label == p.ignore_index) return at;",
        "",
        "device_assert",
    ),
]


def beyond():
    """A label out of range far beyond the tensor, where classes have weights."""
    row = Row("beyond", shape=(2, 5, 40), weight=True)
    row.operands[1].view(-1)[3] = 2**30
    return row


# Few blocks, each of which takes several chunks one right after the other: nothing is summed up.
# The gradient is aligned unlike the logits, so that other threads move it.
EDGES = fl.edges(rand(1, 1, 20, 50))
BACKWARD = Row("", shape=(1, 19, 20, 50), weight_map=EDGES, offset=1, **LAST)
# So many rows that a block takes several of them in turn.
MANY = Row("", "nll_loss", shape=(4200, 2051), kernel="class_rows")
BROKEN = [
    Row("staged", shape=(900, 19), channels_last=True, kernel="class_staged"),
    Row("columns", region=fl.regions.TensorRegion(MASK)),
    Row("warps", shape=(24, 1003), kernel="class_rows", offset=1),
    Row("blocks", shape=(5, 2051), kernel="class_rows", weight=True),
]
OWN_ROWS = {
    "the next tile comes before the last has left": [BACKWARD],
    "the warps' sums of the last call are overwritten": [MANY],
    "a label beyond the classes is looked up": [beyond()],
}


ONE_BLOCK = {"blocks_per_multiprocessor": 1, "max_excess": None}


def findings(project, seed, rows):
    """Kinds of errors over the rows, and "wrong" for a wrong result."""
    found = set()
    for row in rows:
        with classwise.recorded(project, seed=seed, **SEARCH | ONE_BLOCK) as reports:
            loss, gradient, sums = row.forward(gradient=row is not MANY)
            if row is BACKWARD:
                row.backward(torch.ones(()), sums)
        found |= set().union(*(report.kinds for report in reports))
        judged = row is not MANY and row.name != "beyond"
        found |= set() if not judged or row.is_right(loss, gradient) else {WRONG}
    return found


def test_small_selection_is_right():
    assert not findings(classwise.SMALL, 0, [*BROKEN, BACKWARD])
    assert findings(classwise.SMALL, 0, [beyond()]) == {"device_assert"}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutant_is_caught(mutant):
    rows = OWN_ROWS.get(mutant.name, BROKEN)
    check_is_caught(mutant, classwise.SMALL, functools.partial(findings, rows=rows))
