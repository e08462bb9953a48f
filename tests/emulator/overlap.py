"""The overlap ops over emulated CUDA kernels, as `ops.py` describes."""

from fusedloss import _ops

from .ops import Ops, projects

# SMALL is float32 alone.
PROJECT, SMALL = projects("overlap", "overlap_memory.cpp")

_overlap = Ops("overlap", PROJECT, _ops.overlap_results)
recorded, forward, backward = _overlap.recorded, _overlap.forward, _overlap.backward
