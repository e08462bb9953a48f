"""Weight sources: their maps, against numpy loops and torch's own resize, and what they do to a
loss and its gradients."""

import math
import random

import pytest
import torch
import torch.nn.functional as F

import fusedloss as fl
from fusedloss import reference
from tests import cases
from tests import numpy_terms as terms
from tests.backends import kernels_only
from tests.families import ELEMENTWISE
from tests.numpy_terms import number
from tests.test_region_terms import MATRIX, PLANE, SEQUENCE, SPACE, operands, rand

NAN, INF = math.nan, math.inf
PHOTO = (255 * rand(2, 3, 6, 7)).to(torch.uint8)
BROKEN = rand(2, 2, 6, 7)
BROKEN[0, 1, 2, 3], BROKEN[1, 0, 5, 6], BROKEN[1, 1, 0, 0] = NAN, INF, -INF
LABELS = (3 * rand(2, 6, 7)).long()
VOXELS = (2 * rand(2, 1, 4, 5, 6)).int()
TENSOR = rand(2, 6, 7) - 0.2

# (shape of the input, term)
TABLE = [
    (PLANE, terms.edges(PHOTO)),
    (PLANE, terms.edges(PHOTO[:1].half())),
    (PLANE, terms.edges(rand(2, 1, 6, 7, dtype=torch.float64))),
    (PLANE, terms.edges(BROKEN)),
    (PLANE, terms.edges(torch.full((1, 1, 6, 7), 3.0))),
    (PLANE, terms.edges(torch.full((1, 1, 6, 7), NAN))),
    (SPACE, terms.edges(rand(2, 2, 4, 5, 6))),
    (SEQUENCE, terms.edges(rand(3, 2, 9))),
    ((2, 1, 1, 5), terms.edges(rand(2, 3, 1, 5))),
    (PLANE, terms.edges(PHOTO, "sobel")),
    (PLANE, terms.edges(BROKEN, "sobel")),
    ((2, 1, 1, 1), terms.edges(rand(2, 3, 1, 1), "sobel")),
    ((2, 1, 2, 5), terms.edges(rand(1, 3, 2, 5), "sobel")),
    (PLANE, terms.activation(rand(2, 4, 3, 3) - 0.5)),
    (PLANE, terms.activation(rand(1, 1, 13, 2))),
    (PLANE, terms.activation(rand(2, 4, 1, 1))),
    (PLANE, terms.activation(BROKEN)),
    (SPACE, terms.activation(rand(2, 3, 2, 7, 3))),
    (SEQUENCE, terms.activation(rand(3, 3, 4))),
    (PLANE, terms.normalized(terms.image_mean(PHOTO, "<", 127))),
    (PLANE, terms.normalized(terms.target(">", 0.5))),
    (PLANE, terms.normalized(terms.tensor_mask(torch.tensor([0.0, NAN, 3, 1, 0, 0, 0])))),
    (PLANE, terms.normalized(terms.center(1))),
    (MATRIX, terms.normalized(terms.lengths(torch.tensor([0, 8, 5])))),
    ((5,), terms.normalized(terms.target(">", 0.5))),
    (PLANE, terms.boundary(LABELS)),
    (PLANE, terms.boundary(LABELS, 2, 5.0, 1.0)),
    (PLANE, terms.boundary(LABELS[:1].unsqueeze(1).to(torch.uint8), 0)),
    (PLANE, terms.boundary((LABELS - 1).to(torch.uint64), 1)),
    (PLANE, terms.boundary(LABELS.half() / 3, 9, 2, -1)),
    (PLANE, terms.boundary(LABELS > 0)),
    (PLANE, terms.boundary(torch.where(LABELS > 1, NAN, 1.0))),
    (SPACE, terms.boundary(VOXELS)),
    (SEQUENCE, terms.boundary(LABELS[:, 0, :].repeat(2, 2)[:3, :9], 1)),
    ((2, 1, 6, 7), terms.boundary(radius=1, inside=3)),
    (PLANE, terms.total(number(1), terms.product(number(10), terms.edges(PHOTO)))),
    (PLANE, terms.product(terms.boundary(LABELS), terms.tensor_weight(TENSOR))),
    (PLANE, terms.difference(terms.tensor_weight(TENSOR), terms.boundary(LABELS))),
    (PLANE, terms.quotient(terms.total(terms.edges(PHOTO), number(2)), 4)),
    (PLANE, terms.difference(number(1), terms.normalized(terms.finite_target()))),
    (PLANE, terms.product(terms.tensor_weight((9 * rand(6, 7)).int()), terms.boundary(LABELS))),
    (PLANE, terms.product(terms.boundary(LABELS), terms.edges(BROKEN))),
]
IDS = [f"{term.expression!r}-{len(shape)}d" for shape, term in TABLE]


