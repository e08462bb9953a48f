"""Weight sources: rules that yield the weight of each position inside the kernel.

A source is a small immutable expression (`_expression.py`), accepted wherever a loss takes
``weight=`` or ``weight_map=``. Sources, tensors and numbers combine with ``+ - *`` and division by
a number; a product is 0 where a factor is 0, whatever the other holds. What a source *means* is
written down in ``fusedloss/reference/_sources.py``.

    >>> import torch, fusedloss as fl
    >>> photo = torch.rand(2, 3, 8, 8)
    >>> 1 + 4 * fl.edges(photo, operator="sobel") - fl.boundary(radius=2) / 2
    1 + 4 * fl.edges(tensor(float32, (2, 3, 8, 8)), operator="sobel") - fl.boundary(radius=2) / 2

Here stands the algebra; its leaves, beside tensors and numbers, are in `sources.py`. No gradient
flows into images, features, labels or what a region reads; a tensor that is itself a factor or a
summand is a weight like any other and gets one.

Everything here is traced by Dynamo, as regions are: keep to plain classes and control flow.
"""

from torch import Tensor

from ._checks import check_positional, check_weight
from ._comparison import as_float
from ._expression import Expression, Pair, tensor_text
from ._program import ADD, AND, DIVIDE, NUMBER, SUBTRACT, WEIGHT
from ._region_checks import plain_number
from .regions import Region


class WeightSource(Expression):
    """A rule that says how much each position counts. Combine with numbers, tensors and sources.

    A subclass is a leaf: it has a `check`, a `text`, an `emit`, and a meaning in the reference.
    """

    yields_weight = True

    @property
    def leaves(self) -> tuple["WeightSource", ...]:
        """The sources without operators in them, in the order in which they appear."""
        return (self,)

    def __add__(self, other):
        return Sum(self, _operand("+", other))

    def __radd__(self, other):
        return Sum(_operand("+", other), self)

    def __sub__(self, other):
        return Difference(self, _operand("-", other))

    def __rsub__(self, other):
        return Difference(_operand("-", other), self)

    def __mul__(self, other):
        return Product(self, _operand("*", other))

    def __rmul__(self, other):
        return Product(_operand("*", other), self)

    def __truediv__(self, other):
        if isinstance(other, (Expression, Tensor)):
            _refuse_divisor(other)
        divisor = plain_number("the divisor of a weight source", other)
        if divisor == 0:
            raise ValueError("the divisor of a weight source must not be 0")
        return Quotient(self, Number(divisor))

    def __rtruediv__(self, other):
        _refuse_divisor(self)

    def __bool__(self):
        raise TypeError(f"a weight source has no truth value: {self.text()}")

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        """`tensor + source`, `tensor - source`, `tensor * source`; nothing else.

        Dynamo calls it for `source + tensor` too.
        """
        name = getattr(func, "__name__", "")
        kind = _TORCH_OPERATORS.get(name)
        if kind is None or len(args) != 2 or kwargs:
            if name in ("div", "__truediv__", "true_divide") and len(args) == 2:
                _refuse_divisor(args[1])
            raise TypeError(
                f"{name or func} does not take a weight source; a weight source goes into the "
                "`weight` of a loss and combines with + - * and division by a number"
            )
        left, right = args[::-1] if name in ("rsub", "__rsub__") else args
        return kind(_operand(kind.symbol, left), _operand(kind.symbol, right))


class TensorWeight(WeightSource):
    """A tensor in the middle of an expression, broadcast as any weight is."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    @property
    def tensors(self):
        return (self.tensor,)

    @property
    def factors(self):
        return (self.tensor,)

    def rebind(self, tensors):
        return TensorWeight(tensors[0])

    def check(self, input, target):
        check_weight(self.tensor, input)

    def check_positional(self, input):
        check_positional("weight_map", self.tensor, input)

    def emit(self, assembler):
        assembler.instruction(WEIGHT, assembler.tensor(self.tensor))

    def text(self):
        return tensor_text(self.tensor)


class Number(WeightSource):
    """The same number everywhere."""

    def __init__(self, value: float):
        self.value = value

    def emit(self, assembler):
        assembler.instruction(NUMBER, 0, 0, assembler.constant(as_float(self.value)))

    def text(self):
        return repr(self.value)


class _Operator(Pair, WeightSource):
    opcode = -1

    @property
    def leaves(self):
        return self.left.leaves + self.right.leaves

    def emit(self, assembler):
        self.emit_operands(assembler)
        assembler.instruction(self.opcode)


class Sum(_Operator):
    """left + right."""

    opcode = ADD
    symbol = "+"
    precedence = 1


class Difference(_Operator):
    """left - right."""

    symbol = "-"
    precedence = 1

    def emit(self, assembler):
        self.emit_operands(assembler)
        assembler.instruction(SUBTRACT, int(self.swaps))


class Product(_Operator):
    """left * right; 0 where either operand is 0, whatever the other holds."""

    opcode = AND
    symbol = "*"
    precedence = 2


class Quotient(_Operator):
    """left / right, where right is a `Number` that is not 0."""

    opcode = DIVIDE  # the right operand is never the deeper one
    symbol = "/"
    precedence = 2


_TORCH_OPERATORS = {"add": Sum, "sub": Difference, "mul": Product}
_TORCH_OPERATORS |= {"rsub": Difference, "__rsub__": Difference}  # with the operands swapped


def as_source(weight) -> WeightSource:
    """The source that a tensor or a source stands for."""
    return TensorWeight(weight) if isinstance(weight, Tensor) else weight


def _operand(symbol: str, value) -> WeightSource:
    if isinstance(value, WeightSource):
        return value
    if isinstance(value, Tensor):
        return TensorWeight(value)
    if isinstance(value, Region):
        raise TypeError(
            f"an operand of {symbol} beside a weight source must be a source, a tensor or a "
            f"number, got the region {value!r}; write fl.normalized(region), or pass it as mask"
        )
    return Number(plain_number(f"an operand of {symbol} beside a weight source", value))


def _refuse_divisor(value):
    shown = repr(value) if isinstance(value, Expression) else tensor_text(value)
    raise TypeError(f"a weight source is divided by a number alone, got the divisor {shown}")
