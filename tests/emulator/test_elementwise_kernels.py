"""The elementwise kernels under emulation: values, memory traffic, schedules, seeded bugs.

The ordinary tables run over the same bindings elsewhere; here stand the checks that only the
emulator can make, on sizes that fill several blocks.
"""

import dataclasses

import pytest
import torch

from . import builder, elementwise
from .mutants import SEARCH, WRONG, Mutant, check_is_caught, quick_and_slow

pytestmark = pytest.mark.skipif(
    not builder.available(), reason="needs g++ and the CUDA toolkit's headers"
)

ONE_TENSOR = [0, 0, 0, 0]  # the program that pushes tensor 0


@dataclasses.dataclass
class Case:
    """A mean squared error with its tensors; `mask` is a tensor or absent."""

    shape: tuple = (2, 3, 48, 64)
    mask_shape: tuple | None = None
    mask_dtype: torch.dtype = torch.bool
    weight_shape: tuple | None = None
    dtype: torch.dtype = torch.float32
    reduction: str = "mean"
    normalizer: str = "weights"
    offset: int = 0
    channels_last: bool = False
    loss: str = "mse_loss"

    def __post_init__(self):
        generator = torch.Generator().manual_seed(1)
        size = torch.Size(self.shape).numel()

        def random(*shape):
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        def placed():
            whole = random(size + self.offset).to(self.dtype)[self.offset :].view(self.shape)
            return (
                whole.contiguous(memory_format=torch.channels_last) if self.channels_last else whole
            )

        self.input, self.target = placed(), placed()
        self.mask = self.weight = None
        if self.mask_shape is not None:
            values = random(self.mask_shape)
            self.mask = torch.where(values > 0.4, values, 0.0).to(self.mask_dtype)
        if self.weight_shape is not None:
            values = random(self.weight_shape)
            self.weight = torch.where(values > 0.2, values, 0.0).to(self.dtype)

    def _arguments(self, flags=""):
        if self.weight is not None:
            flags += " weight"
        others = [tensor for tensor in (self.weight, self.mask) if tensor is not None]
        region = ONE_TENSOR if self.mask is not None else []
        words = f"{self.loss} {self.reduction} {self.normalizer}{flags}"
        return words, (), self.input, self.target, others, region, []

    def forward(self, gradient=False):
        return elementwise.forward(*self._arguments(" sums" + " gradient" * gradient))

    def backward(self, grad_output, sums):
        return elementwise.backward(*self._arguments(), grad_output, sums)

    def factor(self):
        """mask x weight in float64, over all elements."""
        ones = torch.ones(self.shape, dtype=torch.float64)
        mask = ones if self.mask is None else ones * self.mask.double()
        return mask if self.weight is None else mask * self.weight.double()

    def expected(self):
        """Loss and gradient in float64, for `mean` over weights or positions."""
        x, t, factor = self.input.double(), self.target.double(), self.factor()
        count = (factor.amax(1) if self.normalizer == "positions" else factor).sum()
        return ((x - t) ** 2 * factor).sum() / count, 2 * (x - t) * factor / count

    def is_right(self, loss, gradient):
        want_loss, want_gradient = self.expected()
        eps = torch.finfo(self.dtype).eps
        return bool(
            torch.isclose(loss.double(), want_loss, rtol=max(eps, 1e-6), atol=0)
            and torch.allclose(gradient.double(), want_gradient, rtol=4 * eps, atol=1e-7)
            and (gradient[self.factor() == 0] == 0).all()
        )


PLANAR = Case(mask_shape=(2, 1, 48, 64))
CASES = {
    "no mask": Case(),
    "mask of the planes": PLANAR,
    "mask of the elements": Case(mask_shape=(2, 3, 48, 64)),
    "float mask": Case(mask_shape=(2, 1, 48, 64), mask_dtype=torch.float32),
    "one mask for all samples": Case(mask_shape=(48, 64)),
    "weight": Case(weight_shape=(2, 3, 48, 64)),
    "mask and weight": Case(mask_shape=(2, 1, 48, 64), weight_shape=(2, 3, 48, 64)),
    "float16": Case(mask_shape=(2, 1, 48, 64), dtype=torch.float16),
    "bfloat16": Case(dtype=torch.bfloat16),
    "float64": Case(mask_shape=(2, 1, 48, 64), dtype=torch.float64),
    "channels last": Case(shape=(2, 4, 32, 32), channels_last=True),
}


def read(report, name):
    return report.buffers[name].bytes_read


