"""Which of torch's program transforms surround a call: the one module with torch's private names.

Custom kernels differentiate once, backwards, for the tensors at hand. Under functorch transforms
(vmap, grad, jvp, hessian) and forward-mode AD a loss is computed by its reference instead, which
any transform can take apart.
"""

import torch
from torch import Tensor
from torch.autograd import forward_ad

_functorch_active = torch._C._are_functorch_transforms_active


def surround() -> bool:
    """Whether a functorch transform or forward-mode AD is active."""
    return _functorch_active() or forward_ad._current_level >= 0


def batch_backward(grad_output: Tensor) -> bool:
    """Whether a backward pass runs for many `grad_output` at once: under functorch's vmap or under
    the older one of ``torch.autograd.grad(..., is_grads_batched=True)``."""
    return surround() or torch._C._functorch.is_legacy_batchedtensor(grad_output)


def apply_without_transforms(function: type[torch.autograd.Function]):
    """`function.apply` for calls that no transform surrounds: without looking for one again."""
    return super(torch.autograd.Function, function).apply
