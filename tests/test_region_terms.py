"""Region terms: what they select (against numpy loops), print, hold, and do to a loss."""

import copy
import math
import pickle
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import fusedloss as fl
from fusedloss import reference
from tests import cases
from tests import numpy_terms as terms
from tests.backends import kernels_only
from tests.families import ELEMENTWISE
from tests.numpy_terms import array

NAN, INF = math.nan, math.inf
PLANE, SPACE, SEQUENCE, MATRIX = (2, 3, 6, 7), (2, 2, 4, 5, 6), (3, 2, 9), (3, 8)
RNG = torch.Generator().manual_seed(7)


def rand(*shape, dtype=torch.float32):
    return torch.rand(shape, generator=RNG, dtype=torch.float64).to(dtype)


PHOTO = (255 * rand(2, 3, 6, 7)).to(torch.uint8)
BOXES = torch.tensor([[[1, 1, 3, 4], [5, 0, 6, 9]], [[-4, -4, 2, 1], [3, 3, 3, 5]]])
DISKS = torch.tensor([[[1.5, 2.0, 1.2], [NAN, 0, 9]], [[6, 5, 2], [3, 3, -1]]])
POINTS = torch.tensor([[0.0, 0.0], [5.5, 3.5], [NAN, 1.0]])
BALLS = torch.tensor([[1.0, 2.0, 3.0, 1.5], [4.0, 4.0, 0.0, 0.5]])

# (shape of the input, term)
TABLE = [
    *((PLANE, terms.variance(symbol, 0.1)) for symbol in terms.OPERATORS),
    *((PLANE, terms.variance(">", 0.1, correction)) for correction in (0, 0.5, 2, 3, 7)),
    (SPACE, terms.variance("<=", 0.3)),
    (SEQUENCE, terms.variance(">", 0.3)),
    (MATRIX, terms.variance(">", 0.07)),
    ((2, 1, 4, 4), terms.variance("!=", 0.5)),
    ((2, 1, 4, 4), terms.variance(">=", 0, 0)),
    *((PLANE, terms.image_mean(PHOTO, symbol, 127)) for symbol in terms.OPERATORS),
    (PLANE, terms.image_mean(PHOTO[:1], "<", 100)),
    (PLANE, terms.image_mean(rand(2, 1, 6, 7, dtype=torch.float16), "<", 0.5)),
    (PLANE, terms.image_mean(rand(1, 5, 6, 7, dtype=torch.float64), ">=", 0.5)),
    (SPACE, terms.image_mean(rand(2, 2, 4, 5, 6), ">", 0.5)),
    (SEQUENCE, terms.image_mean(rand(3, 4, 9), ">", 0.5)),
    (MATRIX, terms.image_mean(rand(3, 4), ">", 0.5)),
    *((PLANE, terms.center(fraction)) for fraction in (0.5, 1.0, 1, 0.3, 1e-3, 2 / 3)),
    (SPACE, terms.center(0.5)),
    (SEQUENCE, terms.center(0.4)),
    (PLANE, terms.box(1, 2, 4, 5)),
    (PLANE, terms.box(-3, -1.5, 2.5, 99)),
    (PLANE, terms.box(1.5, 0, 4.000001, 3)),
    (PLANE, terms.box(4, 4, 2, 2)),
    (SPACE, terms.box(1, 0, 2, 4, 3, 9)),
    (PLANE, terms.boxes(BOXES)),
    (PLANE, terms.boxes(BOXES[0])),
    (PLANE, terms.boxes(BOXES[0].to(torch.uint8))),
    (PLANE, terms.boxes(BOXES.half() + 0.5)),
    (PLANE, terms.boxes(torch.tensor([[0.0, NAN, 9, 9], [0.0, 0, INF, 1]]))),
    (PLANE, terms.boxes(torch.empty(0, 4))),
    (PLANE, terms.boxes(torch.empty(2, 0, 4))),
    (SPACE, terms.boxes(torch.tensor([[0, 0, 0, 2, 2, 2], [3, 3, 1, 9, 4, 4]]))),
    (PLANE, terms.disk(3, 2, 2)),
    (PLANE, terms.disk(-1.5, 2.25, 3.1)),
    (PLANE, terms.disk(3, 2, 0)),
    (SPACE, terms.disk(1, 2, 3, 2.5)),
    (PLANE, terms.disks(DISKS)),
    (PLANE, terms.disks(DISKS[1].long())),
    (SPACE, terms.disks(BALLS)),
    (PLANE, terms.keypoints(POINTS, 1.5)),
    (PLANE, terms.keypoints(POINTS.reshape(1, 3, 2).repeat(2, 1, 1).double(), 0)),
    (SPACE, terms.keypoints(BALLS[:, :3], 1)),
    (SEQUENCE, terms.lengths(torch.tensor([0, 4, 99]))),
    (MATRIX, terms.lengths(torch.tensor([-3, 8, 5], dtype=torch.int16))),
    (MATRIX, terms.lengths(torch.tensor([0, 8, 5], dtype=torch.uint8))),
    ((2, 1, 2500), terms.lengths(torch.tensor([-(2**63), 2**63 - 1]))),
    ((2, 2500), terms.lengths(torch.tensor([-(2**63), 2100]))),
]
IDS = [f"{term.expression!r}-{len(shape)}d" for shape, term in TABLE]


