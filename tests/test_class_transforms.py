"""The rest of torch around a class loss: compile, export, func transforms, forward AD, autocast,
meta and fake tensors. Every test compares numbers with the plain eager call."""

import itertools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

import fusedloss as fl
from fusedloss import functional as F
from tests import class_cases as cases
from tests.class_cases import FLOATS, FUNCTION, FUNCTION_TARGETS, INDEX, REDUCTIONS, TARGETS
from tests.test_transforms import assert_like, assert_same, value_and_gradient

SHAPE = (2, 3, 4)
CE = FUNCTION["cross_entropy"]


def operands(loss, kind, shape=SHAPE, dtype=torch.float64, ignored=0.15):
    rng = cases.generator(str(loss), kind, shape)
    input = cases.make_input(loss, shape, dtype, rng)
    target_dtype = dtype if kind != INDEX else None
    return input, cases.make_target(kind, shape, target_dtype, rng, ignored)


def loss_of(loss, reduction="mean", **others):
    """(input, target) -> loss, of a region."""
    options = dict(loss.options, reduction=reduction, **others)

    def function(input, target):
        return getattr(F, loss.name)(input, target, mask=fl.target <= 1, **options)

    return function


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()


# ---- torch.compile, torch.export ---------------------------------------------------------------


@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_compile_keeps_one_graph(loss, kind):
    reduction = REDUCTIONS[FUNCTION_TARGETS.index((loss, kind)) % 4]
    function = loss_of(loss, reduction)
    compiled = torch.compile(function, fullgraph=True, real_backend="aot_eager")
    for dtype in (torch.float32, torch.bfloat16):
        input, target = operands(loss, kind, dtype=dtype)
        wanted = value_and_gradient(function, input, target)
        assert_same(value_and_gradient(compiled, input, target), wanted)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [row for row in TARGETS if row[0].options.get("label_smoothing") == 0.1],
    ids=str,
)
def test_compile_of_every_option(loss, kind):
    """The losses differ in their formula alone; this one has the most options."""

    def function(input, target, mask, weight, weight_map, divisor):
        region = (mask | (fl.target < 0.25)) & ~(fl.target == 0.5) & (fl.input.var() >= 0)
        options = dict(loss.options, weight=weight, weight_map=weight_map)
        results = [
            getattr(F, loss.name)(input, target, mask=region, reduction=reduction, **options)
            for reduction in REDUCTIONS
        ]
        options["weight_map"] = 1 + 2 * weight_map * fl.boundary(labels)
        for normalizer in ("positions", "weights", "all", 3.5, divisor):
            value, stats = getattr(F, loss.name)(
                input, target, mask=mask, normalizer=normalizer, return_stats=True, **options
            )
            results += [value, stats.total * value, stats.selected * value]
        return sum(result.sum() for result in results)

    labels = torch.randint(0, 2, (2, 4))
    compiled = torch.compile(function, fullgraph=True, real_backend="aot_eager")
    input, target = operands(loss, kind)
    others = (target, torch.rand(2, 4) < 0.6, torch.tensor([1.0, 0.0, 2.0]), torch.rand(4))
    others += (torch.tensor(2.0),)
    wanted = value_and_gradient(function, input, *others)
    assert_same(value_and_gradient(compiled, input, *others), wanted)


@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_compile_with_dynamic_shapes(loss, kind):
    reduction = REDUCTIONS[(1 + FUNCTION_TARGETS.index((loss, kind))) % 4]
    function = loss_of(loss, reduction)
    compiled = torch.compile(function, fullgraph=True, dynamic=True, real_backend="aot_eager")
    for shape in ((2, 3, 4), (4, 5, 9)):
        input, target = operands(loss, kind, shape)
        wanted = value_and_gradient(function, input, target)
        assert_same(value_and_gradient(compiled, input, target), wanted)


