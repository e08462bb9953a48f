"""Regions: rules that yield the mask inside the kernel.

A region is a small immutable expression. It knows nothing of kernels or formulas; it can list its
tensors, be rebuilt over other tensors, and be compiled to the postfix program (`_program.py`) that
the kernels run tile by tile. What an expression *means* is written down in ``fusedloss/reference``.

    >>> import torch, fusedloss as fl
    >>> torch.ones(8, 1, 4, 4, dtype=torch.bool) & ~(fl.target == 0)
    tensor(bool, (8, 1, 4, 4)) & ~(fl.target == 0)

To add a term: subclass `Region`, give it `tensors`/`rebind` if it holds any, `emit` and `text`.
Everything here is traced by Dynamo when a region is built inside ``torch.compile``: keep to plain
classes and plain control flow (`_dynamo.py` has what Dynamo cannot do by itself).
"""

import numbers

import torch
from torch import Tensor

from . import _comparison
from ._program import (
    AND,
    MAX_DEPTH,
    MAX_INSTRUCTIONS,
    MAX_TENSORS,
    NOT,
    OR,
    TARGET_COMPARE,
    TARGET_ISFINITE,
    TENSOR,
    Assembler,
    Program,
)

_TENSOR_CODE = (TENSOR, 0, 0, 0)


class Region:
    """A rule that says which elements take part. Combine with ``&``, ``|``, ``~`` and tensors.

    `size` counts the instructions, `depth` the stack slots that they need.
    """

    size = 1
    depth = 1
    precedence = 4  # of the printed form: 0 comparison, 1 |, 2 &, 3 ~, 4 closed
    __array_ufunc__ = None  # numpy must leave `array & region` to __rand__

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors inside, in the order in which they appear."""
        return ()

    def rebind(self, tensors: tuple) -> "Region":
        """The same expression over other tensors, given in the order of `tensors`."""
        return self

    def emit(self, assembler: Assembler) -> None:
        raise NotImplementedError

    def text(self) -> str:
        raise NotImplementedError

    def compile(self, target_dtype: torch.dtype) -> Program | None:
        """The program for targets of this dtype, or None where the kernels cannot run it."""
        if self.size > MAX_INSTRUCTIONS or self.depth > MAX_DEPTH:
            return None
        assembler = Assembler(target_dtype)
        self.emit(assembler)
        if not assembler.ok or len(assembler.tensors) > MAX_TENSORS:
            return None
        return Program(tuple(assembler.code), tuple(assembler.constants), tuple(assembler.tensors))

    def __and__(self, other):
        return And(self, _operand(other))

    def __rand__(self, other):
        return And(_operand(other), self)

    def __or__(self, other):
        return Or(self, _operand(other))

    def __ror__(self, other):
        return Or(_operand(other), self)

    def __invert__(self):
        return Not(self)

    def __bool__(self):
        raise TypeError(
            f"a region has no truth value: {self.text()}; combine regions with & | ~ "
            "(not `and`, `or`, `not`, nor a chain such as 0 < fl.target < 5, which is "
            "(fl.target > 0) & (fl.target < 5))"
        )

    def __repr__(self):
        return self.text()

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        """`tensor & region` and `tensor | region`; any other torch function is an error.

        Dynamo calls it for `region & tensor` too, operands swapped, as bitwise_and.
        """
        name = getattr(func, "__name__", "")
        if len(args) == 2 and not kwargs:
            if name in ("__and__", "__rand__", "bitwise_and"):
                return And(_operand(args[0]), _operand(args[1]))
            if name in ("__or__", "__ror__", "bitwise_or"):
                return Or(_operand(args[0]), _operand(args[1]))
        raise TypeError(
            f"{name or func} does not take a region; a region goes into the "
            "`mask` of a loss and combines with & | ~"
        )


class TensorRegion(Region):
    """A mask tensor: takes part where it is not 0; a floating value also multiplies the loss."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    @property
    def tensors(self):
        return (self.tensor,)

    def rebind(self, tensors):
        return TensorRegion(tensors[0])

    def compile(self, target_dtype):
        return Program(_TENSOR_CODE, (), (self.tensor,))

    def emit(self, assembler):
        assembler.instruction(TENSOR, assembler.tensor(self.tensor))

    def text(self):
        if self.tensor is None:  # a module's region between construction and call
            return "tensor"
        return f"tensor({str(self.tensor.dtype)[6:]}, {tuple(self.tensor.shape)})"


class TargetCompare(Region):
    """``fl.target <operator> value``, exactly as torch compares the target with that number."""

    precedence = 0

    def __init__(self, operator: str, value: float):
        self.operator = operator
        self.value = value

    def emit(self, assembler):
        lowered = _comparison.lower(self.operator, self.value, assembler.target_dtype)
        if lowered is None:
            assembler.ok = False
            return
        operator, domain, value = lowered
        if domain != _comparison.INT64:
            value = assembler.constant(value)
        assembler.instruction(TARGET_COMPARE, operator, domain, value)

    def text(self):
        return f"fl.target {self.operator} {self.value!r}"


class TargetIsFinite(Region):
    """``fl.target.isfinite()``: the target is neither NaN nor infinite."""

    def emit(self, assembler):
        assembler.instruction(TARGET_ISFINITE)

    def text(self):
        return "fl.target.isfinite()"


