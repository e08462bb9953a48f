"""The modules: options, buffers, masks and weights of constructor and call, exchange with torch."""

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
    "L1Loss": ("l1_loss", {}, nn.L1Loss),
    "MSELoss": ("mse_loss", {}, nn.MSELoss),
    "SmoothL1Loss": ("smooth_l1_loss", {"beta": 0.5}, nn.SmoothL1Loss),
    "HuberLoss": ("huber_loss", {"delta": 0.5}, nn.HuberLoss),
    "CharbonnierLoss": ("charbonnier_loss", {"eps": 0.5}, None),
    "LogCoshLoss": ("log_cosh_loss", {}, None),
    "BCELoss": ("binary_cross_entropy", {}, nn.BCELoss),
    "BCEWithLogitsLoss": (
        "binary_cross_entropy_with_logits",
        {"pos_weight": torch.tensor([2.0, 0.5]).reshape(2, 1)},
        nn.BCEWithLogitsLoss,
    ),
    "SigmoidFocalLoss": ("sigmoid_focal_loss", {"alpha": 0.4, "gamma": 1.5}, None),
}
SHAPE = (2, 2, 3)


def operands():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(SHAPE, generator=generator), torch.rand(SHAPE, generator=generator)


def make(name, **options):
    return getattr(modules, name)(**{**TABLE[name][1], **options})


def expected(name, input, target, **options):
    function, own, _ = TABLE[name]
    return getattr(fl.reference, function)(input, target, **{**own, **options})


def close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=2e-6, atol=1e-7)


def test_every_module_is_public():
    assert sorted(TABLE) == sorted(families.MODULES["elementwise"])
    for name in TABLE:
        assert getattr(fl, name) is getattr(modules, name)
        assert name in fl.__all__


