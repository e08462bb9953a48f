"""Regions and weight sources over class targets: what they select and weigh, as tensors and in a
loss. `test_class_reference.py` has the values of the losses."""

import numpy as np
import pytest
import torch

import fusedloss as fl
from fusedloss import reference
from tests import class_cases as cases
from tests import numpy_terms as terms
from tests.class_cases import FUNCTION, INDEX, PROBABILITY, label
from tests.families import CLASS
from tests.numpy_terms import array

PLANE, SPACE, SEQUENCE, ROWS = (2, 3, 6, 7), (2, 3, 3, 4, 5), (2, 3, 9), (4, 3)
RNG = torch.Generator().manual_seed(11)
PHOTO = torch.rand(2, 2, 6, 7, generator=RNG)
BOXES = torch.tensor([[[1, 1, 3, 4], [5, 0, 6, 9]], [[-4, -4, 2, 1], [3, 3, 3, 5]]])

TERMS = [
    *((PLANE, label(symbol, 1)) for symbol in terms.OPERATORS),
    (PLANE, label(">", 0.5)),
    (PLANE, terms.both(label("!=", 0), terms.inverted(label("==", 2)))),
    (PLANE, terms.finite_target()),
    (PLANE, terms.variance(">", 1.0)),
    (ROWS, terms.variance("<=", 1.0)),
    (SPACE, terms.variance(">", 0.5, correction=0)),
    (PLANE, terms.image_mean(PHOTO, "<", 0.5)),
    (PLANE, terms.center(0.5)),
    (PLANE, terms.box(1, 2, 4, 5)),
    (SPACE, terms.box(1, 0, 0, 4, 3, 2)),
    (PLANE, terms.boxes(BOXES)),
    (PLANE, terms.disk(3, 2, 2)),
    (PLANE, terms.keypoints(torch.tensor([[1.0, 1.0], [5.0, 4.0]]), 1.5)),
    (SEQUENCE, terms.lengths(torch.tensor([4, 99]))),
    (PLANE, terms.either(terms.box(0, 0, 2, 2), terms.tensor_mask(PHOTO[:, 0] > 0.6))),
    (PLANE, terms.tensor_mask((PHOTO[:, :1] > 0.6).byte())),
    (ROWS, terms.both(label("<", 2), terms.tensor_mask(torch.tensor([1, 0, 1, 1])))),
]
SOURCES = [
    (PLANE, terms.edges(PHOTO)),
    (PLANE, terms.edges(PHOTO, "sobel")),
    (PLANE, terms.activation(torch.randn(2, 3, 3, 2, generator=RNG))),
    (PLANE, terms.normalized(label("!=", 1))),
    (ROWS, terms.normalized(label("!=", 1))),
    (PLANE, terms.boundary()),
    (PLANE, terms.boundary(radius=2, inside=5.0, outside=0.5)),
    (SPACE, terms.boundary()),
    (SEQUENCE, terms.boundary(radius=3)),
    (PLANE, terms.boundary((3 * PHOTO[:, 0]).long())),
    (PLANE, terms.total(terms.number(1), terms.product(terms.number(4), terms.boundary()))),
    (PLANE, terms.product(terms.tensor_weight(PHOTO[:, 1]), terms.boundary())),
]


def operands(shape, dtype=torch.int64, kind=INDEX):
    rng = cases.generator(shape)
    input = cases.make_input(FUNCTION["cross_entropy"], shape, rng=rng)
    return input, cases.make_target(kind, shape, dtype if kind == INDEX else None, rng)


def wanted(term, input, target):
    view = target.unsqueeze(1) if target.ndim < input.ndim else target
    shape = (input.shape[0], 1, *input.shape[2:])
    return np.broadcast_to(np.asarray(term.value(array(input), array(view)), dtype=float), shape)


def ids(table):
    return [f"{term.expression!r}-{len(shape)}d" for shape, term in table]


@pytest.mark.parametrize("dtype", (torch.int64, torch.uint8, torch.int8, torch.int16), ids=str)
@pytest.mark.parametrize(("shape", "term"), TERMS, ids=ids(TERMS))
def test_what_a_term_selects(shape, term, dtype):
    input, target = operands(shape, dtype)
    for goal in (target, target.unsqueeze(1)):
        got = fl.region_mask(term.expression, input, goal)
        assert got.dtype is torch.bool and got.is_contiguous()
        assert got.shape == (shape[0], 1, *shape[2:])
        assert np.array_equal(got.numpy(), wanted(term, input, target) != 0)


