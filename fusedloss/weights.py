"""Weight sources: rules that yield the weight of each position inside the kernel.

A source is a small immutable expression (`_expression.py`), accepted wherever a loss takes
``weight=`` or ``weight_map=``. Sources, tensors and numbers combine with ``+ - *`` and division by
a number; a product is 0 where a factor is 0, whatever the other holds. What a source *means* is
written down in ``fusedloss/reference/_sources.py``.

    >>> import torch, fusedloss as fl
    >>> photo = torch.rand(2, 3, 8, 8)
    >>> 1 + 4 * fl.edges(photo, operator="sobel") - fl.boundary(radius=2) / 2
    1 + 4 * fl.edges(tensor(float32, (2, 3, 8, 8)), operator="sobel") - fl.boundary(radius=2) / 2

*Normalised* below means (g - min) / (max - min + 1e-7) within each sample, over the whole image
whether masked or not; a g that is not finite is left out of min and max and spoils only its own
position. No gradient flows into images, features, labels or what a region reads; a tensor that is
itself a factor or a summand is a weight like any other and gets one.

Everything here is traced by Dynamo, as regions are: keep to plain classes and control flow.
"""

from torch import Tensor

from ._checks import check_positional, check_weight
from ._comparison import as_float
from ._expression import Expression, Pair, tensor_text
from ._program import (
    ACTIVATION,
    ADD,
    AND,
    BOUNDARY,
    DIVIDE,
    EDGES_FORWARD,
    EDGES_SOBEL,
    MAX_RADIUS,
    NOT,
    NUMBER,
    SUBTRACT,
    WEIGHT,
)
from ._region_checks import (
    IMAGE_MIN_DIMS,
    check_edge_operator,
    check_features,
    check_image,
    check_image_tensor,
    check_labels,
    check_labels_tensor,
    check_radius,
    check_target_labels,
    plain_number,
)
from .regions import Region, as_region


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


class Edges(WeightSource):
    """How much an image changes at each position, normalised."""

    size = 2

    def __init__(self, tensor: Tensor, operator: str):
        self.tensor = tensor
        self.operator = operator

    @property
    def tensors(self):
        return (self.tensor,)

    def rebind(self, tensors):
        return Edges(tensors[0], self.operator)

    def check(self, input, target):
        check_image("fl.edges: image", self.tensor, input)

    def emit(self, assembler):
        begin = assembler.position
        opcode = EDGES_SOBEL if self.operator == "sobel" else EDGES_FORWARD
        assembler.instruction(opcode, assembler.image(self.tensor))
        assembler.normalize(begin)

    def text(self):
        operator = "" if self.operator == "forward" else f', operator="{self.operator}"'
        return f"fl.edges({tensor_text(self.tensor)}{operator})"


class Activation(WeightSource):
    """How active features are at each position, normalised."""

    size = 2

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    @property
    def tensors(self):
        return (self.tensor,)

    def rebind(self, tensors):
        return Activation(tensors[0])

    def check(self, input, target):
        check_features("fl.activation: features", self.tensor, input)

    def emit(self, assembler):
        begin = assembler.position
        assembler.instruction(ACTIVATION, assembler.image(self.tensor))
        assembler.normalize(begin)

    def text(self):
        return f"fl.activation({tensor_text(self.tensor)})"


class Normalized(WeightSource):
    """A region as 0 and 1, normalised."""

    def __init__(self, region: Region):
        self.region = region
        self.size = region.size + 3
        self.depth = region.depth

    @property
    def tensors(self):
        return self.region.tensors

    def rebind(self, tensors):
        return Normalized(self.region.rebind(tensors))

    def check(self, input, target):
        self.region.check(input, target)

    def check_positional(self, input):
        self.region.check_positional(input)

    def emit(self, assembler):
        begin = assembler.position
        self.region.emit(assembler)
        assembler.instruction(NOT)  # twice: 1 where a floating mask is not 0
        assembler.instruction(NOT)
        assembler.normalize(begin)

    def text(self):
        return f"fl.normalized({self.region.text()})"


class Boundary(WeightSource):
    """One weight near a change of label, another elsewhere; `tensor` None: the target's labels."""

    def __init__(self, tensor, radius: int, inside: float, outside: float, own: bool):
        self.tensor = tensor
        self.radius = radius
        self.inside = inside
        self.outside = outside
        self.own = own  # has labels of its own

    @property
    def tensors(self):
        return (self.tensor,) if self.own else ()

    def rebind(self, tensors):
        if not self.own:
            return self
        return Boundary(tensors[0], self.radius, self.inside, self.outside, True)

    def check(self, input, target):
        if self.own:
            check_labels("fl.boundary: labels", self.tensor, input)
        else:
            check_target_labels("fl.boundary()", target)

    def emit(self, assembler):
        labels = self.tensor if self.own else assembler.target
        if labels.ndim < assembler.input.ndim:
            labels = labels.unsqueeze(1)
        weights = assembler.constant(as_float(self.inside), as_float(self.outside))
        radius = min(self.radius, MAX_RADIUS)
        assembler.instruction(BOUNDARY, assembler.image(labels), radius, weights)

    def text(self):
        words = [tensor_text(self.tensor)] if self.own else []
        for name, default in (("radius", 1), ("inside", 1.0), ("outside", 0.0)):
            value = getattr(self, name)
            if value != default:
                words.append(f"{name}={value!r}")
        return f"fl.boundary({', '.join(words)})"