def operands(shape, name="mse_loss"):
    generator = torch.Generator().manual_seed(len(shape))
    loss = next(loss for loss in cases.FUNCTIONS if loss.name == name)
    input = cases.make_input(loss, shape, torch.float32, generator)
    return input, cases.make_target(loss, shape, torch.float32, generator)


def close(got, wanted, rtol=1e-6, atol=1e-7):
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol, equal_nan=True)


@pytest.mark.parametrize(("shape", "term"), TABLE, ids=IDS)
def test_what_a_term_selects(shape, term):
    input, target = rand(*shape), rand(*shape)
    got = fl.region_mask(term.expression, input, target)
    expected = terms.expected_mask(term, input, target)
    assert got.dtype is torch.bool and got.is_contiguous()
    along_dim_1 = "lengths" in repr(term.expression) and len(shape) == 2
    assert got.shape == (shape if along_dim_1 else (shape[0], 1, *shape[2:]))
    assert torch.equal(got, expected.expand(got.shape))


@pytest.mark.parametrize(("shape", "term"), TABLE[::3], ids=IDS[::3])
def test_a_loss_with_a_term_is_one_with_its_mask(shape, term):
    input, target = operands(shape)
    input.requires_grad_()
    mask = fl.region_mask(term.expression, input, target)
    for reduction in cases.REDUCTIONS:
        for normalizer in cases.normalizers(reduction)[:5]:
            options = {"reduction": reduction, "normalizer": normalizer, "return_stats": True}
            with kernels_only():
                got, stats = fl.mse_loss(input, target, mask=term.expression, **options)
            wanted, right = reference.mse_loss(input, target, mask=mask, **options)
            close(got, wanted)
            for field, other in zip(stats[:3], right[:3], strict=True):
                close(field, other)
            gradients = [torch.autograd.grad(loss.sum(), input)[0] for loss in (got, wanted)]
            close(*gradients, rtol=1e-5)
            assert (gradients[0][~mask.expand_as(input)] == 0).all()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_loss_takes_every_term(name):
    for shape in (PLANE, SPACE, SEQUENCE, MATRIX):
        input, target = operands(shape, name)
        for case, term in TABLE:
            if case == shape:
                mask = fl.region_mask(term.expression, input, target)
                with kernels_only():
                    got = getattr(fl, name)(input, target, mask=term.expression)
                close(got, getattr(reference, name)(input, target, mask=mask))


# ---- random expressions ------------------------------------------------------------------------


def random_region(rng, size):
    if size > 1:
        if rng.random() < 0.25:
            return terms.inverted(random_region(rng, size - 1))
        left = rng.randrange(1, size)
        make = rng.choice((terms.both, terms.either))
        return make(random_region(rng, left), random_region(rng, size - left))
    symbol = rng.choice(list(terms.OPERATORS))
    count = rng.randrange(4)
    corners = torch.tensor([[rng.uniform(-2, 7) for _ in range(4)] for _ in range(count)])
    return rng.choice(
        (
            lambda: terms.target(symbol, rng.choice((0, 0.5, 0.25, 1))),
            lambda: terms.finite_target(),
            lambda: terms.variance(symbol, rng.uniform(0, 0.2), rng.choice((0, 1))),
            lambda: terms.image_mean(PHOTO, symbol, rng.randrange(90, 160)),
            lambda: terms.center(rng.uniform(0.1, 1)),
            lambda: terms.box(*(rng.uniform(-2, 7) for _ in range(4))),
            lambda: terms.boxes(corners.reshape(-1, 4)),
            lambda: terms.disk(rng.uniform(0, 7), rng.uniform(0, 6), rng.uniform(0, 4)),
            lambda: terms.disks(corners.reshape(-1, 4)[:, 1:]),
            lambda: terms.keypoints(rand(2, 2, 2) * 6, rng.uniform(0, 3)),
            lambda: terms.tensor_mask(rand(2, 6, 7) > 0.4),
            lambda: terms.tensor_mask((rand(6, 7) * 3).int()),
            lambda: terms.tensor_mask((rand(2, 3, 6, 7) - 0.3).clamp(min=0).double()),
        )
    )()


