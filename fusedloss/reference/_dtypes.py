"""Which dtype a loss is computed in, and which it is returned in."""

import torch
from torch import Tensor


def factors(operand) -> tuple[Tensor, ...]:
    """The tensors in a mask or weight (None, a tensor, an expression) whose values count."""
    if operand is None:
        return ()
    return (operand,) if isinstance(operand, Tensor) else operand.factors


def compute_dtype(*operands) -> torch.dtype:
    """float64 if any operand or factor of an operand is, else float32."""
    for operand in operands:
        for tensor in factors(operand):
            if tensor.dtype is torch.float64:
                return torch.float64
    return torch.float32


def result_dtype(input: Tensor) -> torch.dtype:
    """That of `input`; float32 for 16 bits under autocast."""
    if input.dtype in (torch.float16, torch.bfloat16):
        device = input.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            return torch.float32
    return input.dtype
