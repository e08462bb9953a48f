"""Value, gradient and statistics of the compounds against their parts, written independently."""

import itertools

import pytest
import torch
import torch.nn.functional as F

import fusedloss as fl
from tests import compound_cases as cases
from tests import overlap_cases
from tests.cases import FLOATS, LAYOUTS
from tests.compound_cases import LOSSES, NORMALIZERS, expected, make_problem
from tests.oracle import assert_rounded
from tests.overlap_cases import IGNORED, PER
from tests.test_overlap import PLANES, SIXTEEN, evaluate

SHAPE = (3, 4, 5, 6)


def check(problem, loss, backend):
    """With the tolerances of the contract; those of the focal losses are 4e-6."""
    wanted = expected(problem, loss)
    value, gradient, stats = evaluate(problem, backend)
    dtype = problem.input.dtype
    assert value.dtype is dtype and gradient.dtype is dtype and value.shape == ()
    if dtype in SIXTEEN:
        assert_rounded(value, wanted.loss, "loss", 4e-6 * (1 + wanted.loss.abs().item()))
        slack = 2.0**-21 * wanted.gradient.abs().max().item() + 1e-12
        assert_rounded(gradient, wanted.gradient, "gradient", slack)
    else:
        tight = dtype is torch.float64
        allowed = (1e-12 if tight else 4e-6) * (wanted.loss.abs() + 1)
        assert (value.double() - wanted.loss).abs() <= allowed, (value, wanted.loss)
        error = (gradient.double() - wanted.gradient).norm()
        assert error <= (1e-11 if tight else 1e-5) * wanted.gradient.norm()
    total, normalizer, selected, *counts = stats
    assert selected.dtype is torch.int64 and selected == wanted.selected
    fields = (wanted.total, wanted.normalizer, *wanted.counts)
    for got, right in zip((total, normalizer, *counts), fields, strict=True):
        right = torch.as_tensor(right)
        tolerance = 1e-12 if got.dtype is torch.float64 else 4e-6
        assert got.shape == right.shape
        assert ((got.double() - right).abs() <= tolerance * (1 + right.abs())).all(), (got, right)


