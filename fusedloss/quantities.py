"""What regions compare with a number: the target, the variance of the input, the mean of an image.

    >>> import torch, fusedloss as fl
    >>> photo = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    >>> (fl.target > 0) & (fl.input.var() > 0.1) | (fl.image(photo).mean() < 50)
    (fl.target > 0) & (fl.input.var() > 0.1) | (fl.image(tensor(uint8, (2, 3, 8, 8))).mean() < 50)

Comparisons mean exactly what the comparison of such a tensor with that number means in torch: the
number is rounded to the tensor's dtype first, and NaN satisfies only ``!=``. (A variance that is
NaN takes no part under any comparison.)
"""

import numbers

import torch
from torch import Tensor

from . import _comparison
from ._expression import tensor_text
from ._program import IMAGE_MEAN, TARGET_COMPARE, TARGET_ISFINITE, VARIANCE
from ._region_checks import (
    IMAGE_MIN_DIMS,
    check_channels,
    check_image,
    check_image_tensor,
    plain_number,
)
from .regions import Proxy, Region


class Quantity(Proxy):
    """A number of each element or position; compared with a Python number it is a region."""

    def advice(self):
        return f"is no region by itself; compare it with a number, for example {self.text()} > 0"

    def compare(self, operator: str, value: float) -> Region:
        raise NotImplementedError

    def __gt__(self, value):
        return self.compare(">", self._number(">", value))

    def __ge__(self, value):
        return self.compare(">=", self._number(">=", value))

    def __lt__(self, value):
        return self.compare("<", self._number("<", value))

    def __le__(self, value):
        return self.compare("<=", self._number("<=", value))

    def __eq__(self, value):
        return self.compare("==", self._number("==", value))

    def __ne__(self, value):
        return self.compare("!=", self._number("!=", value))

    __hash__ = Proxy.__hash__

    def _number(self, operator: str, value) -> float:
        """`value` as a Python number."""
        if type(value) in (int, float, bool):
            return value
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real):
            return float(value)
        message = f"{self.text()} {operator} ...: the value must be a real number"
        if isinstance(value, Tensor):
            raise TypeError(
                f"{message}, got a tensor of shape {tuple(value.shape)}; compare the tensors "
                f"themselves and pass the result as mask (mask={self.text()[3:]} {operator} "
                "value), or take the number out with .item()"
            )
        raise TypeError(f"{message}, got {type(value).__name__}")


class Comparison(Region):
    """A quantity beside a number; `operator` is one of > >= < <= == !=."""

    precedence = 0

    def __init__(self, operator: str, value: float):
        self.operator = operator
        self.value = value

    def quantity(self) -> str:
        raise NotImplementedError

    def lowered(self, values: Tensor) -> tuple[int, float]:
        """(operator's index, constant) beside float32 numbers; float64 ones of float64 `values`."""
        dtype = values.dtype if values.dtype is torch.float64 else torch.float32
        operator, _, constant = _comparison.lower(self.operator, self.value, dtype)
        return operator, constant

    def text(self):
        return f"{self.quantity()} {self.operator} {self.value!r}"


# ---- fl.target ---------------------------------------------------------------------------------


class TargetCompare(Comparison):
    """``fl.target <operator> value``, exactly as torch compares the target with that number."""

    def emit(self, assembler):
        lowered = _comparison.lower(self.operator, self.value, assembler.target.dtype)
        if lowered is None:
            assembler.ok = False
            return
        operator, domain, value = lowered
        if domain != _comparison.INT64:
            value = assembler.constant(value)
        assembler.instruction(TARGET_COMPARE, operator, domain, value)

    def quantity(self):
        return "fl.target"


class TargetIsFinite(Region):
    """``fl.target.isfinite()``: the target is neither NaN nor infinite."""

    def emit(self, assembler):
        assembler.instruction(TARGET_ISFINITE)

    def text(self):
        return "fl.target.isfinite()"


class Target(Quantity):
    """The type of ``fl.target``: compare it with a number, or ask ``.isfinite()``.

    Example::

        >>> import torch, fusedloss as fl
        >>> depth = torch.tensor([2.0, float("inf"), -1.0])
        >>> fl.l1_loss(torch.zeros(3), depth, mask=(fl.target > 0) & fl.target.isfinite())
        tensor(2.)
    """

    def compare(self, operator, value):
        return TargetCompare(operator, value)

    def isfinite(self) -> Region:
        """The region where the target is neither NaN nor infinite."""
        return TargetIsFinite()

    def __getattr__(self, name):
        message = f"fl.target has no {name!r}: it takes comparisons with a number and .isfinite()"
        if name in ("isnan", "isinf"):
            message += "; ~fl.target.isfinite() is where it is NaN or infinite"
        raise AttributeError(message)

    def text(self):
        return "fl.target"

    def advice(self):
        return (
            "stands for the target tensor and is no region by itself; compare it with a number, "
            "for example fl.target > 0, or use fl.target.isfinite()"
        )

    def __reduce__(self):
        return "target"  # pickle and deepcopy keep the one proxy


# ---- fl.input ----------------------------------------------------------------------------------