@pytest.mark.parametrize("seed", range(40))
def test_random_expressions_against_numpy(seed):
    rng = random.Random(seed)
    term = random_region(rng, rng.randrange(1, 9))
    input, target = rand(*PLANE), rand(*PLANE)
    target.view(-1)[rng.randrange(target.numel())] = NAN
    input.view(-1)[rng.randrange(input.numel())] = NAN
    value = np.broadcast_to(term.value(input.numpy(), target.numpy()), PLANE)
    mask = fl.region_mask(term.expression, input, target)
    assert np.array_equal(np.broadcast_to(mask.numpy(), PLANE), value != 0)
    with kernels_only():
        got = fl.l1_loss(input, target, mask=term.expression, reduction="none")
    with np.errstate(all="ignore"):
        wanted = np.where(value == 0, 0.0, np.abs(array(input) - array(target)) * value)
    np.testing.assert_allclose(got.double().numpy(), wanted, rtol=1e-6)


NOWHERE, BRIGHT = fl.box(0, 0, 0, 0), fl.image(PHOTO).mean() > 99


@pytest.mark.parametrize(
    "region",
    [
        fl.box(-1, -1, 99, 99) & (fl.target > 0.25) & (fl.target < 0.75),
        ~fl.boxes(torch.empty(0, 4)) & (fl.target > 0.25) & (fl.target < 0.75),
        (NOWHERE | (fl.target > 0.25)) & (fl.target < 0.75),
        (NOWHERE | BRIGHT) & (fl.input.var() > 0.05),
        NOWHERE & (fl.target > 0.25) | BRIGHT,
    ],
    ids=repr,
)
@pytest.mark.parametrize("weight", [None, 1 + 2 * fl.edges(PHOTO)], ids=repr)
def test_a_shape_that_covers_all_or_nothing(region, weight):
    """Its value is one number; the other operand's stands where the next leaf must not write."""
    input, target = rand(*PLANE), rand(*PLANE)
    options = {"mask": region, "weight": weight, "return_stats": True}
    with kernels_only():
        got, stats = fl.mse_loss(input, target, **options)
    wanted, expected = reference.mse_loss(input, target, **options)
    close(got, wanted)
    assert torch.equal(stats.selected, expected.selected)


# ---- what is masked out, gradients, dtypes -----------------------------------------------------


def test_nan_in_what_a_region_reads_stays_where_it_is():
    input, target = operands((1, 3, 2, 3))
    photo = rand(1, 3, 2, 3)
    photo[0, 0, 0, 0], photo[0, :, 1, 1] = NAN, INF
    spoiled = input.clone()
    spoiled[0, 1, 0, 1] = NAN
    spoiled[0, 0, 1, 2] = -INF
    dark, lively = fl.image(photo).mean() < 2, fl.input.var() >= 0
    keep = torch.tensor([[False, False, True], [True, True, False]])
    mask = keep & dark & lively
    expected = torch.tensor([[[[False, False, True], [True, False, False]]]])
    assert torch.equal(fl.region_mask(mask, spoiled, target), expected)
    spoiled.requires_grad_()
    loss = fl.mse_loss(spoiled, target, mask=mask)
    clean = F.mse_loss(input[:, :, [0, 1], [2, 0]], target[:, :, [0, 1], [2, 0]])
    torch.testing.assert_close(loss, clean)
    (gradient,) = torch.autograd.grad(loss, spoiled)
    assert (gradient[~expected.expand_as(gradient)] == 0).all() and gradient.isfinite().all()
    # Under ~ a variance that is NaN takes part, as anything does where its operand is 0.
    assert fl.region_mask(~(fl.input.var() >= 0), spoiled, target)[0, 0, 0, 1]
    assert fl.region_mask(fl.image(photo).mean() != 0, input, target)[0, 0, 0, 0]


