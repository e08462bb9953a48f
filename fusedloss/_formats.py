"""Memory formats: what the reference computes gets the strides that the kernels give."""

import torch
from torch import Tensor

from . import _transforms


class Formatted(torch.autograd.Function):
    """The tensor itself; its gradient gets the strides that the kernels give."""

    @staticmethod
    def forward(ctx, tensor):
        ctx.save_for_backward(tensor)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, gradient):
        if _transforms.batch_backward(gradient):
            return gradient
        return formatted(gradient, ctx.saved_tensors[0])


def keep_format(tensor: Tensor | None) -> Tensor | None:
    """The tensor itself, whose gradient will have its memory format."""
    if tensor is None or not (tensor.requires_grad and torch.is_grad_enabled()):
        return tensor
    return Formatted.apply(tensor)


def formatted(values: Tensor, like: Tensor) -> Tensor:
    """`values` with the strides of ``torch.empty_like(like)``."""
    layout = torch.empty_like(like, dtype=values.dtype, device="meta").stride()
    if values.stride() == layout:
        return values
    return values.new_empty_strided(values.shape, layout).copy_(values)
