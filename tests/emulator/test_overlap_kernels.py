"""The overlap kernels under emulation: memory traffic, races, schedules and seeded bugs. Their
values are tested by the ordinary tables, which run over them too."""

import functools

import pytest
import torch

import fusedloss as fl

from . import builder, overlap
from .mutants import SEARCH, WRONG, Mutant, check_is_caught
from .overlaps import BINARY, LABELS, LAST, ROWS, STRIDED, Row
from .row_checks import (
    check_every_schedule,
    check_label_outside,
    check_what_takes_no_part_is_not_read,
)
from .rows import excess, rand

pytestmark = pytest.mark.skipif(
    not builder.available(), reason="needs g++ and the CUDA toolkit's headers"
)

QUICK = ("with a mask", "sigmoid dice of labels", "dice + cross entropy", "channels last")


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=() if row.name in QUICK else pytest.mark.slow) for row in ROWS],
    ids=str,
)
def test_one_launch_and_ideal_traffic(row):
    """Both ways: logits as often as they must be, the gradient once, neighbours side by side."""
    with row.traced(preempt=0.01) as reports:
        loss, gradient, _, again = row.both()
    scalar = row.is_scalar
    assert row.is_right(loss, gradient if scalar else again) and row.is_right(loss, again)
    whole = row.operands[0].nbytes
    of_sums, of_gradient = (row.ideal * look // sum(row.looks) for look in row.looks)
    forward = of_sums + of_gradient if scalar else of_sums
    for report, ideal, phases in zip(reports, (forward, of_gradient), (1 + scalar, 1), strict=True):
        assert report.launches == 1 and not report.errors, report
        assert row.kernel in report.kernels[0].kernel
        assert report.kernels[0].cooperative == (phases == 2 or row.weight_map is not None)
        assert report.buffers["input"].bytes_read == ideal
        if not row.soft:
            assert report.buffers["target"].bytes_read == phases * row.operands[1].nbytes
        if row.kernel != "StridedCells":  # labels of 8 bytes take two loads side by side
            assert excess(report) <= (2 if row.weight_map is None else 2.5)
    written = reports[0 if scalar else 1].buffers["gradient"].bytes_written
    assert written == reports[1].buffers["gradient"].bytes_written == whole


WHERE = fl.box(2, 1, 30, 9) & ~fl.disk(5, 5, 3)
VARIES = fl.input.var() > 3
SPARSE = WHERE & fl.regions.TensorRegion(rand(2, 5, 24, 64) > 0.2)
EVERYTHING = {
    "planes": Row("", region=WHERE, weight_map=1 + fl.edges(rand(2, 3, 24, 64)), squared=True),
    "pools of classes": Row("", "jaccard_loss", per="class", weight=True),
    "one pool": Row("", "tversky_loss", per="batch", weight=True),
    "samples": Row("", shape=(5, 5, 8, 64), reduction="sample_mean", per="sample_class"),
    "no reduction": Row("", reduction="none", per="sample_class"),
    "masks of elements": Row("", activation="sigmoid", region=SPARSE, per="class", **STRIDED),
    "many classes": Row("", shape=(1, 300, 9, 16), per="sample_class", weight=True, **STRIDED),
    "one channel": Row("", **BINARY, weight_map=fl.normalized(fl.target > 0.5)),
    "cross entropy": Row(
        "", "dice_cross_entropy_loss", smoothing=0.1, weight=True, reduction="sample_mean"
    ),
    "sigmoid focal": Row("", "dice_focal_loss", **LABELS, weight=True, per="class"),
    "channels last": Row("", "dice_focal_loss", weight=True, region=WHERE, **LAST),
    "channels last, one pool": Row("", per="batch", squared=True, soft=True, **LAST),
    "sliced": Row("", "dice_cross_entropy_loss", strides=2, region=WHERE, **STRIDED),
    "variance": Row("", "dice_cross_entropy_loss", region=VARIES),
    "variance, channels last": Row("", region=VARIES | WHERE, **LAST),
    "variance of elements": Row("", activation="sigmoid", region=SPARSE & VARIES, **STRIDED),
    "soft targets compared": Row("", soft=True, region=fl.target < 0.8, **STRIDED),
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_same_bits_under_every_schedule_and_grid(name):
    check_every_schedule(EVERYTHING[name])


LARGE = {
    "planes": Row("", shape=(2, 1, 1100, 2000), activation="sigmoid", soft=True),
    "staged": Row("", "dice_cross_entropy_loss", shape=(1, 3, 1100, 1000), **LAST),
    "strided": Row("", shape=(1, 2, 1101, 999), per="class", **STRIDED),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_several_steps_in_a_chunk(name):
    row = LARGE[name]
    with overlap.recorded(multiprocessors=16) as reports:
        loss, gradient, _, again = row.both()
    assert row.kernel in reports[0].kernels[0].kernel
    assert row.is_right(loss, gradient) and row.is_right(loss, again)


@pytest.mark.parametrize("layout", [{}, LABELS, LAST, {"strides": 2} | STRIDED], ids=str)
@pytest.mark.parametrize("loss", ["dice_loss", "dice_focal_loss"])
def test_what_takes_no_part_is_not_read(loss, layout):
    row = Row("", loss, **layout)
    check_what_takes_no_part_is_not_read(row, row.ignore_index)


@pytest.mark.parametrize("layout", [{}, LAST, {"strides": 2} | STRIDED], ids=str)
@pytest.mark.parametrize("loss", ["dice_loss", "dice_cross_entropy_loss"])
@pytest.mark.parametrize("label", [-1, 2**40])
def test_label_outside_is_a_device_assert(layout, loss, label):
    check_label_outside(Row("", loss, weight=True, **layout), label)


# ---- seeded bugs ----------------------------------------------------------------

SUMS = "csrc/cuda/overlap_sums.cuh"
KERNEL = "csrc/cuda/overlap_kernel.cuh"
FINISH = "csrc/cuda/overlap_finish.cuh"
GRADIENT = "csrc/cuda/overlap_gradient.cuh"
TABLE = "csrc/cuda/overlap_table.cuh"
POSITION = "csrc/cuda/overlap_position.cuh"
STAGED = "csrc/cuda/overlap_staged.cuh"

MUTANTS = [
    Mutant(
        "the chunks are folded before all are there",
        KERNEL,
        "    grid_barrier();\n    fold_chunks(call, blockIdx.x, gridDim.x);\n",
        "    fold_chunks(call, blockIdx.x, gridDim.x);\n",
        "global_race",
    ),
    Mutant(
        "the gradient does not wait for the pools",
        KERNEL,
        "  if (waits) grid_barrier();\n",
        "",
        "global_race",
    ),
    Mutant(
        "what a block has folded is read without a barrier",
        KERNEL,
        "      fold_chunks(call, 0, 1);\n      __syncthreads();\n",
        "      fold_chunks(call, 0, 1);\n",
        "global_race",
    ),
    Mutant(
        "the warps are added up before they are done",
        SUMS,
        "int64_t group) const {\n    __syncthreads();\n",
        "int64_t group) const {\n",
        "shared_race",
    ),
    Mutant(
        "counts are cleared while they are added up",
        SUMS,
        "      *partial(chunk, 3 * group + i) = sum;\n    }\n    __syncthreads();\n",
        "      *partial(chunk, 3 * group + i) = sum;\n    }\n",
        "shared_race",
    ),
    Mutant(
        "counts of the last chunk are not cleared",
        SUMS,
        "i < 3 * kClassGroup; i += 32) own[i] = O(0);",
        "i < 3 * kClassGroup; i += 32) own[i] = blockIdx.x == 9 ? O(0) : own[i];",
        "uninitialised_shared",
    ),
    Mutant(
        "the table is read before it is filled",
        TABLE,
        "with_slopes, &memory_[c]);\n    }\n    __syncthreads();\n",
        "with_slopes, &memory_[c]);\n    }\n",
        "shared_race",
    ),
    Mutant(
        "the table of the last sample is overwritten",
        TABLE,
        "    __syncthreads();  // the last entries may still be read\n",
        "",
        "shared_race",
    ),
    Mutant(
        "slopes of one sample serve all",
        GRADIENT,
        "      table_.fill(sample, true);",
        "      table_.fill(0, true);",
        WRONG,
    ),
    Mutant(
        "a warp without positions still waits for the others' shuffles",
        SUMS,
        "const bool warp_takes = __any_sync(0xffffffffu, takes);",
        "const bool warp_takes = takes;",
        "",
    ),
    Mutant(
        "the last pack of a chunk is left out",
        SUMS,
        "has_slot() const { return slot() < end; }",
        "has_slot() const { return slot() + 1 < end; }",
        "",
    ),
    Mutant(
        "the tile is looked at before it is filled",
        STAGED,
        "call.params.classes, rows);\n    __syncthreads();\n  }",
        "call.params.classes, rows);\n  }",
        "",
    ),
    Mutant(
        "the gradient leaves before it is there",
        STAGED,
        "    __syncthreads();\n    deliver_staged(",
        "    deliver_staged(",
        "shared_race",
    ),
    Mutant(
        "a row is wrapped one class late",
        STAGED,
        "if (c >= classes) {",
        "if (c > classes) {",
        "",
    ),
    Mutant(
        "an ignored label takes part",
        POSITION,
        "keep[lane] = !(ignores && label.at[lane] == call_.ignore_index);",
        "keep[lane] = true;",
        "device_assert",
    ),
    Mutant(
        "softmax forgets what the classes share",
        GRADIENT,
        "p * (s - shared.dot.at[lane])",
        "p * s",
        WRONG,
    ),
    Mutant(
        "chunks beyond the first 32 are not folded",
        FINISH,
        "chunk < per_sample; chunk += 32)",
        "chunk < per_sample && chunk < 32; chunk += 32)",
        WRONG,
    ),
]

BROKEN = [
    Row("planes", shape=(2, 5, 40, 64), region=fl.regions.TensorRegion(rand(2, 40, 64) > 0.3)),
    Row("many classes", shape=(3, 70, 9, 16), per="sample_class", **STRIDED),
    Row("compound", "dice_cross_entropy_loss", shape=(2, 5, 7, 31), **STRIDED),
    Row("staged", shape=(1, 6, 20, 50), **LAST),
]
LONG = Row("long", "jaccard_loss", "sigmoid", (1, 1, 34_000), soft=True, per="batch")
OWN_ROWS = {"chunks beyond the first 32 are not folded": [LONG]}


ONE_BLOCK = {"blocks_per_multiprocessor": 1, "max_excess": None}


def findings(project, seed, rows):
    """Kinds of errors over the rows, and "wrong" for a wrong result."""
    found = set()
    for row in rows:
        with overlap.recorded(project, seed=seed, **SEARCH | ONE_BLOCK) as reports:
            loss, gradient, _ = row.forward()
            alone, *_ = row.forward(gradient=False)
        found |= set().union(*(report.kinds for report in reports))
        right = row.is_right(loss, gradient) and torch.equal(alone, loss)
        found |= set() if right else {WRONG}
    return found


def test_small_selection_is_right():
    assert not findings(overlap.SMALL, 0, [*BROKEN, LONG])


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutant_is_caught(mutant):
    rows = OWN_ROWS.get(mutant.name, BROKEN)
    check_is_caught(mutant, overlap.SMALL, functools.partial(findings, rows=rows))