def test_no_gradient_flows_into_what_a_region_reads():
    input, target = operands(PLANE)
    photo, boxes = rand(*PLANE).requires_grad_(), BOXES.float().requires_grad_()
    points = rand(3, 2).requires_grad_()
    input.requires_grad_()
    region = (fl.input.var() > 0.5) & (fl.image(photo).mean() > 0.2) | fl.boxes(boxes)
    region = region | fl.keypoints(points, 0.5)
    mask = fl.region_mask(region, input, target)
    assert not mask.requires_grad
    got = torch.autograd.grad(fl.mse_loss(input, target, mask=region), input)[0]
    wanted = torch.autograd.grad(fl.mse_loss(input, target, mask=mask), input)[0]
    torch.testing.assert_close(got, wanted)
    loss = fl.mse_loss(input, target, mask=region)
    unused = torch.autograd.grad(loss, (photo, boxes, points), allow_unused=True)
    assert unused == (None, None, None)


def test_dtypes_of_what_a_region_reads_leave_the_arithmetic_alone():
    input, target = operands(PLANE)
    wide = (fl.image(rand(*PLANE, dtype=torch.float64)).mean() > 0.4) & fl.boxes(BOXES.double())
    _, stats = fl.mse_loss(input, target, mask=wide, return_stats=True)
    assert stats.total.dtype is torch.float32
    _, stats = fl.mse_loss(input, target, mask=wide & rand(6, 7).double(), return_stats=True)
    assert stats.total.dtype is torch.float64


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float64), ids=str)
def test_variance_in_every_dtype(dtype):
    """16-bit inputs in float32: the variance of values near 300 would be lost in 16 bits."""
    input = (300 + 2 * rand(2, 4, 5, 5)).to(dtype)
    mask = fl.region_mask(fl.input.var() > 0.3, input, input)
    exact = input.double().var(1, keepdim=True)
    sure = (exact - 0.3).abs() > 1e-3
    assert torch.equal(mask[sure], (exact > 0.3)[sure])


# ---- expressions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "text"),
    [
        (fl.input.var() > 0.1, "fl.input.var() > 0.1"),
        (0.5 >= fl.input.var(correction=0), "fl.input.var(correction=0) <= 0.5"),
        (fl.image(PHOTO).mean() < 50, "fl.image(tensor(uint8, (2, 3, 6, 7))).mean() < 50"),
        (fl.center(), "fl.center(0.5)"),
        (fl.center(fraction=np.float64(0.25)), "fl.center(0.25)"),
        (fl.box(1, 2.5, np.int64(3), np.float32(4)), "fl.box(1, 2.5, 3, 4.0)"),
        (fl.box(x1=1, y1=2, x2=3, y2=4), "fl.box(1, 2, 3, 4)"),
        (fl.box(1, 2, 3, x2=4, y2=5, z2=6), "fl.box(1, 2, 3, 4, 5, 6)"),
        (fl.boxes(BOXES), "fl.boxes(tensor(int64, (2, 2, 4)))"),
        (fl.disk(1, 2, radius=3), "fl.disk(1, 2, 3)"),
        (fl.disk(1, 2, 3, 4), "fl.disk(1, 2, 3, 4)"),
        (fl.disks(BALLS), "fl.disks(tensor(float32, (2, 4)))"),
        (fl.keypoints(POINTS, radius=2), "fl.keypoints(tensor(float32, (3, 2)), 2)"),
        (fl.lengths(torch.tensor([1, 2])), "fl.lengths(tensor(int64, (2,)))"),
        (
            ~(fl.input.var() > 1) & ~fl.center(0.25) | fl.box(0, 0, 1, 1),
            "~(fl.input.var() > 1) & ~fl.center(0.25) | fl.box(0, 0, 1, 1)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_repr_reads_like_the_expression(region, text):
    assert repr(region) == text


@pytest.mark.parametrize(("shape", "term"), TABLE[::4], ids=IDS[::4])
def test_copies_rebind_and_tensors(shape, term):
    region, input, target = term.expression, rand(*shape), rand(*shape)
    expected = fl.region_mask(region, input, target)
    for other in (
        pickle.loads(pickle.dumps(region)),
        copy.deepcopy(region),
        region.rebind(tuple(tensor.clone() for tensor in region.tensors)),
        region.rebind((None,) * len(region.tensors)).rebind(region.tensors),
    ):
        assert repr(other) == repr(region)
        assert torch.equal(fl.region_mask(other, input, target), expected)


def test_proxies_are_one():
    assert copy.deepcopy(fl.input) is fl.input is pickle.loads(pickle.dumps(fl.input))
    assert repr(fl.input) == "fl.input" and repr(fl.input.var()) == "fl.input.var()"
    assert "input" not in fl.__all__ and "target" not in fl.__all__
