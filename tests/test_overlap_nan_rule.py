"""What takes no part does not exist: whatever it holds changes no bit of loss, statistics or any
gradient, and its own gradient is 0."""

import itertools

import pytest
import torch

import fusedloss as fl
from tests import overlap_cases as cases
from tests.cases import make_weight
from tests.overlap_cases import ACTIVATIONS, FUNCTIONS, PER

SHAPE = (2, 3, 4, 5)
JUNK = (float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 7.0)


def junk_like(tensor, start=0):
    values = torch.tensor(JUNK)[(start + torch.arange(tensor.numel())) % len(JUNK)]
    return values.reshape(tensor.shape).to(tensor.dtype)


def _positions(rng):
    return torch.rand((2, 4, 5), generator=rng) < 0.6


def _weights(rng):
    return make_weight((2, 4, 5), torch.float32, rng, 0.4)


# How positions are left out: generator -> (which take part, keyword arguments)
EXCLUDED = {
    "mask": lambda rng: (keep := _positions(rng), {"mask": keep}),
    "float mask": lambda rng: ((mask := _weights(rng)) != 0, {"mask": mask}),
    "map": lambda rng: ((weights := _weights(rng)) != 0, {"weight_map": weights}),
    "source": lambda rng: (
        (weights := _weights(rng)) != 0,
        {"weight_map": weights.unsqueeze(1) * (2 - fl.edges(torch.rand(2, 3, 4, 5)))},
    ),
    "region": lambda rng: (
        keep := _positions(rng),
        {"mask": fl.regions.as_region(keep.unsqueeze(1)) & torch.full((2, 1, 4, 5), 0.5)},
    ),
    "everything": lambda rng: (torch.zeros(2, 4, 5) > 0, {"mask": torch.zeros(4, 5)}),
}


def results(name, input, target, options, leaves=()):
    """Loss, statistics and the gradients of input and `leaves`."""
    input = input.detach().requires_grad_()
    loss, stats = getattr(fl.functional, name)(input, target, return_stats=True, **options)
    gradients = torch.autograd.grad((loss * 0.7).sum(), (input, *leaves))
    return [loss.detach(), *stats], gradients