@pytest.mark.parametrize("dtype", (torch.int64, torch.uint8, torch.int8), ids=str)
@pytest.mark.parametrize(("shape", "source"), SOURCES, ids=ids(SOURCES))
def test_what_a_source_weighs(shape, source, dtype):
    input, target = operands(shape, dtype)
    for goal in (target, target.unsqueeze(1)):
        got = fl.weight_map(source.expression, input.double(), goal)
        assert got.dtype is torch.float64 and got.shape == (shape[0], 1, *shape[2:])
        np.testing.assert_allclose(got.numpy(), wanted(source, input, target), atol=1e-6)
    assert fl.weight_map(source.expression, input, target).dtype is torch.float32


@pytest.mark.parametrize("name", CLASS)
@pytest.mark.parametrize(("shape", "term"), TERMS, ids=ids(TERMS))
def test_a_loss_with_a_term_is_one_with_its_mask(shape, term, name):
    input, target = operands(shape)
    input = input.softmax(1).requires_grad_()
    mask = fl.region_mask(term.expression, input, target)
    for reduction in cases.REDUCTIONS:
        options = {"reduction": reduction, "return_stats": True}
        got, stats = getattr(fl, name)(input, target, mask=term.expression, **options)
        right, others = getattr(reference, name)(input, target, mask=mask, **options)
        torch.testing.assert_close(got, right, rtol=2e-6, atol=1e-6)
        assert stats.selected == others.selected
        gradients = [torch.autograd.grad(loss.sum(), input)[0] for loss in (got, right)]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)
        assert torch.equal(*(gradient != 0 for gradient in gradients))


