"""The elementwise ops over emulated CUDA kernels, with the signatures of `fusedloss._ops`.

    with emulator.elementwise.recorded(seed=3, traced=True) as reports:
        loss, gradient, sums = elementwise.forward("mse_loss mean weights gradient", ...)

Each call is one session; its report goes to `reports`, and an error in it is an exception unless
`check=False`.
"""

import contextlib
import dataclasses

import torch

from fusedloss import _ops

from . import builder, runtime

CUDA = builder.ROOT / "csrc" / "cuda"
PROJECT = builder.Project(
    module="emulated_elementwise",
    kernels=tuple(sorted(CUDA.glob("*.cu"))),
    bindings=(builder.HERE / "bindings.cpp",),
    include=(builder.ROOT / "csrc", builder.HERE),
)
# mean squared error in float32 alone: quick to build, for seeded bugs
SMALL = dataclasses.replace(PROJECT, kernels=(builder.HERE / "kernels.cpp",))

_DTYPES = {
    dtype: code
    for code, dtype in enumerate(
        (
            torch.bool,
            torch.uint8,
            torch.int8,
            torch.int16,
            torch.uint16,
            torch.int32,
            torch.uint32,
            torch.int64,
            torch.uint64,
            torch.float16,
            torch.bfloat16,
            torch.float32,
            torch.float64,
        )
    )
}


@dataclasses.dataclass
class _Settings:
    project: builder.Project = PROJECT
    options: dict = dataclasses.field(default_factory=dict)
    reports: list = dataclasses.field(default_factory=list)
    check: bool = True


_settings = _Settings()


class KernelError(RuntimeError):
    """The emulator found an error, or the launch failed."""


@contextlib.contextmanager
def recorded(project=PROJECT, check=True, **options):
    """Runs the ops below with these options of `runtime.session`; yields the list of reports."""
    global _settings
    saved, _settings = _settings, _Settings(project, options, [], check)
    try:
        yield _settings.reports
    finally:
        _settings = saved


def _plain(tensor):
    if tensor is None:
        return None
    return (tensor.data_ptr(), _DTYPES[tensor.dtype], list(tensor.shape), list(tensor.stride()))


def _run(arguments, inputs, outputs, call):
    """One session: registers the tensors, calls, keeps the report."""
    with runtime.session(_settings.project, **_settings.options) as session:
        for name, tensor in inputs.items():
            if tensor is not None and tensor.numel():
                session.register(tensor, name)
        for name, tensor in outputs.items():
            if tensor is not None and tensor.numel():
                session.register(tensor, name, writable=True)
        failure = None
        try:
            call(session)
        except RuntimeError as error:
            failure = error
        report = session.report()
    _settings.reports.append(report)
    if _settings.check and (failure or report.errors):
        raise KernelError(f"{failure}\n{report}") from failure


def _elementwise(arguments, inputs, outputs):
    def call(session):
        filled = session.module.Arguments()
        for name, value in arguments.items():
            setattr(filled, name, value)

        def allocate(size):
            workspace = torch.empty(size, dtype=torch.uint8)
            return session.register(workspace, "workspace", writable=True)

        session.module.elementwise(filled, allocate)

    _run(arguments, inputs, outputs, call)


def _arguments(call, numbers, input, target, others, region, weight_source):
    # The dispatcher resolves a pending negation before it calls a kernel.
    input, target, *others = (tensor.resolve_neg() for tensor in (input, target, *others))
    arguments = {
        "call": call,
        "numbers": list(numbers),
        "input": _plain(input),
        "target": _plain(target),
        "others": [_plain(tensor) for tensor in others],
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
        "grad_input": _plain(gradient) if wants_gradient else None,
        "loss": _plain(loss),
        "sums": sums.data_ptr(),
    }
    _elementwise(arguments, inputs, {"loss": loss, "gradient": gradient, "sums": sums})
    return loss, gradient, sums


def backward(call, numbers, input, target, others, region, weight_source, grad_output, sums):
    input, target, grad_output, *others = (
        tensor.resolve_neg() for tensor in (input, target, grad_output, *others)
    )
    arguments, inputs = _arguments(call, numbers, input, target, others, region, weight_source)
    gradient = torch.empty_like(input)
    arguments |= {
        "grad_output": _plain(grad_output),
        "grad_input": _plain(gradient),
        "sums": sums.data_ptr(),
    }
    inputs |= {"grad_output": grad_output, "sums": sums}
    _elementwise(arguments, inputs, {"gradient": gradient})
    return gradient


def scale_(gradient, grad_output):
    def call(session):
        session.register(gradient, "gradient", writable=True, initialised=True)
        session.module.scale(_plain(gradient), gradient.numel(), _plain(grad_output))

    _run(None, {"grad_output": grad_output}, {}, call)
