"""The modules of the overlap family: options, buffers, masks and maps of constructor and call."""

import copy
import inspect
import pickle

import pytest
import torch

import fusedloss as fl
from fusedloss import modules
from tests import families

# module: (function, its own options, none of them the default)
TABLE = {
    "DiceLoss": ("dice_loss", {"activation": "softmax", "squared": True, "smooth": (0.5, 1.0)}),
    "JaccardLoss": ("jaccard_loss", {"activation": "sigmoid", "per": "class", "ignore_index": 2}),
    "TverskyLoss": (
        "tversky_loss",
        {"alpha": 0.2, "beta": 0.7, "gamma": 0.75, "include_background": False},
    ),
}
SHAPE = (2, 3, 4, 5)
RNG = torch.Generator().manual_seed(0)
INPUT = torch.rand(SHAPE, generator=RNG)
LABELS = torch.randint(0, 3, (2, 4, 5), generator=RNG)
WEIGHT = torch.tensor([1.0, 2.0, 0.5])
MASK = torch.rand(2, 1, 4, 5, generator=RNG) < 0.8
MAP = torch.rand(4, 5, generator=RNG)
POSITIONS = torch.rand(2, 4, 5, generator=RNG)


def make(name, **options):
    return getattr(modules, name)(**{**TABLE[name][1], **options})


def expected(name, **options):
    function, own = TABLE[name][:2]
    return getattr(fl.reference, function)(INPUT, LABELS, **{**own, **options})


def close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=2e-6, atol=1e-7)


def test_every_module_is_public():
    assert sorted(TABLE) == sorted(families.MODULES["overlap"])
    for name in TABLE:
        assert getattr(fl, name) is getattr(modules, name)
        assert name in fl.__all__


@pytest.mark.parametrize("name", TABLE)
def test_signature_is_that_of_the_function(name):
    constructor = inspect.signature(getattr(modules, name)).parameters
    function = {**inspect.signature(getattr(fl.functional, TABLE[name][0])).parameters}
    del function["input"], function["target"]
    assert {**constructor} == function
    assert {p.kind for p in constructor.values()} == {inspect.Parameter.KEYWORD_ONLY}
    forward = inspect.signature(getattr(modules, name).forward).parameters
    assert [*forward] == ["self", "input", "target", "mask", "weight_map"]


@pytest.mark.parametrize("name", TABLE)
def test_defaults_are_those_of_the_function(name):
    activation = {} if "Compound" in name else {"activation": "sigmoid"}
    got = getattr(modules, name)(**activation)(INPUT, LABELS)
    close(got, getattr(fl.functional, TABLE[name][0])(INPUT, LABELS, **activation))


@pytest.mark.parametrize("name", TABLE)
def test_masks_intersect_and_maps_multiply(name):
    module = make(name, mask=MASK, weight_map=MAP, weight=WEIGHT)
    close(module(INPUT, LABELS), expected(name, mask=MASK, weight_map=MAP, weight=WEIGHT))
    called = module(INPUT, LABELS, mask=fl.target != 1, weight_map=POSITIONS)
    both = (fl.target != 1) & MASK
    product = POSITIONS.unsqueeze(1) * MAP
    close(called, expected(name, mask=both, weight_map=product, weight=WEIGHT))
    source = 1 + 4 * fl.boundary()
    called = module(INPUT, LABELS, weight_map=source)
    close(called, expected(name, mask=MASK, weight_map=MAP * source, weight=WEIGHT))
    close(make(name, weight_map=source)(INPUT, LABELS), expected(name, weight_map=source))
    alone = make(name)(INPUT, LABELS, mask=MASK, weight_map=MAP)
    close(alone, expected(name, mask=MASK, weight_map=MAP))


