"""The kernels of region and weight programs under emulation: memory traffic, races, schedules and
seeded bugs. What their terms mean is tested by the ordinary tables, which run over them too."""

import dataclasses
import math

import pytest
import torch

import fusedloss as fl

from . import builder, elementwise, programs
from .mutants import SEARCH, WRONG, Mutant, check_is_caught
from .programs import IMAGE, ROWS, Row
from .row_checks import check_every_schedule, check_reads_nothing_of
from .rows import rand

pytestmark = pytest.mark.skipif(
    not builder.available(), reason="needs g++ and the CUDA toolkit's headers"
)

# The tables of coordinates are small and read by every thread.
MANY_TIMES = {"boxes", "disks", "keypoints"}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_one_launch_and_ideal_traffic(row):
    report = row.measure()
    assert report.launches == 1 and not report.errors, report
    read, ideal, others = programs.requested(row, report)
    assert read == ideal
    assert report.buffers["gradient"].bytes_written == row.operands[0].nbytes
    size = sum(tensor.nbytes for tensor in row.others)
    if row.name not in MANY_TIMES:
        assert others <= row.times * size * (2 + row.ranges)
    # Input, target and gradient go by whole packs of 16 bytes.
    vectors = [line for line in report.coalescing if line.bytes == 16 * line.requests * 32]
    assert vectors and all(line.excess == 1 for line in vectors), vectors


REGIONS = [row for row in ROWS if row.region is not None]
BLIND = [row for row in REGIONS if not row.input_looks and not row.target_looks]


@pytest.mark.parametrize("row", BLIND, ids=str)
def test_what_is_masked_out_is_not_read(row):
    """But for regions that look at the operands themselves."""
    nothing = dataclasses.replace(row, region=row.region & fl.box(0, 0, 0, 0))
    check_reads_nothing_of(nothing, "input", "target")


LAYOUTS = {
    "planar": {},
    "small planes": {"shape": (3, 3, 7, 9)},
    "one channel": {"shape": (3, 1, 40, 64)},
    "channels last": {"shape": (2, 4, 24, 32), "channels_last": True},
    "three channels last": {"shape": (2, 3, 24, 32), "channels_last": True},
    "half": {"dtype": torch.float16},
    "samples": {"shape": (5, 2, 16, 64), "reduction": "sample_mean"},
    "no reduction": {"reduction": "none"},
    "positions": {"normalizer": "positions"},
}


def everything(shape, **options):
    """All kinds of phases at once: a closed form, the target, the input, two ranges, neighbours."""
    n, _, height, width = shape
    image = rand(n, 2, height, width)
    region = (fl.center(0.8) | (fl.target > 0.5)) & ~fl.disk(3, 3, 2)
    if shape[1] > 1:
        region &= fl.input.var() > 0.2
    weight = 1 + 2 * fl.edges(image) * fl.normalized(fl.target > 0)
    weight = weight + fl.boundary((image[:, :1] > 0.5), radius=1)
    return Row("everything", region, weight, shape=shape, **options)


@pytest.mark.parametrize("name", LAYOUTS)
def test_same_bits_under_every_schedule_and_grid(name):
    check_every_schedule(everything(**{"shape": programs.SHAPE} | LAYOUTS[name]))


# ---- seeded bugs ----------------------------------------------------------------

FINISH = "csrc/cuda/phases.cuh"
RANGES = "csrc/cuda/value_ranges.cuh"
VECTOR = "csrc/cuda/elementwise_vector.cuh"
PLACES = "csrc/cuda/place_terms.cuh"

MUTANTS = [
    Mutant(
        "no barrier after the ranges",
        FINISH,
        "      find_ranges<typename Block::O>(call);\n      grid_barrier();\n",
        "      find_ranges<typename Block::O>(call);\n",
        "global_race",
    ),
    Mutant(
        "ranges hold what is not finite",
        "csrc/weights/normalized.h",
        "    if (g - g != T(0)) return;  // NaN or infinite\n",
        "",
        WRONG,
    ),
    Mutant(
        "warp ranges of the last call are overwritten",
        RANGES,
        "  __syncthreads();  // the arrays may still be read from the last range\n",
        "",
        "shared_race",
    ),
    Mutant(
        "everybody writes the range of a chunk",
        RANGES,
        "      if (threadIdx.x != 0) continue;\n",
        "",
        "global_race",
    ),
    Mutant(
        "the last position of a chunk is left out",
        RANGES,
        "i < (past < size ? past : size); i +=",
        "i + 1 < (past < size ? past : size); i +=",
        WRONG,
    ),
    Mutant(
        "a neighbour beyond the right border",
        "csrc/weights/edges.h",
        "x + 1 < image.size[0] ?",
        "x < image.size[0] ?",
        "",
    ),
    Mutant(
        "the window ends one short",
        "csrc/weights/boundary.h",
        "size - at > radius ? at + radius :",
        "size - at > radius ? at + radius - 1 :",
        WRONG,
    ),
    Mutant(
        "only the last lane of a slot is asked whether it takes part",
        VECTOR,
        "takes_part |= factor.at[lane]",
        "takes_part = factor.at[lane]",
        WRONG,
    ),
    Mutant(
        "a place does not carry into the next row",
        PLACES,
        "      if (!stays) own = 0;\n",
        "",
        WRONG,
    ),
]


def broken_image():
    image = IMAGE.clone()
    image[0, 0, 5, 7], image[1, 2, 40, 3] = math.inf, math.nan
    image[0, 1, 47, 63] = 9.0  # the largest edge of its sample is the last position
    return image


BROKEN = [
    Row(
        "ranges",
        ~fl.box(6, 4, 9, 7) & ~fl.box(2, 39, 5, 42),
        fl.edges(broken_image(), operator="sobel"),
        reduction="sum",
    ),
    Row("last", fl.box(0, 0, 63, 46), fl.edges(IMAGE * torch.linspace(0, 1, 64) ** 8)),
    Row("row", fl.box(0, 2, 5, 6) & fl.box(0, 0, 6, 9), shape=(2, 1, 7, 11)),
    Row("boundary", fl.center(0.9), fl.boundary((IMAGE > 0.9)[:, :1], radius=2)),
    Row("pack", fl.box(5, 5, 7, 40) | fl.box(17, 0, 18, 9)),
]


def findings(project, seed):
    """Kinds of errors over the cases, and "wrong" for a wrong result."""
    found = set()
    for row in BROKEN:
        with elementwise.recorded(project, seed=seed, max_excess=None, **SEARCH) as reports:
            loss, gradient, _ = row.forward()
        found |= reports[0].kinds | (set() if row.is_right(loss, gradient) else {WRONG})
    return found


def test_small_selection_is_right():
    assert not findings(elementwise.SMALL, 0)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutant_is_caught(mutant):
    check_is_caught(mutant, elementwise.SMALL, findings)
