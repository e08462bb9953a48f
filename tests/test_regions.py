"""Regions: what they print, hold and compile to, and that both mean what torch's comparison means.

A small interpreter of the instruction set stands in for the kernels.
"""

import copy
import math
import operator
import pickle
import random

import numpy as np
import pytest
import torch

import fusedloss as fl
from fusedloss import _comparison, _program, regions
from fusedloss._checks import broadcast_view
from fusedloss.reference._masking import region_value

OPERATORS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGER = tuple(_comparison._INTEGERS)
MASK = torch.tensor([[[True, False], [False, True]]])  # (1, 2, 2)


def program_of(region, dtype):
    """The program for a target of this dtype."""
    operand = torch.empty(0, dtype=dtype)
    return _program.compile(region, None, operand, operand)


def run(program, target):
    """The value of a program at every element, and the deepest the stack has been."""
    stack, deepest = [], 0
    for start in range(0, len(program.region), 4):
        opcode, a, b, c = program.region[start : start + 4]
        if opcode == _program.TENSOR:
            mask = broadcast_view(program.tensors[a], target.ndim)
            stack.append((mask if mask.is_floating_point() else mask != 0).double())
        elif opcode == _program.TARGET_COMPARE:
            compare = list(OPERATORS.values())[a]
            dtype = (torch.float32, torch.int64, torch.float64)[b]
            constant = c if b == _comparison.INT64 else program.constants[c]
            values = [float(compare(v, constant)) for v in target.to(dtype).flatten().tolist()]
            stack.append(torch.tensor(values, dtype=torch.float64).reshape(target.shape))
        elif opcode == _program.TARGET_ISFINITE:
            stack.append(target.isfinite().double())
        elif opcode == _program.NOT:
            stack.append((stack.pop() == 0).double())
        else:
            right, left = stack.pop(), stack.pop()
            if opcode == _program.AND:
                stack.append(torch.where((left == 0) | (right == 0), 0.0, left * right))
            else:
                assert opcode == _program.OR
                stack.append(torch.maximum(left, right))
        deepest = max(deepest, len(stack))
    (result,) = stack
    return result.expand(target.shape), deepest


def random_region(rng, tensors, size):
    if size == 1:
        kind = rng.randrange(3)
        if kind == 0:
            return regions.TensorRegion(rng.choice(tensors))
        if kind == 1:
            return fl.target.isfinite()
        return OPERATORS[rng.choice(list(OPERATORS))](fl.target, rng.choice([0, 1, 0.5, -1]))
    if rng.random() < 0.2:
        return ~random_region(rng, tensors, size - 1)
    left = rng.randrange(1, size) if size > 2 else 1
    make = operator.and_ if rng.random() < 0.5 else operator.or_
    return make(random_region(rng, tensors, left), random_region(rng, tensors, max(1, size - left)))


@pytest.mark.parametrize(
    ("region", "text"),
    [
        (fl.target > 0, "fl.target > 0"),
        (0 < fl.target, "fl.target > 0"),
        (fl.target != math.inf, "fl.target != inf"),
        (fl.target == np.float32(0.5), "fl.target == 0.5"),
        (np.int64(3) >= fl.target, "fl.target <= 3"),
        (fl.target.isfinite(), "fl.target.isfinite()"),
        (~fl.target.isfinite(), "~fl.target.isfinite()"),
        (~(fl.target > 0), "~(fl.target > 0)"),
        (~~(fl.target > 0), "~~(fl.target > 0)"),
        (MASK & (fl.target > 0), "tensor(bool, (1, 2, 2)) & (fl.target > 0)"),
        ((fl.target > 0) & MASK, "(fl.target > 0) & tensor(bool, (1, 2, 2))"),
        (MASK | (fl.target > 0), "tensor(bool, (1, 2, 2)) | (fl.target > 0)"),
        (
            (fl.target > 0) & (fl.target < 5) | fl.target.isfinite(),
            "(fl.target > 0) & (fl.target < 5) | fl.target.isfinite()",
        ),
        (
            (fl.target > 0) & ((fl.target < 5) | fl.target.isfinite()),
            "(fl.target > 0) & ((fl.target < 5) | fl.target.isfinite())",
        ),
        (
            (fl.target > 0) & ((fl.target < 5) & fl.target.isfinite()),
            "(fl.target > 0) & ((fl.target < 5) & fl.target.isfinite())",
        ),
        (~((fl.target > 0) | MASK), "~((fl.target > 0) | tensor(bool, (1, 2, 2)))"),
    ],
    ids=repr,
)
def test_repr_reads_like_the_expression(region, text):
    assert repr(region) == text


