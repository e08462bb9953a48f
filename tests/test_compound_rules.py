"""What holds for every loss, for the compounds: what takes no part does not exist, what is empty
is 0, derivatives of any order by every argument, the rest of torch around a call."""

import itertools
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import fusedloss as fl
from fusedloss import functional as F
from tests import overlap_cases
from tests.cases import FLOATS, make_weight
from tests.compound_cases import FUNCTIONS, LOSSES, is_positional, make_problem
from tests.overlap_cases import IGNORED, PER, generator
from tests.test_overlap_nan_rule import EXCLUDED, assert_equal, junk_like, results

SHAPE = (2, 3, 4, 5)
REDUCTIONS = ("mean", "sum", "sample_mean")


# ---- what takes no part does not exist ---------------------------------------------------------


@pytest.mark.parametrize("excluded", EXCLUDED)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_excluded_positions_do_not_exist(loss, excluded):
    rows = itertools.product(PER, ("labels", "soft"))
    for row, (per, target) in enumerate(rows):
        rng = generator(str(loss), excluded, row)
        problem = make_problem(loss, SHAPE, target, rng, per=per)
        keep, options = EXCLUDED[excluded](rng)
        options = problem.arguments() | options
        options["reduction"] = "mean" if row % 2 or per in ("class", "batch") else "sample_mean"
        skipped = ~keep.unsqueeze(1).expand(SHAPE)
        clean, (slope,) = results(problem.name, problem.input, problem.target, options)
        assert all(value.isfinite().all() for value in clean) and slope.isfinite().all()
        input = torch.where(skipped, junk_like(problem.input, row), problem.input)
        if target == "soft":
            goal = torch.where(skipped, junk_like(problem.target, row + 1), problem.target)
        else:
            wrong = torch.tensor([-7, 3, 255])[torch.arange(40) % 3].reshape(2, 4, 5)
            goal = torch.where(keep, problem.target, wrong)
        got, (gradient,) = results(problem.name, input, goal, options)
        assert_equal(got, clean)
        assert torch.equal(gradient, slope) and (gradient[skipped] == 0).all()


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_ignored_labels_do_not_exist(loss):
    """Nor does the weight map beside them."""
    rng = generator(str(loss))
    problem = make_problem(loss, SHAPE, "labels", rng, ignore_index=IGNORED)
    skipped = (problem.target == IGNORED).unsqueeze(1)
    weights = make_weight((2, 1, 4, 5), torch.float32, rng)
    options = problem.arguments() | {"weight": torch.tensor([1.0, 0.5, 2.0])}
    clean, (slope,) = results(
        problem.name, problem.input, problem.target, options | {"weight_map": weights}
    )
    spoiled = torch.where(skipped, float("nan"), weights)
    input = torch.where(skipped, junk_like(problem.input), problem.input)
    got, (gradient,) = results(
        problem.name, input, problem.target, options | {"weight_map": spoiled}
    )
    assert_equal(got, clean)
    assert torch.equal(gradient, slope) and (gradient[skipped.expand(SHAPE)] == 0).all()


@pytest.mark.parametrize("loss", [row for row in LOSSES if not is_positional(row)], ids=str)
def test_excluded_elements_do_not_exist(loss):
    """Beside BCE and the sigmoid focal loss: by mask, map, ignored t, and a class of weight 0."""
    rng = generator(str(loss), "elements")
    problem = make_problem(loss, SHAPE, "soft", rng, ignore_index=IGNORED)
    zero = torch.tensor([1.0, 0.0, 2.0])
    ways = {
        "mask": torch.rand(SHAPE, generator=rng) < 0.7,
        "weight_map": make_weight(SHAPE, torch.float32, rng),
        "weight": zero,
        "dice_class_weight": zero,
    }
    skipped = ~ways["mask"] | (ways["weight_map"] == 0) | (problem.target == IGNORED)
    skipped[:, 1] = True
    options = problem.arguments() | ways
    clean, (slope,) = results(problem.name, problem.input, problem.target, options)
    input = torch.where(skipped, junk_like(problem.input), problem.input)
    got, (gradient,) = results(problem.name, input, problem.target, options)
    assert_equal(got, clean)
    assert torch.equal(gradient, slope) and (gradient[skipped] == 0).all()


