"""Derivatives of the reference: by every argument, to second order, under every transform, and
exactly 0 where an element takes no part."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, hessian, jacfwd, jvp, vmap

import fusedloss as fl
from fusedloss import reference
from tests.reference_cases import INF, LOSSES, NAN, SHAPE, call, close, numbers, operands

# --------------------------------------------------------------- what is masked out does not exist


KEEP = torch.tensor([True, False, True, False]).expand(1, 2, 4)


def poisoned_operands(name, how, poison):
    """(leaves, options) of a call in which every second element must have no influence."""
    x, t = (
        torch.where(KEEP, tensor.detach(), poison)
        for tensor in operands(name, (1, 2, 4), torch.float32)
    )
    weight = numbers(1, 2, 4, seed=7, dtype=torch.float32).abs()
    options = {"mask": KEEP}
    if how in ("float mask", "float mask and weight"):
        options["mask"] = torch.tensor([0.5, 0.0, 2.0, 0.0]).repeat(1, 2, 1).requires_grad_()
    if how == "region":
        options["mask"] = (fl.target > -9) & KEEP
    if how == "weight":
        options = {}
    weight = torch.where(KEEP, weight, 0.0 if "weight" in how else poison)
    leaves = [leaf.requires_grad_() for leaf in (x, t, weight)]
    leaves += [options["mask"]] if "float" in how else []
    return leaves, {**options, "weight": weight}


def everything_computed(name, reduction, how, poison):
    """Loss, statistics, tangent, and all derivatives to second order."""
    leaves, options = poisoned_operands(name, how, poison)
    x, t = leaves[:2]
    loss, stats = call(name, x, t, reduction=reduction, return_stats=True, **options)
    firsts = torch.autograd.grad(loss.sum(), leaves, create_graph=True)
    total = sum(gradient.sum() for gradient in firsts)
    seconds = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    direction = torch.where(KEEP, 1.0, poison)
    _, tangent = jvp(
        lambda x, t: call(name, x, t, reduction=reduction, **options),
        (x.detach(), t.detach()),
        (direction, direction),
    )
    return [loss, tangent, *stats[:3]], firsts, seconds


@pytest.mark.parametrize("how", ["mask", "float mask", "region", "weight", "float mask and weight"])
@pytest.mark.parametrize("poison", [NAN, -INF, 1e38])
@pytest.mark.parametrize("name", LOSSES)
def test_masked_elements_leave_no_trace(name, poison, how):
    for reduction in ("none", "sum", "mean", "sample_mean"):
        clean = everything_computed(name, reduction, how, 0.5)
        dirty = everything_computed(name, reduction, how, poison)
        for wanted, got in zip(sum(map(list, clean), []), sum(map(list, dirty), []), strict=True):
            assert wanted.isfinite().all()
            assert torch.equal(wanted, got)
        for gradient in (*dirty[1], *dirty[2]):
            assert (gradient[~KEEP] == 0).all()


def test_masked_pos_weight_leaves_no_trace():
    x, t = torch.zeros(2, 2, requires_grad=True), torch.ones(2, 2)
    pos_weight = torch.tensor([NAN, 2.0], requires_grad=True)
    loss = reference.binary_cross_entropy_with_logits(
        x, t, pos_weight=pos_weight, mask=torch.tensor([[False, True]])
    )
    close(loss, torch.tensor(2 * math.log(2)), rtol=1e-6)
    by_input, by_weight = torch.autograd.grad(loss, (x, pos_weight))
    assert by_input[:, 0].eq(0).all() and by_weight[0] == 0 and by_weight[1] > 0


@pytest.mark.parametrize("name", LOSSES)
def test_nan_that_takes_part_propagates(name):
    input, target = operands(name, (4,))
    bad = input.detach().clone()
    bad[1] = NAN
    bad.requires_grad_()
    loss = call(name, bad, target, reduction="none")
    assert loss.isnan().tolist() == [False, True, False, False]
    (gradient,) = torch.autograd.grad(call(name, bad, target), bad)
    assert gradient[1].isnan() or name in ("l1_loss", "smooth_l1_loss", "huber_loss")
    assert not gradient[[0, 2, 3]].isnan().any()


@pytest.mark.parametrize("normalizer", [None, "weights", "selected", "positions", "all"])
@pytest.mark.parametrize("reduction", ["mean", "sample_mean"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 3), {"mask": torch.zeros(2, 3)}),
        ((2, 3), {"mask": fl.target > INF}),
        ((2, 3), {"weight": torch.zeros(3, dtype=torch.int64).expand(2, 3)}),
        ((0, 3), {}),
        ((2, 0, 4), {}),
        ((2, 0, 4), {"mask": torch.ones(2, 1, 4)}),
        ((2, 3, 0), {"mask": fl.target > 0}),
        ((0,), {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["mse_loss", "sigmoid_focal_loss"])
def test_a_mean_over_nothing_is_zero(name, shape, options, reduction, normalizer):
    input = torch.rand(shape, requires_grad=True)
    loss, stats = call(
        name,
        input,
        torch.full(shape, NAN if "mask" in options else 1.0),
        reduction=reduction,
        normalizer=normalizer,
        return_stats=True,
        **options,
    )
    assert loss == 0 and loss.requires_grad
    assert not stats.total.any()
    if input.numel() == 0:
        assert stats.selected == 0
    (gradient,) = torch.autograd.grad(loss, input, create_graph=True)
    assert torch.equal(gradient, torch.zeros(shape))
    if gradient.requires_grad:
        (second,) = torch.autograd.grad(
            gradient.sum(), input, allow_unused=True, materialize_grads=True
        )
        assert torch.equal(second, torch.zeros(shape))


def test_zero_normalizer_tensor():
    x = torch.tensor([1.0, NAN], requires_grad=True)
    divisor = torch.tensor(0.0, requires_grad=True)
    loss = reference.l1_loss(x, torch.zeros(2), normalizer=divisor)
    assert loss == 0
    for gradient in torch.autograd.grad(loss, (x, divisor)):
        assert not gradient.any()


# ----------------------------------------------------------------------- autograd and transforms


TAKING_PART = torch.tensor([True, False, True, True])


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "sample_mean"])
@pytest.mark.parametrize("mask", ["no mask", "bool", "float", "region"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck_twice(name, mask, reduction):
    """By input, target, weight, floating mask and pos_weight, through the normalizer too."""
    input, target = operands(name, (2, 2, 2))
    leaves = [input, target.requires_grad_(), torch.tensor([0.5, 2.0], dtype=torch.float64)]
    if name == "binary_cross_entropy_with_logits":
        leaves.append(torch.tensor(1.7, dtype=torch.float64))
    if mask in ("float", "region"):  # values where not 0: by definition 0 has no derivative
        leaves.append(torch.tensor([0.5, 1.5, 2.0], dtype=torch.float64))
    normalizer = {"bool": "selected", "float": "positions"}.get(mask)

    def loss(input, target, weight, *others):
        options = {"reduction": reduction, "weight": weight}
        if reduction == "mean":
            options["normalizer"] = normalizer
        if name == "binary_cross_entropy_with_logits":
            options["pos_weight"] = others[0]
        if mask == "bool":
            options["mask"] = TAKING_PART.reshape(2, 1, 2)
        if mask in ("float", "region"):
            values = torch.zeros(4, dtype=torch.float64)
            values = values.masked_scatter(TAKING_PART, others[-1]).reshape(2, 1, 2)
            options["mask"] = values
        if mask == "region":
            options["mask"] = (fl.target > 0.3) & values | ~fl.target.isfinite()
        return call(name, input, target, **options)

    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(loss, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, leaves, fast_mode=True)


@pytest.mark.parametrize("name", LOSSES)
def test_function_transforms(name):
    """vmap, grad, jvp and hessian give what loops and autograd give."""
    shape = (3, 2, 2)
    input, target = (tensor.detach() for tensor in operands(name, shape))
    masks = numbers(3, 1, 2, seed=4) > -0.5
    direction = numbers(*shape, seed=3)

    def loss(input, target, mask, reduction="mean"):
        return call(name, input, target, mask=mask & (fl.target > -1), reduction=reduction)

    batched = vmap(loss)(input, target, masks)
    close(batched, torch.stack([loss(*row) for row in zip(input, target, masks, strict=True)]))
    per_sample = vmap(grad(loss))(input, target, masks)
    leaf = input.clone().requires_grad_()
    one_by_one = [loss(*row) for row in zip(leaf, target, masks, strict=True)]
    close(per_sample, torch.autograd.grad(sum(one_by_one), leaf)[0])

    whole = leaf, target, masks
    (gradient,) = torch.autograd.grad(loss(*whole), leaf, create_graph=True)
    value, tangent = jvp(lambda x: loss(x, target, masks), (input,), (direction,))
    close(value, loss(*whole))
    close(tangent, (gradient * direction).sum())
    if gradient.requires_grad:
        (row,) = torch.autograd.grad((gradient * direction).sum(), leaf)
        product = torch.einsum("abcdef,def->abc", hessian(loss)(input, target, masks), direction)
        close(product, row, rtol=1e-10)
        forward = jacfwd(jacfwd(loss))(input, target, masks)
        close(torch.einsum("abcdef,def->abc", forward, direction), row, rtol=1e-10)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(input, direction)
        result = torch.autograd.forward_ad.unpack_dual(loss(dual, target, masks))
        close(result.tangent, (gradient * direction).sum())


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_in_one_graph(dynamic):
    reductions = ("mean", "none", "sample_mean")

    def losses(input, target, mask, weight):
        for index, name in enumerate(LOSSES):
            loss, stats = call(
                name,
                torch.sigmoid(input),
                torch.sigmoid(target),
                mask=((fl.target > 0.2) | mask) & fl.target.isfinite(),
                weight=weight,
                reduction=reductions[index % 3],
                normalizer=None if index % 3 == 1 else "positions",
                return_stats=True,
            )
            yield loss.sum() + stats.total.sum()

    def stacked(*tensors):
        return torch.stack(list(losses(*tensors)))

    torch._dynamo.reset()
    compiled = torch.compile(stacked, backend="eager", fullgraph=True, dynamic=dynamic)
    for batch in (2, 4) if dynamic else (2,):
        tensors = numbers(batch, 3, 5, seed=1), numbers(batch, 3, 5, seed=2)
        mask = numbers(batch, 5, seed=3) > 0
        weight = numbers(1, 3, 1, seed=4).abs()
        close(compiled(*tensors, mask, weight), stacked(*tensors, mask, weight))


def test_values_out_of_range_while_nobody_can_look():
    """The range check of binary_cross_entropy needs values: compiled code goes without."""
    x, t = torch.rand(3), torch.rand(3)
    reference.binary_cross_entropy(x.to("meta"), t.to("meta"))
    close(
        vmap(reference.binary_cross_entropy)(x[:, None], t[:, None]),
        F.binary_cross_entropy(x, t, reduction="none"),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", LOSSES)
def test_arguments_are_left_alone(name):
    input, target = operands(name)
    mask, weight = numbers(2, 2, 2, seed=4).relu(), numbers(*SHAPE, seed=3).abs()
    before = [tensor.detach().clone() for tensor in (input, target, mask, weight)]
    call(name, input, target, mask=mask, weight=weight).backward()
    for tensor, copy in zip((input, target, mask, weight), before, strict=True):
        assert torch.equal(tensor.detach(), copy)
