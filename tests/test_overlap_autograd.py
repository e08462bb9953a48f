"""Derivatives of the overlap losses by every argument, to second order, and the rest of torch
around a call: func transforms, compile, export, autocast, meta and fake tensors."""

import itertools
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import fusedloss as fl
from fusedloss import functional as F
from tests import overlap_cases as cases
from tests.cases import FLOATS
from tests.overlap_cases import ACTIVATIONS, FUNCTIONS, LOSSES, PER

SHAPE = (2, 3, 2, 2)
MASK = torch.tensor([[True, False], [True, True]])
OPTIONS = {"mask": MASK, "ignore_index": cases.IGNORED}


def numbers(*shape, key=0):
    return torch.randn(shape, generator=cases.generator(shape, key), dtype=torch.float64)


def operands(activation, shape=SHAPE, target="labels"):
    x = numbers(*shape)
    x = x.sigmoid() if activation == "none" else x
    if target == "soft":
        return x, 0.1 + 0.8 * numbers(*shape, key=1).sigmoid()
    labels = torch.arange(shape[0] * x[0, 0].numel()).reshape(shape[0], *shape[2:]) % shape[1]
    labels[0].view(-1)[0] = cases.IGNORED
    return x, labels


def loss_of(name, activation, **options):
    def function(input, target):
        return getattr(F, name)(input, target, activation=activation, **OPTIONS, **options)

    return function


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_gradcheck_of_the_input(loss, activation):
    for row, (per, target) in enumerate(itertools.product(PER, ("labels", "soft"))):
        input, goal = operands(activation, target=target)
        reduction = cases.reductions(per)[row % len(cases.reductions(per))]
        weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
        options = loss[1] | {"per": per, "reduction": reduction, "weight": weight}
        function = loss_of(loss[0], activation, **options)
        leaf = input.requires_grad_()
        assert gradcheck(partial(function, target=goal), leaf, fast_mode=True)
        assert gradgradcheck(partial(function, target=goal), leaf, fast_mode=True)


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradcheck_of_every_argument(name, activation, per):
    """Soft target, mask, weight map and class weight, through the mean of the pools as well."""
    input, target = operands(activation, target="soft")
    leaves = [input, target]
    leaves += [
        numbers(*shape, key=key).abs() + 0.2 for key, shape in enumerate(((2, 2), (2, 2, 2), (3,)))
    ]
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    for reduction in cases.reductions(per):

        def function(input, target, mask, weight_map, weight, reduction=reduction):
            return getattr(F, name)(
                input,
                target,
                activation=activation,
                per=per,
                mask=fl.regions.as_region(mask) & MASK,
                weight_map=weight_map,
                weight=weight,
                reduction=reduction,
            )

        assert gradcheck(function, leaves, fast_mode=True)
        assert gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_repeated_backward_and_untouched_arguments(activation, dtype):
    for name, per in itertools.product(FUNCTIONS, PER):
        input, target = operands(activation)
        input = input.to(dtype).requires_grad_()
        weights = torch.rand(2, 2)
        tensors = (input, target, weights)
        copies = [tensor.detach().clone() for tensor in tensors]
        function = loss_of(name, activation, per=per, weight_map=weights)
        value = function(input, target)
        first, second = (
            torch.autograd.grad(value, input, torch.full_like(value, 0.7), retain_graph=True)[0]
            for _ in range(2)
        )
        assert torch.equal(first, second) and first.dtype is dtype
        (graphed,) = torch.autograd.grad(
            value, input, torch.full_like(value, 0.7), create_graph=True
        )
        torch.testing.assert_close(graphed.detach(), first)
        for tensor, copy in zip(tensors, copies, strict=True):
            assert torch.equal(tensor.detach(), copy)


def test_gradients_have_the_dtype_of_their_tensor():
    tensors = (
        torch.rand(SHAPE, dtype=torch.float16),
        torch.rand(SHAPE, dtype=torch.bfloat16),
        torch.rand(2, 2, dtype=torch.float32),
        torch.rand(2, 2, dtype=torch.float16),
        torch.rand(3, dtype=torch.bfloat16),
    )
    input, target, mask, weight_map, weight = (tensor.requires_grad_() for tensor in tensors)
    value = F.dice_loss(input, target, mask=mask, weight_map=weight_map, weight=weight)
    assert value.dtype is torch.float16
    for tensor, gradient in zip(tensors, torch.autograd.grad(value, tensors), strict=True):
        assert gradient.dtype is tensor.dtype and gradient.shape == tensor.shape
        assert gradient.isfinite().all() and (gradient != 0).any()