def check_memory(case, report, mask_reads):
    """Every byte once, in whole sectors, 16 bytes a thread for what has the input's type."""
    assert read(report, "input") == read(report, "target") == case.input.nbytes
    others = [tensor for tensor in (case.weight, case.mask) if tensor is not None]
    for i, tensor in enumerate(others):
        shared = 1 if tensor.ndim == 4 else case.input.numel() // tensor.numel()  # from cache
        assert read(report, f"other{i}") == tensor.nbytes * mask_reads * shared
    vectors = [line for line in report.coalescing if line.bytes >= case.input.nbytes]
    assert vectors and all(line.excess == 1 for line in vectors), vectors


@pytest.mark.parametrize("name", CASES)
def test_one_launch_and_ideal_traffic(name):
    case = CASES[name]
    with elementwise.recorded(traced=True, preempt=0.01) as reports:
        forward, _, sums = case.forward()
        loss, gradient, _ = case.forward(gradient=True)
        again = case.backward(torch.ones((), dtype=case.dtype), sums)
    assert case.is_right(loss, gradient) and case.is_right(forward, again)
    masked = case.mask is not None or case.weight is not None
    for report, mask_reads, written in zip(reports, (1, 1 + masked, 1), (0, 1, 1), strict=True):
        assert report.launches == 1
        check_memory(case, report, mask_reads)
        if written:
            assert report.buffers["gradient"].bytes_written == case.input.nbytes
    assert reports[1].kernels[0].cooperative == masked


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 1, 7), (2, 3, 33, 31), (4097,)], ids=str)
@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_head_and_tail(shape, offset, dtype):
    case = Case(shape=shape, offset=offset, dtype=dtype)
    with elementwise.recorded(traced=True, max_excess=None) as reports:
        loss, gradient, _ = case.forward(gradient=True)
        again, *_ = case.forward()
    assert case.is_right(loss, gradient) and case.is_right(again, gradient)
    for report in reports:
        assert read(report, "input") == case.input.nbytes
    # The gradient is a tensor of its own: only without it do all lie alike.
    assert "elementwise_vector" in reports[1].kernels[0].kernel


BITS = {
    "flat": Case(shape=(40_001,)),
    "planar": Case(shape=(3, 3, 64, 128), mask_shape=(3, 1, 64, 128)),
    "strided": Case(shape=(3, 3, 41, 43), mask_shape=(3, 1, 41, 1), weight_shape=(3, 3, 1, 43)),
    "samples": Case(shape=(5, 3, 31, 32), mask_shape=(5, 1, 31, 32), reduction="sample_mean"),
    "positions": Case(shape=(2, 3, 31, 32), mask_shape=(2, 3, 31, 32), normalizer="positions"),
}


@pytest.mark.parametrize("name", BITS)
def test_same_bits_under_every_schedule_and_grid(name):
    results = set()
    for seed in range(8):
        grid = {"multiprocessors": 1 + seed % 4, "blocks_per_multiprocessor": 1 + seed % 3}
        with elementwise.recorded(seed=seed, preempt=0.05, traced=True, max_excess=None, **grid):
            loss, gradient, sums = BITS[name].forward(gradient=True)
        results.add((loss.item(), gradient.numpy().tobytes(), sums.numpy().tobytes()))
    assert len(results) == 1