# ---- nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_nothing_takes_part(loss):
    options = {key: value for key, value in loss[1].items() if key != "smooth"}
    for per, reduction in itertools.product(PER, REDUCTIONS):
        if reduction == "sample_mean" and per in ("class", "batch"):
            continue
        for nothing in ({"mask": torch.zeros(4, 5)}, {"ignore_index": 1}, {"mask": fl.target > 9}):
            input = torch.full(SHAPE, float("nan"), requires_grad=True)
            labels = torch.ones((2, 4, 5), dtype=torch.int32)
            (value, *stats), (gradient,) = results(
                loss[0], input, labels, {"per": per, "reduction": reduction, **options, **nothing}
            )
            assert value == 0 and torch.equal(gradient, torch.zeros(SHAPE))
            assert not any(count.any() for count in (stats[0], *stats[2:]))


@pytest.mark.parametrize("shape", ((0, 3), (2, 3, 0), (0, 2, 3, 4)), ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_no_elements(loss, shape):
    options = {key: value for key, value in loss[1].items() if key != "smooth"}
    for target in (torch.zeros(shape), torch.zeros((shape[0], *shape[2:]), dtype=torch.int64)):
        input = torch.zeros(shape)
        (value, *_), (gradient,) = results(loss[0], input, target, options)
        assert value == 0 and gradient.shape == shape


# ---- derivatives -------------------------------------------------------------------------------


def operands(shape=(2, 3, 2, 2), target="labels"):
    count = torch.Size(shape).numel()
    input = torch.linspace(-2, 2, count, dtype=torch.float64).sin().reshape(shape) * 2
    if target == "labels":
        return input, (torch.arange(count // shape[1]) % shape[1]).reshape(shape[0], *shape[2:])
    t = torch.linspace(0, 3, count, dtype=torch.float64).cos().abs().reshape(shape) + 0.2
    return input, t / t.sum(1, keepdim=True)


OWN = {"mask": torch.tensor([[True, False], [True, True]])}
WEIGHT = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def loss_of(loss, **options):
    def function(input, target):
        return getattr(F, loss[0])(input, target, **(loss[1] | OWN | options))

    return function


@pytest.mark.parametrize("target", ("labels", "soft"))
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_gradcheck_of_the_input(loss, target):
    input, goal = operands(target=target)
    for per, reduction in zip(PER, (*REDUCTIONS[::2], "sum", "mean"), strict=True):
        function = loss_of(loss, per=per, reduction=reduction, weight=WEIGHT)
        function = partial(function, target=goal)
        assert gradcheck(function, input.requires_grad_(), fast_mode=True)
        assert gradgradcheck(function, input, fast_mode=True)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_gradcheck_of_every_argument(loss):
    """Soft target, mask, map, both class weights, pos_weight and a normalizer tensor."""
    input, target = operands(target="soft")
    named = {
        "mask": torch.tensor([[0.5, 1.0], [2.0, 0.7]]),
        "weight_map": torch.tensor([[0.3, 1.1], [0.2, 0.9]]),
        "weight": torch.tensor([1.0, 2.0, 0.5]),
        "dice_class_weight": torch.tensor([0.5, 0.4, 1.5]),
        "normalizer": torch.tensor(3.0),
    }
    named |= {"pos_weight": torch.tensor(2.0)} if loss[0] == "dice_bce_loss" else {}
    leaves = [tensor.double().requires_grad_() for tensor in (input, target, *named.values())]

    def function(input, target, *others):
        options = loss[1] | dict(zip(named, others, strict=True))
        return getattr(F, loss[0])(input, target, **options)

    assert gradcheck(function, leaves, fast_mode=True)
    assert gradgradcheck(function, leaves, fast_mode=True)


# ---- the rest of torch -------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_func_transforms_and_forward_ad(loss):
    input, target = operands()
    function = loss_of(loss, per="sample_class", ignore_index=1)
    leaf = input.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(function(leaf, target), leaf)
    torch.testing.assert_close(torch.func.grad(function)(input, target), wanted)
    tangent = torch.randn_like(input)
    with forward_ad.dual_level():
        result = function(forward_ad.make_dual(input, tangent), target)
        derivative = forward_ad.unpack_dual(result).tangent
    torch.testing.assert_close(derivative, (wanted * tangent).sum())
    hessian = torch.func.hessian(function)(input, target)
    looped = torch.autograd.functional.hessian(partial(function, target=target), input)
    torch.testing.assert_close(hessian, looped)
    inputs, targets = torch.stack([input, input.flip(0)]), torch.stack([target, target.flip(0)])
    got = torch.func.vmap(torch.func.grad(function))(inputs, targets)
    torch.testing.assert_close(got[0], wanted)
    torch.testing.assert_close(got[1], torch.func.grad(function)(inputs[1], targets[1]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_in_one_graph(name):
    def function(input, target, mask, weight):
        value, stats = getattr(F, name)(
            input,
            target,
            per="class",
            weight=weight,
            dice_class_weight=weight,
            weight_map=1 + fl.boundary(),
            mask=mask & (fl.target != 1),
            ignore_index=2,
            return_stats=True,
        )
        return value + 0 * stats.selected + stats.target_sum.sum() * value

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    input, target = operands()
    others = (target, torch.rand(2, 2) < 0.8, torch.rand(3))
    results = []
    for call in (function, compiled):
        leaf = input.detach().requires_grad_()
        value = call(leaf, *others)
        results.append((value.detach(), torch.autograd.grad(value * 3, leaf)[0]))
    for wanted, got in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_autocast(loss, dtype):
    input, target = operands()
    wide = torch.promote_types(dtype, torch.float32)
    wanted = loss_of(loss)(input.to(dtype).to(wide), target)
    with torch.autocast("cpu", torch.bfloat16):
        got = loss_of(loss)(input.to(dtype), target)
    assert got.dtype is wide
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_meta_and_fake_tensors(loss, dtype):
    def outputs(input, target):
        options = {"mask": torch.ones(2, 2, device=input.device), "return_stats": True}
        if "pos_weight" in loss[1]:
            options["pos_weight"] = torch.ones(3, 1, 1, device=input.device)
        input = input.detach().requires_grad_()
        value, stats = loss_of(loss, **options)(input, target)
        return value, *torch.autograd.grad(value, input), *stats

    input, target = operands()
    input = input.to(dtype)
    wanted = outputs(input, target)
    mode = FakeTensorMode()
    fakes = mode.from_tensor(input), mode.from_tensor(target)
    with mode:
        fake = outputs(*fakes)
    for got in (outputs(input.to("meta"), target.to("meta")), fake):
        for left, right in zip(got, wanted, strict=True):
            assert left.shape == right.shape and left.dtype is right.dtype


def test_repeated_backward_and_untouched_arguments():
    for loss, dtype in itertools.product(LOSSES, FLOATS):
        input, target = operands()
        input = input.to(dtype).requires_grad_()
        copies = input.detach().clone(), target.clone()
        value = loss_of(loss)(input, target)
        first, second = (
            torch.autograd.grad(value, input, torch.full_like(value, 0.7), retain_graph=True)[0]
            for _ in range(2)
        )
        assert torch.equal(first, second) and first.dtype is dtype
        assert torch.equal(input.detach(), copies[0]) and torch.equal(target, copies[1])


def test_16_bits_are_rounded_once():
    """The sum of two rounded parts would be one ulp off in places."""
    for seed in range(40):
        rng = generator(seed)
        input = torch.randn(2, 3, 4, 5, generator=rng).half()
        target = torch.randint(0, 3, (2, 4, 5), generator=rng)
        wanted = F.dice_cross_entropy_loss(input.float(), target)
        assert torch.equal(F.dice_cross_entropy_loss(input, target), wanted.half())


def test_the_tables_hold_every_function():
    assert {loss[0] for loss in LOSSES} == {*FUNCTIONS}
    assert {loss[0] for loss in overlap_cases.LOSSES} == {*overlap_cases.FUNCTIONS}
