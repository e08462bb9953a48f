"""What regions and weight sources have in common: small immutable trees that may hold tensors.

An expression knows nothing of kernels or formulas. It can list its tensors, be rebuilt over other
tensors, check itself against the operands of a call, and print itself as the user wrote it.
"""

from torch import Tensor


class Expression:
    """A node of a tree; a leaf holds at most one tensor.

    Of its program, `size` counts the instructions, `depth` the stack slots that they need.
    """

    size = 1
    depth = 1
    yields_weight = False  # a region yields a mask, a weight source a weight
    precedence = 4  # of the printed form: 4 needs no parentheses anywhere
    __array_ufunc__ = None  # numpy must leave `array <operator> expression` to us

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors inside, in the order in which they appear."""
        return ()

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """Those of `tensors` that are masks or weights, whose values multiply the loss.

        The others (images, features, labels, coordinates, lengths) decide where or how much; they
        get no gradient, and their dtype has no influence on that of the arithmetic.
        """
        return ()

    def rebind(self, tensors: tuple) -> "Expression":
        """The same expression over other tensors, given in the order of `tensors`."""
        return self

    def check(self, input: Tensor, target: Tensor) -> None:
        """Raises ValueError where the expression does not go with these operands."""

    def check_positional(self, input: Tensor) -> None:
        """Raises ValueError where the expression is not the same for all channels of a position,
        as class losses need it. (A comparison of a target with several channels then means that
        it holds for all of them.)"""

    def emit(self, assembler) -> None:
        """Appends the instructions to a program (`_program.py`). Where a term has none for these
        operands it clears `assembler.ok`, and the reference computes the call."""
        raise NotImplementedError

    def text(self) -> str:
        raise NotImplementedError

    def __repr__(self):
        return self.text()


class Pair(Expression):
    """Two operands joined by an operator."""

    symbol = ""

    def __init__(self, left: Expression, right: Expression):
        self.left = left
        self.right = right
        self.size = left.size + right.size + 1
        if left.depth == right.depth:
            self.depth = left.depth + 1
        else:
            self.depth = max(left.depth, right.depth)

    @property
    def swaps(self) -> bool:
        """Whether the right operand is computed first: the deeper one is (Sethi-Ullman)."""
        return self.left.depth < self.right.depth

    def emit_operands(self, assembler) -> None:
        first, second = (self.right, self.left) if self.swaps else (self.left, self.right)
        first.emit(assembler)
        second.emit(assembler)

    @property
    def tensors(self):
        return self.left.tensors + self.right.tensors

    @property
    def factors(self):
        return self.left.factors + self.right.factors

    def rebind(self, tensors):
        count = len(self.left.tensors)
        return type(self)(self.left.rebind(tensors[:count]), self.right.rebind(tensors[count:]))

    def check(self, input, target):
        self.left.check(input, target)
        self.right.check(input, target)

    def check_positional(self, input):
        self.left.check_positional(input)
        self.right.check_positional(input)

    def text(self):
        left = closed(self.left, self.precedence)
        return f"{left} {self.symbol} {closed(self.right, self.precedence + 1)}"


def closed(expression: Expression, precedence: int) -> str:
    """The text of an operand, in parentheses where it would bind too loosely."""
    text = expression.text()
    return text if expression.precedence >= precedence else f"({text})"


def tensor_text(tensor: Tensor | None) -> str:
    """``tensor(float32, (2, 3))``; None is a module's tensor between construction and call."""
    if tensor is None:
        return "tensor"
    return f"tensor({str(tensor.dtype)[6:]}, {tuple(tensor.shape)})"
