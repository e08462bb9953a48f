"""Tests the tester: the good kernel passes, and every seeded bug in it is found."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from . import builder, runtime, sample
from .mutants import Mutant, mutated, quick_and_slow

pytestmark = pytest.mark.skipif(
    not builder.available(), reason="needs g++ and the CUDA toolkit's headers"
)

HEADER = "tests/emulator/sample_kernel.cuh"
FLOAT_ONLY = dataclasses.replace(sample.PROJECT, defines=("EMULATOR_SAMPLE_FLOAT_ONLY",))

STRIDED = """const long long each = (packs + threads - 1) / threads;
  for (long long i = thread * each; i < packs && i < (thread + 1) * each; ++i) {"""
LOOP = "for (long long i = thread; i < packs; i += threads) {"
STORE = "if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;"
PARTIAL = "if (threadIdx.x == 0) p.partials[blockIdx.x] = sum;"

MUTANTS = [
    Mutant(
        "no barrier before the sums are read",
        HEADER,
        f"{STORE}\n  __syncthreads();",
        STORE,
        "shared_race",
    ),
    Mutant(
        "no barrier before the flag is read",
        HEADER,
        "__syncthreads();  // for is_last",
        "// for is_last",
        "shared_race",
    ),
    Mutant(
        "no fence before the ticket",
        HEADER,
        "__threadfence();  // the partial",
        "// the partial",
        "global_race",
    ),
    Mutant(
        "no fence after the ticket",
        HEADER,
        "__threadfence();  // the ticket",
        "// the ticket",
        "global_race",
    ),
    Mutant("off by one", HEADER, LOOP, LOOP.replace("<", "<="), "out_of_bounds"),
    Mutant(
        "divergent barrier",
        HEADER,
        f"{STORE}\n  __syncthreads();",
        f"{STORE}\n  if (threadIdx.x < 64) {{\n    __syncthreads();\n"
        "    sum.count += 0.0f;\n  } else {\n    __syncthreads();\n  }",
        "divergent_barrier",
    ),
    Mutant(
        "early exit",
        HEADER,
        "__shared__ bool is_last;",
        "__shared__ bool is_last;\n  if (threadIdx.x == 127) return;",
        "early_exit",
    ),
    Mutant("strided loop", HEADER, LOOP, STRIDED, "uncoalesced"),
    Mutant(
        "race in the last block",
        HEADER,
        "if (threadIdx.x == 0) *p.loss",
        "*p.loss",
        "global_race",
    ),
    Mutant(
        "write to an input",
        HEADER,
        "const bool* bytes =",
        "const_cast<T*>(p.input)[i] = T(0);\n    const bool* bytes =",
        "write_to_input",
    ),
    Mutant(
        "uninitialised shared memory",
        HEADER,
        STORE,
        STORE.replace("threadIdx.x % 32 == 0", "threadIdx.x == 0"),
        "uninitialised_shared",
    ),
    Mutant("no grid barrier", HEADER, "emulator::grid_barrier();", "", "global_race"),
    Mutant(
        "a partial is not written",
        HEADER,
        PARTIAL,
        PARTIAL.replace("threadIdx.x == 0", "threadIdx.x == 0 && blockIdx.x > 0"),
        "unwritten_global",
    ),
    Mutant(
        "no scalar head",
        HEADER,
        "const Vec*>(p.input + p.head)",
        "const Vec*>(p.input)",
        "misaligned",
    ),
    Mutant(
        "one thread at a barrier",
        HEADER,
        "__shared__ Sum warp_sums[kWarps];",
        "__shared__ Sum warp_sums[kWarps];\n  if (threadIdx.x == 0) __syncthreads();",
        "deadlock",
    ),
    Mutant(
        "shuffle from a lane that is gone",
        HEADER,
        "const Sum sum = block_sum(thread_sum(p));\n  if (threadIdx.x == 0) p.partials",
        "if (threadIdx.x == 127) return;\n"
        "  const Sum sum = block_sum(thread_sum(p));\n  if (threadIdx.x == 0) p.partials",
        "inactive_lane",
    ),
    Mutant(
        "grid barrier without a cooperative launch",
        HEADER,
        "if (!is_last) return;",
        "emulator::grid_barrier();\n  if (!is_last) return;",
        "grid_barrier",
    ),
    Mutant(
        "failing assert",
        HEADER,
        "Sum sum{0.0f, 0.0f};\n  const long long thread",
        "assert(p.size == 0);\n  Sum sum{0.0f, 0.0f};\n  const long long thread",
        "device_assert",
    ),
]


def close(loss, grad, x, t, mask, cooperative):
    """Whether loss and gradient are right, to what float32 sums and the dtype allow."""
    want_loss, want_grad = sample.reference(x, t, mask)
    right = torch.isclose(loss.double(), want_loss, rtol=1e-5, atol=0)
    if cooperative:
        rtol = 3 * torch.finfo(x.dtype).eps
        right &= torch.allclose(grad.double(), want_grad, rtol=rtol, atol=1e-7)
    return bool(right)


@pytest.mark.parametrize("cooperative", [False, True])
@pytest.mark.parametrize("dtype", sample.DTYPES)
def test_good_kernel(dtype, cooperative):
    size, blocks = 20_003, 8
    x, t, mask = sample.make(size, dtype)
    losses = set()
    for seed in range(8):
        loss, grad, error, report = sample.run(
            x, t, mask, cooperative, seed=seed, preempt=0.05 * (seed % 3), traced=True
        )
        assert error == 0 and not report.errors, report
        assert close(loss, grad, x, t, mask, cooperative)
        losses.add(loss.item())
    assert len(losses) == 1, "the sum depends on the schedule"
    assert report.launches == 1 and report.kernels[0].cooperative == cooperative
    traffic = report.buffers
    passes = 2 if cooperative else 1
    assert traffic["input"].bytes_read == passes * size * x.element_size()
    assert traffic["mask"].bytes_read == passes * size
    assert traffic["grad_input"].bytes_written == (size * x.element_size() if cooperative else 0)
    readers = blocks if cooperative else 1  # who adds up the partials
    assert traffic["partials"].bytes_read == readers * blocks * 8
    assert traffic["partials"].bytes_written == blocks * 8
    assert traffic["input"].sectors_read == -(-size * x.element_size() // 32)
    vector = [line for line in report.coalescing if line.bytes > size]
    assert all(line.excess == 1 for line in vector), vector


@pytest.mark.parametrize("size", [0, 1, 3, 31, 257, 5000])
@pytest.mark.parametrize("offset", [0, 1, 5])
def test_head_and_tail(size, offset):
    for dtype in sample.DTYPES:
        x, t, mask = sample.make(size, dtype, offset)
        for cooperative in (False, True):
            # Mask bytes off their border are read one by one: no error of the sample.
            loss, grad, error, report = sample.run(
                x, t, mask, cooperative, traced=True, preempt=0.02, max_excess=None
            )
            assert error == 0 and not report.errors, report
            assert close(loss, grad, x, t, mask, cooperative)
            assert report.buffers["input"].bytes_read == (1 + cooperative) * x.nbytes


def test_plain_equals_traced():
    for dtype in sample.DTYPES:
        arguments = sample.make(9001, dtype)
        for cooperative in (False, True):
            plain = sample.run(*arguments, cooperative, seed=5)
            traced = sample.run(*arguments, cooperative, seed=6, traced=True)
            assert plain[2] == traced[2] == 0
            assert torch.equal(plain[0], traced[0]) and torch.equal(plain[1], traced[1])


def intrinsics(shared_bytes=256, **options):
    """The rows, counters and the accumulator that the kernel of sample_intrinsics.cuh leaves."""
    rows = torch.full((16, 64), -7, dtype=torch.int32)
    counters = torch.zeros(4, dtype=torch.int32)
    accumulator = torch.zeros(1, dtype=torch.int64)
    with runtime.session(sample.PROJECT, **options) as s:
        s.register(rows, "rows", writable=True)
        s.register(counters, "counters", writable=True, initialised=True)
        s.register(accumulator, "accumulator", writable=True, initialised=True)
        tensors = (rows, counters, accumulator)
        error = s.module.run_intrinsics(*(t.data_ptr() for t in tensors), shared_bytes)
        return rows.tolist(), counters.tolist(), accumulator.item(), error, s.report()


@pytest.mark.parametrize("traced", [False, True])
def test_intrinsics(traced):
    rows, counters, accumulator, error, report = intrinsics(traced=traced, seed=2, preempt=0.1)
    assert error == 0 and not report.errors, report
    threads = range(64)
    base = [t - t % 32 for t in threads]
    signed = 0x11111111
    assert rows == [
        [b + 5 for b in base],
        [t - t % 8 + 3 for t in threads],
        [t - 2 if t % 32 >= 2 else t for t in threads],
        [t + 3 if t % 16 + 3 < 16 else t for t in threads],
        [t ^ 1 for t in threads],
        [3 * (t ^ 16) for t in threads],
        [signed] * 64,
        [0] * 32 + [1] * 32,
        [1] * 32 + [0] * 32,
        [t - t % 16 + 1 for t in threads],
        [22] * 64,
        [1] * 64,
        [0] * 64,
        [63 - t for t in threads],
        [
            t.bit_count() + 32 - t.bit_length() + ((t & -t).bit_length() if t else 0)
            for t in threads
        ],
        list(threads),
    ]
    assert counters == [128, 63, 4, 7] and accumulator == 64 << 32


def test_dynamic_shared_memory_has_an_end():
    *_, report = intrinsics(shared_bytes=252, traced=True)
    assert report.kinds == {"out_of_bounds"}


def test_a_seed_repeats_its_schedule():
    project = mutated(FLOAT_ONLY, MUTANTS[2])
    arguments = sample.make(5000)
    errors = [
        sample.run(*arguments, project=project, seed=3, preempt=0.1, traced=True)[3].errors
        for _ in range(2)
    ]
    assert errors[0] == errors[1] != []


@pytest.mark.parametrize("mutant", quick_and_slow(MUTANTS))
def test_mutant_is_caught(mutant):
    project = mutated(FLOAT_ONLY, mutant)
    # 10,003 elements, 3 of them in the tail; one off a 16-byte border for the head.
    for offset in (0, 1):
        arguments = sample.make(10_003 - offset, offset=offset)
        for cooperative in (False, True):
            for seed in range(4):
                *_, report = sample.run(
                    *arguments, cooperative, project=project, seed=seed, preempt=0.05, traced=True
                )
                if mutant.kind in report.kinds:
                    found = next(e for e in report.found if e.kind == mutant.kind)
                    assert "sample_kernel.cuh:" in found.text
                    return
    pytest.fail(f"{mutant}: no {mutant.kind} in 16 schedules; the last found {report}")


def test_a_stale_mutant_fails_loudly():
    with pytest.raises(ValueError, match="0 times"):
        Mutant("stale", HEADER, "no such text", "", "deadlock").text()
    with pytest.raises(ValueError, match="times"):
        Mutant("ambiguous", HEADER, "__syncthreads();", "", "deadlock").text()


def test_cooperative_launch_too_large():
    x, t, mask = sample.make(100)
    *_, error, report = sample.run(x, t, mask, cooperative=True, blocks=9)
    assert error == 720 and report.launches == 0
    *_, error, report = sample.run(x, t, mask, cooperative=True, blocks=9, multiprocessors=5)
    assert error == 0 and report.launches == 1


SANITIZED = """
import ctypes, sys
sys.path.insert(0, {root!r})
from tests.emulator import builder
module = builder.load(builder.Project(**{project!r}), "sanitized")
size, buffers = 10_003, []
def buffer(bytes):
    buffers.append((ctypes.c_char * bytes)())
    return ctypes.addressof(buffers[-1])
module.begin(1, 0.0, False, 4, 4, 2)
addresses = [buffer(4 * size), buffer(4 * size), buffer(size), buffer(4 * size), size,
             buffer(8 * 512), buffer(4 * 512), buffer(4 * 512)]
print("error", module.run(*addresses, 8, 0, False), len(module.report()["errors"]))
"""


@pytest.mark.parametrize("broken", [False, True])
def test_sanitized(broken):
    off_by_one = next(m for m in MUTANTS if m.name == "off by one")
    project = mutated(FLOAT_ONLY, off_by_one) if broken else FLOAT_ONLY
    builder.build(project, "sanitized")
    fields = {
        field.name: tuple(map(str, value)) if isinstance(value, tuple) else value
        for field in dataclasses.fields(project)
        for value in [getattr(project, field.name)]
    }
    script = SANITIZED.format(root=str(builder.ROOT), project=fields)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=builder.sanitizer_environment(),
        capture_output=True,
        text=True,
    )
    if broken:
        assert "heap-buffer-overflow" in done.stderr and done.returncode != 0, done.stderr
    else:
        assert done.stdout.split() == ["error", "0", "0"], done.stderr
