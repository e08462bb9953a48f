"""Everything combined at random: shapes, strides, dtypes, nested regions, weights, normalizers.

A case is its seed: `random_problem(seed)` builds it again.
"""

import contextlib

import pytest

from tests.backends import CPU, kernels_only
from tests.oracle import assert_matches, evaluate, exact, has_kernel
from tests.random_problems import random_problem

QUICK = 30  # groups of ten


def check(backend, seeds):
    for seed in seeds:
        problem = random_problem(seed)
        by_kernel = backend is CPU and has_kernel(problem)
        try:
            with kernels_only() if by_kernel else contextlib.nullcontext():
                got = evaluate(problem, backend)
            assert_matches(got, exact(problem), problem)
        except Exception as error:
            raise AssertionError(f"random_problem({seed}): {error}") from error


@pytest.mark.parametrize("group", range(QUICK))
def test_random_problems(backend, group):
    check(backend, range(10 * group, 10 * group + 10))


def test_nearly_all_random_problems_have_a_kernel():
    without = [seed for seed in range(500) if not has_kernel(random_problem(seed))]
    assert len(without) <= 10, without


@pytest.mark.slow
@pytest.mark.parametrize("group", range(20))
def test_many_random_problems(backend, group):
    check(backend, range(10_000 + 300 * group, 10_300 + 300 * group))