class VarianceCompare(Comparison):
    """``fl.input.var(correction) <operator> value``: the same for all channels of a position."""

    def __init__(self, correction: float, operator: str, value: float):
        super().__init__(operator, value)
        self.correction = correction

    def check(self, input, target):
        check_channels("fl.input.var()", input)

    def emit(self, assembler):
        operator, constant = self.lowered(assembler.input)
        correction = _comparison.as_float(self.correction)
        assembler.instruction(VARIANCE, operator, 0, assembler.constant(constant, correction))

    def quantity(self):
        return _variance_text(self.correction)


class Variance(Quantity):
    """The type of ``fl.input.var()``."""

    def __init__(self, correction: float):
        self.correction = correction

    def compare(self, operator, value):
        return VarianceCompare(self.correction, operator, value)

    def text(self):
        return _variance_text(self.correction)


def _variance_text(correction: float) -> str:
    return "fl.input.var()" if correction == 1 else f"fl.input.var(correction={correction!r})"


class Input(Proxy):
    """The type of ``fl.input``, which has one quantity: ``.var()``.

    Example::

        >>> import torch, fusedloss as fl
        >>> prediction = torch.tensor([[[1.0, 2.0]], [[1.0, 5.0]]]).transpose(1, 2)  # (2, 2, 1)
        >>> fl.mse_loss(prediction, 0 * prediction, mask=fl.input.var() > 1)
        tensor(13.)
    """

    def var(self, correction: float = 1) -> Variance:
        """The variance of `input` over its channel dim (dim 1), as ``torch.var``.

        Sum of squared differences from the mean / (C - `correction`), in float32 (float64 for a
        float64 input). Compare it with a number; a position whose variance is NaN (C <=
        `correction`, or a NaN among its channels) takes no part. No gradient flows through it.

        Raises TypeError or ValueError where `correction` is not a finite number >= 0, and, at the
        call, ValueError for an input of fewer than two dims.
        """
        return Variance(plain_number("correction", correction, 0.0, low_inclusive=True))

    def __getattr__(self, name):
        raise AttributeError(f"fl.input has no {name!r}: it takes .var(), compared with a number")

    def text(self):
        return "fl.input"

    def advice(self):
        return (
            "stands for the input tensor and is no region by itself; a region can read its "
            "variance over the channels, for example fl.input.var() > 0.1, or pass a tensor as "
            "mask (mask=input > 1)"
        )

    def __reduce__(self):
        return "input"


# ---- fl.image ----------------------------------------------------------------------------------


class ImageMeanCompare(Comparison):
    """``fl.image(tensor).mean() <operator> value``: the same for all channels of a position."""

    def __init__(self, tensor: Tensor, operator: str, value: float):
        super().__init__(operator, value)
        self.tensor = tensor

    @property
    def tensors(self):
        return (self.tensor,)

    def rebind(self, tensors):
        return ImageMeanCompare(tensors[0], self.operator, self.value)

    def check(self, input, target):
        check_image("image", self.tensor, input)

    def emit(self, assembler):
        operator, constant = self.lowered(self.tensor)
        image = assembler.image(self.tensor)
        assembler.instruction(IMAGE_MEAN, operator, image, assembler.constant(constant))

    def quantity(self):
        return f"fl.image({tensor_text(self.tensor)}).mean()"


class ImageMean(Quantity):
    """The type of ``fl.image(tensor).mean()``."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    def compare(self, operator, value):
        return ImageMeanCompare(self.tensor, operator, value)

    def text(self):
        return f"fl.image({tensor_text(self.tensor)}).mean()"

    def _number(self, operator, value):
        if isinstance(value, Tensor):
            raise TypeError(
                f"{self.text()} {operator} ...: the value must be a real number, got a tensor of "
                f"shape {tuple(value.shape)}; compare the tensors themselves and pass the result "
                f"as mask (mask=image.mean(1) {operator} value), or take the number out with "
                ".item()"
            )
        return super()._number(operator, value)


class Image(Proxy):
    """The type of ``fl.image(tensor)``, which has one quantity: ``.mean()``."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    def mean(self) -> ImageMean:
        """The mean over the channels, in float32 (float64 for a float64 image)."""
        return ImageMean(self.tensor)

    def __getattr__(self, name):
        raise AttributeError(
            f"fl.image(tensor) has no {name!r}: it takes .mean(), compared with a number"
        )

    def text(self):
        return f"fl.image({tensor_text(self.tensor)})"

    def advice(self):
        return (
            "is no region by itself; compare the mean of its channels with a number: "
            "fl.image(tensor).mean() < 0.2"
        )


def image(tensor: Tensor) -> Image:
    """Another image to look at: ``fl.image(tensor).mean() < 0.2`` selects its dark positions.

    `tensor`: (N or 1, Ci, spatial shape of `input`), floating or uint8 (read as numbers 0..255).
    No gradient flows into it.

    Raises TypeError for another dtype and ValueError for fewer than two dims or no channels; at the
    call, ValueError for another spatial size, batch or device than `input` has.

    Example::

        >>> import torch, fusedloss as fl
        >>> photo = torch.tensor([[[[0, 255]], [[10, 255]], [[20, 255]]]], dtype=torch.uint8)
        >>> prediction, truth = torch.tensor([[[[3.0, 7.0]]]]), torch.zeros(1, 1, 1, 2)
        >>> fl.l1_loss(prediction, truth, mask=fl.image(photo).mean() < 50)
        tensor(3.)
    """
    check_image_tensor("image", tensor, IMAGE_MIN_DIMS)
    return Image(tensor)


target = Target()
input = Input()
