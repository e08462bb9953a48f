"""The sample kernel on tensors, for the emulator's tests; an example of how to bind a kernel."""

import torch

from . import builder, runtime

PROJECT = builder.Project(
    module="emulated_sample",
    kernels=(builder.HERE / "sample_kernels.cpp",),
    bindings=(builder.HERE / "sample_bindings.cpp",),
)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def make(size, dtype=torch.float32, offset=0):
    """Input, target and mask of ``size`` elements; ``offset`` elements off a 16-byte border."""
    generator = torch.Generator().manual_seed(size)
    # Allocated apart: the kernel wants input and target to lie alike.
    x, t, m = (torch.randn(size + offset, generator=generator) for _ in range(3))
    return x.to(dtype)[offset:], t.to(dtype)[offset:], (m > 0.5)[offset:]


def run(x, t, mask, cooperative=False, blocks=8, project=PROJECT, **options):
    """The loss (a 0-d tensor), the gradient, the error code and the report of one session."""
    grad = torch.full_like(x, 7)
    partials = torch.empty(blocks, 2)
    ticket = torch.zeros(1, dtype=torch.int32)
    loss = torch.full((), 7.0)
    with runtime.session(project, **options) as s:
        addresses = [
            s.register(x, "input"),
            s.register(t, "target"),
            s.register(mask, "mask"),
            s.register(grad, "grad_input", writable=True),
            x.numel(),
            s.register(partials, "partials", writable=True),
            s.register(ticket, "ticket", writable=True, initialised=True),
            s.register(loss, "loss", writable=True),
        ]
        error = s.module.run(*addresses, blocks, DTYPES.index(x.dtype), cooperative)
        return loss, grad, error, s.report()


def reference(x, t, mask):
    """The loss and the gradient in float64."""
    difference = torch.where(mask, x.double() - t.double(), 0)
    count = mask.sum().clamp(min=1)
    return (difference**2).sum() / count, 2 * difference / count
