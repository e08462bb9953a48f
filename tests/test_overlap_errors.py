"""Bad calls of overlap losses and compounds: one table, every message checked; the functions and
their references alike.

A row is (function, keyword arguments that replace those of a good call, exception, fragments).
"""

import numpy as np
import pytest
import torch

import fusedloss as fl

X = torch.rand(2, 3, 4, 5)
LABELS = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
ONE = {"input": X[:, :1], "target": X[:, :1]}
MODULES = {"functional": fl.functional, "reference": fl.reference}
CHANNELS = torch.ones(1, 3, 1, 1)


def ones(*shape, **options):
    return torch.ones(shape, **options)


TYPE = [
    # input and target
    ("dice_loss", {"input": [1.0]}, ["input", "floating tensor", "list"]),
    ("dice_loss", {"input": X.int()}, ["input", "float16", "int32"]),
    ("dice_loss", {"input": X.to(torch.complex64)}, ["input", "complex64"]),
    ("jaccard_loss", {"input": X.to_sparse()}, ["input", "dense", "sparse_coo"]),
    ("dice_loss", {"target": None}, ["target", "NoneType"]),
    ("dice_loss", {"target": np.zeros(3)}, ["target", "ndarray"]),
    ("dice_loss", {"target": X.to(torch.complex64)}, ["target", "complex64"]),
    ("dice_loss", {"target": X[:, 0]}, ["target (2, 4, 5)", "integer", "float32", "(2, 3, 4, 5)"]),
    (
        "dice_loss",
        {"target": X[:, :1]},
        ["target (2, 1, 4, 5)", "integer", "float32", "target.long()"],
    ),
    ("tversky_loss", {"target": LABELS > 0}, ["target (2, 4, 5)", "integer", "torch.bool"]),
    (
        "dice_loss",
        {"input": X[:, :1], "target": X[:, 0]},
        ["target (2, 4, 5)", "integer or bool", "float32", "target.unsqueeze(1)"],
    ),
    # weights and masks
    ("dice_loss", {"weight": [1.0, 2.0, 3.0]}, ["weight", "real tensor", "list"]),
    ("dice_loss", {"weight": fl.edges(X)}, ["weight", "tensor", "fl.edges", "weight_map"]),
    ("dice_loss", {"weight": ones(3).to(torch.complex64)}, ["weight", "complex64"]),
    ("dice_loss", {"return_stats": 1}, ["return_stats", "True or False", "int 1"]),
    ("dice_focal_loss", {"return_stats": None}, ["return_stats", "NoneType"]),
    ("dice_loss", {"weight_map": 2.0}, ["weight_map", "weight source", "float"]),
    ("dice_loss", {"weight_map": fl.target > 0}, ["weight_map", "region", "fl.normalized(region)"]),
    ("dice_loss", {"weight_map": X.to_sparse()}, ["weight_map", "dense", "sparse_coo"]),
    ("dice_loss", {"mask": True}, ["mask", "bool", "mask=None"]),
    ("dice_loss", {"mask": fl.target}, ["mask", "fl.target > 0"]),
    # options
    ("dice_loss", {"activation": None}, ["activation", "str", "NoneType", '"softmax"']),
    ("dice_loss", {"activation": torch.sigmoid}, ["activation", "str"]),
    ("dice_loss", {"per": 1}, ["per", "str", "int", '"sample_class"']),
    ("dice_loss", {"squared": 1}, ["squared", "bool", "int 1"]),
    ("dice_loss", {"include_background": None}, ["include_background", "bool", "NoneType"]),
    ("jaccard_loss", {"skip_absent": "yes"}, ["skip_absent", "bool", "str 'yes'"]),
    ("dice_loss", {"ignore_index": 1.0}, ["ignore_index", "int", "float 1.0"]),
    ("dice_loss", {"ignore_index": True}, ["ignore_index", "int", "bool True"]),
    ("dice_loss", {"smooth": "1"}, ["smooth", "number", "str"]),
    ("dice_loss", {"smooth": None}, ["smooth", "number", "NoneType"]),
    ("dice_loss", {"smooth": (1.0, None)}, ["smooth", "number", "NoneType"]),
    ("dice_loss", {"smooth": ones()}, ["smooth", "number", "Tensor"]),
    ("tversky_loss", {"alpha": "0.5"}, ["alpha", "number", "str"]),
    ("tversky_loss", {"beta": True}, ["beta", "number", "bool"]),
    ("tversky_loss", {"gamma": None}, ["gamma", "number", "NoneType"]),
    ("dice_loss", {"reduction": None}, ["reduction", "NoneType"]),
]
# what a loss does not have
TYPE += [
    ("jaccard_loss", {"squared": True}, ["squared"]),
    ("tversky_loss", {"squared": True}, ["squared"]),
    ("dice_loss", {"gamma": 2.0}, ["gamma"]),
    ("dice_loss", {"normalizer": "all"}, ["normalizer"]),
]

