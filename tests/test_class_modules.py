"""The class modules: options, buffers, masks and maps of constructor and call, exchange with
torch's."""

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn

import fusedloss as fl
from fusedloss import modules
from tests import families

# module: (function, own options, torch's module or None)
TABLE = {
    "CrossEntropyLoss": ("cross_entropy", {"label_smoothing": 0.2}, nn.CrossEntropyLoss),
    "NLLLoss": ("nll_loss", {}, nn.NLLLoss),
    "SoftmaxFocalLoss": ("softmax_focal_loss", {"gamma": 1.5}, None),
    "CategoricalCrossEntropyLoss": ("categorical_cross_entropy", {"eps": 1e-3}, None),
}
SHAPE, POSITIONS = (2, 3, 4), (2, 4)
WEIGHT = torch.tensor([0.5, 1.0, 2.0])


def operands():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, POSITIONS, generator=generator)
    labels[0, 1] = 255
    return torch.rand(SHAPE, generator=generator), labels


def make(name, **options):
    return getattr(modules, name)(**{"ignore_index": 255, **TABLE[name][1], **options})


def expected(name, input, target, **options):
    function, own, _ = TABLE[name]
    return getattr(fl.reference, function)(input, target, **{"ignore_index": 255, **own, **options})


def close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=2e-6, atol=1e-7)


def test_every_module_is_public():
    assert sorted(TABLE) == sorted(families.MODULES["class"])
    for name in TABLE:
        assert getattr(fl, name) is getattr(modules, name)
        assert name in fl.__all__


