"""The rest of torch around a loss: compile, export, func transforms, autocast, copies.

Kernels that take part in none of this would fail silently: zero gradients, zero tangents. So every
test here compares numbers with the plain eager call, or with torch.
"""

import copy
import itertools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

import fusedloss as fl
from fusedloss import functional as F
from tests import cases
from tests.cases import FLOATS, FUNCTION, FUNCTIONS, LOSSES, REDUCTIONS

SHAPE = (2, 3, 4)
POS_WEIGHTED = next(loss for loss in LOSSES if loss.pos_weight)
MSE, BCE = FUNCTION["mse_loss"], FUNCTION["binary_cross_entropy_with_logits"]


def operands(loss, shape=SHAPE, dtype=torch.float64):
    rng = cases.generator(str(loss), shape)
    input = cases.make_input(loss, shape, dtype, rng).clamp(0.02, 0.98)
    input = input if loss.kind == "probability" else cases.make_input(loss, shape, dtype, rng)
    return input, cases.make_target(loss, shape, dtype, rng)


def loss_of(loss, reduction="mean", mask=None, **others):
    """(input, target) -> loss, of a region and a weight."""
    options = dict(loss.options, reduction=reduction, **others)

    def function(input, target):
        region = (fl.target <= 0.9) if mask is None else mask
        return getattr(F, loss.name)(input, target, mask=region, **options)

    return function


def value_and_gradient(function, input, *others):
    input = input.detach().requires_grad_()
    value = function(input, *others)
    (gradient,) = torch.autograd.grad((value * value).sum(), input)  # grad_output is not 1
    return value.detach(), gradient


def assert_same(got, wanted, **tolerance):
    for ours, right in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, right, **tolerance)


# ---- torch.compile, torch.export ---------------------------------------------------------------


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_compile_keeps_one_graph(loss, reduction):
    function = loss_of(loss, reduction)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for dtype in (torch.float32, torch.bfloat16):
        input, target = operands(loss, dtype=dtype)
        wanted = value_and_gradient(function, input, target)
        assert_same(value_and_gradient(compiled, input, target), wanted)


@pytest.mark.parametrize("loss", (MSE, BCE), ids=str)
def test_compile_of_every_option(loss):
    def function(input, target, mask, weight, divisor):
        region = (mask | (fl.target < 0.25)) & inverted
        results = [
            getattr(F, loss.name)(input, target, mask=region, weight=weight, reduction=reduction)
            for reduction in REDUCTIONS
        ]
        for normalizer in ("positions", "all", 3.5, divisor):
            value, stats = getattr(F, loss.name)(
                input, target, mask=mask, normalizer=normalizer, return_stats=True
            )
            results += [value, stats.total * value, stats.selected * value]
        return sum(result.sum() for result in results)

    inverted = ~(fl.target == 0.5)  # Dynamo traces & and |, but ~ of no Python object at all
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    input, target = operands(loss)
    mask, weight = torch.rand(2, 4) < 0.6, torch.rand(4)
    others = (target, mask, weight, torch.tensor(2.0))
    wanted = value_and_gradient(function, input, *others)
    assert_same(value_and_gradient(compiled, input, *others), wanted)


def test_compiled_graph_holds_the_fused_op():
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(loss_of(MSE), fullgraph=True, backend=backend)
    input, target = operands(MSE)
    value_and_gradient(compiled, input, target)
    text = graphs[0].print_readable(print_output=False)
    assert "fusedloss" in text or "FusedLoss" in text or "autograd_function_apply" in text
    assert len(graphs) == 1


@pytest.mark.parametrize("reduction", ("mean", "none", "sample_mean"))
@pytest.mark.parametrize("loss", (MSE, FUNCTION["huber_loss"], BCE), ids=str)
def test_compile_with_dynamic_shapes(loss, reduction):
    """One compilation for all sizes, with a float option that becomes symbolic."""
    function = loss_of(loss, reduction)
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((2, 3, 4), (5, 3, 7), (4, 2, 9, 3)[:3]):
        input, target = operands(loss, shape)
        wanted = value_and_gradient(function, input, target)
        assert_same(value_and_gradient(compiled, input, target), wanted)


