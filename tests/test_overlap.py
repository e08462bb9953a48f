"""Value, gradient and statistics of the overlap losses against numpy loops in float64."""

import itertools

import pytest
import torch

from tests import overlap_cases as cases
from tests.cases import FLOATS, LAYOUTS
from tests.oracle import assert_rounded
from tests.overlap_cases import ACTIVATIONS, LOSSES, PER, TARGETS, expected, make_problem

SHAPE = (3, 4, 5, 6)
PLANES = (2, 4, 9, 16)  # of whole packs: the fast CUDA kernels take them
SIXTEEN = (torch.float16, torch.bfloat16)


def evaluate(problem, backend):
    """(loss, gradient of its sum, stats) as a user gets them, back on the CPU."""
    input = backend.place(problem.input.detach()).detach().requires_grad_()
    arguments = {name: backend.place(value) for name, value in problem.arguments().items()}
    function = getattr(backend.functions, problem.name)
    loss, stats = function(input, backend.place(problem.target), **arguments, return_stats=True)
    (gradient,) = torch.autograd.grad(loss.sum(), input)
    return loss.detach().cpu(), gradient.cpu(), [value.cpu() for value in stats]


def check(problem, backend):
    """With the tolerances of the contract, section 9."""
    wanted = expected(problem)
    loss, gradient, stats = evaluate(problem, backend)
    dtype = problem.input.dtype
    assert loss.dtype is dtype and gradient.dtype is dtype
    assert gradient.shape == problem.input.shape
    right = torch.as_tensor(wanted.loss)
    slope = torch.as_tensor(wanted.gradient)
    assert loss.shape == right.shape
    assert (gradient[slope == 0] == 0).all() or problem.options["activation"] == "softmax"
    if dtype in SIXTEEN:
        assert_rounded(loss, right, "loss", 2e-6)
        assert_rounded(gradient, slope, "gradient", 2.0**-22 * slope.abs().max().item() + 1e-12)
    else:
        tight = dtype is torch.float64
        allowed = (1e-12 if tight else 1e-6) * (right.abs() + 1)
        assert ((loss.double() - right).abs() <= allowed).all(), (loss, right)
        error = (gradient.double() - slope).norm()
        assert error <= (1e-12 if tight else 1e-5) * slope.norm()
    check_stats(stats, wanted)


def check_stats(stats, wanted):
    total, normalizer, selected, *sums = stats
    assert selected.dtype is torch.int64 and selected == wanted.selected
    fields = (wanted.total, wanted.normalizer, *wanted[5:])
    for got, right in zip((total, normalizer, *sums), fields, strict=True):
        right = torch.as_tensor(right)
        tolerance = 1e-12 if got.dtype is torch.float64 else 2e-6
        assert got.dtype in (torch.float32, torch.float64) and got.shape == right.shape
        assert ((got.double() - right).abs() <= tolerance * (1 + right.abs())).all(), (got, right)