@pytest.mark.parametrize("value", [1.0, 2.5, float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_scale_gradient(value, dtype):
    gradient = torch.randn(1003, dtype=torch.float64).to(dtype)[1:]
    gradient[::3], gradient[1::3] = 0, -0.0  # takes no part; takes part with derivative 0
    absent = (gradient == 0) & ~gradient.signbit()
    expected = torch.where(absent, gradient, gradient * value)
    with elementwise.recorded(traced=True) as reports:
        elementwise.scale_(gradient, torch.tensor(value, dtype=dtype))
    torch.testing.assert_close(gradient, expected, equal_nan=True, rtol=0, atol=0)
    assert reports[0].launches == 1
    moved = gradient.nbytes if value != 1 else 0
    assert reports[0].buffers["gradient"].bytes_read == moved


def test_probability_outside_is_a_device_assert():
    case = Case(shape=(300,), mask_shape=(300,), loss="binary_cross_entropy")
    case.input[17] = 1.5
    for takes_part in (True, False):
        case.mask[17] = takes_part
        with elementwise.recorded(check=False) as reports:
            case.forward()
        assert reports[0].kinds == ({"device_assert"} if takes_part else set())


# ---- seeded bugs ----------------------------------------------------------------

REDUCE = "csrc/cuda/block_reduce.cuh"
FINISH = "csrc/cuda/phases.cuh"
VECTOR = "csrc/cuda/elementwise_vector.cuh"
STRIDED = "csrc/cuda/elementwise_strided.cuh"
ACCESS = "csrc/cuda/vector_access.cuh"
LAUNCH = "csrc/cuda/launch_call.cuh"

TAKE = "    __threadfence();\n    is_last ="
KEEP = "  __syncthreads();\n  if (threadIdx.x % 32 == 0) {"
MUTANTS = [
    Mutant(
        "sums are read before they are written",
        REDUCE,
        "  __syncthreads();\n#pragma unroll\n  for (int i = 0; i < kCount; ++i) {\n    values[i] =",
        "#pragma unroll\n  for (int i = 0; i < kCount; ++i) {\n    values[i] =",
        "shared_race",
    ),
    Mutant(
        "sums of the last call are overwritten",
        REDUCE,
        "  __syncthreads();  // the array may still be read from the last call\n",
        "",
        "shared_race",
    ),
    Mutant("no fence before the ticket", REDUCE, TAKE, "    is_last =", "global_race"),
    Mutant(
        "no fence after the ticket",
        REDUCE,
        "- 1;\n    __threadfence();\n",
        "- 1;\n",
        "global_race",
    ),
    Mutant(
        "the last but one finishes",
        REDUCE,
        "== gridDim.x - 1",
        "== gridDim.x - 2",
        "",
    ),
    Mutant(
        "no grid barrier",
        FINISH,
        "phase == 0) grid_barrier();",
        "phase == 2) grid_barrier();",
        "global_race",
    ),
    Mutant(
        "everybody writes the partial sums",
        FINISH,
        "      if (threadIdx.x != 0) continue;\n",
        "",
        "global_race",
    ),
    Mutant(
        "everybody writes the loss", FINISH, "  if (threadIdx.x != 0) return;\n", "", "global_race"
    ),
    Mutant(
        "tickets are not cleared",
        LAUNCH,
        "if (workspace.has_tickets) {\n    check(cudaMemset",
        "if (false) {\n    check(cudaMemset",
        "unwritten_global",
    ),
    Mutant(
        "the tail is read whole",
        ACCESS,
        "if (span.is_full<kSize>()) return load_pack<T, kSize>(memory);",
        "if (is_aligned<T, kSize>(memory)) return load_pack<T, kSize>(memory);",
        "out_of_bounds",
    ),
    Mutant(
        "a row starts at a border of 16 bytes",
        VECTOR,
        "static_cast<int64_t>(lane % kLanes);",
        "0 * static_cast<int64_t>(lane);",
        "misaligned",
    ),
    Mutant(
        "neighbouring threads take distant slots",
        VECTOR,
        "(first + threadIdx.x) * kLanes",
        "(first + threadIdx.x % 32 * 8 + threadIdx.x / 32) * kLanes",
        "uncoalesced",
    ),
    Mutant(
        "a gradient into the target",
        VECTOR,
        "kBackward || call_.pass != Pass::kForward) {\n        store(p_.grad_input, index",
        "kBackward || call_.pass != Pass::kForward) {\n        store(p_.target, index",
        "write_to_input",
    ),
    Mutant(
        "the last element of a row is left out",
        STRIDED,
        "first + i >= call_.inner",
        "first + i + 1 >= call_.inner",
        WRONG,
    ),
    Mutant(
        "the largest mask value of a position is the last one",
        STRIDED,
        "channel == 0 ? mask : mask_or(mask, largest)",
        "mask",
        WRONG,
    ),
    Mutant(
        "the scale does not wait for the sums",
        FINISH,
        "if (call.sums_first) return p.sums",
        "if (false) return p.sums",
        WRONG,
    ),
    Mutant(
        "a block returns before its barrier",
        FINISH,
        "  for (int64_t chunk = blockIdx.x;",
        "  if (blockIdx.x == 1 && threadIdx.x == 5) return;\n  for (int64_t chunk = blockIdx.x;",
        "",
    ),
]
BROKEN = [
    Case(shape=(2, 3, 64, 96), mask_shape=(2, 1, 64, 96)),
    Case(shape=(40_003,), offset=1),
    Case(shape=(3, 3, 41, 43), mask_shape=(3, 1, 41, 1), weight_shape=(3, 3, 1, 43)),
    Case(
        shape=(2, 3, 9, 40),
        mask_shape=(2, 3, 9, 40),
        mask_dtype=torch.float32,
        normalizer="positions",
    ),
]


def findings(project, seed):
    """Kinds of errors over the cases, and "wrong" for a wrong result."""
    found = set()
    for case in BROKEN:
        with elementwise.recorded(project, seed=seed, **SEARCH) as reports:
            loss, gradient, _ = case.forward(gradient=True)
            again, *_ = case.forward()
        right = case.is_right(loss, gradient) and case.is_right(again, gradient)
        found |= reports[0].kinds | reports[1].kinds | (set() if right else {WRONG})
    return found


def test_small_selection_is_right():
    assert not findings(elementwise.SMALL, 0) - {"uncoalesced"}


@pytest.mark.parametrize("mutant", quick_and_slow(MUTANTS))
def test_mutant_is_caught(mutant):
    check_is_caught(mutant, elementwise.SMALL, findings)
