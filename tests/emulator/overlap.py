"""The overlap ops over emulated CUDA kernels, with the signatures of `fusedloss._ops`; as
`elementwise.py` does for the elementwise ones.
"""

import dataclasses

import torch

from fusedloss import _ops

from . import builder
from .calls import Calls, plain

CUDA = builder.ROOT / "csrc" / "cuda"
MEMORY = builder.HERE / "overlap_memory.cpp"
PROJECT = builder.Project(
    module="emulated_overlap",
    kernels=(*sorted(CUDA.glob("overlap_*.cu")), MEMORY),
    bindings=(builder.HERE / "overlap_bindings.cpp",),
    include=(builder.ROOT / "csrc", builder.HERE),
)
# float32 alone: quick to build, for tracing and for seeded bugs
SMALL = dataclasses.replace(PROJECT, kernels=(builder.HERE / "overlap_kernels.cpp", MEMORY))

_calls = Calls(PROJECT)
recorded = _calls.recorded


def _arguments(call, numbers, ignore_index, input, target, others, region, weight_source):
    arguments = {
        "call": call,
        "numbers": list(numbers),
        "ignore_index": ignore_index,
        "input": plain(input),
        "target": plain(target),
        "others": [plain(tensor) for tensor in others],
        "region": list(region),
        "weight_source": list(weight_source),
    }
    inputs = {"input": input, "target": target}
    return arguments, inputs | {f"other{i}": tensor for i, tensor in enumerate(others)}


def forward(call, numbers, ignore_index, input, target, others, region, weight_source):
    # The dispatcher resolves a pending negation before it calls a kernel.
    input, target, *others = (tensor.resolve_neg() for tensor in (input, target, *others))
    arguments, inputs = _arguments(
        call, numbers, ignore_index, input, target, others, region, weight_source
    )
    words = call.split()
    dtype = torch.float32 if "float_result" in words else input.dtype
    pools = _ops.pool_count(words, input)
    loss = input.new_empty((pools,) if words[1] == "none" else (), dtype=dtype)
    wants_gradient = "gradient" in words
    gradient = torch.empty_like(input) if wants_gradient else input.new_empty((0,))
    length = _ops.sums_length(input, words[1]) + 5 * pools
    sums = input.new_zeros((length,), dtype=torch.float64)
    arguments |= {
        "grad_input": plain(gradient) if wants_gradient else None,
        "loss": plain(loss),
        "sums": sums.data_ptr(),
    }
    outputs = {"loss": loss, "gradient": gradient, "sums": sums}
    _calls.run_op("overlap", arguments, inputs, outputs)
    return loss, gradient, sums


def backward(
    call,
    numbers,
    ignore_index,
    input,
    target,
    others,
    region,
    weight_source,
    grad_output,
    sums,
):
    input, target, grad_output, *others = (
        tensor.resolve_neg() for tensor in (input, target, grad_output, *others)
    )
    arguments, inputs = _arguments(
        call, numbers, ignore_index, input, target, others, region, weight_source
    )
    gradient = torch.empty_like(input)
    arguments |= {
        "grad_output": plain(grad_output),
        "grad_input": plain(gradient),
        "sums": sums.data_ptr(),
    }
    inputs |= {"grad_output": grad_output, "sums": sums}
    _calls.run_op("overlap", arguments, inputs, {"gradient": gradient})
    return gradient
