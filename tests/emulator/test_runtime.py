"""Tests the tester: the good kernel passes, and every seeded bug in it is found."""

import pytest

from . import build as emulator_build

pytestmark = pytest.mark.skipif(
    not emulator_build.available(), reason="needs g++ and the CUDA toolkit's headers"
)