def test_compile_with_dynamic_options():
    def function(input, target, gamma, ignored, smoothing, threshold):
        region = fl.target != threshold
        focal = F.softmax_focal_loss(input, target, gamma=gamma, ignore_index=ignored, mask=region)
        return focal + F.cross_entropy(input, target, label_smoothing=smoothing, mask=region)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, real_backend="aot_eager")
    input, target = operands(CE, INDEX, ignored=0.0)
    for options in ((1.5, 1, 0.1, 2), (0.3, 2, 0.2, 0), (2.0, 0, 0.3, 1)):
        wanted = value_and_gradient(function, input, target, *options)
        assert_same(value_and_gradient(compiled, input, target, *options), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ("cross_entropy", "softmax_focal_loss"))
def test_compile_with_inductor(name):
    def function(input, target, mask):
        return getattr(F, name)(input * 2, target, mask=mask) * 3

    compiled = torch.compile(function, fullgraph=True)
    for layout in ("contiguous", "channels_last"):
        input, target = operands(FUNCTION[name], INDEX, (2, 3, 4, 5), torch.float32)
        input = cases.LAYOUTS[layout](input)
        mask = torch.rand(2, 4, 5) < 0.6
        wanted = value_and_gradient(function, input, target, mask)
        assert_same(value_and_gradient(compiled, input, target, mask), wanted)


@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_compile_of_func_grad(loss, kind):
    function = loss_of(loss)
    input, target = operands(loss, kind)
    compiled = torch.compile(torch.func.grad(function), fullgraph=True, real_backend="aot_eager")
    wanted = torch.func.grad(function)(input, target)
    assert wanted.abs().sum() > 0
    torch.testing.assert_close(compiled(input, target), wanted)


@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_export(loss, kind):
    class Module(torch.nn.Module):
        def forward(self, input, target):
            return loss_of(loss)(input, target)

    input, target = operands(loss, kind, (4, 3, 5))
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {"input": {0: batch}, "target": {0: batch}}
    program = torch.export.export(Module(), (input, target), dynamic_shapes=shapes)
    for size in (4, 9):
        input, target = operands(loss, kind, (size, 3, 5))
        torch.testing.assert_close(program.module()(input, target), Module()(input, target))


# ---- torch.func, forward AD --------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=str)
def test_func_grad_vmap_jvp_hessian(loss, kind, reduction):
    input, target = operands(loss, kind, (3, 4), ignored=0.0)  # rows of it are single positions
    function = loss_of(loss, reduction)

    def scalar(input, target):
        return function(input, target).sum()

    leaf = input.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(scalar(leaf, target), leaf)
    torch.testing.assert_close(torch.func.grad(scalar)(input, target), wanted)

    tangent = torch.randn_like(input)
    _, derivative = torch.func.jvp(lambda x: scalar(x, target), (input,), (tangent,))
    torch.testing.assert_close(derivative, (wanted * tangent).sum())

    rows = [scalar(x, t) for x, t in zip(input, target, strict=True)]
    torch.testing.assert_close(torch.func.vmap(scalar)(input, target), torch.stack(rows))
    per_row = torch.func.vmap(torch.func.grad(scalar))(input, target)
    wanted = [torch.func.grad(scalar)(x, t) for x, t in zip(input, target, strict=True)]
    torch.testing.assert_close(per_row, torch.stack(wanted))

    hessian = torch.func.hessian(scalar)(input, target)
    looped = torch.autograd.functional.hessian(lambda x: scalar(x, target), input)
    torch.testing.assert_close(hessian, looped)