def others(row, loss, per, spatial=True):
    """Mask, map and options of the case `row` of a table, each in turn."""
    positional = cases.is_positional(loss)
    masks = [*overlap_cases.masks(positional), *(overlap_cases.SPATIAL_MASKS if spatial else ())]
    maps = [*overlap_cases.maps(positional), *(overlap_cases.SPATIAL_MAPS if spatial else ())]
    reductions = cases.reductions(per)
    reduction = reductions[row % len(reductions)]
    normalizers = (None,) if reduction == "sum" else NORMALIZERS
    normalizers = normalizers[:-1] if reduction == "sample_mean" else normalizers
    return {
        "mask": masks[row % len(masks)],
        "weight_map": maps[(row // 2) % len(maps)],
        "reduction": reduction,
        "normalizer": normalizers[row % len(normalizers)],
        "ignore_index": IGNORED,
        "include_background": row % 3 != 1,
        "skip_absent": row % 5 == 2,
    }


@pytest.mark.parametrize("target", ("labels", "labels-column", "soft"))
@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_target_by_per_by_dtype(backend, loss, per, target):
    offset = 5 * LOSSES.index(loss) + 3 * PER.index(per)
    table = enumerate(itertools.product((False, True), (False, True)), offset)
    for row, weighted in backend.thin(table, offset):
        options = others(row, loss, per)
        if weighted[0]:
            options["weight"] = torch.tensor([0.5, 2.0, 0.0, 1.25])
        if weighted[1]:
            options["dice_class_weight"] = torch.tensor([0.0, 2.0, 1.0, 0.25])
        rng = cases.overlap_cases.generator(str(loss), per, target, row)
        shape = (SHAPE, PLANES)[row // 4 % 2]
        problem = make_problem(loss, shape, target, rng, FLOATS[row % 4], per=per, **options)
        check(problem, loss, backend)


SHAPES = ((2, 3), (3, 2, 7), (2, 3, 3, 4, 3), (5, 3, 1, 1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_shapes(backend, loss, shape):
    for row, target in backend.thin(enumerate(("labels", "soft"), len(shape)), len(str(loss))):
        per = PER[row % 4]
        rng = cases.overlap_cases.generator(str(loss), shape, target)
        options = others(row, loss, per, len(shape) in (4, 5))
        check(make_problem(loss, shape, target, rng, per=per, **options), loss, backend)


@pytest.mark.parametrize("mask", ("none", "target", "nested", "positions", "box"))
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_mask_by_map(backend, loss, mask):
    positional = cases.is_positional(loss)
    maps = [*overlap_cases.maps(positional), *overlap_cases.SPATIAL_MAPS, "boundary"]
    for row, weight_map in backend.thin(enumerate(maps), LOSSES.index(loss)):
        rng = cases.overlap_cases.generator(str(loss), mask, weight_map)
        options = {"mask": mask, "weight_map": weight_map, "ignore_index": IGNORED}
        options["normalizer"] = NORMALIZERS[row % 5]
        check(make_problem(loss, (SHAPE, PLANES)[row % 2], "labels", rng, **options), loss, backend)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", cases.FUNCTIONS)
def test_layouts(backend, name, layout):
    loss = next(row for row in LOSSES if row[0] == name)
    for target in backend.thin(("labels", "soft"), len(layout)):
        rng = cases.overlap_cases.generator(name, layout, target)
        options = {"mask": "positions", "weight_map": "positions", "ignore_index": IGNORED}
        problem = make_problem(loss, SHAPE, target, rng, **options)
        check(overlap_cases.placed(problem, layout), loss, backend)


@pytest.mark.parametrize("target", overlap_cases.BINARY_TARGETS)
@pytest.mark.parametrize("loss", [LOSSES[3], LOSSES[5], LOSSES[8], LOSSES[9]], ids=str)
def test_one_channel(backend, loss, target):
    """Binary segmentation: an integer or bool target is t itself, in either shape."""
    for row, per in backend.thin(enumerate(PER), len(target)):
        rng = cases.overlap_cases.generator(str(loss), target, per)
        options = others(row, loss, per) | {"include_background": True}
        problem = make_problem(loss, (3, 1, 5, 6), target, rng, per=per, **options)
        check(problem, loss, backend)


def test_is_the_sum_of_the_two_losses():
    """With every option that acts on both parts or on one."""
    rng = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 3, 4, 5, generator=rng)
    labels = torch.randint(0, 3, (2, 4, 5), generator=rng)
    both = {"mask": fl.target != 1, "weight_map": 1 + fl.boundary(), "ignore_index": 2}
    of_dice = {"smooth": 0.5, "squared": True, "per": "class", "skip_absent": True}
    weights = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.0, 2.0])
    dice = fl.dice_loss(logits, labels, activation="softmax", weight=weights[0], **both, **of_dice)
    of_dice["dice_class_weight"] = weights[0]
    got = fl.dice_cross_entropy_loss(
        logits, labels, dice_weight=0.3, weight=weights[1], label_smoothing=0.1, **both, **of_dice
    )
    other = fl.cross_entropy(logits, labels, weights[1], label_smoothing=0.1, **both)
    torch.testing.assert_close(got, 0.3 * dice + 0.7 * other)
    got = fl.dice_focal_loss(logits, labels, dice_weight=0.3, weight=weights[1], **both, **of_dice)
    other = fl.softmax_focal_loss(logits, labels, weights[1], **both)
    torch.testing.assert_close(got, 0.3 * dice + 0.7 * other)
    dice = fl.dice_loss(logits, labels, activation="sigmoid", per="batch", ignore_index=2)
    one_hot = F.one_hot(labels, 3).movedim(-1, 1)
    other = fl.binary_cross_entropy_with_logits(
        logits,
        one_hot,
        weight=weights[1].reshape(3, 1, 1),
        pos_weight=weights[0].reshape(3, 1, 1),
        mask=labels != 2,
    )
    got = fl.dice_bce_loss(
        logits,
        labels,
        per="batch",
        bce_weight=2.0,
        weight=weights[1],
        pos_weight=weights[0].reshape(3, 1, 1),
        ignore_index=2,
    )
    torch.testing.assert_close(got, 0.5 * dice + 2 * other)


# ---- MONAI's compounds -------------------------------------------------------------------------


def operands():
    rng = torch.Generator().manual_seed(7)
    logits = 2 * torch.randn(2, 4, 5, 6, generator=rng, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 5, 6), generator=rng)
    return logits, labels, F.one_hot(labels, 4).movedim(-1, 1).double()


def monai_dice(p, t):
    i, below = (p * t).sum((2, 3)), p.sum((2, 3)) + t.sum((2, 3))
    return (1 - (2 * i + 1e-5) / (below + 1e-5)).mean()


MONAI = {"per": "sample_class", "smooth": 1e-5, "dice_weight": 1.0}


def test_monai_dice_ce():
    """DiceCELoss: lambda_dice Dice + lambda_ce CE of labels; of one-hot targets divided by N."""
    logits, labels, t = operands()
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    theirs = monai_dice(logits.softmax(1), t) + 0.5 * F.cross_entropy(logits, labels)
    ours = fl.dice_cross_entropy_loss(logits, labels, ce_weight=0.5, **MONAI)
    torch.testing.assert_close(ours, theirs)
    theirs = monai_dice(logits.softmax(1), t) + F.cross_entropy(logits, t, weight)
    ours = fl.dice_cross_entropy_loss(logits, t, ce_weight=1.0, weight=weight, **MONAI)
    torch.testing.assert_close(ours, theirs)


def test_monai_dice_ce_of_one_channel_is_bce():
    logits, labels, _ = operands()
    logits, t = logits[:, :1], (labels > 1).unsqueeze(1).double()
    weight = torch.tensor([3.0], dtype=torch.float64)
    bce = F.binary_cross_entropy_with_logits(logits, t, pos_weight=weight)
    ours = fl.dice_bce_loss(logits, t, bce_weight=1.0, pos_weight=weight, **MONAI)
    torch.testing.assert_close(ours, monai_dice(logits.sigmoid(), t) + bce)


def test_monai_dice_focal():
    """FocalLoss: the mean over all elements of (1 - p_t)^gamma CE; under softmax 1/C of ours."""
    logits, labels, t = operands()
    p = logits.sigmoid()
    ce = F.binary_cross_entropy_with_logits(logits, t, reduction="none")
    focal = ((1 - (p * t + (1 - p) * (1 - t))) ** 2 * ce).mean()
    options = MONAI | {"activation": "sigmoid", "alpha": -1.0, "focal_weight": 1.0}
    ours = fl.dice_focal_loss(logits, labels, **options)
    torch.testing.assert_close(ours, monai_dice(p, t) + focal)
    p = logits.softmax(1)
    focal = (-((1 - p) ** 2) * p.log() * t).mean()
    ours = fl.dice_focal_loss(logits, labels, focal_weight=1.0 / 4, **MONAI)
    torch.testing.assert_close(ours, monai_dice(p, t) + focal)
