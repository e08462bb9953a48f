"""The program that the kernels run for a region: its instructions, limits, and how it is put
together. ``csrc/regions/program.h`` interprets the same opcodes."""

from typing import NamedTuple

import torch
from torch import Tensor

# Four integers (opcode, a, b, c) each, for a stack machine.
TENSOR = 0  # push tensor a
TARGET_COMPARE = 1  # push target <a> constant; b = domain, c = constant's index or value
TARGET_ISFINITE = 2  # push isfinite(target)
AND = 3  # pop two, push the product (0 where either is 0)
OR = 4  # pop two, push the larger
NOT = 5  # replace the top by 1 where it is 0, else 0

MAX_INSTRUCTIONS = 32
MAX_DEPTH = 6
MAX_TENSORS = 8


class Program(NamedTuple):
    """A region as the kernels take it; `code` holds four integers per instruction."""

    code: tuple[int, ...]
    constants: tuple[float, ...]
    tensors: tuple[Tensor, ...]


class Assembler:
    """Collects the instructions of one program; `ok` turns False when a term has no opcode."""

    def __init__(self, target_dtype: torch.dtype):
        self.target_dtype = target_dtype
        self.code: list[int] = []
        self.constants: list[float] = []
        self.tensors: list[Tensor] = []
        self.ok = True

    def instruction(self, opcode: int, a: int = 0, b: int = 0, c: int = 0) -> None:
        self.code += [opcode, a, b, c]

    def constant(self, value: float) -> int:
        self.constants.append(value)
        return len(self.constants) - 1

    def tensor(self, tensor: Tensor) -> int:
        """The tensor's index; one that appears twice is passed, and read, once."""
        for index, known in enumerate(self.tensors):
            if known is tensor:
                return index
        self.tensors.append(tensor)
        return len(self.tensors) - 1
