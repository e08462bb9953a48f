"""Regions: rules that yield the mask inside the kernel.

A region is a small immutable expression (`_expression.py`) that can be compiled to the postfix
program (`_program.py`) which the kernels run tile by tile. Here stand tensors and ``& | ~``; the
other terms are in `quantities.py` (comparisons of target, input and images) and `shapes.py`
(boxes, disks, lengths). What a term *means* is written down in ``fusedloss/reference/_terms.py``.

    >>> import torch, fusedloss as fl
    >>> torch.ones(8, 1, 4, 4, dtype=torch.bool) & ~(fl.target == 0)
    tensor(bool, (8, 1, 4, 4)) & ~(fl.target == 0)

To add a term: subclass `Region`, give it `tensors`/`rebind` if it holds any, `check` and `text`,
its meaning to the reference, and `emit` with an opcode of its own.
Everything here is traced by Dynamo when a region is built inside ``torch.compile``: keep to plain
classes and plain control flow (`_dynamo.py` has what Dynamo cannot do by itself).
"""

from torch import Tensor

from ._checks import advice_to_convert, check_mask, check_positional
from ._expression import Expression, Pair, closed, tensor_text
from ._program import AND, NOT, OR, TENSOR


class Region(Expression):
    """A rule that says which elements take part. Combine with ``&``, ``|``, ``~`` and tensors."""

    # precedence of the printed form: 0 comparison, 1 |, 2 &, 3 ~, 4 closed

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

    def _refuse_arithmetic(self, other):
        if isinstance(other, Expression):
            return NotImplemented  # a weight source says it better
        raise TypeError(
            f"a region is no number: {self.text()}; as a weight of 0 and 1 it is "
            "fl.normalized(region), and regions combine with & | ~"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = _refuse_arithmetic
    __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse_arithmetic

    def __bool__(self):
        raise TypeError(
            f"a region has no truth value: {self.text()}; combine regions with & | ~ "
            "(not `and`, `or`, `not`, nor a chain such as 0 < fl.target < 5, which is "
            "(fl.target > 0) & (fl.target < 5))"
        )

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

    @property
    def factors(self):
        return (self.tensor,)

    def rebind(self, tensors):
        return TensorRegion(tensors[0])

    def check(self, input, target):
        check_mask(self.tensor, input)

    def check_positional(self, input):
        check_positional("mask", self.tensor, input)

    def emit(self, assembler):
        assembler.instruction(TENSOR, assembler.tensor(self.tensor))

    def text(self):
        return tensor_text(self.tensor)


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

    @property
    def factors(self):
        return self.operand.factors

    def rebind(self, tensors):
        return Not(self.operand.rebind(tensors))

    def check(self, input, target):
        self.operand.check(input, target)

    def check_positional(self, input):
        self.operand.check_positional(input)

    def emit(self, assembler):
        self.operand.emit(assembler)
        assembler.instruction(NOT)

    def text(self):
        return "~" + closed(self.operand, 3)


class _Binary(Pair, Region):
    """Two operands; either may be computed first, as both kinds are commutative."""

    opcode = -1

    def emit(self, assembler):
        self.emit_operands(assembler)
        assembler.instruction(self.opcode)


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


class Proxy:
    """Stands for a tensor, or for a number of each position: no region by itself."""

    __array_ufunc__ = None
    __hash__ = object.__hash__

    def text(self) -> str:
        raise NotImplementedError

    def advice(self) -> str:
        """What it is, and how it becomes a region."""
        raise NotImplementedError

    def _refuse(self, *_):
        raise TypeError(f"{self.text()} {self.advice()}")

    __and__ = __rand__ = __or__ = __ror__ = __invert__ = __bool__ = _refuse
    __gt__ = __ge__ = __lt__ = __le__ = __eq__ = __ne__ = _refuse

    def __repr__(self):
        return self.text()


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
    if isinstance(value, Proxy):
        return f"{name}: {value.text()} {value.advice()}"
    if isinstance(value, Expression):
        return (
            f"{name} must be a tensor or a region, got the weight source {value!r}; it goes into "
            "weight, weight_map where weight is one number per class"
        )
    message = f"{name} must be a tensor or a region, got {type(value).__name__}"
    if isinstance(value, bool):
        return f"{message} ({value}); leave the mask out (mask=None) to select everything"
    if isinstance(value, (int, float)):
        return f"{message} ({value}); compare, for example fl.target > 0"
    if isinstance(value, (list, tuple)) or hasattr(value, "__array__"):
        return f"{message}; {advice_to_convert(value)}"
    if callable(value):
        return f"{message}; call it, as in fl.target.isfinite()"
    return message
