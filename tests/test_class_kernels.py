"""What the kernels of the class losses need beside the tables of all backends: which calls they
take, layouts and sizes around their tiles, rows far apart, the same bits for every number of
threads."""

import itertools

import pytest
import torch

import fusedloss as fl
from fusedloss import _classwise_dispatch, _ops
from tests import class_cases as cases
from tests.class_cases import (
    CLASS_WEIGHTS,
    FLOATS,
    FUNCTION,
    FUNCTION_TARGETS,
    INDEX,
    MAPS,
    MASKS,
    PROBABILITY,
    REDUCTIONS,
    TARGETS,
)
from tests.class_oracle import assert_matches, evaluate, exact

CE = FUNCTION["cross_entropy"]
SOFTMAX = (CE, FUNCTION["softmax_focal_loss"])
INF, NAN = float("inf"), float("nan")


def check(problem, backend):
    assert_matches(evaluate(problem, backend), exact(problem), problem)


@pytest.fixture
def kernels_only(monkeypatch):
    """A call that goes to the reference fails."""

    def refuse(*_):
        raise AssertionError("this call has not taken a kernel")

    monkeypatch.setattr(_classwise_dispatch.reference, "classwise", refuse)


# ---- which calls take a kernel -------------------------------------------------------------------


def run(problem):
    input = problem.input.clone().requires_grad_()
    function = getattr(fl, problem.loss.name)
    arguments = problem.arguments()
    for return_stats in (False, True):
        result = function(input, problem.target, **arguments, return_stats=return_stats)
        loss = result[0] if return_stats else result
        torch.autograd.grad(loss.sum(), input, retain_graph=True)
        torch.autograd.grad(loss.sum(), input)
    with torch.no_grad():
        function(input, problem.target, **arguments)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=str)
def test_every_call_takes_a_kernel(kernels_only, loss, kind, dtype):
    shapes = ((3,), (5, 3), (2, 3, 7), (2, 3, 4, 5), (2, 3, 2, 3, 2), (0, 3, 4), (2, 3, 0))
    rng = cases.generator(str(loss), kind, dtype)
    masks = [
        name for name in MASKS if kind == INDEX or name not in ("label", "label-band", "nested")
    ]
    for row, (shape, reduction) in enumerate(itertools.product(shapes, REDUCTIONS)):
        others = dict(mask=MASKS[masks[row % len(masks)]](shape, rng), reduction=reduction)
        others["weight"] = CLASS_WEIGHTS[[*CLASS_WEIGHTS][row % 5]](shape, rng)
        others["weight_map"] = MAPS[[*MAPS][row % 4]](shape, rng)
        run(cases.make_problem(loss, kind, shape, dtype, rng=rng, **others))


@pytest.mark.parametrize("region", cases.REGIONS)
@pytest.mark.parametrize("source", [*cases.SOURCES, *cases.OWN_LABELS])
def test_regions_and_sources_take_a_kernel(kernels_only, region, source):
    rng = cases.generator(region, source)
    shape = (3, 4, 5, 6)
    sources = cases.SOURCES | cases.OWN_LABELS
    others = dict(mask=cases.REGIONS[region](shape, rng), weight_map=sources[source](shape, rng))
    run(cases.make_problem(CE, INDEX, shape, rng=rng, **others))


CHANNELS = {
    "variance": fl.input.var() > 1.0,
    "comparison": fl.target > 0.1,
    "finite": ~(fl.target.isfinite() & (fl.target <= 0.2)) | (fl.input.var(0) > 0.9),
}


