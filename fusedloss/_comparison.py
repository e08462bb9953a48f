"""What ``target <operator> number`` means in torch, as a constant that a kernel can compare with.

torch converts the number to the dtype of the comparison first: to the dtype of a floating target;
for an integer target a Python float moves both sides to the default dtype, while an int is taken
modulo the target's width (300 is 44 beside uint8), and bool is widened to int64. The rounding is
done here, in Python, so that it costs the kernel nothing and works while Dynamo traces.
"""

import math
import operator

import torch

OPERATORS = (">", ">=", "<", "<=", "==", "!=")  # the index is the encoding

# Domains of the comparison, equal to csrc/regions/program.h.
FLOAT32 = 0  # the target as float32 (16-bit targets are exact there)
INT64 = 1  # the target as int64, the constant stands in the instruction
FLOAT64 = 2  # the target as float64

_MIN_INT64 = -(1 << 63)
_FLOATING = (torch.float32, torch.float16, torch.bfloat16)
# dtype: bits of the significand, exponent of the smallest normal number, largest number
_FORMATS = {
    torch.float32: (24, -125, (2 - 2.0**-23) * 2.0**127),
    torch.float16: (11, -13, 65504.0),
    torch.bfloat16: (8, -125, (2 - 2.0**-7) * 2.0**127),
}
# dtype: width, signed
_INTEGERS = {
    torch.uint8: (8, False),
    torch.int8: (8, True),
    torch.uint16: (16, False),
    torch.int16: (16, True),
    torch.uint32: (32, False),
    torch.int32: (32, True),
    torch.uint64: (64, False),
    torch.int64: (64, True),
}


def lower(operator: str, value: float, dtype: torch.dtype) -> tuple[int, int, float] | None:
    """(operator's index, domain, constant), or None where no domain holds the comparison."""
    index = OPERATORS.index(operator)
    if dtype in _FLOATING:
        return index, FLOAT32, rounded(value, dtype)
    if dtype is torch.float64:
        return index, FLOAT64, as_float(value)
    if isinstance(value, float):
        common = torch.get_default_dtype()
        if common is torch.float32:
            return index, FLOAT32, rounded(value, common)
        return (index, FLOAT64, value) if common is torch.float64 else None
    if dtype is torch.uint64:
        return None
    constant = wrapped(value, dtype)
    if constant is None:
        always = holds_everywhere(operator, value_is_large=value > 0)
        return OPERATORS.index(">=" if always else "<"), INT64, _MIN_INT64
    return index, INT64, constant


def wrapped(value: int, dtype: torch.dtype) -> int | None:
    """The integer that an integer or bool target is compared with; None: torch cannot hold it."""
    value = operator.index(int(value))  # index: a compiler's symbolic integer becomes a constant
    if dtype is torch.bool:
        return value if _MIN_INT64 <= value < -_MIN_INT64 else None
    if not _MIN_INT64 <= value < 1 << 64:
        return None
    width, signed = _INTEGERS[dtype]
    value &= (1 << width) - 1
    return value - (1 << width) if signed and value >> (width - 1) else value


def holds_everywhere(operator: str, value_is_large: bool) -> bool:
    """Whether the comparison with an integer beyond every target holds (else it never does)."""
    if operator in ("==", "!="):
        return operator == "!="
    return (operator in ("<", "<=")) == value_is_large


def as_float(value: float) -> float:
    """`value` as a double; an integer beyond the range of doubles becomes infinite."""
    if isinstance(value, int) and abs(value) >= 1 << 1023:
        return math.inf if value > 0 else -math.inf
    return float(value)


def rounded(value: float, dtype: torch.dtype) -> float:
    """`value` rounded to a floating dtype, as torch does: through float32 for the 16-bit ones."""
    if -256 <= value <= 256 and value == int(value):
        return float(value)  # exact in every dtype
    if isinstance(value, int):
        value = _rounded_integer(value)
    value = _rounded_float(as_float(value), torch.float32)
    return value if dtype is torch.float32 else _rounded_float(value, dtype)


def _rounded_integer(value: int) -> int:
    """To 24 bits, half to even, before it becomes a double: rounding twice could differ."""
    excess = abs(value).bit_length() - 24
    if excess <= 0:
        return value
    unit = 1 << excess
    quotient, rest = divmod(abs(value), unit)
    if 2 * rest > unit or (2 * rest == unit and quotient % 2 == 1):
        quotient += 1
    return quotient * unit if value > 0 else -quotient * unit


def _rounded_float(value: float, dtype: torch.dtype) -> float:
    if value != value or value in (math.inf, -math.inf):
        return value
    bits, smallest_exponent, largest = _FORMATS[dtype]
    fraction, exponent = math.frexp(value)
    bits -= max(0, smallest_exponent - exponent)  # subnormal numbers have fewer
    value = math.ldexp(float(round(math.ldexp(fraction, bits))), exponent - bits)
    if abs(value) > largest:
        return math.inf if value > 0 else -math.inf
    return value
