"""Tests the tester: the good kernel passes, and every seeded bug in it is found."""

import pytest

from . import builder

pytestmark = pytest.mark.skipif(
    not builder.available(), reason="needs g++ and the CUDA toolkit's headers"
)
