"""Nothing selected, nothing there, pools without anything in them: 0 with zero gradients."""

import itertools

import pytest
import torch

import fusedloss as fl
from tests import overlap_cases as cases
from tests.overlap_cases import ACTIVATIONS, FUNCTIONS, PER

SHAPE = (3, 4, 5, 6)
NAN = float("nan")
NOTHING = {
    "bool": {"mask": torch.zeros(3, 5, 6, dtype=torch.bool)},
    "float": {"mask": torch.zeros(5, 6)},
    "map": {"weight_map": torch.zeros(3, 1, 5, 6)},
    "weight": {"weight": torch.zeros(4)},
    "target": {"mask": fl.target > 100},
    "ignored": {"ignore_index": 1},
}


def results(name, input, target, **options):
    loss, stats = getattr(fl.functional, name)(input, target, return_stats=True, **options)
    (gradient,) = torch.autograd.grad(loss.sum(), input, create_graph=True)
    return loss, gradient, stats


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_takes_part(name, activation, nothing):
    """With s = s' the ratio of nothing is 1, with s = s' = 0 there is none: a loss of 0."""
    junk = NAN if nothing != "weight" or activation != "softmax" else 0.5  # p needs every logit
    for per, smooth in itertools.product(PER, (1e-6, 1.0, 0.0)):
        for reduction in cases.reductions(per):
            input = torch.full(SHAPE, junk, requires_grad=True)
            loss, gradient, stats = results(
                name,
                input,
                torch.ones(3, 5, 6, dtype=torch.uint8),
                activation=activation,
                per=per,
                smooth=smooth,
                reduction=reduction,
                **NOTHING[nothing],
            )
            assert (loss == 0).all() and loss.requires_grad
            assert torch.equal(gradient, torch.zeros(SHAPE))
            assert stats.selected == (
                0 if "mask" in NOTHING[nothing] or nothing == "ignored" else 360
            )
            assert not any(value.any() for value in stats[3:])


EMPTY_SHAPES = (
    (0, 3),
    (3, 0),
    (0, 3, 4),
    (2, 3, 0),
    (2, 3, 0, 4),
    (2, 0, 3, 4),
    (0, 0),
    (0, 2, 3, 4),
)