def edges(image: Tensor, operator: str = "forward") -> WeightSource:
    """How much `image` changes at each position, normalised within each sample.

    ``"forward"``: g(p) = sum over channels and spatial dims of abs(I[p - 1] - I[p - 1 + e_dim]),
    where p - 1 is one step back in every spatial dim; 0 at positions with a zero index. ``"sobel"``
    (2-D): g = sum over channels of sqrt(gx^2 + gy^2) of the 3 x 3 Sobel kernels, the border
    replicated.

    `image`: (N or 1, Ci, spatial shape of `input`), floating or uint8; no gradient flows into it.

    Raises TypeError for another dtype, ValueError for an unknown `operator` or fewer than three
    dims; at the call, ValueError for another spatial size, batch or device than `input` has.

    Example::

        >>> import torch, fusedloss as fl
        >>> x, photo = torch.zeros(1, 1, 2, 3), torch.tensor([[[[1.0, 1, 5], [1, 1, 1]]]])
        >>> fl.weight_map(fl.edges(photo), x, x)
        tensor([[[[0., 0., 0.],
                  [0., 0., 1.]]]])
    """
    check_image_tensor("fl.edges: image", image, IMAGE_MIN_DIMS + 1)
    check_edge_operator(operator, image)
    return Edges(image, operator)


def activation(features: Tensor) -> WeightSource:
    """How active `features` are: the sum over channels of abs(features), resized to the spatial
    size of `input` (linearly in every dim, half-pixel centres, no antialias), then normalised
    within each sample.

    `features`: (N or 1, Cf, any spatial size), floating or uint8, with as many spatial dims as
    `input`; no gradient flows into it.

    Raises TypeError for another dtype, ValueError for fewer than three dims or an empty size; at
    the call, ValueError for another number of dims, batch or device than `input` has.

    Example::

        >>> import torch, fusedloss as fl
        >>> x, features = torch.zeros(1, 1, 1, 4), torch.tensor([[[[0.0, -4.0]]]])
        >>> fl.weight_map(fl.activation(features), x, x)
        tensor([[[[0.0000, 0.2500, 0.7500, 1.0000]]]])
    """
    check_image_tensor("fl.activation: features", features, IMAGE_MIN_DIMS + 1, filled=True)
    return Activation(features)


def normalized(region) -> WeightSource:
    """A region (or mask tensor) as weights: 1 where it takes part, 0 elsewhere, normalised within
    each sample; a sample in which everything or nothing takes part becomes 0.

    Raises TypeError for what is no region, and at the call what a loss raises for such a mask.

    Example::

        >>> import torch, fusedloss as fl
        >>> x = torch.tensor([[[3.0, -1.0]], [[3.0, 1.0]]])
        >>> fl.weight_map(fl.normalized(fl.target > 0), x, x)
        tensor([[[1.0000, 0.0000]],
        <BLANKLINE>
                [[0.0000, 0.0000]]])
    """
    if region is None:
        raise TypeError("region must be a tensor or a region, got NoneType")
    return Normalized(as_region(region))


def boundary(
    labels: Tensor | None = None, radius: int = 1, inside: float = 1.0, outside: float = 0.0
) -> WeightSource:
    """`inside` where a label within `radius` (Chebyshev distance, inside the image) differs from
    the position's own, else `outside`.

    `labels`: (N or 1, spatial shape of `input`), with or without a channel dim of size 1, any real
    dtype, compared as they are (a NaN differs from all); None takes those of the target: class
    indices, or one channel.

    Raises TypeError for another type of `labels` or a `radius` that is no integer, ValueError for
    a negative `radius` or weights that are not finite; at the call, ValueError where the labels'
    shape or device do not go with `input`, or a target has several channels.

    Example::

        >>> import torch, fusedloss as fl
        >>> x, labels = torch.zeros(1, 1, 1, 6), torch.tensor([[[7, 7, 7, 2, 2, 2]]])
        >>> fl.weight_map(fl.boundary(labels, inside=5.0, outside=1.0), x, x)
        tensor([[[[1., 1., 5., 5., 1., 1.]]]])
    """
    if labels is not None:
        check_labels_tensor("fl.boundary: labels", labels)
    check_radius(radius)
    inside = plain_number("inside", inside)
    outside = plain_number("outside", outside)
    return Boundary(labels, radius, inside, outside, labels is not None)


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