@pytest.mark.parametrize("layout", ("planes", "rows"))
@pytest.mark.parametrize("shape", ((2, 3, 9, 11), (2, 19, 6, 7), (5, 33)), ids=str)
@pytest.mark.parametrize("region", CHANNELS)
@pytest.mark.parametrize("kind", (INDEX, PROBABILITY))
def test_what_reads_the_channels_of_a_position(backend, kernels_only, kind, region, shape, layout):
    """The index space of a class loss has none: the terms find them beside it."""
    if backend.share > 1 and shape[1] == 19:
        return
    rng = cases.generator(kind, region, shape)
    problem = cases.make_problem(CE, kind, shape, rng=rng)
    target = problem.target.clone()
    if kind == PROBABILITY:
        target[0] = float("nan")
    expression = CHANNELS[region]
    arguments = {"mask": expression, "weight_map": 1 + fl.normalized(expression)}
    if region == "finite":
        arguments["weight_map"] = None
    found = []
    for functions, place, dtype in (
        (backend.functions, backend.place, torch.float32),
        (fl.reference, lambda tensor: tensor, torch.float64),
    ):
        x = place(LAYOUTS[layout](problem.input.detach().to(dtype))).requires_grad_()
        loss, stats = functions.cross_entropy(
            x, place(target), **arguments, reduction="sum", return_stats=True
        )
        (gradient,) = torch.autograd.grad(loss, x)
        found.append((loss.double().cpu(), gradient.double().cpu(), stats.selected.cpu()))
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_calls_without_a_kernel_take_the_reference(kernels_only):
    """What no kernel computes; the tables of values hold them against the reference's numbers."""
    x, y = torch.randn(2, 3, 4), torch.tensor([[0, 1, 2, 0]] * 2)
    t = x.softmax(1)
    weight = torch.ones(3, requires_grad=True)
    for target, options in (
        (y, {"weight": weight}),
        (y, {"mask": torch.ones(2, 4, requires_grad=True)}),
        (t.detach().requires_grad_(), {}),
    ):
        with pytest.raises(AssertionError, match="has not taken"):
            fl.cross_entropy(x.requires_grad_(), target, **options)


# ---- layouts and sizes ---------------------------------------------------------------------------


def channels_last(x):
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def permuted(x):
    return x.transpose(0, -1).contiguous().transpose(0, -1)


def sliced(x):
    return torch.stack((x, x), -1).flatten(-2)[..., ::2]


LAYOUTS = {"planes": lambda x: x, "rows": channels_last, "permuted": permuted, "sliced": sliced}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("classes", (1, 2, 3, 7, 8, 19, 63, 64, 65, 150, 1000))
@pytest.mark.parametrize(
    "loss", [loss for loss, kind in FUNCTION_TARGETS if kind == INDEX], ids=str
)
def test_classes_by_layout(backend, loss, classes, layout):
    """Below, at and above what a vector, a group and a tile hold; ignored labels among them."""
    rng = cases.generator(str(loss), classes, layout)
    positions = ((37,), (3, 11), (5, 3, 7)) if classes >= 150 else ((1100,), (3, 411), (5, 13, 7))
    if backend.share > 1:
        positions = ((7,), (3, 3), (5, 2, 7)) if classes >= 150 else ((90,), (3, 31), (2, 13, 7))
    for row, (first, *rest) in backend.thin(enumerate(positions), classes + len(layout)):
        shape = (first, classes, *rest)
        dtype = FLOATS[(row + classes) % 4]
        problem = cases.make_problem(loss, INDEX, shape, dtype, rng=rng)
        weight = CLASS_WEIGHTS[("none", "zeros", "float")[row]](shape, rng)
        reduction = REDUCTIONS[(row + classes) % 4]
        problem = problem.with_(weight=weight, reduction=reduction)
        check(problem.with_(input=LAYOUTS[layout](problem.input)), backend)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("loss", SOFTMAX, ids=str)
def test_a_vocabulary(backend, loss, dtype):
    for shape in ((5, 32_000), (2, 8_191, 3)):
        check(cases.make_problem(loss, INDEX, shape, dtype), backend)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loss", SOFTMAX, ids=str)
def test_rows_far_apart(backend, loss, layout):
    """Positions whose logits lie far below or above their neighbours', at one number per group."""
    rng = cases.generator(str(loss), layout)
    table = itertools.product((9, 19, 70), (5.0, 30.0, 90.0, 1e4))
    for classes, distance in backend.thin(table, len(layout)):
        problem = cases.make_problem(loss, INDEX, (64, classes, 3), rng=rng, reduction="none")
        offset = distance * torch.randn(64, 1, 3, generator=rng)
        input = LAYOUTS[layout](problem.input + offset)
        check(problem.with_(input=input), backend)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loss", SOFTMAX, ids=str)