VALUE = [
    ("dice_loss", {"input": ones(4), "target": ones(4)}, ["input", "(N, C)", "got (4,)"]),
    ("dice_loss", {"input": ones(), "target": ones()}, ["input", "(N, C)", "got ()"]),
    (
        "dice_loss",
        {"target": LABELS[:1]},
        ["target", "shape of input, (2, 3, 4, 5)", "class indices of shape (2, 4, 5)", "(1, 4, 5)"],
    ),
    ("dice_loss", {"target": X[:, :2]}, ["target", "(2, 3, 4, 5)", "got (2, 2, 4, 5)"]),
    ("dice_loss", {"target": LABELS.flatten(1)}, ["target", "got (2, 20)"]),
    ("dice_loss", {"target": LABELS.to("meta")}, ["target", "device of input (cpu)", "meta"]),
    # channels
    ("dice_loss", ONE | {"activation": "softmax"}, ["softmax", "two or more", "sigmoid"]),
    ("dice_loss", ONE | {"include_background": False}, ["include_background", "one channel"]),
    # class weights
    (
        "dice_loss",
        {"weight": ones(4)},
        ["weight", "(3,) for", "(2, 3, 4, 5)", "got (4,)"],
    ),
    (
        "dice_loss",
        {"weight": ones(1, 3, 1, 1)},
        ["weight", "(C,)", "got (1, 3, 1, 1)", "weight_map"],
    ),
    ("dice_loss", {"weight": ones()}, ["weight", "(C,)", "got ()"]),
    ("dice_loss", {"weight": ones(3, device="meta")}, ["weight", "input (cpu)", "meta"]),
    (
        "jaccard_loss",
        {"include_background": False, "weight": ones(2)},
        ["weight", "(3,)", "got (2,)"],
    ),
    # masks and maps
    ("dice_loss", {"mask": ones(3, 4, 5)}, ["mask (3, 4, 5)", "positions (2, 4, 5)"]),
    ("dice_loss", {"mask": ones(5, 4)}, ["mask (5, 4)", "spatial dims (4, 5)"]),
    ("dice_loss", {"weight_map": ones(3, 4, 5)}, ["weight_map (3, 4, 5)", "a weight_map per"]),
    ("dice_loss", {"weight_map": fl.edges(X[..., :4])}, ["fl.edges: image", "(2, 3, 4, 4)"]),
    ("dice_loss", {"mask": ones(2, 4, 5, device="meta")}, ["mask", "input (cpu)", "meta"]),
    (
        "dice_loss",
        {"target": X, "weight_map": 1 + fl.boundary()},
        ["fl.boundary()", "(N, 1, spatial dims)", "(2, 3, 4, 5)"],
    ),
    # options
    ("dice_loss", {"activation": "relu"}, ["activation", '"sigmoid"', "'relu'"]),
    ("dice_loss", {"per": "pixel"}, ["per", '"class"', "'pixel'"]),
    ("dice_loss", {"smooth": -1e-9}, ["smooth", ">= 0", "-1e-09"]),
    ("dice_loss", {"smooth": (0.0, float("nan"))}, ["smooth", "finite", "nan"]),
    ("dice_loss", {"smooth": (1.0,)}, ["smooth", "pair", "1 numbers"]),
    ("dice_loss", {"smooth": [1.0, 2.0, 3.0]}, ["smooth", "pair", "3 numbers"]),
    ("tversky_loss", {"alpha": -0.1}, ["alpha", ">= 0", "-0.1"]),
    ("tversky_loss", {"beta": float("inf")}, ["beta", "finite", "inf"]),
    ("tversky_loss", {"gamma": 0}, ["gamma", "> 0", "got 0"]),
    ("tversky_loss", {"gamma": -2.0}, ["gamma", "> 0", "-2.0"]),
    ("dice_loss", {"reduction": "avg"}, ["reduction", "'avg'"]),
    ("dice_loss", {"reduction": "sample_mean", "per": "class"}, ["sample_mean", 'per="class"']),
    ("dice_loss", {"reduction": "sample_mean", "per": "batch"}, ["sample_mean", '"sample_class"']),
]
# under softmax mask and map are per position
POSITIONS = [
    ({"mask": CHANNELS}, ["mask", "one value per position", "(1, 3, 1, 1)", "varies"]),
    ({"mask": (fl.target > 0) & ~fl.regions.as_region(X)}, ["mask", "per position", "varies"]),
    ({"weight_map": X}, ["weight_map", "one value per position", "(2, 3, 4, 5)"]),
    ({"weight_map": fl.edges(X) * X}, ["weight_map", "one value per position"]),
    ({"weight_map": fl.normalized(CHANNELS > 0)}, ["mask", "one value per position"]),
    (
        {"input": X[..., 0, 0], "target": X[..., 0, 0], "mask": fl.lengths(torch.tensor([1, 2]))},
        ["fl.lengths", "(N, C, T)"],
    ),
]
for name in ("dice_loss", "jaccard_loss", "tversky_loss"):
    VALUE += [(name, row | {"activation": "softmax"}, words) for row, words in POSITIONS]