@pytest.mark.parametrize("name", TABLE)
def test_positional_order_is_torchs(name):
    function, own, theirs = TABLE[name]
    parameters = inspect.signature(getattr(modules, name)).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if theirs is not None:
        assert positional == [*inspect.signature(theirs).parameters]
    options = {*inspect.signature(getattr(fl.functional, function)).parameters}
    assert {*parameters} == options - {"input", "target"}
    forward = inspect.signature(getattr(modules, name).forward).parameters
    assert [*forward] == ["self", "input", "target", "mask", "weight"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", [name for name in TABLE if TABLE[name][2]])
def test_equals_torchs_module_and_exchanges_its_state(name, reduction):
    options = {**TABLE[name][1], "reduction": reduction}
    if name.startswith("BCE"):
        options["weight"] = torch.tensor([0.5, 1.0, 2.0])
    theirs, ours = TABLE[name][2](**options), getattr(modules, name)(**options)
    input, target = operands()
    close(ours(input, target), theirs(input, target))
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    for state in theirs.state_dict().values():
        state.mul_(3)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    close(ours(input, target), theirs(input, target))


CONSTRUCTED = torch.tensor([[[0.5, 0.0, 2.0]]])
CALLED = torch.tensor([[True, True, False], [True, False, True]])
MASKS = {
    "tensor": CONSTRUCTED,
    "region": (fl.target > 0.3) & CONSTRUCTED | ~fl.target.isfinite(),
    "no tensor": fl.target > 0.3,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", TABLE)
def test_masks_intersect_and_weights_multiply(name, mask):
    input, target = operands()
    mask = MASKS[mask]
    both = fl.regions.And(fl.regions.as_region(mask), fl.regions.as_region(CALLED))
    first = torch.tensor([1.0, 2.0, 0.0])
    second = torch.tensor([[[3.0], [0.5]]])
    module = make(name, mask=mask, weight=first)
    close(module(input, target), expected(name, input, target, mask=mask, weight=first))
    close(
        module(input, target, mask=CALLED, weight=second),
        expected(name, input, target, mask=both, weight=first * second),
    )
    alone = make(name)
    close(
        alone(input, target, mask=fl.target > 0.5, weight=second),
        expected(name, input, target, mask=fl.target > 0.5, weight=second),
    )


def test_weights_of_different_rules():
    """Constructor and call each follow the rule of the function: positions in most losses, torch's
    alignment in the cross-entropies."""
    input, target = operands()
    positions, spatial = torch.rand(2, 3), torch.rand(3)
    close(
        modules.MSELoss(weight=positions)(input, target, weight=spatial),
        fl.reference.mse_loss(input, target, weight=positions.unsqueeze(1) * spatial),
    )
    close(
        modules.BCELoss(weight=positions)(input, target, weight=spatial),
        fl.reference.binary_cross_entropy(input, target, weight=positions[None] * spatial),
    )


def test_weight_zero_hides_the_other_weight():
    first = torch.tensor([1.0, 0.0, float("nan")])
    second = torch.tensor([2.0, float("nan"), 0.0])
    loss = modules.L1Loss(weight=first)(torch.ones(1, 1, 3), torch.zeros(1, 1, 3), weight=second)
    assert loss == 1


def test_small_weights_multiply_in_float32():
    small = torch.tensor([1e-4], dtype=torch.float16)
    input = torch.ones(1, 1, dtype=torch.float16)
    module = modules.L1Loss(weight=small, return_stats=True, reduction="sum")
    _, stats = module(input, 0 * input, weight=small)
    assert 0.9e-8 < stats.total < 1.1e-8


def buffers(module):
    return {name: buffer for name, buffer in module.named_buffers() if buffer is not None}


@pytest.mark.parametrize("name", TABLE)
def test_tensors_are_buffers_that_move(name):
    mask = (fl.target > 0.3) & CONSTRUCTED | CALLED
    module = make(name, mask=mask, weight=torch.ones(3), normalizer=torch.tensor(3.0))
    names = {"mask_0", "mask_1", "weight", "normalizer"}
    names |= {"pos_weight"} & {*TABLE[name][1]}
    assert {*buffers(module)} == names
    assert {*module.state_dict()} == names & {"weight", "pos_weight"}
    assert not list(module.parameters())
    module.to("meta")
    assert {tensor.device.type for tensor in module.mask.tensors} == {"meta"}
    input = torch.rand(SHAPE, device="meta")
    assert module(input, input, mask=CALLED.to("meta")).device.type == "meta"
    assert make(name, mask=mask).double().mask.tensors[0].dtype is torch.float64


@pytest.mark.parametrize("name", TABLE)
def test_copies(name):
    input, target = operands()
    module = make(
        name,
        mask=(fl.target > 0.3) & CONSTRUCTED,
        weight=torch.tensor([1.0, 2.0, 3.0]),
        return_stats=True,
    )
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        for got, wanted in zip(other(input, target)[0:1], module(input, target)[0:1], strict=True):
            assert torch.equal(got, wanted)
        assert repr(other) == repr(module)
        assert other.mask_0 is not module.mask_0


def test_repr():
    module = modules.HuberLoss(
        delta=2.0,
        reduction="sample_mean",
        mask=fl.target.isfinite() & CALLED,
        weight=torch.ones(3),
        normalizer="all",
        return_stats=True,
    )
    assert repr(module) == (
        "HuberLoss(delta=2.0, reduction='sample_mean', mask=fl.target.isfinite() & "
        "tensor(bool, (2, 3)), weight=tensor(float32, (3,)), normalizer='all', return_stats=True)"
    )
    assert repr(modules.L1Loss()) == "L1Loss(reduction='mean')"
    assert repr(make("BCEWithLogitsLoss")) == (
        "BCEWithLogitsLoss(pos_weight=tensor(float32, (2, 1)), reduction='mean')"
    )


def test_options_reach_the_function():
    input, target = operands()
    loss, stats = modules.MSELoss(
        reduction="sample_mean", normalizer="positions", return_stats=True
    )(input, target)
    wanted, _ = fl.reference.mse_loss(
        input, target, reduction="sample_mean", normalizer="positions", return_stats=True
    )
    close(loss, wanted)
    assert stats.normalizer.tolist() == [3, 3]
    divided = modules.MSELoss(normalizer=torch.tensor(4.0))(input, target)
    close(divided, (input - target).square().sum() / 4)


@pytest.mark.parametrize(
    ("make", "error", "fragments"),
    [
        (lambda: modules.L1Loss(True), TypeError, ["size_average=True", "reduction"]),
        (lambda: modules.MSELoss(reduce=False), TypeError, ["reduce=False", "reduction"]),
        (lambda: modules.L1Loss(reduction="avg"), ValueError, ["reduction", "'avg'"]),
        (lambda: modules.L1Loss(reduction=None), TypeError, ["reduction", "NoneType"]),
        (lambda: modules.L1Loss(normalizer="x"), ValueError, ["normalizer", "'x'"]),
        (
            lambda: modules.L1Loss(normalizer="all", reduction="sum"),
            ValueError,
            ["normalizer", "'sum'"],
        ),
        (lambda: modules.SmoothL1Loss(beta=-1), ValueError, ["beta", ">= 0"]),
        (lambda: modules.HuberLoss(delta=0), ValueError, ["delta", "> 0"]),
        (lambda: modules.CharbonnierLoss(eps="a"), TypeError, ["eps", "str"]),
        (lambda: modules.SigmoidFocalLoss(gamma=-1), ValueError, ["gamma", ">= 0"]),
        (lambda: modules.SigmoidFocalLoss(alpha=None), TypeError, ["alpha", "NoneType"]),
        (lambda: modules.L1Loss(mask=True), TypeError, ["mask", "bool"]),
        (lambda: modules.L1Loss(mask=fl.target), TypeError, ["mask", "fl.target > 0"]),
        (lambda: modules.L1Loss(mask=torch.ones(1) * 1j), TypeError, ["mask", "complex64"]),
        (lambda: modules.BCELoss(weight=2.0), TypeError, ["weight", "float"]),
        (lambda: modules.BCEWithLogitsLoss(pos_weight=2), TypeError, ["pos_weight", "int"]),
        (lambda: modules.L1Loss()([1.0], [1.0]), TypeError, ["input", "list"]),
        (
            lambda: modules.L1Loss(weight=torch.ones(3))([1.0], [1.0], weight=torch.ones(3)),
            TypeError,
            ["input", "list"],
        ),
        (
            lambda: modules.L1Loss(weight=torch.ones(3))(*operands(), weight=2.0),
            TypeError,
            ["weight", "float"],
        ),
        (
            lambda: modules.L1Loss(weight=torch.ones(3))(*operands(), weight=torch.ones(4)),
            ValueError,
            ["weight (4,)"],
        ),
        (
            lambda: modules.L1Loss(mask=torch.ones(5))(*operands()),
            ValueError,
            ["mask (5,)", "(2, 2, 3)"],
        ),
        (lambda: modules.L1Loss()(*operands(), mask=[1]), TypeError, ["mask", "list"]),
    ],
)
def test_errors(make, error, fragments):
    with pytest.raises(error) as caught:
        make()
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_compiled():
    module = make("SmoothL1Loss", mask=(fl.target > 0.3) & CONSTRUCTED, weight=torch.ones(3) / 2)
    input, target = operands()
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for options in ({}, {"mask": CALLED, "weight": torch.rand(2, 3)}):
        close(compiled(input, target, **options), module(input, target, **options))
