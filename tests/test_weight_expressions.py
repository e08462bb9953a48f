"""Weight sources as expressions: what they print and hold, compiled, transformed, in modules.

`test_weight_sources.py` has their values.
"""

import copy
import pickle

import numpy as np
import pytest
import torch

import fusedloss as fl
from tests.test_region_terms import PLANE, operands, rand
from tests.test_weight_sources import IDS, LABELS, PHOTO, TABLE, TENSOR, close

EDGES, NEAR = fl.edges(PHOTO), fl.boundary()
SHOWN = "fl.edges(tensor(uint8, (2, 3, 6, 7)))"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (EDGES, SHOWN),
        (fl.edges(PHOTO, operator="sobel"), SHOWN[:-1] + ', operator="sobel")'),
        (fl.activation(TENSOR.unsqueeze(1)), "fl.activation(tensor(float32, (2, 1, 6, 7)))"),
        (fl.normalized(fl.target > 0), "fl.normalized(fl.target > 0)"),
        (fl.normalized(LABELS), "fl.normalized(tensor(int64, (2, 6, 7)))"),
        (NEAR, "fl.boundary()"),
        (
            fl.boundary(LABELS, 2, inside=3, outside=0.5),
            "fl.boundary(tensor(int64, (2, 6, 7)), radius=2, inside=3, outside=0.5)",
        ),
        (1 + 10 * EDGES, f"1 + 10 * {SHOWN}"),
        ((1 + EDGES) * NEAR, f"(1 + {SHOWN}) * fl.boundary()"),
        (EDGES - (NEAR - 1), f"{SHOWN} - (fl.boundary() - 1)"),
        (EDGES - NEAR - 1, f"{SHOWN} - fl.boundary() - 1"),
        (NEAR / 2 * 3, "fl.boundary() / 2 * 3"),
        (NEAR * (NEAR / 2), "fl.boundary() * (fl.boundary() / 2)"),
        (np.float32(0.5) * NEAR, "0.5 * fl.boundary()"),
        (TENSOR * NEAR, "tensor(float32, (2, 6, 7)) * fl.boundary()"),
        (NEAR * TENSOR, "fl.boundary() * tensor(float32, (2, 6, 7))"),
        (TENSOR + NEAR, "tensor(float32, (2, 6, 7)) + fl.boundary()"),
        (TENSOR - NEAR, "tensor(float32, (2, 6, 7)) - fl.boundary()"),
        (NEAR - TENSOR, "fl.boundary() - tensor(float32, (2, 6, 7))"),
        (1 - NEAR, "1 - fl.boundary()"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_repr_reads_like_the_expression(source, text):
    assert repr(source) == text


@pytest.mark.parametrize(("shape", "term"), TABLE[::2], ids=IDS[::2])
def test_copies_rebind_and_tensors(shape, term):
    source, input, target = term.expression, rand(*shape), rand(*shape)
    expected = fl.weight_map(source, input, target)
    if any(tensor.dtype is torch.uint64 for tensor in source.tensors):
        pytest.skip("torch does not pickle it")
    for other in (
        pickle.loads(pickle.dumps(source)),
        copy.deepcopy(source),
        source.rebind(tuple(tensor.clone() for tensor in source.tensors)),
        source.rebind((None,) * len(source.tensors)).rebind(source.tensors),
    ):
        assert repr(other) == repr(source)
        close(fl.weight_map(other, input, target), expected, rtol=0, atol=0)


# ---- inside the rest of torch ------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", (False, True))
def test_sources_are_built_inside_compiled_functions(dynamic):
    def loss(input, target, photo, features, labels, weight):
        source = 1 + 4 * fl.edges(photo) * weight - fl.boundary(labels) / 2
        source = weight * (source + fl.activation(features)) + (fl.normalized(fl.center()) - weight)
        source = source + fl.edges(photo, operator="sobel")
        return fl.mse_loss(input, target, mask=fl.target > 0, weight=source)

    arguments = (*operands(PLANE), PHOTO, rand(2, 2, 3, 3), LABELS, TENSOR)
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="eager", fullgraph=True, dynamic=dynamic)
    close(compiled(*arguments), loss(*arguments))


