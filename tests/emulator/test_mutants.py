"""Every seeded bug still finds the text that it changes, also where only the slow suite runs it."""

import pytest

from . import test_class_kernels, test_elementwise_kernels, test_overlap_kernels, test_runtime

TABLES = (test_elementwise_kernels, test_class_kernels, test_overlap_kernels, test_runtime)
MUTANTS = [mutant for table in TABLES for mutant in table.MUTANTS]


def test_there_are_enough():
    assert len(MUTANTS) >= 4 * 8


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_changes_one_place(mutant):
    assert mutant.text()
