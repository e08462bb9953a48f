"""The class ops over emulated CUDA kernels, as `ops.py` describes."""

from fusedloss import _ops

from .ops import Ops, projects

# SMALL is float32 alone.
PROJECT, SMALL = projects("classwise", "classwise_memory.cpp")

_classwise = Ops("classwise", PROJECT, _ops.classwise_results)
recorded, forward, backward = _classwise.recorded, _classwise.forward, _classwise.backward