def test_copies_keep_the_expression():
    region = MASK & ~(fl.target > 0.5) | fl.target.isfinite()
    for other in (pickle.loads(pickle.dumps(region)), copy.deepcopy(region)):
        assert repr(other) == repr(region)
        assert torch.equal(other.tensors[0], MASK)
        assert other.tensors[0] is not MASK
    assert copy.deepcopy(fl.target) is fl.target
    assert pickle.loads(pickle.dumps(fl.target)) is fl.target


def test_regions_hash_by_identity():
    first, second = fl.target > 0, fl.target > 0
    assert len({first, second, first, fl.target}) == 3


def test_tensors_and_rebind():
    a, b, c = (torch.full((2,), float(i)) for i in range(3))
    region = a & ((fl.target > 0) | b) & ~(c & fl.target.isfinite() & a)
    assert [t.data_ptr() for t in region.tensors] == [t.data_ptr() for t in (a, b, c, a)]
    other = region.rebind((c, b, a, b))
    assert [t.data_ptr() for t in other.tensors] == [t.data_ptr() for t in (c, b, a, b)]
    assert repr(other) == repr(region)
    assert region.tensors[0] is a
    assert (fl.target > 0).rebind(()).tensors == ()


def test_plain_tensor_program():
    region = regions.as_region(MASK)
    program = program_of(region, torch.float32)
    assert program == _program.Program((_program.TENSOR, 0, 0, 0), tensors=(MASK,))
    assert regions.as_region(None) is None
    assert regions.as_region(region) is region


def test_program_of_an_expression():
    program = program_of(~(fl.target > 0.1) & MASK & MASK.float(), torch.float16)
    rounded = torch.tensor(0.1, dtype=torch.float16).item()
    assert program.constants == (rounded,)
    names = ("TARGET_COMPARE", "NOT", "TENSOR", "AND", "TENSOR", "AND")
    assert program.region[::4] == tuple(getattr(_program, name) for name in names)
    assert (program.region[9], program.region[17]) == (0, 1)  # indices of the tensors
    assert program_of((fl.target > 3) & ~MASK, torch.uint8).region[:4] == (
        _program.TARGET_COMPARE,
        0,
        _comparison.INT64,
        3,
    )


def test_a_tensor_used_twice_is_passed_once():
    program = program_of((MASK & (fl.target > 0)) | (MASK & (fl.target < -1)), torch.float32)
    assert len(program.tensors) == 1
    assert program.tensors[0] is MASK


def test_deeper_operand_first():
    """A right-leaning chain needs two slots, not one per term."""
    region = fl.target > 0
    for value in range(10):
        region = (fl.target > value) & region
    program = program_of(region, torch.float32)
    assert run(program, torch.zeros(1))[1] == 2


def balanced(levels):
    return fl.target > 0 if levels == 1 else balanced(levels - 1) & balanced(levels - 1)


def chained(terms, term=lambda i: fl.target > i):
    region = term(0)
    for index in range(1, terms):
        region = region | term(index)
    return region


