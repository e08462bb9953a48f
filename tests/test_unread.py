"""What a region in closed form masks out is not read: it may lie where nobody may look."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, json, mmap, os, sys
import torch
import fusedloss as fl

PAGE = mmap.PAGESIZE
WIDTH = PAGE // 4  # a row of float32 is a page
SHAPE = (2, 3, 96, WIDTH)
ROWS = range(32, 64)  # of every plane; the others cannot be read
libc = ctypes.CDLL(None, use_errno=True)

def guarded():
    count = 2 * 3 * 96
    memory = mmap.mmap(-1, count * PAGE)
    tensor = torch.frombuffer(memory, dtype=torch.float32).reshape(SHAPE)
    tensor.copy_(torch.rand(SHAPE))
    dense = tensor.clone()
    for row in range(count):
        if row % 96 not in ROWS:
            address = ctypes.c_void_p(tensor.data_ptr() + row * PAGE)
            assert libc.mprotect(address, ctypes.c_size_t(PAGE), 0) == 0, ctypes.get_errno()
    return tensor, dense

def check(region):
    input, seen = guarded()
    target, wanted = guarded()
    for options in ({}, {"reduction": "none"}, {"reduction": "sample_mean"}):
        loss = fl.mse_loss(input.requires_grad_(), target, mask=region, **options)
        gradient, = torch.autograd.grad(loss.sum(), input)
        seen.requires_grad_()
        right = fl.reference.mse_loss(seen, wanted, mask=region, **options)
        torch.testing.assert_close(loss, right)
        torch.testing.assert_close(gradient, torch.autograd.grad(right.sum(), seen)[0])
        assert gradient.count_nonzero() > 100

for text in sys.argv[1:]:  # each in a process of its own, which may die
    child = os.fork()
    if child == 0:
        check(eval(text))
        os._exit(0)
    print(json.dumps([text, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]))
"""

REGIONS = [
    "fl.box(0, 32, WIDTH, 64)",
    "fl.box(100, 40, 500.5, 64) | fl.disk(WIDTH / 2, 47, 15)",
    "fl.boxes(torch.tensor([[0, 33, 700, 60], [600, 32, WIDTH, 64]]))",
    "fl.keypoints(torch.tensor([[20.0, 47.0], [900.0, 48.0]]), 15) & fl.center(0.99)",
    "fl.box(0, 32, WIDTH, 64) & (fl.target > 0.3)",
    "(fl.target.isfinite() & fl.disk(WIDTH / 2, 47, 15)) & ~fl.box(500, 0, 520, 99)",
]


@pytest.fixture(scope="module")
def outcomes():
    """The exit code of each region: torch is imported once for all of them."""
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, *REGIONS],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # no threads before a fork
    )
    return dict(map(json.loads, found.stdout.splitlines())), found.stderr[-2000:]


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does")
@pytest.mark.parametrize("region", REGIONS)
def test_masked_rows_are_not_read(outcomes, region):
    codes, errors = outcomes
    assert codes.get(region) == 0, errors or f"signal {-codes[region]}"
