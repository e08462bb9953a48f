"""Regions in closed form: where an element lies decides, not what it holds.

Coordinates are indices of the input's spatial dims (those after the channel dim): x counts along
the last, y along the one before, z along the one before that. Fractions are welcome; nothing is
rounded. Coordinates in a tensor stay on their device and get no gradient.

    >>> import fusedloss as fl
    >>> (fl.box(-5, 0, 20, 10.5) | fl.disk(30, 30, radius=8)) & ~fl.center(0.25)
    (fl.box(-5, 0, 20, 10.5) | fl.disk(30, 30, 8)) & ~fl.center(0.25)
"""

from torch import Tensor

from ._comparison import as_float
from ._expression import tensor_text
from ._program import BOX, BOXES, CENTER, DISK, DISKS, KEYPOINTS, LENGTHS, MAX_SPATIAL
from ._region_checks import (
    check_class_sequences,
    check_coordinates,
    check_lengths,
    check_lengths_tensor,
    check_points,
    check_spatial,
    named_numbers,
    plain_number,
)
from .regions import Region


class _TensorTerm(Region):
    """A region that one tensor describes."""

    name = ""
    opcode = -1

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    @property
    def tensors(self):
        return (self.tensor,)

    def rebind(self, tensors):
        return type(self)(tensors[0])

    def emit(self, assembler):
        assembler.instruction(self.opcode, assembler.table(self.tensor))

    def text(self):
        return f"{self.name}({tensor_text(self.tensor)})"