def close(got, wanted, rtol=1e-6, atol=1e-7):
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol, equal_nan=True, check_dtype=False)


@pytest.mark.parametrize(("shape", "term"), TABLE, ids=IDS)
def test_maps(shape, term):
    input = rand(*shape)
    target = (3 * rand(*shape)).round() / 3
    got = fl.weight_map(term.expression, input, target)
    assert got.dtype is torch.float32 and got.is_contiguous()
    assert fl.weight_map(term.expression, input, target.double()).dtype is torch.float64
    close(got, terms.expected_map(term, input, target).expand(got.shape), atol=3e-7)
    varies = "target" in repr(term.expression) or len(shape) <= 2 or "None" in repr(shape)
    assert got.shape == (shape if varies else (shape[0], 1, *shape[2:]))


@pytest.mark.parametrize("new", [(6, 7), (3, 5), (13, 1)], ids=str)
@pytest.mark.parametrize("old", [(6, 7), (2, 9), (1, 30)], ids=str)
def test_activation_is_torchs_resize(old, new):
    features = rand(2, 3, *old, dtype=torch.float64) - 0.5
    input = rand(2, 1, *new, dtype=torch.float64)
    sums = features.abs().sum(1, keepdim=True)
    g = F.interpolate(sums, size=new, mode="bilinear", align_corners=False, antialias=False)
    low, high = g.amin((1, 2, 3), keepdim=True), g.amax((1, 2, 3), keepdim=True)
    got = fl.weight_map(fl.activation(features), input, input)
    close(got, (g - low) / (high - low + 1e-7), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 4), (40, 7)], ids=str)
@pytest.mark.parametrize("dtype", cases.FLOATS, ids=str)
def test_constant_features_weigh_nothing(dtype, size):
    """Nor does what interpolation rounds, however small the range is that it is divided by."""
    features = torch.full((2, 3, *size), 0.7, dtype=dtype)
    input = rand(2, 2, 33, 5)
    ones = torch.ones_like(input)
    assert not fl.weight_map(fl.activation(features), input, input).any()
    loss = fl.l1_loss(ones, 0 * ones, weight=fl.activation(features), reduction="none")
    assert not loss.any()


@pytest.mark.parametrize("shape", [(1, 70, 4, 5), (2, 3, 6, 7)], ids=str)
def test_a_source_per_channel_beside_one_per_position(shape):
    """The range of a region that reads the target is not cut short where the other factor is 0."""
    input, target = rand(*shape), rand(*shape)
    photo = rand(shape[0], 2, *shape[2:])
    for source in (
        fl.normalized(target > 0.5) * fl.edges(photo),
        fl.normalized(fl.target > 0.5) * fl.edges(photo),
        fl.normalized(fl.target > 0.5) * (fl.edges(photo) * fl.activation(photo)),
        fl.normalized(fl.box(1, 1, 3, 3) & (fl.target > 0.5)) * fl.edges(photo),
    ):
        wanted = reference.l1_loss(input, target, weight=source, reduction="none")
        got = fl.l1_loss(input, target, weight=source, reduction="none")
        close(got, wanted, rtol=1e-5)


@pytest.mark.parametrize(("shape", "term"), TABLE[::3], ids=IDS[::3])
def test_a_loss_with_a_source_is_one_with_its_map(shape, term):
    input, target = operands(shape)
    input.requires_grad_()
    weight = fl.weight_map(term.expression, input, target)
    region = fl.region_mask(fl.target > -0.5, input, target)
    for reduction in cases.REDUCTIONS:
        for normalizer in cases.normalizers(reduction)[:5]:
            options = {"reduction": reduction, "normalizer": normalizer, "return_stats": True}
            source = {"weight": term.expression, "mask": fl.target > -0.5}
            with kernels_only():
                got, stats = fl.mse_loss(input, target, **source, **options)
            tensors = {"weight": weight, "mask": region}
            wanted, right = reference.mse_loss(input, target, **tensors, **options)
            close(got, wanted, rtol=2e-6)
            for field, other in zip(stats[:3], right[:3], strict=True):
                close(field, other, rtol=2e-6)
            gradients = [torch.autograd.grad(loss.sum(), input)[0] for loss in (got, wanted)]
            finite = weight.expand_as(input).isfinite()
            close(*(gradient[finite] for gradient in gradients), rtol=1e-5)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_loss_takes_every_source(name):
    for shape in (PLANE, SPACE, SEQUENCE, MATRIX):
        input, target = operands(shape, name)
        for case, term in TABLE:
            if case == shape:
                weight = fl.weight_map(term.expression, input, target)
                with kernels_only():
                    got = getattr(fl, name)(input, target, weight=term.expression)
                wanted = getattr(reference, name)(input, target, weight=weight)
                close(got, wanted, rtol=4e-6)


