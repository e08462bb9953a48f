"""Everything combined at random: shapes, strides, dtypes, nested regions, weights, normalizers.

A case is its seed: `random_problem(seed)` builds it again.
"""

import pytest

from tests.oracle import assert_matches, evaluate, exact
from tests.random_problems import random_problem

QUICK = 30  # groups of ten


def check(backend, seeds):
    for seed in seeds:
        problem = random_problem(seed)
        try:
            assert_matches(evaluate(problem, backend), exact(problem), problem)
        except Exception as error:
            raise AssertionError(f"random_problem({seed}): {error}") from error


@pytest.mark.parametrize("group", range(QUICK))
def test_random_problems(backend, group):
    check(backend, range(10 * group, 10 * group + 10))


@pytest.mark.slow
@pytest.mark.parametrize("group", range(20))
def test_many_random_problems(backend, group):
    check(backend, range(10_000 + 300 * group, 10_300 + 300 * group))