@pytest.mark.parametrize("name", TABLE)
def test_tensors_are_buffers(name):
    region = (fl.target > 0) | MASK
    module = make(name, mask=region, weight_map=POSITIONS, weight=WEIGHT)
    names = {key for key, value in module.named_buffers() if value is not None}
    assert names == {"mask_0", "weight_map", "weight"}
    assert [*module.state_dict()] == ["weight"]
    assert not list(module.parameters())
    module.load_state_dict({"weight": torch.ones(3)})
    own = {"mask": region, "weight_map": POSITIONS}
    close(module(INPUT, LABELS), expected(name, weight=torch.ones(3), **own))
    module.to("meta")
    assert module.mask.tensors[0].device.type == module.weight.device.type == "meta"
    assert module.double().weight.dtype is torch.float64
    source = fl.edges(torch.rand(2, 3, 4, 5))
    module = make(name, weight_map=source * POSITIONS)
    assert {key for key, _ in module.named_buffers()} == {"weight_map_0", "weight_map_1"}
    close(module(INPUT, LABELS), expected(name, weight_map=source * POSITIONS))


@pytest.mark.parametrize("name", TABLE)
def test_copies(name):
    module = make(name, mask=(fl.target > 0) | MASK, weight=WEIGHT, return_stats=True)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        for got, wanted in zip(other(INPUT, LABELS), module(INPUT, LABELS), strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=0)
        assert repr(other) == repr(module)


def test_repr():
    module = modules.JaccardLoss(
        activation="softmax", smooth=(0.0, 1.0), weight=WEIGHT, weight_map=MAP, reduction="sum"
    )
    assert repr(module) == (
        "JaccardLoss(activation='softmax', smooth=(0.0, 1.0), per='sample', ignore_index=None, "
        "include_background=True, skip_absent=False, weight=tensor(float32, (3,)), "
        "reduction='sum', weight_map=tensor(float32, (4, 5)))"
    )


@pytest.mark.parametrize(
    ("make", "error", "fragments"),
    [
        (lambda: modules.DiceLoss("softmax"), TypeError, ["positional"]),
        (lambda: modules.DiceLoss(activation="relu"), ValueError, ["activation", "'relu'"]),
        (lambda: modules.DiceLoss(squared=1), TypeError, ["squared", "bool", "int"]),
        (lambda: modules.JaccardLoss(per="pixel"), ValueError, ["per", "'pixel'"]),
        (lambda: modules.JaccardLoss(smooth=-1), ValueError, ["smooth", ">= 0"]),
        (lambda: modules.TverskyLoss(gamma=0), ValueError, ["gamma", "> 0"]),
        (lambda: modules.TverskyLoss(alpha=-0.1), ValueError, ["alpha", ">= 0"]),
        (lambda: modules.DiceLoss(weight=[1.0, 2.0]), TypeError, ["weight", "list"]),
        (lambda: modules.DiceLoss(weight=torch.ones(3, 1)), ValueError, ["weight", "(3, 1)"]),
        (lambda: modules.DiceLoss(weight_map=2.0), TypeError, ["weight_map", "float"]),
        (lambda: modules.DiceLoss(weight_map=fl.target > 0), TypeError, ["weight_map=fl.normal"]),
        (lambda: modules.DiceLoss(mask=True), TypeError, ["mask", "bool"]),
        (lambda: modules.DiceLoss(reduction="avg"), ValueError, ["reduction", "'avg'"]),
        (
            lambda: modules.DiceLoss(reduction="sample_mean", per="batch"),
            ValueError,
            ["sample_mean", 'per="batch"'],
        ),
        (lambda: modules.DiceLoss(ignore_index=1.5), TypeError, ["ignore_index", "float"]),
        (
            lambda: modules.DiceLoss(weight_map=MAP)(INPUT, LABELS, weight_map=torch.ones(9)),
            ValueError,
            ["weight_map (9,)"],
        ),
    ],
)
def test_errors(make, error, fragments):
    with pytest.raises(error) as caught:
        make()
    for fragment in fragments:
        assert fragment in str(caught.value), str(caught.value)


def test_compiled():
    module = make("DiceLoss", mask=(fl.target != 2) & MASK, weight=WEIGHT)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for options in ({}, {"mask": fl.target >= 0, "weight_map": MAP}):
        close(compiled(INPUT, LABELS, **options), module(INPUT, LABELS, **options))
