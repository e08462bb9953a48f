"""What the kernels of the overlap losses and compounds need beside the tables of all backends:
which calls they take, layouts and sizes around their tiles, the orders in which they walk samples,
and the same bits for every number of threads."""

import itertools

import pytest
import torch

import fusedloss as fl
from fusedloss import _ops
from tests import compound_cases, overlap_cases
from tests.cases import FLOATS
from tests.overlap_cases import ACTIVATIONS, IGNORED, LOSSES, PER, generator
from tests.overlap_kernels import (
    COMPOUNDS,
    assert_matches,
    exact,
    kernels_only,
    random_problem,
    run,
)

INF, NAN = float("inf"), float("nan")


def check(problem, grad_output=None):
    with kernels_only():
        got = run(problem, grad_output)
    assert_matches(got, exact(problem, grad_output), problem)


def overlap(activation, target, shape, dtype=torch.float32, name="dice_loss", **options):
    rng = generator(activation, target, shape, dtype, name, sorted(options))
    return overlap_cases.make_problem(name, shape, activation, target, rng, dtype, **options)


def compound(loss, target, shape, dtype=torch.float32, **options):
    rng = generator(str(loss), target, shape, dtype, sorted(options))
    return compound_cases.make_problem(loss, shape, target, rng, dtype, **options)


# ---- which calls take a kernel -------------------------------------------------------------------


def every_way(problem):
    """With and without statistics, a second backward, no gradient at all."""
    input = problem.input.clone().requires_grad_()
    function = getattr(fl, problem.name)
    for return_stats in (False, True):
        result = function(input, problem.target, **problem.arguments(), return_stats=return_stats)
        loss = result[0] if return_stats else result
        torch.autograd.grad(loss.sum(), input, retain_graph=True)
        torch.autograd.grad(loss.sum(), input)
    with torch.no_grad():
        function(input, problem.target, **problem.arguments())


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("loss", (*LOSSES, *COMPOUNDS), ids=str)
def test_every_call_takes_a_kernel(loss, dtype):
    shapes = ((5, 3), (2, 3, 7), (2, 3, 4, 5), (2, 3, 2, 3, 2), (0, 3, 4), (2, 3, 0))
    for row, (shape, per, target) in enumerate(itertools.product(shapes, PER, ("labels", "soft"))):
        reduction = overlap_cases.reductions(per)[row % len(overlap_cases.reductions(per))]
        options = {"per": per, "mask": ("none", "positions")[row % 2], "reduction": reduction}
        with kernels_only():
            if loss in COMPOUNDS:
                reduction = "mean" if reduction == "none" else reduction
                every_way(
                    compound(loss, target, shape, dtype, **options | {"reduction": reduction})
                )
            else:
                activation = ACTIVATIONS[row % 3]
                problem = overlap(activation, target, shape, dtype, loss[0], **options)
                every_way(problem.with_options(**loss[1]))


def test_regions_and_sources_take_a_kernel():
    shape = (3, 4, 5, 6)
    for activation, target in itertools.product(ACTIVATIONS, ("labels", "soft")):
        positional = activation == "softmax"
        masks = overlap_cases.masks(positional) | overlap_cases.SPATIAL_MASKS
        maps = overlap_cases.maps(positional) | overlap_cases.SPATIAL_MAPS
        for mask, weight_map in itertools.product(masks, maps):
            problem = overlap(activation, target, shape, mask=mask, weight_map=weight_map)
            with kernels_only():
                run(problem)


def test_calls_without_a_kernel_take_the_reference():
    """What no kernel computes; the tables of values hold them against the reference's numbers."""
    x, y = torch.randn(2, 3, 4, requires_grad=True), torch.tensor([[0, 1, 2, 0]] * 2)
    t = x.detach().softmax(1)
    leaf = torch.ones(3, requires_grad=True)
    softmax, sigmoid = {"activation": "softmax"}, {"activation": "sigmoid"}
    for function, target, options in (
        (fl.dice_loss, y, softmax | {"weight": leaf}),
        (fl.dice_loss, y, sigmoid | {"mask": torch.ones(2, 4, requires_grad=True)}),
        (fl.dice_loss, t.clone().requires_grad_(), sigmoid),
        (fl.dice_loss, (t > 0.3).long(), sigmoid | {"ignore_index": 1 << 24}),
        (fl.dice_cross_entropy_loss, y, sigmoid),
        (fl.dice_bce_loss, y, softmax),
        (fl.dice_bce_loss, y, {"pos_weight": torch.ones(3, 1, requires_grad=True)}),
    ):
        with kernels_only(), pytest.raises(AssertionError, match="has not taken"):
            function(x, target, **options)