def others(row, positional, spatial=True, per="sample"):
    """Mask, map and options of the case `row` of a table, each in turn."""
    mask_names = [*cases.masks(positional), *(cases.SPATIAL_MASKS if spatial else ())]
    map_names = [*cases.maps(positional), *(cases.SPATIAL_MAPS if spatial else ())]
    names = cases.reductions(per)
    return {
        "mask": mask_names[row % len(mask_names)],
        "weight_map": map_names[(row // 2) % len(map_names)],
        "reduction": names[row % len(names)],
        "ignore_index": (None, cases.IGNORED)[row % 2],
        "include_background": row % 3 != 1,
        "skip_absent": row % 5 == 2,
    }


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_target_by_mask_by_map_by_dtype(backend, loss, activation, per):
    """Every loss, activation and kind of pool with every kind of target; the rest in turn."""
    offset = 7 * LOSSES.index(loss) + 3 * ACTIVATIONS.index(activation) + PER.index(per)
    table = enumerate(itertools.product(TARGETS, (False, True)), offset)
    for row, (target, weighted) in backend.thin(table, offset):
        rng = cases.generator(str(loss), activation, per, row)
        options = loss[1] | others(row, activation == "softmax", per=per)
        if weighted:
            options["weight"] = torch.tensor([0.5, 2.0, 0.0, 1.25])
        shape, dtype = (SHAPE, PLANES)[row // 2 % 2], FLOATS[row % 4]
        problem = make_problem(loss[0], shape, activation, target, rng, dtype, per=per, **options)
        check(problem, backend)


SHAPES = (
    (2, 3),
    (1, 2),
    (3, 2, 7),
    (1, 5, 2, 3),
    (2, 3, 3, 4, 3),
    (2, 2, 2, 3, 2, 2),
    (7, 3, 1, 1),
)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(backend, shape, activation):
    spatial = len(shape) in (4, 5)
    rows = itertools.product(("labels", "labels-column", "soft"), PER)
    for row, (target, per) in backend.thin(enumerate(rows, len(shape)), len(activation)):
        name, own = LOSSES[row % len(LOSSES)]
        options = own | others(row, activation == "softmax", spatial, per)
        rng = cases.generator(shape, activation, row)
        problem = make_problem(name, shape, activation, target, rng, per=per, **options)
        check(problem, backend)


@pytest.mark.parametrize("target", cases.BINARY_TARGETS)
@pytest.mark.parametrize("activation", ("none", "sigmoid"))
def test_one_channel(backend, activation, target):
    """An integer or bool target is t itself, in either shape."""
    for row, ((name, own), per) in backend.thin(enumerate(itertools.product(LOSSES, PER))):
        options = own | others(row, False, per=per) | {"include_background": True}
        if row % 4 == 0:
            options["weight"] = torch.tensor([2.5])
        rng = cases.generator(target, activation, row)
        problem = make_problem(name, (3, 1, 5, 4), activation, target, rng, per=per, **options)
        check(problem, backend)


@pytest.mark.parametrize("dtype", cases.LABEL_DTYPES, ids=str)
def test_labels_of_every_dtype(backend, dtype):
    for row, activation in backend.thin(enumerate(ACTIVATIONS), len(str(dtype))):
        rng = cases.generator(dtype, activation)
        options = {"ignore_index": cases.IGNORED, "mask": "target", "per": PER[row]}
        for shape in (SHAPE, PLANES):
            problem = make_problem("dice_loss", shape, activation, "labels", rng, **options)
            check(problem.with_(target=problem.target.to(dtype)), backend)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_layouts(backend, activation, layout):
    table = enumerate(("labels", "labels-column", "soft", "integer"))
    for row, target in backend.thin(table, len(layout)):
        rng = cases.generator(activation, layout, target)
        name, own = LOSSES[2 * row]
        options = own | {"per": PER[row], "mask": "positions", "ignore_index": cases.IGNORED}
        problem = make_problem(name, SHAPE, activation, target, rng, FLOATS[row % 2], **options)
        check(cases.placed(problem, layout), backend)


@pytest.mark.parametrize("mask", [*cases.masks(False), *cases.SPATIAL_MASKS])
@pytest.mark.parametrize("target", ("labels", "soft"))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_mask_with_every_map(backend, activation, target, mask):
    positional = activation == "softmax"
    if positional and mask in cases.ELEMENT_MASKS:
        return  # refused: tests/test_overlap_errors.py
    maps = [*cases.maps(positional), *cases.SPATIAL_MAPS]
    maps += [*cases.OWN_LABELS] if target == "labels" else []
    for row, weight_map in backend.thin(enumerate(maps), len(mask) + len(target)):
        rng = cases.generator(activation, target, mask, weight_map)
        name, own = LOSSES[(row + len(mask)) % len(LOSSES)]
        options = own | {"mask": mask, "weight_map": weight_map, "per": PER[row % 4]}
        options["ignore_index"] = cases.IGNORED
        shape = (SHAPE, PLANES)[row % 2]
        check(make_problem(name, shape, activation, target, rng, **options), backend)


@pytest.mark.parametrize("dtypes", list(itertools.product(FLOATS, FLOATS)), ids=str)
def test_mixed_dtypes(backend, dtypes):
    """Input, target, mask, map and class weight of any dtypes; arithmetic in the widest."""
    rng = cases.generator(dtypes)
    options = {"weight": torch.tensor([1.0, 2.0, 0.5, 0.25]).to(dtypes[1]), "per": "batch"}
    options |= {"mask": "float-column", "weight_map": "positions"}
    problem = make_problem("dice_loss", PLANES, "softmax", "soft", rng, dtypes[0], **options)
    check(problem.with_(target=problem.target.to(dtypes[1])), backend)


def test_soft_counts_of_a_small_example():
    """By hand: two samples, two classes, three positions."""
    import fusedloss as fl

    p = torch.tensor([[[0.5, 1.0, 0.0], [0.5, 0.0, 1.0]], [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]])
    labels = torch.tensor([[0, 0, 1], [0, 1, 9]])
    options = {"per": "sample_class", "ignore_index": 9, "reduction": "none", "smooth": 0.0}
    loss, stats = fl.dice_loss(p, labels, return_stats=True, **options)
    torch.testing.assert_close(stats.intersection, torch.tensor([[1.5, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(stats.input_sum, torch.tensor([[1.5, 1.5], [2.0, 0.0]]))
    torch.testing.assert_close(stats.target_sum, torch.tensor([[2.0, 1.0], [1.0, 1.0]]))
    wanted = 1 - torch.tensor([[3.0 / 3.5, 2.0 / 2.5], [2.0 / 3.0, 0.0]])
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(stats.total, wanted.sum())
    assert stats.normalizer == 4 and stats.selected == 10