class _NumberTerm(Region):
    """A region that a few numbers describe; `per_dim` of them, + `extra`, per spatial dim."""

    name = ""
    opcode = -1
    per_dim, extra = 1, 0

    def __init__(self, numbers: tuple[float, ...]):
        self.numbers = numbers

    def check(self, input, target):
        check_spatial(self.name, input, (len(self.numbers) - self.extra) // self.per_dim)

    def emit(self, assembler):
        numbers = assembler.constant(*(as_float(number) for number in self.numbers))
        assembler.instruction(self.opcode, 0, 0, numbers)

    def text(self):
        return f"{self.name}({', '.join(repr(number) for number in self.numbers)})"


class Center(Region):
    """The middle `fraction` of every spatial dim."""

    def __init__(self, fraction: float):
        self.fraction = fraction

    def check(self, input, target):
        check_spatial("fl.center", input)

    def emit(self, assembler):
        assembler.reserve(2 * MAX_SPATIAL)  # the bounds
        assembler.instruction(CENTER, 0, 0, assembler.constant(float(self.fraction)))

    def text(self):
        return f"fl.center({self.fraction!r})"


class Box(_NumberTerm):
    """`numbers`: the lower corner, then the upper."""

    name = "fl.box"
    opcode = BOX
    per_dim = 2


class Disk(_NumberTerm):
    """`numbers`: the centre, then the radius."""

    name = "fl.disk"
    opcode = DISK
    extra = 1


class Boxes(_TensorTerm):
    """`tensor`: rows as of `Box`, (K, ...) or (N, K, ...)."""

    name = "fl.boxes"
    opcode = BOXES

    def check(self, input, target):
        check_points(self.name, self.tensor, input, 2, 0)


class Disks(_TensorTerm):
    """`tensor`: rows as of `Disk`, (K, ...) or (N, K, ...)."""

    name = "fl.disks"
    opcode = DISKS

    def check(self, input, target):
        check_points(self.name, self.tensor, input, 1, 1)


class Keypoints(_TensorTerm):
    """Disks of one radius; `tensor`: their centres."""

    name = "fl.keypoints"
    opcode = KEYPOINTS

    def __init__(self, tensor: Tensor, radius: float):
        super().__init__(tensor)
        self.radius = radius

    def rebind(self, tensors):
        return Keypoints(tensors[0], self.radius)

    def emit(self, assembler):
        radius = assembler.constant(as_float(self.radius))
        assembler.instruction(KEYPOINTS, assembler.table(self.tensor), 0, radius)

    def check(self, input, target):
        check_points(self.name, self.tensor, input, 1, 0)

    def text(self):
        return f"fl.keypoints({tensor_text(self.tensor)}, {self.radius!r})"


class Lengths(_TensorTerm):
    """`tensor`: how many elements of each sequence, (N,)."""

    name = "fl.lengths"
    opcode = LENGTHS

    def check(self, input, target):
        check_lengths(self.tensor, input)

    def check_positional(self, input):
        check_class_sequences(input)


def center(fraction: float = 0.5) -> Region:
    """The middle of every spatial dim: of size H, floor(H(1 - f)/2 + 1e-6) <= i <
    floor(H(1 + f)/2 + 1e-6), with f = `fraction` in (0, 1].

    Raises TypeError or ValueError for another `fraction`; at the call, ValueError for an input
    without spatial dims.

    Example::

        >>> import torch, fusedloss as fl
        >>> x = torch.rand(1, 1, 4, 5)
        >>> fl.region_mask(fl.center(0.5), x, x)[0, 0].int()
        tensor([[0, 0, 0, 0, 0],
                [0, 1, 1, 0, 0],
                [0, 1, 1, 0, 0],
                [0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    return Center(plain_number("fraction", fraction, 0.0, high=1.0))


def box(*coordinates: float, **named: float) -> Region:
    """``box(x1, y1, x2, y2)``: columns x1 <= x < x2, rows y1 <= y < y2; in 3-D
    ``box(x1, y1, z1, x2, y2, z2)``.

    What lies outside the image is cut off (a negative coordinate never wraps); with x2 <= x1 it
    selects nothing. Raises TypeError or ValueError unless it gets 4 or 6 finite numbers; at the
    call, ValueError where `input` has not as many spatial dims.

    Example::

        >>> import torch, fusedloss as fl
        >>> x = torch.rand(1, 1, 3, 4)
        >>> fl.region_mask(fl.box(-2, 1, 2, 9), x, x)[0, 0].int()
        tensor([[0, 0, 0, 0],
                [1, 1, 0, 0],
                [1, 1, 0, 0]], dtype=torch.int32)
    """
    layouts = (("x1", "y1", "x2", "y2"), ("x1", "y1", "z1", "x2", "y2", "z2"))
    return Box(named_numbers("fl.box", layouts, coordinates, named))


def boxes(tensor: Tensor) -> Region:
    """Inside any of several boxes: `tensor` (K, 4), the same for every sample, or (N, K, 4); rows
    (x1, y1, x2, y2) as in `box`. In 3-D 6 instead of 4.

    A box that is empty or has a NaN selects nothing: pad with zeros where samples have fewer than
    K. No boxes (K = 0) select nothing. Integer or floating; on the device of `input`.

    Raises TypeError for another dtype and ValueError for another shape; at the call, ValueError
    where batch, spatial dims or device do not go with `input`.

    Example::

        >>> import torch, fusedloss as fl
        >>> x = torch.rand(2, 1, 2, 4)
        >>> found = torch.tensor([[[0, 0, 1, 1], [2, 0, 9, 1]], [[1, 1, 3, 2], [0, 0, 0, 0]]])
        >>> fl.region_mask(fl.boxes(found), x, x)[:, 0].int()
        tensor([[[1, 0, 1, 1],
                 [0, 0, 0, 0]],
        <BLANKLINE>
                [[0, 0, 0, 0],
                 [0, 1, 1, 0]]], dtype=torch.int32)
    """
    check_coordinates("fl.boxes", tensor, {4: "(x1, y1, x2, y2)", 6: "(x1, y1, z1, x2, y2, z2)"})
    return Boxes(tensor)


def disk(*coordinates: float, **named: float) -> Region:
    """``disk(x, y, radius)``: (px - x)^2 + (py - y)^2 <= radius^2; in 3-D the ball
    ``disk(x, y, z, radius)``.

    Raises TypeError or ValueError unless it gets 3 or 4 finite numbers, the radius not negative;
    at the call, ValueError where `input` has not as many spatial dims.

    Example::

        >>> import torch, fusedloss as fl
        >>> x = torch.rand(1, 1, 3, 4)
        >>> fl.region_mask(fl.disk(1, 1, radius=1), x, x)[0, 0].int()
        tensor([[0, 1, 0, 0],
                [1, 1, 1, 0],
                [0, 1, 0, 0]], dtype=torch.int32)
    """
    layouts = (("x", "y", "radius"), ("x", "y", "z", "radius"))
    numbers = named_numbers("fl.disk", layouts, coordinates, named)
    plain_number("radius", numbers[-1], 0.0, low_inclusive=True)
    return Disk(numbers)


def disks(tensor: Tensor) -> Region:
    """Inside any of several disks: `tensor` (K, 3), the same for every sample, or (N, K, 3); rows
    (x, y, radius) as in `disk`. In 3-D 4 instead of 3.

    A disk with a negative radius or a NaN selects nothing, so pad with those; dtypes, devices and
    errors are those of `boxes`.

    Example::

        >>> import torch, fusedloss as fl
        >>> x = torch.rand(1, 1, 2, 5)
        >>> eyes = torch.tensor([[0.0, 0.0, 1.0], [4.0, 1.0, 0.5], [2.0, 0.0, -1.0]])
        >>> fl.region_mask(fl.disks(eyes), x, x)[0, 0].int()
        tensor([[1, 1, 0, 0, 0],
                [1, 0, 0, 0, 1]], dtype=torch.int32)
    """
    check_coordinates("fl.disks", tensor, {3: "(x, y, radius)", 4: "(x, y, z, radius)"})
    return Disks(tensor)


def keypoints(points: Tensor, radius: float) -> Region:
    """Within `radius` >= 0 of any point: `points` (K, 2), the same for every sample, or (N, K, 2);
    rows (x, y). In 3-D 3 instead of 2.

    A point with a NaN selects nothing; dtypes, devices and errors are those of `boxes`.

    Example::

        >>> import torch, fusedloss as fl
        >>> x = torch.rand(1, 1, 1, 6)
        >>> fl.region_mask(fl.keypoints(torch.tensor([[1, 0], [5, 0]]), 1.0), x, x)[0, 0].int()
        tensor([[1, 1, 1, 0, 1, 1]], dtype=torch.int32)
    """
    check_coordinates("fl.keypoints", points, {2: "(x, y)", 3: "(x, y, z)"})
    return Keypoints(points, plain_number("radius", radius, 0.0, low_inclusive=True))


def lengths(tensor: Tensor) -> Region:
    """The first ``tensor[n]`` elements of each sequence: index < length, along dim 1 of an (N, T)
    input, along dim 2 of an (N, C, T) one.

    `tensor`: (N,), any integer dtype. A length <= 0 selects nothing, one beyond T everything.
    Raises TypeError for another dtype and ValueError for another shape; at the call, ValueError
    where batch or device differ from `input`'s or that is no batch of sequences.

    Example::

        >>> import torch, fusedloss as fl
        >>> x = torch.rand(2, 4)
        >>> fl.region_mask(fl.lengths(torch.tensor([3, 1])), x, x).int()
        tensor([[1, 1, 1, 0],
                [1, 0, 0, 0]], dtype=torch.int32)
    """
    check_lengths_tensor(tensor)
    return Lengths(tensor)