def assert_equal(got, wanted):
    for left, right in zip(got, wanted, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("excluded", EXCLUDED)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_excluded_positions_do_not_exist(name, activation, excluded):
    """Junk in the input; in soft targets junk as well, in labels some that are out of range."""
    rows = itertools.product(PER, ("labels", "soft"), (None, torch.tensor([1.0, 0.5, 2.0])))
    for row, (per, target, weight) in enumerate(rows):
        rng = cases.generator(name, activation, excluded, row)
        problem = cases.make_problem(name, SHAPE, activation, target, rng, per=per)
        keep, options = EXCLUDED[excluded](rng)
        options = problem.arguments() | options | {"weight": weight}
        options["reduction"] = cases.reductions(per)[row % len(cases.reductions(per))]
        skipped = ~keep.unsqueeze(1).expand(SHAPE)
        clean, (slope,) = results(name, problem.input, problem.target, options)
        assert all(value.isfinite().all() for value in clean) and slope.isfinite().all()
        for start in (0, 2):
            input = torch.where(skipped, junk_like(problem.input, start), problem.input)
            if target == "soft":
                goal = torch.where(skipped, junk_like(problem.target, start + 1), problem.target)
            else:
                wrong = torch.tensor([-100, 3, 255])[torch.arange(40) % 3].reshape(2, 4, 5)
                goal = torch.where(keep, problem.target, wrong)
            got, (gradient,) = results(name, input, goal, options)
            assert_equal(got, clean)
            assert torch.equal(gradient, slope) and (gradient[skipped] == 0).all()


@pytest.mark.parametrize("activation", ("none", "sigmoid"))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_excluded_elements_do_not_exist(name, activation):
    """Without softmax, elements may be left out: by mask, map, ignored t, class weight 0 and the
    background."""
    for row, per in enumerate(PER):
        rng = cases.generator(name, activation, per)
        problem = cases.make_problem(name, SHAPE, activation, "soft", rng, per=per)
        ways = {
            "mask": torch.rand(SHAPE, generator=rng) < 0.7,
            "weight_map": make_weight(SHAPE, torch.float32, rng),
            "weight": torch.tensor([1.0, 0.5, 0.0]),
            "include_background": False,
            "ignore_index": cases.IGNORED,
        }
        target = torch.where(torch.rand(SHAPE, generator=rng) < 0.2, 77.0, problem.target)
        skipped = ~ways["mask"] | (ways["weight_map"] == 0) | (target == 77)
        skipped[:, 0] = skipped[:, 2] = True
        options = problem.arguments() | ways
        clean, (slope,) = results(name, problem.input, target, options)
        assert slope.isfinite().all() and (slope[~skipped] != 0).any()
        input = torch.where(skipped, junk_like(target, row), problem.input)
        junk = torch.where(target == 77, target, junk_like(target, row + 1))
        got, (gradient,) = results(name, input, torch.where(skipped, junk, target), options)
        assert_equal(got, clean)
        assert torch.equal(gradient, slope) and (gradient[skipped] == 0).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_targets_of_channels_that_do_not_count_do_not_exist(name, activation):
    """Those of a class of weight 0 and of the background; under softmax their logits still do."""
    for per in PER:
        rng = cases.generator(name, activation, per)
        problem = cases.make_problem(name, SHAPE, activation, "soft", rng, per=per)
        weight = torch.tensor([1.0, 0.5, 0.0])
        options = problem.arguments() | {"weight": weight, "include_background": False}
        clean, (slope,) = results(name, problem.input, problem.target, options)
        target = junk_like(problem.target)
        target[:, 1] = problem.target[:, 1]
        got, (gradient,) = results(name, problem.input, target, options)
        assert_equal(got, clean)
        assert torch.equal(gradient, slope) and (slope != 0).any()


@pytest.mark.parametrize("per", ("sample_class", "class"))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_skipped_pool_is_not_computed_with(name, per):
    """An absent class whose input is NaN leaves value and the other gradients alone."""
    rng = cases.generator(name, per)
    problem = cases.make_problem(name, SHAPE, "none", "labels", rng, per=per, skip_absent=True)
    target = problem.target.clamp(max=1)
    options = problem.arguments() | {"mask": torch.ones(4, 5) > 0}
    clean, (slope,) = results(name, problem.input, target, options)
    input = problem.input.clone()
    input[:, 2] = float("nan")
    got, (gradient,) = results(name, input, target, options)
    assert_equal(got[:4], clean[:4])
    assert torch.equal(gradient, slope) and (slope[:, :2] != 0).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_ignored_labels_do_not_exist(name, activation):
    for per in PER:
        rng = cases.generator(name, activation, per)
        options = {"ignore_index": cases.IGNORED, "per": per}
        problem = cases.make_problem(name, SHAPE, activation, "labels", rng, **options)
        weights = make_weight((2, 1, 4, 5), torch.float32, rng)
        skipped = (problem.target == cases.IGNORED).unsqueeze(1)
        assert skipped.any()
        clean, (slope,) = results(
            name, problem.input, problem.target, problem.arguments() | {"weight_map": weights}
        )
        spoiled = problem.arguments()
        spoiled["weight_map"] = torch.where(skipped, float("nan"), weights)
        input = torch.where(skipped, junk_like(problem.input), problem.input)
        got, (gradient,) = results(name, input, problem.target, spoiled)
        assert_equal(got, clean)
        assert torch.equal(gradient, slope)
        assert (gradient[skipped.expand(SHAPE)] == 0).all()


GROUP = (torch.arange(40) % 3).reshape(2, 1, 4, 5)  # 0: mask 0, 1: map 0, 2: takes part


def all_gradients(problem, reduction, fill):
    """Of input, target, mask, map and class weight, `fill` in all that takes no part."""
    out = GROUP != 2
    leaves = (
        torch.where(out, fill, problem.target),
        torch.where(GROUP == 0, 0.0, torch.where(GROUP == 1, fill, 1.5)),
        torch.where(GROUP == 1, 0.0, torch.where(GROUP == 0, fill, 0.5)),
        torch.tensor([1.0, 0.0, 2.0]),
    )
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    options = dict(zip(("mask", "weight_map", "weight"), leaves[1:], strict=True))
    options |= problem.arguments() | {"reduction": reduction}
    input = torch.where(out, fill, problem.input)
    return results(problem.name, input, leaves[0], options, leaves)


@pytest.mark.parametrize("reduction", ("mean", "none"))
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_gradient_is_zero_there(name, activation, reduction):
    for per in PER:
        rng = cases.generator(name, activation, per, reduction)
        problem = cases.make_problem(name, SHAPE, activation, "soft", rng, per=per)
        clean = all_gradients(problem, reduction, 0.25)
        dirty = all_gradients(problem, reduction, float("nan"))
        assert_equal(dirty[0], clean[0])
        assert_equal(dirty[1], clean[1])
        by_input, by_target, by_mask, by_map, by_weight = dirty[1]
        for gradient in (by_input, by_target, by_mask, by_map):
            assert (gradient[(GROUP != 2).expand(gradient.shape)] == 0).all()
            assert (gradient != 0).any()
        assert by_weight[1] == 0 and (by_weight[[0, 2]] != 0).all()


@pytest.mark.parametrize("value", (float("nan"), float("inf")))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_takes_part_propagates(name, value):
    """A NaN or infinite p spoils its pool, and only that."""
    rng = cases.generator(name, value)
    problem = cases.make_problem(name, SHAPE, "none", "soft", rng, per="sample_class")
    input = problem.input.clone()
    input[1, 2, 3, 4] = value
    options = problem.arguments() | {"reduction": "none", "mask": torch.ones(4, 5) > 0}
    clean, _ = results(name, problem.input, problem.target, options)
    (loss, *_), _ = results(name, input, problem.target, options)
    others = torch.ones(2, 3, dtype=torch.bool)
    others[1, 2] = False
    assert loss[1, 2].isnan() and torch.equal(loss[others], clean[0][others])