@pytest.mark.parametrize("shape", EMPTY_SHAPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_elements(name, activation, shape):
    for per, labels in itertools.product(PER, (False, True)):
        target = torch.zeros((shape[0], *shape[2:]), dtype=torch.int64)
        target = target if labels else torch.zeros(shape)
        for reduction in cases.reductions(per):
            input = torch.zeros(shape, requires_grad=True)
            options = {"activation": activation, "per": per, "reduction": reduction}
            loss, gradient, stats = results(name, input, target, **options)
            assert (loss == 0).all() and loss.requires_grad and gradient.shape == shape
            assert stats.selected == 0
            pools = {"sample": shape[:1], "class": shape[1:2], "batch": ()}.get(per, shape[:2])
            assert stats.intersection.shape == pools
            assert loss.shape == (pools if reduction == "none" else ())


def test_a_denominator_of_zero_is_a_loss_of_zero():
    """Only where it is: s' = 1 alone makes an empty pool a complete miss."""
    empty, target = (
        torch.zeros(2, 1, 3, requires_grad=True),
        torch.tensor([[[0.0] * 3], [[1.0] * 3]]),
    )
    for name in FUNCTIONS:
        loss, gradient, _ = results(name, empty, target, smooth=0.0, reduction="none")
        assert loss.tolist() == [0, 1] and (gradient[0] == 0).all()
        loss, _, _ = results(name, empty, target, smooth=(0.0, 1.0), reduction="none")
        assert loss.tolist() == [1, 1]


def test_some_samples_are_empty():
    """They count in the mean of the pools, but not in that of the samples."""
    input = torch.rand(3, 2, 4, requires_grad=True)
    target = torch.randint(0, 2, (3, 4))
    mask = torch.ones(3, 4)
    mask[1] = 0
    options = {"mask": mask, "smooth": 0.0}
    for per in ("sample", "sample_class"):
        pools = fl.dice_loss(input, target, per=per, reduction="none", **options)
        assert (pools[1] == 0).all() and (pools[[0, 2]] > 0).all()
        loss, gradient, stats = results("dice_loss", input, target, per=per, **options)
        torch.testing.assert_close(loss, pools.mean())
        assert (gradient[1] == 0).all() and stats.selected == 16
        loss, gradient, stats = results(
            "dice_loss", input, target, per=per, reduction="sample_mean", **options
        )
        torch.testing.assert_close(loss, pools.reshape(3, -1).mean(1)[[0, 2]].mean())
        assert stats.total.shape == stats.normalizer.shape == (3,)
        assert stats.normalizer.tolist() == [pools[0].numel()] * 3


@pytest.mark.parametrize("per", ("class", "sample_class"))
def test_absent_classes(per):
    """Skipped, they leave mean, sum and the count, and are 0 under "none"; else they are a miss."""
    target = torch.tensor([[0, 0, 2], [0, 2, 2]])
    input = torch.full((2, 4, 3), 0.25, requires_grad=True)
    absent = torch.tensor([False, True, False, True]).expand(2, 4)
    absent = absent[0] if per == "class" else absent
    every, _, stats = results("dice_loss", input, target, per=per, reduction="none", smooth=0.0)
    assert (every[absent] == 1).all() and stats.normalizer == every.numel()
    options = {"per": per, "skip_absent": True, "smooth": 0.0}
    loss, gradient, stats = results("dice_loss", input, target, reduction="none", **options)
    assert torch.equal(loss, torch.where(absent, 0.0, every))
    assert stats.normalizer == every.numel() / 2 and stats.total == loss.sum()
    assert (gradient[:, [1, 3]] == 0).all() and (gradient[:, [0, 2]] != 0).all()
    mean, _, _ = results("dice_loss", input, target, **options)
    torch.testing.assert_close(mean, every[~absent].mean())
    weight = torch.tensor([1.0, 5.0, 3.0, 7.0])
    mean, _, stats = results("dice_loss", input, target, weight=weight, **options)
    weighted = (every * weight)[~absent].sum() / weight.expand(absent.shape)[~absent].sum()
    torch.testing.assert_close(mean, weighted)
    if per == "sample_class":
        loss, _, stats = results("dice_loss", input, target, reduction="sample_mean", **options)
        torch.testing.assert_close(loss, every[~absent].reshape(2, 2).mean(1).mean())
        assert stats.normalizer.tolist() == [2, 2]


def test_a_sample_of_absent_classes_alone():
    """Its mean is over nothing, which is 0, and it is a sample of the mean over samples."""
    target = torch.tensor([[0, 1], [5, 5]])
    mask = torch.tensor([[True, True], [True, False]])
    input = torch.full((2, 3, 2), 0.5, requires_grad=True)
    options = {"per": "sample_class", "skip_absent": True, "include_background": False}
    options |= {"reduction": "sample_mean", "mask": mask & torch.ones(2, 2, dtype=torch.bool)}
    target = torch.where(target == 5, 0, target)
    loss, gradient, stats = results("dice_loss", input, target, **options)
    first = fl.dice_loss(
        input[:1], target[:1], per="class", include_background=False, reduction="none"
    )[0]
    torch.testing.assert_close(loss, first / 2)
    assert stats.normalizer.tolist() == [1, 0] and (gradient[1] == 0).all()


@pytest.mark.parametrize("per", PER)
def test_the_background_has_no_pool(per):
    rng = cases.generator(per)
    problem = cases.make_problem("jaccard_loss", SHAPE, "softmax", "labels", rng, per=per)
    weight = torch.tensor([NAN, 1.0, 2.0, 0.5])
    options = problem.arguments() | {"include_background": False, "weight": weight}
    input = problem.input.requires_grad_()
    loss, _, stats = results("jaccard_loss", input, problem.target, reduction="none", **options)
    assert stats.selected == 3 * 3 * 30
    pools = {"sample": (3,), "sample_class": (3, 3), "class": (3,), "batch": ()}[per]
    assert loss.shape == stats.target_sum.shape == pools and loss.isfinite().all()
    share = weight[1:] if per in ("class", "sample_class") else torch.ones(())
    wanted = share.expand(pools).sum() if pools else share.sum()
    torch.testing.assert_close(stats.normalizer, wanted)
