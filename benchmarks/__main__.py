"""``python -m benchmarks [pytest options]``: measures, and ends with one table of all cases.

pytest-benchmark's own tables, one per case, are printed with ``--benchmark-verbose``.
"""

import sys
from pathlib import Path

import pytest

OPTIONS = [
    "-q",
    "--no-header",
    "--benchmark-quiet",
    "--benchmark-columns=min,median,max,rounds",
    "-Wignore::DeprecationWarning:torch.jit._script",  # torch.compile calls it by itself
]

sys.exit(pytest.main([str(Path(__file__).parent), *OPTIONS, *sys.argv[1:]]))