def test_compile_with_a_dynamic_option():
    def function(input, target, delta, divisor):
        return F.huber_loss(input, target, delta=delta, normalizer=divisor, mask=fl.target > 0)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    input, target = operands(MSE)
    for delta, divisor in ((1.0, 3.5), (0.3, 7.25), (0.7, 1.5)):
        wanted = value_and_gradient(function, input, target, delta, divisor)
        assert_same(value_and_gradient(compiled, input, target, delta, divisor), wanted)


@pytest.mark.parametrize("loss", (MSE, BCE), ids=str)
def test_compile_with_inductor(loss):
    def function(input, target, mask):
        return getattr(F, loss.name)(input * 2, target, mask=mask) * 3

    compiled = torch.compile(function, fullgraph=True)
    for layout in ("contiguous", "channels_last"):
        input, target = operands(loss, (2, 3, 4, 5), torch.float32)
        input = cases.LAYOUTS[layout](input)
        mask = torch.rand(2, 4, 5) < 0.6
        wanted = value_and_gradient(function, input, target, mask)
        assert_same(value_and_gradient(compiled, input, target, mask), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_inductor_with_strided_inputs(loss, layout):
    """Inductor asserts the strides that the fake ops foretell."""
    compiled = torch.compile(loss_of(loss, "none"), fullgraph=True, dynamic=False)
    input, target = operands(loss, (3, 2, 4, 5), torch.float32)
    input = cases.LAYOUTS[layout](input)
    wanted = value_and_gradient(loss_of(loss, "none"), input, target)
    assert_same(value_and_gradient(compiled, input, target), wanted)


@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_compile_of_func_grad(loss):
    """A custom autograd.Function here gives all-zero gradients (pytorch#193279)."""
    function = loss_of(loss)
    input, target = operands(loss)
    compiled = torch.compile(torch.func.grad(function), fullgraph=True, backend="aot_eager")
    wanted = torch.func.grad(function)(input, target)
    assert wanted.abs().sum() > 0
    torch.testing.assert_close(compiled(input, target), wanted)


@pytest.mark.parametrize("loss", (MSE, BCE), ids=str)
def test_export(loss):
    class Module(torch.nn.Module):
        def forward(self, input, target):
            return loss_of(loss)(input, target)

    input, target = operands(loss, (4, 3, 5))
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {"input": {0: batch}, "target": {0: batch}}
    program = torch.export.export(Module(), (input, target), dynamic_shapes=shapes)
    for size in (4, 9):
        input, target = operands(loss, (size, 3, 5))
        torch.testing.assert_close(program.module()(input, target), Module()(input, target))


# ---- torch.func, forward AD --------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_func_grad_vmap_jvp_hessian(loss, reduction):
    input, target = operands(loss, (3, 4))
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


@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_vmap_over_masks_and_weights(loss):
    input, target = operands(loss, (3, 4, 5))
    masks, weights = torch.rand(3, 4, 5) < 0.6, torch.rand(3, 4, 5)

    def function(input, target, mask, weight):
        return getattr(F, loss.name)(input, target, mask=mask, weight=weight, **loss.options)

    arguments = (input, target, masks, weights)
    wanted = torch.stack([function(*row) for row in zip(*arguments, strict=True)])
    torch.testing.assert_close(torch.func.vmap(function)(*arguments), wanted)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_forward_ad(loss, reduction):
    input, target = operands(loss)
    tangent = torch.randn_like(input)
    function = loss_of(loss, reduction)
    with forward_ad.dual_level():
        result = function(forward_ad.make_dual(input, tangent), target)
        got = forward_ad.unpack_dual(result).tangent
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x, target), input)
    dims = list(range(jacobian.ndim - input.ndim, jacobian.ndim))
    torch.testing.assert_close(got, (jacobian * tangent).sum(dims))
    assert got.abs().sum() > 0