# ---- layouts and sizes ---------------------------------------------------------------------------


def channels_last(x):
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def permuted(x):
    return x.transpose(0, -1).contiguous().transpose(0, -1)


def sliced(x):
    return torch.stack((x, x), -1).flatten(-2)[..., ::2]


LAYOUTS = {"planes": lambda x: x, "rows": channels_last, "permuted": permuted, "sliced": sliced}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("target", ("labels", "soft"))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_layout_by_dtype_by_pool(activation, target, layout):
    """More positions than a tile holds, in every layout of input and soft target."""
    move = LAYOUTS[layout]
    for row, (dtype, per) in enumerate(itertools.product(FLOATS, PER)):
        name, own = LOSSES[row % len(LOSSES)]
        options = own | {"per": per, "ignore_index": (None, IGNORED)[row % 2]}
        options["reduction"] = overlap_cases.reductions(per)[row // 4 % 3]
        problem = overlap(activation, target, (3, 4, 37, 41), dtype, name, **options)
        check(problem.with_(input=move(problem.input), target=move(problem.target)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loss", COMPOUNDS, ids=str)
def test_compounds_by_layout_by_dtype(loss, layout):
    move = LAYOUTS[layout]
    for row, (dtype, target) in enumerate(itertools.product(FLOATS, ("labels", "soft"))):
        options = {"per": PER[row % 4], "ignore_index": IGNORED}
        options["weight"] = (None, torch.tensor([0.5, 0.0, 2.0, 1.0]))[row // 2 % 2]
        if "cross" in loss[0]:
            options["label_smoothing"] = (0.0, 0.2)[row // 4]
        problem = compound(loss, target, (3, 4, 37, 41), dtype, **options)
        check(problem.with_(input=move(problem.input), target=move(problem.target)))


@pytest.mark.parametrize("classes", (2, 3, 4, 5, 8, 19, 63, 65, 130))
def test_numbers_of_classes(classes):
    """Below, at and above what a step and a group of classes hold."""
    for row, (activation, target) in enumerate(itertools.product(ACTIVATIONS, ("labels", "soft"))):
        shape = (2, classes, 3, 411) if classes < 60 else (2, classes, 61)
        name, own = LOSSES[row + classes % 3]
        check(overlap(activation, target, shape, name=name, **own | {"per": PER[row % 4]}))
    check(compound(COMPOUNDS[0], "labels", (2, classes, 5, 61), per="sample_class"))


# By which order a float32 call of these goes: all samples before any gradient, each sample by one
# thread, the threads together on one sample after another.
SIZES = ((2, 4, 10, 11), (5, 19, 64, 62), (2, 19, 131, 127))


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("target", ("labels", "soft"))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_orders_of_samples(activation, target, shape):
    for row, (per, reduction) in enumerate(itertools.product(PER, ("mean", "sample_mean", "sum"))):
        if reduction == "sample_mean" and not per.startswith("sample"):
            continue
        options = {"per": per, "reduction": reduction, "skip_absent": row % 4 == 0}
        options["mask"] = ("none", "positions")[row % 2]
        check(overlap(activation, target, shape, **options), grad_output=0.7)


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("loss", COMPOUNDS, ids=str)
def test_orders_of_samples_in_compounds(loss, shape):
    for row, per in enumerate(PER):
        reduction = compound_cases.reductions(per)[row % 2]
        check(compound(loss, "labels", shape, per=per, reduction=reduction, ignore_index=IGNORED))


@pytest.mark.parametrize("group", range(8))
def test_random_calls(group):
    for seed in range(10 * group, 10 * group + 10):
        problem, grad_output = random_problem(seed)
        try:
            check(problem, grad_output)
        except Exception as error:
            raise AssertionError(f"random_problem({seed}): {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize("group", range(20))
def test_many_random_calls(group):
    for seed in range(1000 + 100 * group, 1100 + 100 * group):
        problem, grad_output = random_problem(seed)
        try:
            check(problem, grad_output)
        except Exception as error:
            raise AssertionError(f"random_problem({seed}): {error}") from error


# ---- special values ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_nan_spoils_its_pool_and_no_other(activation, dtype):
    for per, squared in itertools.product(PER, (False, True)):
        problem = overlap(activation, "labels", (3, 4, 9, 8), dtype, per=per, squared=squared)
        input = problem.input.clone()
        input[1, 2, 3, 4] = NAN
        problem = problem.with_(input=input)
        check(problem)
        if per != "batch":
            reduction = "none" if per != "class" else "mean"
            check(problem.with_options(reduction=reduction))


@pytest.mark.parametrize("grad_output", (NAN, INF, 0.0, -2.0))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_grad_output_reaches_what_takes_part_alone(activation, grad_output):
    """NaN where an element takes part, also where the derivative is 0; else exactly 0."""
    for row, (per, dtype) in enumerate(itertools.product(PER, FLOATS)):
        options = {"per": per, "mask": "positions", "ignore_index": IGNORED}
        options["reduction"] = overlap_cases.reductions(per)[row % 3]
        problem = overlap(activation, ("labels", "soft")[row % 2], (3, 4, 5, 6), dtype, **options)
        with kernels_only():
            got = run(problem, grad_output).gradient
        takes_part = exact(problem, NAN).gradient.isnan()
        assert (got[~takes_part] == 0).all() and takes_part.any() and not takes_part.all()
        assert grad_output in (0.0, -2.0) or not got[takes_part].isfinite().any()


# ---- threads, and torch around the ops -----------------------------------------------------------


def same_bits(got, wanted):
    assert torch.equal(got.loss, wanted.loss)
    assert torch.equal(got.gradient, wanted.gradient)
    for value, right in zip(got.stats, wanted.stats, strict=True):
        assert torch.equal(value, right)


@pytest.mark.parametrize("shape", SIZES[1:], ids=str)
@pytest.mark.parametrize("layout", ("planes", "rows"))
def test_every_number_of_threads_gives_the_same_bits(threads, layout, shape):
    problems = [
        overlap(activation, target, shape, FLOATS[row % 4], per=PER[row % 4], reduction="sum")
        for row, (activation, target) in enumerate(
            itertools.product(ACTIVATIONS, ("labels", "soft"))
        )
    ]
    problems += [
        compound(loss, "labels", shape, FLOATS[row % 4], per=PER[row % 4])
        for row, loss in enumerate(COMPOUNDS)
    ]
    for problem in problems:
        problem = problem.with_(input=LAYOUTS[layout](problem.input))
        threads(1)
        wanted = run(problem)
        for count in (2, 3, 4, 1):
            threads(count)
            same_bits(run(problem), wanted)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_opcheck(monkeypatch, dtype):
    calls = []
    for name in ("overlap_forward", "overlap_backward"):
        op = getattr(_ops, name)

        def recorded(*arguments, op=op):
            calls.append((op, arguments))
            return op(*arguments)

        monkeypatch.setattr(_ops, name, recorded)
    for row, (per, activation) in enumerate(itertools.product(PER, ACTIVATIONS)):
        options = {"per": per, "include_background": row % 2 == 0, "mask": "positions"}
        options["reduction"] = overlap_cases.reductions(per)[
            row % len(overlap_cases.reductions(per))
        ]
        every_way(overlap(activation, "labels", (2, 3, 4), dtype, **options))
    for loss in COMPOUNDS:
        every_way(compound(loss, "soft", (2, 3, 4), dtype))
    ops = torch.ops.fusedloss
    assert {op for op, _ in calls} == {ops.overlap_forward.default, ops.overlap_backward.default}
    for op, arguments in calls[::5]:
        torch.library.opcheck(op, tuple(map(_detached, arguments)))


def _detached(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(_detached, value))
    return value.detach() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("name", ("dice_loss", "dice_cross_entropy_loss"))
def test_a_compiled_graph_holds_the_kernels(name):
    """For every number of samples: shapes are dynamic."""

    def function(input, target, mask):
        return getattr(fl, name)(input, target, activation="softmax", per="sample_class", mask=mask)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for samples in (2, 3, 5):
        problem = overlap("softmax", "labels", (samples, 3, 4, 5))
        mask = torch.rand(samples, 4, 5) < 0.7
        with kernels_only():
            results = []
            for call in (function, compiled):
                leaf = problem.input.clone().requires_grad_()
                loss = call(leaf, problem.target, mask)
                results.append((loss.detach(), torch.autograd.grad(3 * loss, leaf)[0]))
        for wanted, got in zip(*results, strict=True):
            torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("skip_absent", (False, True))
def test_a_dice_part_of_weight_zero_is_still_counted(skip_absent):
    """Stats hold its sums although it has no slopes, by whose way they come otherwise."""
    logits, labels = torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 5, 6))
    options = dict(dice_weight=0.0, skip_absent=skip_absent, return_stats=True)
    _, got = fl.dice_cross_entropy_loss(logits.requires_grad_(), labels, **options)
    _, wanted = fl.reference.dice_cross_entropy_loss(logits, labels, **options)
    for field in ("intersection", "input_sum", "target_sum"):
        torch.testing.assert_close(getattr(got, field), getattr(wanted, field))
