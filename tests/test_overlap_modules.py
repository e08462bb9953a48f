"""The modules of overlap losses and compounds: options, buffers, masks and maps of constructor and
call."""

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
    "DiceCrossEntropyLoss": (
        "dice_cross_entropy_loss",
        {"dice_weight": 0.3, "label_smoothing": 0.1, "ignore_index": 2, "squared": True},
    ),
    "DiceBCELoss": (
        "dice_bce_loss",
        {"dice_weight": 2.0, "bce_weight": 0.5, "per": "class", "skip_absent": True},
    ),
    "DiceFocalLoss": (
        "dice_focal_loss",
        {"activation": "sigmoid", "gamma": 1.5, "alpha": 0.75, "smooth": 1.0},
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
    assert sorted(TABLE) == sorted(families.MODULES["overlap"] + families.MODULES["compound"])
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


@pytest.mark.parametrize("name", families.OVERLAP + families.COMPOUND)
def test_signatures_of_function_and_reference(name):
    """The same; all but input and target keyword-only."""
    ours = inspect.signature(getattr(fl.functional, name))
    assert ours == inspect.signature(getattr(fl.reference, name))
    kinds = [parameter.kind for parameter in ours.parameters.values()]
    assert [*ours.parameters][:2] == ["input", "target"]
    assert {*kinds[2:]} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", TABLE)
def test_defaults_are_those_of_the_function(name):
    got = getattr(modules, name)()(INPUT, LABELS)
    close(got, getattr(fl.functional, TABLE[name][0])(INPUT, LABELS))


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
        (lambda: modules.DiceBCELoss(reduction="none"), ValueError, ["reduction", '"none"']),
        (lambda: modules.DiceBCELoss(pos_weight=2), TypeError, ["pos_weight", "int"]),
        (lambda: modules.DiceBCELoss(dice_class_weight=[1]), TypeError, ["dice_class_weight"]),
        (lambda: modules.DiceFocalLoss(activation="none"), ValueError, ["activation", '"none"']),
        (lambda: modules.DiceFocalLoss(gamma=-1), ValueError, ["gamma", ">= 0"]),
        (lambda: modules.DiceCrossEntropyLoss(ce_weight=-1), ValueError, ["ce_weight", ">= 0"]),
        (
            lambda: modules.DiceCrossEntropyLoss(label_smoothing=1.1),
            ValueError,
            ["label_smoothing", "<= 1"],
        ),
        (
            lambda: modules.DiceCrossEntropyLoss(normalizer="all", reduction="sum"),
            ValueError,
            ["normalizer", "'sum'"],
        ),
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


COMPOUNDS = families.MODULES["compound"]


@pytest.mark.parametrize("name", COMPOUNDS)
def test_weights_and_normalizers_of_compounds(name):
    """Class weights and pos_weight are in the state_dict; a normalizer is a buffer beside them."""
    weights = {"weight": WEIGHT, "dice_class_weight": WEIGHT.flip(0)}
    if name == "DiceBCELoss":
        weights["pos_weight"] = torch.rand(3, 1, 1)
    module = make(name, normalizer=torch.tensor(3.0), **weights)
    close(module(INPUT, LABELS), expected(name, normalizer=3.0, **weights))
    assert {*module.state_dict()} == {*weights}
    assert {key for key, _ in module.named_buffers()} == {*weights, "normalizer"}
    module.load_state_dict({key: torch.ones_like(value) for key, value in weights.items()})
    ones = {key: torch.ones_like(value) for key, value in weights.items()}
    close(module(INPUT, LABELS), expected(name, normalizer=3.0, **ones))
    assert "dice_class_weight=tensor(float32, (3,))" in repr(module)


def test_repr_of_a_compound():
    assert repr(modules.DiceBCELoss(bce_weight=2.0, normalizer="all")) == (
        "DiceBCELoss(dice_weight=0.5, bce_weight=2.0, activation='sigmoid', smooth=1e-06, "
        "squared=False, per='sample', ignore_index=None, include_background=True, "
        "skip_absent=False, reduction='mean', normalizer='all')"
    )


@pytest.mark.parametrize("name", ("DiceLoss", "DiceCrossEntropyLoss"))
def test_compiled(name):
    module = make(name, mask=(fl.target != 2) & MASK, weight=WEIGHT)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for options in ({}, {"mask": fl.target >= 0, "weight_map": MAP}):
        close(compiled(INPUT, LABELS, **options), module(INPUT, LABELS, **options))