@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_cross_entropies_read_a_source_by_section_5_and_a_tensor_as_torch_does(name):
    input, target = operands((2, 2, 2, 2), name)
    weight = rand(2, 2, 2)
    by_torch = getattr(fl, name)(input, target, weight=weight)
    close(by_torch, getattr(F, name)(input, target, weight=weight.expand(2, 2, 2, 2)))
    as_source = getattr(fl, name)(input, target, weight=weight + fl.boundary(weight) * 0)
    positions = getattr(fl, name)(input, target, weight=weight.unsqueeze(1))
    close(as_source, positions)


# ---- random expressions ------------------------------------------------------------------------


def random_source(rng, size):
    if size > 1:
        left = rng.randrange(1, size)
        a = random_source(rng, left)
        kind = rng.randrange(5)
        if kind == 0:
            return terms.quotient(a, rng.choice((2, -0.5, 3.0)))
        b = random_source(rng, size - left) if kind < 3 else random_factor(rng)
        if kind == 4:
            a, b = b, a
        return rng.choice((terms.total, terms.difference, terms.product))(a, b)
    photo = rng.choice((PHOTO, PHOTO[:1], rand(2, 2, 6, 7), BROKEN))
    return rng.choice(
        (
            lambda: terms.edges(photo),
            lambda: terms.edges(photo, "sobel"),
            lambda: terms.activation(rand(2, 2, rng.randrange(1, 9), rng.randrange(1, 9))),
            lambda: terms.normalized(terms.image_mean(photo, "<", rng.choice((0.5, 120)))),
            lambda: terms.normalized(terms.target(">=", 0.5)),
            lambda: terms.boundary(LABELS, rng.randrange(3), rng.uniform(1, 5), 0.25),
        )
    )()


def random_factor(rng):
    return rng.choice((number(rng.choice((0, 2, 0.5))), terms.tensor_weight(rand(2, 6, 7))))