def test_special_logits_stay_where_they_are(backend, loss, layout):
    """NaN and infinities at some positions change no other; where they count they are torch's."""
    table = itertools.product((5, 19, 70), ("none", "sum"))
    for classes, reduction in backend.thin(table, len(layout)):
        problem = cases.make_problem(loss, INDEX, (6, classes, 9), reduction=reduction)
        input = problem.input.clone()
        special = torch.zeros(6, 9, dtype=torch.bool)
        for n, value in enumerate((NAN, INF, -INF)):
            input[n, n + 1, 2 * n] = value
            input[n + 3, :, 2 * n + 1] = value
            special[n, 2 * n] = special[n + 3, 2 * n + 1] = True
        input = LAYOUTS[layout](input)
        hidden = problem.with_(input=input, mask=cases.terms.tensor_mask(~special))
        check(hidden, backend)
        if reduction == "none":
            placed = backend.place(input), backend.place(problem.target)
            got = backend.functions.cross_entropy(*placed, reduction="none").cpu()
            wanted = torch.nn.functional.cross_entropy(input, problem.target, reduction="none")
            torch.testing.assert_close(got, wanted, equal_nan=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_nothing_takes_part(backend, loss, kind, layout):
    rng = cases.generator(str(loss), kind, layout)
    table = itertools.product(((40, 19, 30), (3, 70, 5)), REDUCTIONS)
    for shape, reduction in backend.thin(table, len(layout)):
        problem = cases.make_problem(loss, kind, shape, rng=rng, reduction=reduction)
        input = LAYOUTS[layout](torch.full_like(problem.input, NAN))
        if kind == PROBABILITY:
            problem = problem.with_(mask=MASKS["nothing"](shape, rng))
        else:
            problem = problem.with_(target=torch.full_like(problem.target, -100))
        got = evaluate(problem.with_(input=input), backend)
        assert (got.loss == 0).all() and (got.gradient == 0).all()
        assert got.stats.selected == 0


def test_gradients_keep_the_memory_format():
    for layout in LAYOUTS.values():
        input = layout(torch.randn(2, 19, 8, 8)).requires_grad_()
        fl.cross_entropy(input, torch.zeros(2, 8, 8, dtype=torch.int64)).backward()
        assert input.grad.stride() == torch.empty_like(input).stride()


# ---- threads, and torch around the ops -----------------------------------------------------------


@pytest.mark.parametrize("layout", ("planes", "rows"))
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_every_number_of_threads_gives_the_same_bits(threads, loss, kind, layout):
    rng = cases.generator(str(loss), kind, layout)
    for shape, reduction in itertools.product(((3, 19, 50, 61), (70, 3001)), REDUCTIONS):
        problem = cases.make_problem(loss, kind, shape, rng=rng, reduction=reduction)
        problem = problem.with_(input=LAYOUTS[layout](problem.input))
        results = []
        for count in (1, 2, 3, 4):
            threads(count)
            results.append(evaluate(problem))
        for got in results[1:]:
            assert torch.equal(got.loss, results[0].loss)
            assert torch.equal(got.gradient, results[0].gradient)
            assert all(map(torch.equal, got.stats[:3], results[0].stats[:3]))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_opcheck(monkeypatch, dtype):
    calls = []
    for name in ("classwise_forward", "classwise_backward"):
        op = getattr(_ops, name)

        def recorded(*arguments, op=op):
            calls.append((op, arguments))
            return op(*arguments)

        monkeypatch.setattr(_ops, name, recorded)
    rng = cases.generator(dtype)
    for (loss, kind), reduction in itertools.product(FUNCTION_TARGETS, ("mean", "none")):
        problem = cases.make_problem(loss, kind, (2, 3, 4), dtype, rng=rng, reduction=reduction)
        run(problem.with_(mask=MASKS["bool"]((2, 3, 4), rng)))
    assert {op for op, _ in calls} >= {_ops.torch.ops.fusedloss.classwise_forward.default}
    for op, arguments in calls[::3]:
        arguments = [_detached(argument) for argument in arguments]
        torch.library.opcheck(op, tuple(arguments))


def _detached(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(_detached, value))
    return value.detach() if isinstance(value, torch.Tensor) else value
