"""Fixtures of all tests: the backends, and a pool of threads that is the same everywhere."""

import pytest
import torch

from tests.backends import BACKENDS, EMULATED

# Their asserts are the tests' own, and should say as much when they fail.
pytest.register_assert_rewrite("tests.emulator.row_checks")

# One thread unless a test asks for more: threads that share busy cores wait for each other.
torch.set_num_threads(1)


@pytest.fixture(params=BACKENDS, ids=str)
def backend(request):
    """Each backend of this machine in turn, active for the length of the test."""
    with request.param.active():
        yield request.param


@pytest.fixture(params=[backend for backend in BACKENDS if backend is not EMULATED], ids=str)
def real_backend(request):
    """The backends that have threads and take millions of elements."""
    with request.param.active():
        yield request.param


@pytest.fixture
def threads():
    """A function that sets the number of threads; the old one comes back after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