# ---- autocast, meta, fake tensors, copies ------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("autocast", (torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize("loss", FUNCTIONS, ids=str)
def test_autocast(loss, autocast, dtype):
    """Float32 results of 16-bit inputs, as exact as those of the inputs in float32."""
    input, target = operands(loss, dtype=dtype)
    wide = torch.promote_types(dtype, torch.float32)
    for reduction in REDUCTIONS:
        function = loss_of(loss, reduction)
        wanted = value_and_gradient(function, input.to(wide), target.to(wide))
        with torch.autocast("cpu", autocast):
            value, gradient = value_and_gradient(function, input, target)
        assert value.dtype is wide and gradient.dtype is dtype
        torch.testing.assert_close(value, wanted[0])
        torch.testing.assert_close(gradient, wanted[1].to(dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_meta_and_fake_tensors(reduction, dtype):
    for loss, layout in itertools.product(FUNCTIONS, ("contiguous", "channels_last", "cropped")):
        problem = cases.make_problem(loss, (2, 3, 4, 5), dtype, reduction=reduction)
        input = cases.LAYOUTS[layout](problem.input).requires_grad_()
        function = loss_of(loss, reduction, return_stats=True)
        wanted, stats = function(input, problem.target)
        (gradient,) = torch.autograd.grad(wanted.sum(), input)
        wanted_all = (wanted, gradient, *stats[:3])
        meta = torch.empty_strided(input.shape, input.stride(), dtype=dtype, device="meta")
        assert_like(function, meta, problem.target.to("meta"), wanted_all, "meta")
        mode = FakeTensorMode()
        fake, target = mode.from_tensor(input.detach()), mode.from_tensor(problem.target)
        with mode:
            assert_like(function, fake, target, wanted_all, "cpu")


def assert_like(function, input, target, wanted, device):
    input = input.detach().requires_grad_()
    value, stats = function(input, target)
    (gradient,) = torch.autograd.grad(value.sum(), input)
    for got, right in zip((value, gradient, *stats[:3]), wanted, strict=True):
        assert got.shape == right.shape and got.dtype == right.dtype
        assert got.stride() == right.stride() and got.device.type == device


def test_deepcopy_of_loss_and_region():
    x = torch.randn(3, 4, requires_grad=True)
    region = (fl.target > 0) & (torch.rand(3, 1) < 0.5)
    twin = copy.deepcopy(region)
    assert repr(twin) == repr(region) and twin.tensors[0] is not region.tensors[0]
    target = torch.randn(3, 4)
    assert torch.equal(F.mse_loss(x, target, mask=twin), F.mse_loss(x, target, mask=region))


def test_checkpointing_and_hooks():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.zeros_like(x).detach()
    plain = torch.autograd.grad(F.huber_loss(x * x, target), x)[0]
    checkpoint = torch.utils.checkpoint.checkpoint
    value = checkpoint(lambda x: F.huber_loss(x * x, target), x, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(value, x)[0], plain)
    with torch.autograd.graph.save_on_cpu():
        value = F.huber_loss(x * x, target, reduction="none").mean()
    torch.testing.assert_close(torch.autograd.grad(value, x)[0], plain)


def test_tensor_subclass_parameter():
    """nn.Parameter in, plain tensors out."""
    parameter = torch.nn.Parameter(torch.ones(3))
    loss = F.mse_loss(parameter, torch.zeros(3), weight=torch.nn.Parameter(torch.ones(3)))
    assert type(loss) is torch.Tensor
    loss.backward()
    torch.testing.assert_close(parameter.grad, torch.full((3,), 2 / 3))


@pytest.mark.parametrize("name", ("mse_loss", "cross_entropy", "dice_cross_entropy_loss"))
def test_compile_with_one_tensor_in_several_places(name):
    """Dynamo refuses it as two inputs of an autograd.Function."""
    input = torch.randn(2, 3, 4, 5, requires_grad=True)
    target, options = torch.randint(0, 3, (2, 1, 4, 5)), ("mask", "weight_map")
    if name == "mse_loss":
        target, options = torch.randn(2, 3, 4, 5), ("mask", "weight")

    def loss(input, target):
        return getattr(F, name)(input, target, **dict.fromkeys(options, target))

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    values = compiled(input, target), loss(input, target)
    assert torch.equal(*values)
    assert torch.equal(*(torch.autograd.grad(value, input)[0] for value in values))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traced():
    """A trace holds the op, which takes any batch; it cannot hold its gradient."""

    def loss(input, target):
        return F.smooth_l1_loss(input, target, mask=fl.target > 0)

    input, target = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    traced = torch.jit.trace(loss, (input, target), check_trace=False)
    input, target = torch.randn(5, 3, 4), torch.randn(5, 3, 4)
    torch.testing.assert_close(traced(input, target), loss(input, target))
    with pytest.raises(RuntimeError, match="torch.export"):
        torch.jit.trace(loss, (input.requires_grad_(), target), check_trace=False)