CE, BCE, FOCAL = "dice_cross_entropy_loss", "dice_bce_loss", "dice_focal_loss"
PROBABILITIES = X / X.sum(1, keepdim=True)
TYPE += [
    (CE, {"ignore_index": 1.5}, ["ignore_index", "float"]),
    (CE, {"target": (X > 0.5).byte()}, ["target", "floating", "uint8"]),
    (CE, {"target": X[:, 0]}, ["target", "integer", "float32"]),
    (CE, {"ce_weight": "1"}, ["ce_weight", "number", "str"]),
    (BCE, {"pos_weight": 2.0}, ["pos_weight", "real tensor", "float"]),
    (BCE, {"dice_weight": None}, ["dice_weight", "number", "NoneType"]),
    (FOCAL, {"alpha": None}, ["alpha", "number", "NoneType"]),
    (FOCAL, {"activation": None}, ["activation", "str", "NoneType"]),
    (CE, {"gamma": 2.0}, ["gamma"]),
    (CE, {"label_smoothing": None}, ["label_smoothing", "number"]),
]
VALUE += [
    (CE, {"label_smoothing": 1.5}, ["label_smoothing", "<= 1", "1.5"]),
    (CE, {"label_smoothing": -0.1}, ["label_smoothing", ">= 0", "-0.1"]),
    (CE, {"target": PROBABILITIES, "ignore_index": 1}, ["ignore_index", "negative", "got 1"]),
    (FOCAL, {"target": PROBABILITIES, "ignore_index": 0}, ["ignore_index", "negative", "got 0"]),
    (CE, ONE, ["softmax", "two or more"]),
    (CE, {"activation": "sigmoid", "mask": CHANNELS}, ["mask", "one value per position"]),
    (CE, {"activation": "none", "weight_map": X}, ["weight_map", "one value per position"]),
    (BCE, {"activation": "softmax", "mask": CHANNELS}, ["mask", "one value per position"]),
    (BCE, {"pos_weight": ones(4)}, ["pos_weight", "torch's rules", "(4,)"]),
    (FOCAL, {"activation": "none"}, ["activation", '"softmax" or "sigmoid"', '"none"']),
    (FOCAL, {"gamma": -0.5}, ["gamma", ">= 0", "-0.5"]),
    (FOCAL, {"activation": "sigmoid", "alpha": float("nan")}, ["alpha", "finite"]),
    (BCE, {"dice_weight": 1.5}, ["dice_weight", "<= 1", "1.5"]),
    (BCE, {"dice_weight": -0.5, "bce_weight": 1.0}, ["dice_weight", ">= 0"]),
    (BCE, {"bce_weight": -1.0}, ["bce_weight", ">= 0", "-1.0"]),
    (FOCAL, {"focal_weight": float("inf")}, ["focal_weight", "finite"]),
]
for name in (CE, BCE, FOCAL):
    VALUE += [
        (name, {"reduction": "none"}, ["reduction", '"none"', name, '"sample_mean"']),
        (name, {"reduction": "sample_mean", "per": "batch"}, ["sample_mean", 'per="batch"']),
        (name, {"dice_class_weight": ones(4)}, ["dice_class_weight", "(3,)", "(4,)"]),
        (name, {"weight": ones(2)}, ["weight", "(3,)", "(2,)"]),
        (name, {"normalizer": "pixels"}, ["normalizer", "'pixels'"]),
        (name, {"normalizer": "all", "reduction": "sum"}, ["normalizer", "reduction='sum'"]),
    ]