@pytest.mark.parametrize("name", CLASS)
@pytest.mark.parametrize(("shape", "source"), SOURCES, ids=ids(SOURCES))
def test_a_loss_with_a_source_is_one_with_its_map(shape, source, name):
    input, target = operands(shape)
    input = input.softmax(1).requires_grad_()
    weight_map = fl.weight_map(source.expression, input, target)
    options = {"mask": fl.target != 2, "return_stats": True, "weight": torch.tensor([1.0, 2.0, 0])}
    got, stats = getattr(fl, name)(input, target, weight_map=source.expression, **options)
    right, others = getattr(reference, name)(input, target, weight_map=weight_map, **options)
    torch.testing.assert_close(got, right, rtol=2e-6, atol=0)
    assert stats.selected == others.selected
    gradients = [torch.autograd.grad(loss, input)[0] for loss in (got, right)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", (INDEX, PROBABILITY))
def test_a_single_position(kind):
    """(C,): the variance is over its classes, masks and maps have no dims or one of size 1."""
    input = torch.tensor([0.0, 3.0, 1.0])
    target = torch.tensor(1) if kind == INDEX else torch.tensor([0.2, 0.7, 0.1])
    alone = fl.cross_entropy(input, target)
    zero = torch.zeros(())
    for region, taken in (
        (fl.input.var() > 2, True),
        (fl.input.var() < 2, False),
        (fl.target > 0, True),
        (fl.target > 0.1, kind == INDEX),
        (torch.ones(1) * 2, True),
        (torch.tensor(0), False),
    ):
        got = fl.cross_entropy(input, target, mask=region)
        torch.testing.assert_close(got, alone if taken else zero)
    assert fl.region_mask(fl.input.var() > 2, input, torch.tensor(1)).tolist() == [True]
    got = fl.cross_entropy(input, target, weight_map=torch.tensor(3.0), reduction="sum")
    torch.testing.assert_close(got, 3 * alone)


def test_a_comparison_of_probabilities_holds_for_every_channel():
    """Also below ~, | and fl.normalized, and with isfinite."""
    target = torch.tensor([[[0.5, 0.9, 0.0, float("nan")]], [[0.5, 0.1, 1.0, 0.5]]]).transpose(0, 1)
    assert target.shape == (1, 2, 4)
    input = torch.randn(1, 2, 4)
    target[0, 0, 2] = float("inf")
    for region, taken in (
        (fl.target > 0.3, [1, 0, 1, 0]),
        (~(fl.target > 0.3), [0, 1, 0, 1]),
        ((fl.target > 0.3) | (fl.target < 0.95), [1, 1, 1, 0]),
        (~fl.target.isfinite(), [0, 0, 1, 1]),
        ((fl.target != 0.5) & torch.tensor([1, 1, 0, 1]), [0, 1, 0, 0]),
    ):
        options = {"reduction": "none", "return_stats": True}
        loss, stats = fl.cross_entropy(input, target, mask=region, **options)
        assert stats.selected == sum(taken), region
        assert (loss != 0).int().tolist() == [taken], region
    weighed = fl.cross_entropy(
        input, target, weight_map=fl.normalized(fl.target > 0.3), mask=fl.target.isfinite()
    )
    wanted = fl.cross_entropy(input[:, :, :1], target[:, :, :1])
    torch.testing.assert_close(weighed, wanted / 2)


def test_boundary_takes_the_labels_as_they_are():
    """Also ignored ones, and those that the mask leaves out."""
    labels = torch.tensor([[1, 1, 255, 1, 1, 1, 0, 0]])
    input = torch.randn(1, 2, 8)
    got = fl.weight_map(fl.boundary(), input, labels)
    assert got.flatten().tolist() == [0, 1, 1, 1, 0, 1, 1, 0]
    loss = fl.cross_entropy(
        input, labels, weight_map=fl.boundary(), ignore_index=255, reduction="none"
    )
    assert (loss[0] != 0).tolist() == [False, True, False, True, False, True, True, False]


def test_labels_beside_an_input_of_one_channel():
    """(N, 1, H, W): labels with a channel dim have the shape of the input."""
    labels = torch.tensor([[[[0, 7, 7]]]])
    input = torch.zeros(1, 1, 1, 3)
    for goal in (labels, labels[:, 0]):
        assert fl.region_mask(fl.target == 7, input, goal).flatten().tolist() == [0, 1, 1]
        assert fl.weight_map(fl.boundary(), input, goal).flatten().tolist() == [1, 1, 0]
    loss = fl.cross_entropy(input, labels, mask=fl.target != 7)
    assert loss == 0


@pytest.mark.parametrize("show", (fl.region_mask, fl.weight_map))
def test_targets_that_go_with_no_loss(show):
    input = torch.zeros(2, 3, 4)
    what = fl.target > 0 if show is fl.region_mask else fl.normalized(fl.target > 0)
    for target in (torch.zeros(2, 4), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 5)):
        with pytest.raises(ValueError, match="target must have the shape of input"):
            show(what, input, target)
    with pytest.raises(ValueError, match="device"):
        show(what, input, torch.zeros(2, 4, dtype=torch.int64, device="meta"))
    with pytest.raises(ValueError, match="one value per position"):  # (C,) is a single position
        show(torch.ones(3), torch.zeros(3), torch.tensor(0))


@pytest.mark.parametrize("show", (fl.region_mask, fl.weight_map))
def test_labels_beside_a_mask_that_varies_over_channels(show):
    """As the Dice loss of a sigmoid takes them."""
    varying = torch.arange(24.0).reshape(2, 3, 4) % 5
    labels = torch.zeros(2, 4, dtype=torch.int64)
    shown = show(varying, torch.zeros(2, 3, 4), labels)
    assert torch.equal(shown, varying != 0 if show is fl.region_mask else varying)
    fl.dice_loss(torch.zeros(2, 3, 4), labels, mask=varying, activation="sigmoid")


def test_no_gradient_flows_into_what_a_term_reads():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    photo = torch.rand(2, 1, 4, 5, requires_grad=True)
    factor = torch.rand(4, 5, requires_grad=True)
    loss = fl.cross_entropy(
        logits,
        torch.randint(0, 3, (2, 4, 5)),
        mask=(fl.input.var() > 0.1) | (fl.image(photo).mean() > 0.5),
        weight_map=factor * (1 + fl.edges(photo)) + fl.boundary(),
    )
    gradients = torch.autograd.grad(loss, (logits, factor, photo), allow_unused=True)
    assert gradients[0].any() and gradients[1].any() and gradients[2] is None