class Not(Region):
    """1 where the operand is 0, else 0."""

    precedence = 3

    def __init__(self, operand: Region):
        self.operand = operand
        self.size = operand.size + 1
        self.depth = operand.depth

    @property
    def tensors(self):
        return self.operand.tensors

    def rebind(self, tensors):
        return Not(self.operand.rebind(tensors))

    def emit(self, assembler):
        self.operand.emit(assembler)
        assembler.instruction(NOT)

    def text(self):
        return "~" + _closed(self.operand, 3)


class _Binary(Region):
    """Two operands; the deeper is computed first (Sethi-Ullman), as both kinds are commutative."""

    opcode = -1
    symbol = ""

    def __init__(self, left: Region, right: Region):
        self.left = left
        self.right = right
        self.size = left.size + right.size + 1
        if left.depth == right.depth:
            self.depth = left.depth + 1
        else:
            self.depth = max(left.depth, right.depth)

    @property
    def tensors(self):
        return self.left.tensors + self.right.tensors

    def rebind(self, tensors):
        count = len(self.left.tensors)
        return type(self)(self.left.rebind(tensors[:count]), self.right.rebind(tensors[count:]))

    def emit(self, assembler):
        if self.left.depth >= self.right.depth:
            self.left.emit(assembler)
            self.right.emit(assembler)
        else:
            self.right.emit(assembler)
            self.left.emit(assembler)
        assembler.instruction(self.opcode)

    def text(self):
        left = _closed(self.left, self.precedence)
        return f"{left} {self.symbol} {_closed(self.right, self.precedence + 1)}"


class And(_Binary):
    """The product of the operands: 0 where either is 0, whatever the other holds."""

    opcode = AND
    symbol = "&"
    precedence = 2


class Or(_Binary):
    """The larger of the operands."""

    opcode = OR
    symbol = "|"
    precedence = 1


class Target:
    """The type of ``fl.target``: compare it with a number, or ask ``.isfinite()``.

    Comparisons mean exactly what the comparison of the target tensor with that number means in
    torch: NaN satisfies only ``!=``, and the number is rounded to the target's dtype first.

    Example::

        >>> import torch, fusedloss as fl
        >>> depth = torch.tensor([2.0, float("inf"), -1.0])
        >>> fl.l1_loss(torch.zeros(3), depth, mask=(fl.target > 0) & fl.target.isfinite())
        tensor(2.)
    """

    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __gt__(self, value):
        return TargetCompare(">", _number(">", value))

    def __ge__(self, value):
        return TargetCompare(">=", _number(">=", value))

    def __lt__(self, value):
        return TargetCompare("<", _number("<", value))

    def __le__(self, value):
        return TargetCompare("<=", _number("<=", value))

    def __eq__(self, value):
        return TargetCompare("==", _number("==", value))

    def __ne__(self, value):
        return TargetCompare("!=", _number("!=", value))

    def isfinite(self) -> Region:
        """The region where the target is neither NaN nor infinite."""
        return TargetIsFinite()

    def __bool__(self):
        raise TypeError(_TARGET_ALONE)

    def _refuse(self, *_):
        raise TypeError(_TARGET_ALONE)

    __and__ = __rand__ = __or__ = __ror__ = __invert__ = _refuse

    def __repr__(self):
        return "fl.target"

    def __reduce__(self):
        return "target"  # pickle and deepcopy keep the one proxy


target = Target()

_TARGET_ALONE = (
    "fl.target stands for the target tensor and is no region by itself; compare it with a number, "
    "for example fl.target > 0, or use fl.target.isfinite()"
)


def as_region(mask) -> Region | None:
    """The region that `mask` (None, a tensor or a region) stands for."""
    if mask is None:
        return None
    if isinstance(mask, Tensor):
        return TensorRegion(mask)
    if isinstance(mask, Region):
        return mask
    raise TypeError(_not_a_region("mask", mask))


def _operand(value) -> Region:
    if isinstance(value, Region):
        return value
    if isinstance(value, Tensor):
        return TensorRegion(value)
    raise TypeError(_not_a_region("an operand of & and |", value))


def _not_a_region(name: str, value) -> str:
    if isinstance(value, Target):
        return f"{name}: {_TARGET_ALONE}"
    message = f"{name} must be a tensor or a region, got {type(value).__name__}"
    if isinstance(value, bool):
        return f"{message} ({value}); leave the mask out (mask=None) to select everything"
    if isinstance(value, (int, float)):
        return f"{message} ({value}); compare, for example fl.target > 0"
    if isinstance(value, (list, tuple)) or hasattr(value, "__array__"):
        return f"{message}; convert it with torch.as_tensor(...) first"
    return message


def _number(operator: str, value) -> float:
    """`value` as a Python number."""
    if type(value) in (int, float, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    message = f"fl.target {operator} ...: the value must be a real number"
    if isinstance(value, Tensor):
        raise TypeError(
            f"{message}, got a tensor of shape {tuple(value.shape)}; compare the tensors "
            f"themselves and pass the result as mask (mask=target {operator} value), or take the "
            "number out with .item()"
        )
    raise TypeError(f"{message}, got {type(value).__name__}")


def _closed(region: Region, precedence: int) -> str:
    """The text of an operand, in parentheses where it would bind too loosely."""
    text = region.text()
    return text if region.precedence >= precedence else f"({text})"