@pytest.mark.parametrize(
    ("region", "fits"),
    [
        (balanced(4), True),
        (balanced(5), True),  # depth 5, 31 instructions
        (balanced(6), False),
        (chained(16), True),
        (chained(17), False),  # 33 instructions
        (chained(8, lambda _: regions.TensorRegion(MASK.clone())), True),
        (chained(9, lambda _: regions.TensorRegion(MASK.clone())), False),
        (chained(9, lambda _: regions.TensorRegion(MASK)), True),
    ],
    ids=lambda value: "" if isinstance(value, bool) else f"{value.size} instructions",
)
def test_limits(region, fits):
    program = program_of(region, torch.float32)
    assert (program is not None) == fits
    if fits:
        assert len(program.region) == 4 * region.size <= 4 * _program.MAX_INSTRUCTIONS
        assert run(program, torch.zeros(1, 2, 2))[1] == region.depth <= _program.MAX_DEPTH


def test_random_expressions_against_the_reference():
    rng = random.Random(1)
    target = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    target[0, 0, 0] = torch.tensor([math.nan, math.inf])
    tensors = [
        MASK,
        torch.tensor([[2.0, 0.0], [math.nan, 0.5]]).reshape(1, 1, 2, 2),
        torch.tensor([0, 3, -1]).reshape(1, 3, 1, 1),
        torch.tensor([0.0, 1.5], dtype=torch.float16).reshape(2, 1, 1, 1),
    ]
    compiled = 0
    for _ in range(300):
        region = random_region(rng, tensors, rng.randrange(1, 16))
        program = program_of(region, target.dtype)
        if program is None:
            assert region.size > 32 or region.depth > 6
            continue
        compiled += 1
        value, deepest = run(program, target)
        assert deepest == region.depth
        expected = region_value(region, target, target, torch.float64).double().expand(target.shape)
        assert torch.equal(value.nan_to_num(7), expected.nan_to_num(7)), region
    assert compiled > 200


VALUES = (
    [0, 1, -1, 300, -300, True, False, 2049, 2**31, 2**32 + 7, 2**63 - 1, 2**63, 2**64 - 1]
    + [-(2**63), 16777217, 16777219, 33554431, 2**53 + 1, -(2**53) - 1]
    + [0.1, 0.5, -1.5, 1e-8, 1e-40, 1e-45, 6e-8, 2.9802e-8, 65504.0, 65519.9, 65520.0, 1e6]
    + [3.4e38, 3.4028235677973366e38, 1e39, 1e300, math.inf, -math.inf, math.nan]
    + [16777217.0, 2049.0, 1.00390625, 1.003906251, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-30]
)


def neighbours(value, dtype):
    """Elements of `dtype` at, just beside and far from a value."""
    if dtype is torch.bool:
        return torch.tensor([True, False])
    if dtype.is_floating_point:
        point = torch.tensor([float(value)], dtype=dtype)
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
        near = [(point.view(bits) + step).view(dtype) for step in (-1, 0, 1)]
        return torch.cat([*near, torch.tensor([0, 1, math.nan, math.inf, -math.inf], dtype=dtype)])
    info = torch.iinfo(dtype)
    elements = [0, 1, 44, info.min, info.max]
    if isinstance(value, int):
        elements += [v for v in (value - 1, value, value + 1) if info.min <= v <= info.max]
    return torch.tensor(elements, dtype=dtype)


@pytest.mark.parametrize("dtype", (*FLOATING, *INTEGER, torch.bool), ids=str)
def test_comparison_equals_torch(dtype):
    rng = random.Random(0)
    randoms = [rng.uniform(-3, 3) for _ in range(40)]
    randoms += [rng.randrange(-(2**62), 2**62) >> rng.randrange(60) for _ in range(40)]
    compared = 0
    for value in VALUES + randoms:
        target = neighbours(value, dtype)
        for symbol, compare in OPERATORS.items():
            region = compare(fl.target, value)
            reference = region_value(region, target, target, torch.float32)
            program = program_of(region, dtype)
            if program is not None:
                assert torch.equal(run(program, target)[0] != 0, reference), (symbol, value)
            try:
                expected = compare(target, value)
            except (RuntimeError, NotImplementedError):  # torch has no such comparison
                continue
            compared += 1
            assert torch.equal(reference, expected), (symbol, value)
    assert compared > 100


