"""Every loss with every region term and every weight source, against the reference in float64."""

import contextlib

import pytest

from tests import cases
from tests.backends import CPU, kernels_only
from tests.cases import FLOATS, LOSSES, REDUCTIONS, SOURCES, TERMS
from tests.oracle import assert_matches, evaluate, exact

SHAPES = ((2, 3, 9, 11), (2, 2, 4, 5, 6), (1, 1, 17, 33))
TERM_NAMES, SOURCE_NAMES = tuple(TERMS), tuple(SOURCES)


def check(loss, row, backend, term=None, source=None):
    """The case `row` of a table: dtype, reduction, normalizer and shape in turn."""
    shape, dtype = SHAPES[row % len(SHAPES)], FLOATS[row % len(FLOATS)]
    rng = cases.generator(str(loss), term, source, row)
    reduction = REDUCTIONS[(row // 2) % len(REDUCTIONS)]
    normalizers = [value for value in cases.normalizers(reduction) if value != "tensor"]
    others = {"reduction": reduction, "normalizer": normalizers[row % len(normalizers)]}
    if term is not None:
        others["mask"] = TERMS[term](shape, rng)
    if source is not None:
        others["weight"] = SOURCES[source](shape, rng)
    problem = cases.make_problem(loss, shape, dtype, rng=rng, **others)
    with kernels_only() if backend is CPU else contextlib.nullcontext():
        got = evaluate(problem, backend)
    assert_matches(got, exact(problem), problem)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_loss_by_term(backend, loss, term):
    offset = LOSSES.index(loss) + 3 * TERM_NAMES.index(term)
    for row in backend.thin(range(offset, offset + 4), offset):
        check(loss, row, backend, term=term)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_loss_by_source(backend, loss, source):
    offset = LOSSES.index(loss) + 3 * SOURCE_NAMES.index(source)
    for row in backend.thin(range(offset, offset + 4), offset):
        check(loss, row, backend, source=source)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("term", TERMS)
def test_term_by_source(backend, term, source):
    offset = 5 * TERM_NAMES.index(term) + SOURCE_NAMES.index(source)
    for row in backend.thin(range(offset, offset + 4), offset):
        check(LOSSES[row % len(LOSSES)], row, backend, term, source)
