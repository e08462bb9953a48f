"""Calls of emulated ops: tensors as the bindings take them, and one session for each call.

    calls = Calls(PROJECT)
    with calls.recorded(seed=3, traced=True) as reports:
        calls.run(inputs, outputs, lambda session: session.module.op(...))

Each call's report goes to `reports`, and an error in it is an exception unless `check=False`.
"""

import contextlib
import dataclasses

import torch

from . import builder, runtime

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
    project: builder.Project
    options: dict = dataclasses.field(default_factory=dict)
    reports: list = dataclasses.field(default_factory=list)
    check: bool = True


class KernelError(RuntimeError):
    """The emulator found an error, or the launch failed."""


def plain(tensor):
    """(address, dtype, sizes, strides) of a tensor, or None."""
    if tensor is None:
        return None
    return (tensor.data_ptr(), _DTYPES[tensor.dtype], list(tensor.shape), list(tensor.stride()))


class Calls:
    """The calls of one project's ops."""

    def __init__(self, project):
        self.project = project
        self._settings = _Settings(project)

    @contextlib.contextmanager
    def recorded(self, project=None, check=True, **options):
        """Runs the calls with these options of `runtime.session`; yields the list of reports."""
        saved, self._settings = (
            self._settings,
            _Settings(project or self.project, options, [], check),
        )
        try:
            yield self._settings.reports
        finally:
            self._settings = saved

    def run(self, inputs, outputs, call):
        """One session: registers the tensors, calls, keeps the report."""
        settings = self._settings
        with runtime.session(settings.project, **settings.options) as session:
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
        settings.reports.append(report)
        if settings.check and (failure or report.errors):
            raise KernelError(f"{failure}\n{report}") from failure