def test_stats_are_detached():
    input, target = operands("sigmoid")
    loss, stats = F.dice_loss(input.requires_grad_(), target, return_stats=True, **OPTIONS)
    assert loss.requires_grad and not any(value.requires_grad for value in stats)


# ---- func transforms, forward AD ---------------------------------------------------------------


@pytest.mark.parametrize("target", ("labels", "soft"))
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_func_grad_vmap_jvp_hessian(name, activation, target):
    for per in PER:
        input, goal = operands(activation, target=target)
        function = loss_of(name, activation, per=per)
        leaf = input.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(function(leaf, goal), leaf)
        torch.testing.assert_close(torch.func.grad(function)(input, goal), wanted)
        tangent = numbers(*SHAPE, key=3)
        _, derivative = torch.func.jvp(partial(function, target=goal), (input,), (tangent,))
        torch.testing.assert_close(derivative, (wanted * tangent).sum())
        hessian = torch.func.hessian(function)(input, goal)
        looped = torch.autograd.functional.hessian(partial(function, target=goal), input)
        torch.testing.assert_close(hessian, looped)
        inputs, goals = torch.stack([input, input.flip(0)]), torch.stack([goal, goal.flip(0)])
        got = torch.func.vmap(torch.func.grad(function))(inputs, goals)
        torch.testing.assert_close(got[0], wanted)
        reversed_ = torch.func.grad(function)(inputs[1], goals[1])
        torch.testing.assert_close(got[1], reversed_)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward_ad(name, activation):
    input, target = operands(activation)
    tangent = numbers(*SHAPE, key=3)
    for per in PER:
        function = loss_of(name, activation, per=per, reduction="none")
        with forward_ad.dual_level():
            result = function(forward_ad.make_dual(input, tangent), target)
            got = forward_ad.unpack_dual(result).tangent
        jacobian = torch.autograd.functional.jacobian(partial(function, target=target), input)
        torch.testing.assert_close(got, (jacobian * tangent).sum((-4, -3, -2, -1)))


# ---- compile, export, autocast, meta and fake tensors ------------------------------------------


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()


def value_and_gradient(function, input, *others):
    input = input.detach().requires_grad_()
    value = function(input, *others)
    return value.detach(), torch.autograd.grad((value * value).sum(), input)[0]