@pytest.mark.parametrize("dtype", (torch.bool, torch.int32, torch.int64, torch.float64), ids=str)
@pytest.mark.parametrize("value", (2**64, 10**400, -(2**63) - 1, -(10**400)), ids=lambda v: v > 0)
def test_numbers_that_torch_cannot_hold(dtype, value):
    """torch raises OverflowError; the answer is the mathematical one."""
    target = torch.tensor([0, 1]).to(dtype)
    for compare in OPERATORS.values():
        region = compare(fl.target, value)
        expected = [compare(element, value) for element in target.tolist()]
        assert region_value(region, target, target, torch.float32).tolist() == expected
        assert (run(program_of(region, dtype), target)[0] != 0).tolist() == expected


def test_wide_unsigned_order():
    target = torch.tensor([0, 2**63, 2**64 - 1], dtype=torch.uint64)
    assert region_value(fl.target >= 2**63, target, target, torch.float32).tolist() == [
        False,
        True,
        True,
    ]
    assert program_of(fl.target >= 2**63, torch.uint64) is None  # no 64-bit unsigned domain


def test_default_dtype_decides_integers_against_floats():
    region = fl.target >= 16777217.0
    try:
        torch.set_default_dtype(torch.float64)
        assert program_of(region, torch.int32).region[2] == _comparison.FLOAT64
        torch.set_default_dtype(torch.bfloat16)
        assert program_of(region, torch.int32) is None
    finally:
        torch.set_default_dtype(torch.float32)
    assert program_of(region, torch.int32).region[2] == _comparison.FLOAT32


def test_nan_satisfies_only_not_equal():
    target = torch.tensor([math.nan])
    for symbol, compare in OPERATORS.items():
        selected = run(program_of(compare(fl.target, 1), torch.float32), target)[0].item()
        assert selected == (symbol == "!=")


@pytest.mark.parametrize(
    ("use", "fragments"),
    [
        (lambda: bool(fl.target > 0), ["truth value", "& | ~"]),
        (lambda: 0 < fl.target < 5, ["truth value", "(fl.target > 0) & (fl.target < 5)"]),
        (lambda: (fl.target > 0) and MASK, ["truth value", "fl.target > 0"]),
        (lambda: bool(fl.target), ["fl.target > 0"]),
        (lambda: fl.target & MASK, ["compare it with a number"]),
        (lambda: MASK | fl.target, ["compare it with a number"]),
        (lambda: ~fl.target, ["compare it with a number"]),
        (lambda: (fl.target > 0) & fl.target, ["operand of & and |", "compare it"]),
        (lambda: (fl.target > 0) & True, ["operand of & and |", "bool", "mask=None"]),
        (lambda: 1 | (fl.target > 0), ["operand of & and |", "int (1)"]),
        (lambda: (fl.target > 0) & [True], ["got list", "as_tensor"]),
        (lambda: np.ones(2, bool) & (fl.target > 0), ["got ndarray", "as_tensor"]),
        (lambda: fl.target > torch.tensor(1.0), ["tensor of shape ()", "mask=target > value"]),
        (lambda: MASK >= fl.target, ["tensor of shape (1, 2, 2)", ".item()"]),
        (lambda: fl.target > np.ones(2), ["real number", "got ndarray"]),
        (lambda: fl.target == "a", ["real number", "got str"]),
        (lambda: fl.target > 1j, ["real number", "got complex"]),
        (lambda: fl.target > None, ["real number", "got NoneType"]),
        (lambda: torch.add(MASK, fl.target > 0), ["does not take a region", "& | ~"]),
        (lambda: regions.as_region(fl.target), ["mask", "fl.target", "compare it"]),
        (lambda: regions.as_region(True), ["mask", "bool (True)", "mask=None"]),
        (lambda: regions.as_region([True]), ["mask", "list", "as_tensor"]),
        (lambda: regions.as_region(np.ones(2)), ["mask", "ndarray", "as_tensor"]),
        (lambda: regions.as_region("a"), ["mask", "str"]),
    ],
)
def test_wrong_usage(use, fragments):
    with pytest.raises(TypeError) as caught:
        use()
    for fragment in fragments:
        assert fragment in str(caught.value)
