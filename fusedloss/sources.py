"""What a weight is made of: edges, activations, regions, boundaries between labels.

*Normalised* below means (g - min) / (max - min + 1e-7) within each sample, over the whole image
whether masked or not; a g that is not finite is left out of min and max and spoils only its own
position. `weights.py` has what these are combined with.

    >>> import torch, fusedloss as fl
    >>> 1 + 4 * fl.normalized(fl.target > 0)
    1 + 4 * fl.normalized(fl.target > 0)
"""

from torch import Tensor

from ._comparison import as_float
from ._expression import tensor_text
from ._program import ACTIVATION, BOUNDARY, EDGES_FORWARD, EDGES_SOBEL, MAX_RADIUS, NOT
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
from .weights import WeightSource


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