WRONG = LABELS.clone()
WRONG[1, 2, 3] = 7
INDEX = [
    ("dice_loss", {"target": WRONG}, ["dice_loss", "[0, 3)", "got 7", "(1, 2, 3)"]),
    ("jaccard_loss", {"target": WRONG.byte()}, ["jaccard_loss", "got 7", "(1, 2, 3)"]),
    ("dice_loss", {"target": WRONG.unsqueeze(1)}, ["got 7", "(1, 2, 3)"]),
    ("dice_loss", {"target": WRONG - 1}, ["got -1"]),
    ("dice_loss", {"target": WRONG, "activation": "softmax"}, ["got 7", "(1, 2, 3)"]),
    ("dice_loss", {"target": WRONG, "mask": CHANNELS}, ["got 7", "(1, 2, 3)"]),
    ("dice_loss", {"target": WRONG, "ignore_index": 6}, ["got 7", "(1, 2, 3)"]),
    ("dice_loss", {"target": WRONG, "include_background": False}, ["got 7", "(1, 2, 3)"]),
    (
        "dice_loss",
        {"target": torch.where(WRONG == 7, -100, WRONG).to(torch.uint64), "ignore_index": -100},
        ["got 18446744073709551516", "(1, 2, 3)"],
    ),
    (CE, {"target": WRONG}, [CE, "got 7", "(1, 2, 3)"]),
    (BCE, {"target": WRONG}, [BCE, "got 7", "(1, 2, 3)"]),
    (FOCAL, {"target": WRONG}, [FOCAL, "got 7", "(1, 2, 3)"]),
    ("tversky_loss", {"target": (WRONG - 2).to(torch.uint64)}, ["got 1844674407370955161", "(0,"]),
]

TABLE = [(*row[:2], TypeError, row[2]) for row in TYPE]
TABLE += [(*row[:2], ValueError, row[2]) for row in VALUE]
TABLE += [(*row[:2], IndexError, row[2]) for row in INDEX]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("name", "replaced", "error", "fragments"),
    TABLE,
    ids=[f"{name}-{'-'.join(replaced)}-{fragments[-1]}" for name, replaced, _, fragments in TABLE],
)
def test_bad_call(module, name, replaced, error, fragments):
    arguments = {"input": X, "target": LABELS, **replaced}
    with pytest.raises(error) as caught:
        getattr(MODULES[module], name)(**arguments)
    assert type(caught.value) is error
    for fragment in fragments:
        assert fragment in str(caught.value), str(caught.value)


# (options under which a wrong label takes no part, those that say the same of a right one)
LEFT_OUT = [
    ({"ignore_index": 7}, {"mask": WRONG != 7}),
    ({"mask": fl.target != 7}, {"mask": WRONG != 7}),
    ({"mask": (WRONG != 7).float().unsqueeze(1)}, {"mask": WRONG != 7}),
    ({"weight_map": (WRONG != 7).float()}, {"weight_map": (WRONG != 7).float()}),
]


@pytest.mark.parametrize("name", ("dice_loss", CE, BCE, FOCAL))
@pytest.mark.parametrize(("options", "same"), LEFT_OUT, ids=str)
def test_a_wrong_label_that_takes_no_part_is_no_error(name, options, same):
    right = torch.where(WRONG == 7, 0, WRONG)
    for module in MODULES.values():
        loss = getattr(module, name)
        assert torch.equal(loss(X, WRONG, **options), loss(X, right, **same))


def test_nothing_is_computed_before_an_error():
    for module in MODULES.values():
        with pytest.raises(ValueError, match="reduction"):
            module.dice_loss(X, WRONG, reduction="avg")


def test_numbers_from_numpy_are_numbers():
    for module in MODULES.values():
        wanted = module.tversky_loss(X, LABELS, smooth=1.0, alpha=0.5, gamma=2.0)
        got = module.tversky_loss(
            X, LABELS, smooth=np.float32(1), alpha=np.float64(0.5), gamma=np.int64(2)
        )
        assert torch.equal(got, wanted)
        module.dice_loss(X, LABELS, ignore_index=np.int64(1))
