"""The elementwise ops over emulated CUDA kernels, with the signatures of `fusedloss._ops`.

    with emulator.elementwise.recorded(seed=3, traced=True) as reports:
        loss, gradient, sums = elementwise.forward("mse_loss mean weights gradient", ...)

Each call is one session; its report goes to `reports`, and an error in it is an exception unless
`check=False`.
"""

import dataclasses

import torch

from fusedloss import _ops

from . import builder
from .calls import Calls, plain

CUDA = builder.ROOT / "csrc" / "cuda"
PROJECT = builder.Project(
    module="emulated_elementwise",
    kernels=tuple(sorted(CUDA.glob("elementwise_*.cu"))),
    bindings=(builder.HERE / "bindings.cpp",),
    include=(builder.ROOT / "csrc", builder.HERE),
)
# mean squared error in float32 alone: quick to build, for seeded bugs
SMALL = dataclasses.replace(PROJECT, kernels=(builder.HERE / "kernels.cpp",))

_calls = Calls(PROJECT)
recorded = _calls.recorded


def _arguments(call, numbers, input, target, others, region, weight_source):
    # The dispatcher resolves a pending negation before it calls a kernel.
    input, target, *others = (tensor.resolve_neg() for tensor in (input, target, *others))
    arguments = {
        "call": call,
        "numbers": list(numbers),
        "input": plain(input),
        "target": plain(target),
        "others": [plain(tensor) for tensor in others],
        "region": list(region),
        "weight_source": list(weight_source),
    }
    inputs = {"input": input, "target": target}
    return arguments, inputs | {f"other{i}": tensor for i, tensor in enumerate(others)}


def forward(call, numbers, input, target, others, region, weight_source):
    input, target, *others = (tensor.resolve_neg() for tensor in (input, target, *others))
    arguments, inputs = _arguments(call, numbers, input, target, others, region, weight_source)
    _, reduction, _, *flags = call.split()
    dtype = torch.float32 if "float_result" in flags else input.dtype
    scalar = reduction != "none"
    loss = input.new_empty((), dtype=dtype) if scalar else torch.empty_like(input, dtype=dtype)
    wants_gradient = "gradient" in flags
    gradient = torch.empty_like(input) if wants_gradient else input.new_empty((0,))
    sums = input.new_zeros((_ops.sums_length(input, reduction),), dtype=torch.float64)
    arguments |= {
        "grad_input": plain(gradient) if wants_gradient else None,
        "loss": plain(loss),
        "sums": sums.data_ptr(),
    }
    _calls.run_op(
        "elementwise", arguments, inputs, {"loss": loss, "gradient": gradient, "sums": sums}
    )
    return loss, gradient, sums


def backward(call, numbers, input, target, others, region, weight_source, grad_output, sums):
    input, target, grad_output, *others = (
        tensor.resolve_neg() for tensor in (input, target, grad_output, *others)
    )
    arguments, inputs = _arguments(call, numbers, input, target, others, region, weight_source)
    gradient = torch.empty_like(input)
    arguments |= {
        "grad_output": plain(grad_output),
        "grad_input": plain(gradient),
        "sums": sums.data_ptr(),
    }
    inputs |= {"grad_output": grad_output, "sums": sums}
    _calls.run_op("elementwise", arguments, inputs, {"gradient": gradient})
    return gradient


def scale_(gradient, grad_output):
    def call(session):
        session.register(gradient, "gradient", writable=True, initialised=True)
        session.module.scale(plain(gradient), gradient.numel(), plain(grad_output))

    _calls.run({"grad_output": grad_output}, {}, call)