OPERATIONS = {
    "tensor + source": lambda source, tensor, number: tensor + source,
    "source + tensor": lambda source, tensor, number: source + tensor,
    "tensor - source": lambda source, tensor, number: tensor - source,
    "source - tensor": lambda source, tensor, number: source - tensor,
    "tensor * source": lambda source, tensor, number: tensor * source,
    "source * tensor": lambda source, tensor, number: source * tensor,
    "number - source * number": lambda source, tensor, number: number - source * number,
    "number + number * source": lambda source, tensor, number: number + number * source,
    "source / number": lambda source, tensor, number: source / number,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operators_inside_compiled_functions(operation):
    """Also with numbers that change from call to call."""

    def loss(input, target, tensor, number):
        source = OPERATIONS[operation](fl.boundary(LABELS), tensor, number)
        return fl.mse_loss(input, target, weight=source, mask=fl.input.var() > number / 10)

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    for value in (2, 0.5, 0.25, 3.0, 4.0):
        arguments = (*operands(PLANE), TENSOR, value)
        close(compiled(*arguments), loss(*arguments))


def test_transforms_of_functorch():
    input, target = operands(PLANE)
    weight = TENSOR.unsqueeze(1)

    def loss(input, weight=weight):
        source = weight * fl.edges(PHOTO) + fl.boundary(LABELS)
        return fl.mse_loss(input, target, weight=source, mask=fl.target.isfinite())

    x, w = input.clone().requires_grad_(), weight.clone().requires_grad_()
    expected = torch.autograd.grad(loss(x, w), (x, w))
    for got, wanted in zip(torch.func.grad(loss, (0, 1))(input, weight), expected, strict=True):
        close(got, wanted)
    batch = torch.stack((input, 2 * input))
    close(torch.vmap(loss)(batch), torch.stack([loss(x) for x in batch]))
    _, tangent = torch.func.jvp(loss, (input,), (torch.ones_like(input),))
    close(tangent, expected[0].sum())


def test_meta_tensors_and_empty_inputs():
    for shape in ((2, 3, 6, 7), (0, 3, 6, 7), (2, 3, 0, 7), (2, 3, 6, 0)):
        input = torch.zeros(shape, requires_grad=True)
        photo, labels = torch.rand(shape[0], 2, *shape[2:]), torch.zeros(shape[0], *shape[2:])
        source = fl.edges(photo) + fl.edges(photo, operator="sobel") + fl.boundary(labels)
        source = source + fl.normalized(fl.center()) + fl.activation(torch.rand(1, 1, 3, 3))
        loss = fl.mse_loss(input, torch.zeros(shape), weight=source)
        loss.backward()
        assert loss == 0 and (input.grad == 0).all()
        meta = input.detach().to("meta")
        source = source.rebind(tuple(tensor.to("meta") for tensor in source.tensors))
        assert fl.mse_loss(meta, meta, weight=source).device.type == "meta"


# ---- modules -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MSELoss", "BCEWithLogitsLoss", "SigmoidFocalLoss"])
def test_modules_take_sources(name):
    function = {"MSELoss": "mse_loss", "BCEWithLogitsLoss": "binary_cross_entropy_with_logits"}
    loss = getattr(fl, function.get(name, "sigmoid_focal_loss"))
    photo = PHOTO.float()
    source = 1 + TENSOR * fl.edges(photo)
    criterion = getattr(fl, name)(weight=source, mask=fl.center(0.8))
    input, target = operands(PLANE, loss.__name__)
    own = {"mask": fl.center(0.8)}
    assert torch.equal(criterion(input, target), loss(input, target, weight=source, **own))
    assert f"weight={source!r}" in repr(criterion)
    assert repr(criterion.weight_source) == repr(source) and criterion.weight is None
    assert not criterion.state_dict()
    for called in (fl.boundary(LABELS), rand(2, 3, 6, 7)):
        close(
            criterion(input, target, weight=called),
            loss(input, target, weight=source * called, **own),
        )
    for other in (pickle.loads(pickle.dumps(criterion)), copy.deepcopy(criterion)):
        assert torch.equal(other(input, target), criterion(input, target))
    criterion.bfloat16()
    assert (criterion.weight_0.dtype, criterion.weight_1.dtype) == (torch.bfloat16, torch.float32)
    assert {buffer.device.type for buffer in criterion.to("meta").buffers()} == {"meta"}


def test_modules_multiply_a_tensor_by_a_source():
    input, target = operands((2, 3, 3, 3), "binary_cross_entropy")
    weight = torch.tensor([1.0, 2.0, 0.0])
    source = 1 + fl.edges(rand(2, 3, 3, 3))
    got = fl.BCELoss(weight)(input, target, weight=source)
    dense = fl.weight_map(source, input, target) * weight
    close(got, fl.binary_cross_entropy(input, target, weight=dense))
    got = fl.MSELoss(weight=rand(2, 3, 3, 3))(input, target, weight=source)
    assert got > 0