@pytest.mark.parametrize("shape", ((5, 3), (5, 3, 4), (5, 2, 3, 4)), ids=str)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_vmap_over_everything(loss, kind, shape):
    """Also over single positions, whose input has no batch dim."""
    inner = shape[1:]
    rng = cases.generator(str(loss), kind, shape)
    rows = [cases.make_problem(loss, kind, inner, torch.float64, rng=rng) for _ in range(shape[0])]
    input, target = (torch.stack([getattr(r, n) for r in rows]) for n in ("input", "target"))
    positions = cases.positions(inner)
    masks = torch.rand((shape[0], *positions), generator=rng) < 0.7
    weights = torch.rand((shape[0], cases.classes(inner)), generator=rng)

    def function(input, target, mask, weight):
        region = mask & (fl.target < 2)
        options = dict(loss.options, mask=region, weight=weight)
        return getattr(F, loss.name)(input, target, **options)

    arguments = (input, target, masks, weights)
    wanted = torch.stack([function(*row) for row in zip(*arguments, strict=True)])
    torch.testing.assert_close(torch.func.vmap(function)(*arguments), wanted)


def test_vmap_over_class_weights_and_maps_alone():
    input, target = operands(CE, INDEX)
    weights, maps = torch.rand(5, 3), torch.rand(5, 2, 4)

    def function(weight, weight_map):
        return F.cross_entropy(input, target, weight=weight, weight_map=weight_map)

    wanted = torch.stack([function(*row) for row in zip(weights, maps, strict=True)])
    torch.testing.assert_close(torch.func.vmap(function)(weights, maps), wanted)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_forward_ad(loss, kind, reduction):
    input, target = operands(loss, kind)
    tangent = torch.randn_like(input)
    function = loss_of(loss, reduction)
    with forward_ad.dual_level():
        result = function(forward_ad.make_dual(input, tangent), target)
        got = forward_ad.unpack_dual(result).tangent
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x, target), input)
    dims = list(range(jacobian.ndim - input.ndim, jacobian.ndim))
    torch.testing.assert_close(got, (jacobian * tangent).sum(dims))
    assert got.abs().sum() > 0


# ---- autocast, meta, fake tensors --------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("autocast", (torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_autocast(loss, kind, autocast, dtype):
    """Float32 results of 16-bit inputs, as exact as those of the inputs in float32."""
    input, target = operands(loss, kind, dtype=dtype)
    wide = torch.promote_types(dtype, torch.float32)
    for reduction in REDUCTIONS:
        function = loss_of(loss, reduction)
        wide_target = target.to(wide) if target.is_floating_point() else target
        wanted = value_and_gradient(function, input.to(wide), wide_target)
        with torch.autocast("cpu", autocast):
            value, gradient = value_and_gradient(function, input, target)
        assert value.dtype is wide and gradient.dtype is dtype
        torch.testing.assert_close(value, wanted[0])
        torch.testing.assert_close(gradient, wanted[1].to(dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_meta_and_fake_tensors(reduction, dtype):
    for (loss, kind), shape in itertools.product(FUNCTION_TARGETS, ((2, 3, 4, 5), (4, 3), (3,))):
        input, target = operands(loss, kind, shape, dtype)
        input.requires_grad_()
        function = loss_of(loss, reduction, return_stats=True, weight=None)
        wanted, stats = function(input, target)
        (gradient,) = torch.autograd.grad(wanted.sum(), input)
        wanted_all = (wanted, gradient, *stats[:3])
        meta = torch.empty(shape, dtype=dtype, device="meta")
        assert_like(function, meta, target.to("meta"), wanted_all, "meta")
        mode = FakeTensorMode()
        fake, goal = mode.from_tensor(input.detach()), mode.from_tensor(target)
        with mode:
            assert_like(function, fake, goal, wanted_all, "cpu")


def test_labels_out_of_range_while_nobody_can_look():
    """Compiled code and vmap go without our check; torch's gather has its own."""
    x, y = torch.rand(2, 3), torch.tensor([0, 7])
    torch.func.vmap(F.cross_entropy)(x, torch.tensor([0, 2]))
    with pytest.raises((IndexError, RuntimeError)):
        torch.func.vmap(F.cross_entropy)(x, y)
    F.cross_entropy(x.to("meta"), y.to("meta"))