@pytest.mark.parametrize("name", TABLE)
def test_positional_order_is_torchs(name):
    function, own, theirs = TABLE[name]
    parameters = inspect.signature(getattr(modules, name)).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    function = inspect.signature(getattr(fl.functional, function)).parameters
    if theirs is not None:
        assert positional == [*inspect.signature(theirs).parameters]
    else:
        same = [p.name for p in function.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == same[2:]
    assert {*parameters} == {*function} - {"input", "target"}
    for parameter in parameters.values():
        assert parameter.default == function[parameter.name].default
    forward = inspect.signature(getattr(modules, name).forward).parameters
    assert [*forward] == ["self", "input", "target", "mask", "weight_map"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", [name for name in TABLE if TABLE[name][2]])
def test_equals_torchs_module_and_exchanges_its_state(name, reduction):
    options = {**TABLE[name][1], "reduction": reduction, "weight": WEIGHT, "ignore_index": 255}
    theirs = TABLE[name][2](**options)
    ours = getattr(modules, name)(**options, weight_map=torch.ones(4))
    input, target = operands()
    close(ours(input, target), theirs(input, target))
    assert [*ours.state_dict()] == [*theirs.state_dict()] == ["weight"]
    theirs.weight = theirs.weight * torch.tensor([3.0, 1.0, 2.0])
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    close(ours(input, target), theirs(input, target))
    without, plain = TABLE[name][2](), getattr(modules, name)()
    assert [*plain.state_dict()] == [*without.state_dict()] == []


CONSTRUCTED = torch.tensor([[0.5, 0.0, 2.0, 1.0]])
CALLED = torch.tensor([[True, True, False, True], [True, False, True, True]])
MASKS = {
    "tensor": CONSTRUCTED,
    "region": (fl.target != 1) & CONSTRUCTED | (fl.target == 2),
    "no tensor": fl.target != 1,
}
MAPS = {
    "positions": (torch.tensor([[1.0, 2.0, 0.0, 0.5]]), torch.tensor([[[3.0]], [[0.5]]])),
    "source": (1 + 2 * fl.boundary(), torch.tensor([1.0, 0.5, 0.0, 2.0])),
    "sources": (1 + 2 * fl.boundary(), 2 - fl.boundary(radius=2)),
}


@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", TABLE)
def test_masks_intersect_and_maps_multiply(name, mask, maps):
    input, target = operands()
    mask, (first, second) = MASKS[mask], MAPS[maps]
    both = fl.regions.And(fl.regions.as_region(mask), fl.regions.as_region(CALLED))
    dense = [
        (weight if isinstance(weight, torch.Tensor) else fl.weight_map(weight, input, target))
        for weight in (first, second)
    ]
    dense = [w.unsqueeze(1) if w.ndim == 2 else w for w in dense]
    module = make(name, mask=mask, weight=WEIGHT, weight_map=first)
    close(
        module(input, target),
        expected(name, input, target, mask=mask, weight=WEIGHT, weight_map=first),
    )
    close(
        module(input, target, mask=CALLED, weight_map=second),
        expected(name, input, target, mask=both, weight=WEIGHT, weight_map=dense[0] * dense[1]),
    )
    close(
        make(name)(input, target, mask=fl.target > 0, weight_map=second),
        expected(name, input, target, mask=fl.target > 0, weight_map=second),
    )


def test_map_zero_hides_the_other_map():
    first = torch.tensor([1.0, 0.0, float("nan"), 1.0])
    second = torch.tensor([2.0, float("nan"), 0.0, 0.0])
    module = modules.CrossEntropyLoss(weight_map=first)
    input = torch.zeros(1, 2, 4, requires_grad=True)
    loss = module(input, torch.zeros(1, 4, dtype=torch.uint8), weight_map=second)
    close(loss, torch.tensor(2.0).log())
    assert torch.autograd.grad(loss, input)[0][:, :, 1:].eq(0).all()


@pytest.mark.parametrize("name", TABLE)
def test_tensors_are_buffers_that_move(name):
    mask = (fl.target != 1) & CONSTRUCTED | CALLED
    options = {"mask": mask, "weight": WEIGHT, "normalizer": torch.tensor(3.0)}
    module = make(name, weight_map=torch.ones(4), **options)
    names = {"mask_0", "mask_1", "weight", "weight_map", "normalizer"}
    assert {*dict(module.named_buffers())} == names
    assert [*module.state_dict()] == ["weight"] and not list(module.parameters())
    labels = torch.zeros(2, 1, 4, dtype=torch.int16)
    module = make(name, weight_map=1 + torch.ones(4) * fl.boundary(labels), **options)
    assert {*dict(module.named_buffers())} == names - {"weight_map"} | {
        "weight_map_0",
        "weight_map_1",
    }
    module.to(torch.float64)
    assert module.weight.dtype is torch.float64 and module.weight_map_0.dtype is torch.float64
    assert module.weight_map_1.dtype is torch.int16
    module.to("meta")
    assert {tensor.device.type for tensor in module.weight_source.tensors} == {"meta"}
    input = torch.rand(SHAPE, device="meta")
    target = torch.zeros(POSITIONS, dtype=torch.int64, device="meta")
    assert module(input, target, mask=CALLED.to("meta")).device.type == "meta"


@pytest.mark.parametrize("name", TABLE)
def test_copies(name):
    input, target = operands()
    options = {"weight": WEIGHT, "weight_map": 1 + fl.boundary(), "return_stats": True}
    module = make(name, mask=(fl.target != 1) & CONSTRUCTED, **options)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(input, target)[0], module(input, target)[0])
        assert repr(other) == repr(module)
        assert other.mask_0 is not module.mask_0 and other.weight is not module.weight


def test_repr():
    module = modules.CrossEntropyLoss(
        WEIGHT,
        ignore_index=255,
        label_smoothing=0.1,
        reduction="sample_mean",
        mask=(fl.target != 3) & CALLED,
        weight_map=1 + 4 * fl.boundary(),
        normalizer="all",
        return_stats=True,
    )
    assert repr(module) == (
        "CrossEntropyLoss(weight=tensor(float32, (3,)), ignore_index=255, label_smoothing=0.1, "
        "reduction='sample_mean', mask=(fl.target != 3) & tensor(bool, (2, 4)), "
        "weight_map=1 + 4 * fl.boundary(), normalizer='all', return_stats=True)"
    )
    assert repr(modules.NLLLoss()) == "NLLLoss(ignore_index=-100, reduction='mean')"
    assert repr(modules.SoftmaxFocalLoss(weight_map=torch.ones(3))) == (
        "SoftmaxFocalLoss(ignore_index=-100, gamma=2.0, reduction='mean', "
        "weight_map=tensor(float32, (3,)))"
    )


@pytest.mark.parametrize("name", TABLE)
def test_options_reach_the_function(name):
    input, target = operands()
    options = {"reduction": "sample_mean", "normalizer": "all", "return_stats": True}
    loss, stats = make(name, **options)(input, target)
    wanted, right = expected(name, input, target, **options)
    close(loss, wanted)
    assert stats.normalizer.tolist() == [4, 4] and stats.selected == right.selected == 7
    divided = make(name, normalizer=torch.tensor(4.0), weight=WEIGHT)(input, target)
    total = expected(name, input, target, weight=WEIGHT, reduction="sum")
    close(divided, total / 4)


@pytest.mark.parametrize(
    ("make", "error", "fragments"),
    [
        (lambda: modules.CrossEntropyLoss(None, True), TypeError, ["size_average=True"]),
        (lambda: modules.NLLLoss(reduce=False), TypeError, ["reduce=False", "reduction"]),
        (lambda: modules.CrossEntropyLoss(reduction="avg"), ValueError, ["reduction", "'avg'"]),
        (lambda: modules.CrossEntropyLoss(normalizer="x"), ValueError, ["normalizer", "'x'"]),
        (lambda: modules.CrossEntropyLoss(label_smoothing=2), ValueError, ["label_smoothing"]),
        (lambda: modules.CrossEntropyLoss(ignore_index=1.5), TypeError, ["ignore_index", "1.5"]),
        (lambda: modules.SoftmaxFocalLoss(gamma=-1), ValueError, ["gamma", ">= 0"]),
        (lambda: modules.CategoricalCrossEntropyLoss(eps=0), ValueError, ["eps", "> 0"]),
        (lambda: modules.CrossEntropyLoss([1.0]), TypeError, ["weight", "list"]),
        (lambda: modules.CrossEntropyLoss(torch.ones(1, 3)), ValueError, ["weight", "(1, 3)"]),
        (lambda: modules.NLLLoss(fl.boundary()), TypeError, ["weight", "weight_map"]),
        (lambda: modules.NLLLoss(weight_map=2.0), TypeError, ["weight_map", "float"]),
        (lambda: modules.NLLLoss(weight_map=fl.target > 0), TypeError, ["weight_map", "region"]),
        (lambda: modules.NLLLoss(mask=True), TypeError, ["mask", "bool"]),
        (lambda: modules.NLLLoss()([1.0], [1]), TypeError, ["input", "list"]),
        (
            lambda: modules.NLLLoss(weight_map=torch.ones(3))([1.0], [1], weight_map=WEIGHT),
            TypeError,
            ["input", "list"],
        ),
        (
            lambda: modules.NLLLoss(torch.ones(4))(*operands()),
            ValueError,
            ["weight", "(3,)", "(4,)"],
        ),
        (
            lambda: modules.NLLLoss(weight_map=torch.ones(4))(*operands(), weight_map=2.0),
            TypeError,
            ["weight_map", "float"],
        ),
        (
            lambda: modules.NLLLoss(weight_map=torch.ones(4))(*operands(), weight_map=WEIGHT),
            ValueError,
            ["weight_map (3,)"],
        ),
        (
            lambda: modules.NLLLoss(weight_map=torch.ones(4))(
                *operands(), weight_map=torch.ones(1, 3, 1)
            ),
            ValueError,
            ["weight_map", "one value per position"],
        ),
        (
            lambda: modules.NLLLoss(mask=torch.ones(1, 3, 1))(*operands()),
            ValueError,
            ["mask", "one value per position"],
        ),
        (lambda: modules.NLLLoss(ignore_index=1)(*operands()), IndexError, ["255", "(0, 1)"]),
    ],
)
def test_errors(make, error, fragments):
    with pytest.raises(error) as caught:
        make()
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("name", TABLE)
def test_compiled(name):
    module = make(name, mask=(fl.target != 1) & CONSTRUCTED, weight=WEIGHT, weight_map=WEIGHT[:1])
    input, target = operands()
    torch._dynamo.reset()
    compiled = torch.compile(module, real_backend="eager", fullgraph=True)
    for options in ({}, {"mask": CALLED, "weight_map": torch.rand(2, 4)}):
        close(compiled(input, target, **options), module(input, target, **options))
