"""``python -m benchmarks [pytest options]``: the table under pytest-benchmark, then the report."""

import sys
from pathlib import Path

import pytest

sys.exit(pytest.main([str(Path(__file__).parent), "-q", "--no-header", *sys.argv[1:]]))