@pytest.mark.parametrize("channels", (1, 16, 17, 64, 500))
@pytest.mark.parametrize(
    "source",
    (fl.edges, lambda image: fl.edges(image, operator="sobel"), fl.activation),
    ids=("edges", "sobel", "activation"),
)
def test_a_sum_over_many_channels_is_accurate(backend, source, channels):
    """What varies little beside its size: the normalisation blows up what rounding left."""
    shape = (2, 2, 5, 6) if backend.share > 1 else (2, 3, 20, 30)
    image = rand(2, channels, *shape[2:])
    input, target = rand(*shape), rand(*shape)
    for reduction in ("mean", "sum"):
        got = backend.functions.mse_loss(
            *map(backend.place, (input, target)),
            weight=source(backend.place(image)),
            reduction=reduction,
        )
        exact = reference.mse_loss(
            input.double(), target.double(), weight=source(image.double()), reduction=reduction
        )
        close(got.cpu().double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", range(40))
def test_random_expressions_against_numpy(seed):
    rng = random.Random(seed)
    term = random_source(rng, rng.randrange(1, 7))
    region = rng.choice((terms.target(">", 0.3), terms.center(0.8), terms.variance(">", 0.05)))
    input, target = rand(*PLANE), rand(*PLANE)
    wanted = terms.expected_map(term, input, target)
    size = wanted[wanted.isfinite()].abs().max().item() if wanted.isfinite().any() else 0
    close(
        fl.weight_map(term.expression, input, target),
        wanted.expand(2, -1, -1, -1),
        rtol=1e-5,
        atol=1e-5 * (1 + size),
    )
    got = fl.l1_loss(
        input, target, mask=region.expression, weight=term.expression, reduction="none"
    )
    mask = terms.expected_mask(region, input, target)
    elements = torch.where(mask, wanted, 0.0) * (input - target).abs().double()
    close(got.double(), elements, rtol=1e-5, atol=1e-5 * (1 + size))


# ---- what takes no part, and gradients ---------------------------------------------------------


def test_zero_hides_what_stands_beside_it():
    features = torch.tensor([[[[NAN, INF, 2.0, 1.0]]]])
    x = torch.zeros(1, 1, 1, 4)
    weight = torch.tensor([0.0, 0, 1, 2])
    got = fl.weight_map(weight * fl.activation(features), x, x)
    close(got, torch.tensor([[[[0.0, 0, 1, 0]]]]))
    got = fl.weight_map(0 * fl.activation(features) + 3, x, x)
    close(got, torch.full((1, 1, 1, 4), 3.0))


def test_a_broken_image_spoils_its_own_positions_alone():
    input, target = operands((2, 2, 6, 7))
    input.requires_grad_()
    broken = ~fl.weight_map(fl.edges(BROKEN), input, target).isfinite()
    assert 0 < broken.sum() < 12
    loss = fl.mse_loss(input, target, weight=fl.edges(BROKEN))
    assert not loss.isfinite()
    loss = fl.mse_loss(input, target, weight=fl.edges(BROKEN), mask=~broken)
    (gradient,) = torch.autograd.grad(loss, input)
    assert loss.isfinite() and gradient.isfinite().all()
    assert (gradient[broken.expand_as(gradient)] == 0).all()


def test_gradients_of_weights_inside_a_source():
    """A tensor in the algebra is a weight: it has a gradient, also where another factor is
    broken behind the mask; images and features have none."""
    input, target = (tensor.double() for tensor in operands((2, 2, 6, 7)))
    weight = rand(2, 6, 7, dtype=torch.float64).requires_grad_()
    photo = BROKEN.double().requires_grad_()
    source = 2 * (weight + 1) * fl.edges(photo) - weight / 4 * fl.boundary(LABELS) + 0.5
    whole = fl.weight_map(fl.edges(photo), input, target)
    mask = whole.isfinite()
    got = fl.mse_loss(input, target, weight=source, mask=mask)
    edges = torch.where(mask, whole, 0.0).detach()
    near = fl.weight_map(fl.boundary(LABELS), input, target)
    w = weight.unsqueeze(1)
    dense = 2 * (w + 1) * edges - w / 4 * near + 0.5
    wanted = fl.mse_loss(input, target, weight=dense, mask=mask)
    close(got, wanted, rtol=1e-12)
    gradients = [torch.autograd.grad(loss, weight)[0] for loss in (got, wanted)]
    close(*gradients, rtol=1e-12, atol=1e-14)
    assert (gradients[0].unsqueeze(1)[~mask] == 0).all()
    got = fl.mse_loss(input, target, weight=source, mask=mask)
    assert torch.autograd.grad(got, photo, allow_unused=True) == (None,)
    torch.autograd.gradcheck(
        lambda weight: fl.mse_loss(
            input, target, weight=weight * fl.edges(BROKEN) + weight, mask=mask
        ),
        weight,
    )


def test_a_factor_of_0_in_a_sum_keeps_its_gradient():
    features = torch.tensor([[[[0.0, 2.0, INF]]]])
    weight = torch.zeros(3, requires_grad=True)
    x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    source = weight * fl.activation(features) + 1
    loss = fl.l1_loss(x, 0 * x, weight=source, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, weight)
    assert loss == 6
    close(gradient, torch.tensor([0.0, 2.0, 0.0]))


def test_higher_derivatives_and_retained_graphs():
    input, target = (tensor.double() for tensor in operands(PLANE))
    input.requires_grad_()
    source = 1 + fl.edges(PHOTO) * 3

    def loss(x):
        return fl.charbonnier_loss(x, target, weight=source, mask=fl.center(0.7))

    assert torch.autograd.gradgradcheck(loss, input)
    value = loss(input)
    first = torch.autograd.grad(value, input, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(value, input)[0])


def test_dtype_is_that_of_the_weights_not_of_the_images():
    input, target = operands(PLANE)
    for source, dtype in (
        (fl.edges(PHOTO.double()), torch.float32),
        (fl.normalized(TENSOR.double() > 0), torch.float32),
        (fl.edges(PHOTO) * TENSOR.double(), torch.float64),
    ):
        loss, stats = fl.mse_loss(input, target, weight=source, return_stats=True)
        assert loss.dtype is torch.float32 and stats.total.dtype is dtype
        assert fl.weight_map(source, input, target).dtype is dtype
    assert fl.mse_loss(input.half(), target, weight=fl.edges(PHOTO)).dtype is torch.float16