def assert_same(function, compiled, *arguments):
    wanted = value_and_gradient(function, *arguments)
    got = value_and_gradient(compiled, *arguments)
    for left, right in zip(got, wanted, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_in_one_graph(name):
    def function(input, target, mask, weight_map, weight):
        results = []
        for per, activation in zip(PER, ("sigmoid", "softmax", "none", "softmax"), strict=True):
            loss, stats = getattr(F, name)(
                input,
                target,
                activation=activation,
                per=per,
                smooth=(0.5, 1.0),
                weight=weight,
                weight_map=weight_map * (1 + fl.boundary()),
                mask=mask & (fl.target != 1) | ~(fl.target > 0),
                ignore_index=cases.IGNORED,
                include_background=per != "batch",
                skip_absent=per == "class",
                return_stats=True,
            )
            results += [loss, stats.total * loss, stats.intersection.sum() * loss]
        return sum(results)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    others = (torch.rand(2, 2) < 0.7, torch.rand(2, 2), torch.rand(3))
    assert_same(function, compiled, *operands("sigmoid"), *others)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_compiled_with_dynamic_shapes(activation):
    def function(input, target, mask, weight):
        options = {"activation": activation, "ignore_index": cases.IGNORED, "weight": weight}
        loss, stats = F.dice_loss(
            input, target, mask=mask & (fl.target != 1), return_stats=True, **options
        )
        return loss * stats.selected

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((2, 3, 2, 2), (3, 4, 5, 3)):
        others = (torch.rand(shape[2:]) < 0.7, torch.rand(shape[1]))
        assert_same(function, compiled, *operands(activation, shape), *others)


def test_compiled_with_a_changing_option():
    def function(input, target, smooth, alpha):
        return F.tversky_loss(input, target, smooth=smooth, alpha=alpha, **OPTIONS)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    input, target = operands("none")
    for smooth, alpha in ((1.0, 0.3), (0.5, 0.7), (0.25, 0.2)):
        assert_same(function, compiled, input, target, smooth, alpha)


def test_compiled_with_inductor():
    function = loss_of("dice_loss", "softmax", per="sample_class")
    compiled = torch.compile(function, fullgraph=True)
    input, target = operands("softmax", (2, 3, 2, 2))
    assert_same(function, compiled, input.float(), target)


def test_export():
    class Module(torch.nn.Module):
        def forward(self, input, target):
            return loss_of("jaccard_loss", "softmax", per="class")(input, target)

    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {"input": {0: batch}, "target": {0: batch}}
    arguments = operands("softmax", (4, 3, 2, 2))
    program = torch.export.export(Module(), arguments, dynamic_shapes=shapes)
    for size in (4, 9):
        arguments = operands("softmax", (size, 3, 2, 2))
        torch.testing.assert_close(program.module()(*arguments), Module()(*arguments))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_export_with_a_dynamic_height(name):
    """No rule that it differs from the number of classes, which labels have no dim for."""

    class Module(torch.nn.Module):
        def forward(self, input, target):
            return getattr(F, name)(input, target)

    height = torch.export.Dim("height")
    shapes = {"input": {2: height}, "target": {1: height}}
    arguments = operands("none", (2, 3, 6, 7))
    arguments = arguments[0], arguments[1].clamp(min=0, max=2)
    program = torch.export.export(Module(), arguments, dynamic_shapes=shapes)
    input, target = operands("none", (2, 3, 3, 7))
    arguments = input, target.clamp(min=0, max=2)
    torch.testing.assert_close(program.module()(*arguments), Module()(*arguments))


@pytest.mark.parametrize("autocast", (torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_autocast(activation, autocast):
    """Float32 results of 16-bit inputs, as exact as those of the inputs in float32."""
    for name, dtype in itertools.product(FUNCTIONS, FLOATS):
        input, target = operands(activation)
        wide = torch.promote_types(dtype, torch.float32)
        function = loss_of(name, activation)
        wanted = value_and_gradient(function, input.to(dtype).to(wide), target)
        with torch.autocast("cpu", autocast):
            value, gradient = value_and_gradient(function, input.to(dtype), target)
        assert value.dtype is wide and gradient.dtype is dtype
        torch.testing.assert_close(value, wanted[0])
        torch.testing.assert_close(gradient, wanted[1].to(dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_meta_and_fake_tensors(activation, dtype):
    for name, per in itertools.product(FUNCTIONS, PER):
        input, target = operands(activation)
        input = input.to(dtype)

        def function(input, target, name=name, per=per):
            mask = torch.ones(2, 2, device=input.device) > 0
            input = input.detach().requires_grad_()
            options = {"activation": activation, "per": per, "reduction": "none"}
            options |= {"ignore_index": 77, "mask": mask, "return_stats": True}
            loss, stats = getattr(F, name)(input, target, **options)
            return (loss, *torch.autograd.grad(loss.sum(), input), *stats)

        wanted = function(input, target)
        mode = FakeTensorMode()
        fakes = mode.from_tensor(input), mode.from_tensor(target)
        with mode:
            fake = function(*fakes)
        for got in (function(input.to("meta"), target.to("meta")), fake):
            for left, right in zip(got, wanted, strict=True):
                assert left.shape == right.shape and left.dtype == right.dtype


@pytest.mark.parametrize("name", ["dice_loss", "tversky_loss", "dice_cross_entropy_loss"])
def test_gradients_have_the_memory_format_of_the_input(name):
    target = torch.randint(0, 4, (2, 5, 6))
    for make in (
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        input = make(torch.randn(2, 4, 5, 6)).requires_grad_()
        loss = getattr(fl, name)(input, target)
        assert torch.autograd.grad(loss, input)[0].stride() == input.stride()
