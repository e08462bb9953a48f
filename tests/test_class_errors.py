"""Bad calls of the class losses: one table, every message checked; the functions and the reference
alike. A row is (function, arguments that replace those of a good call, fragments)."""

import numpy as np
import pytest
import torch

import fusedloss as fl
from tests.families import CLASS

X = torch.rand(2, 3, 4, 5)
Y = torch.randint(0, 3, (2, 4, 5))
MODULES = {"functional": fl.functional, "reference": fl.reference}
CE, NLL, FOCAL, CATEGORICAL = (
    "cross_entropy",
    "nll_loss",
    "softmax_focal_loss",
    "categorical_cross_entropy",
)


def ones(*shape, **options):
    return torch.ones(shape, **options)


TYPE = [
    # input and target
    (CE, {"input": [1.0]}, ["input", "floating tensor", "list"]),
    (CE, {"input": X.int()}, ["input", "float16", "int32"]),
    (CE, {"input": X.to(torch.complex64)}, ["input", "complex64"]),
    (CE, {"input": X.to_sparse()}, ["input", "dense", "sparse_coo"]),
    (CE, {"target": 1}, ["target", "int"]),
    (CE, {"target": None}, ["target", "NoneType"]),
    (CE, {"target": np.ones(3)}, ["target", "ndarray"]),
    (CE, {"target": Y.to(torch.complex64)}, ["target", "complex64"]),
    (CE, {"target": Y.to_sparse()}, ["target", "dense", "sparse_coo"]),
    (CE, {"target": Y.float()}, ["class indices", "uint8", "float32 of shape (2, 4, 5)", "long()"]),
    (CE, {"target": Y.float().unsqueeze(1)}, ["class indices", "float32", "(2, 1, 4, 5)"]),
    (CE, {"target": Y > 0}, ["target", "class indices", "integer", "torch.bool"]),
    (CE, {"target": (Y > 0).unsqueeze(1)}, ["target", "torch.bool"]),
    (CE, {"target": X > 0.5}, ["target", "floating tensor of probabilities", "torch.bool"]),
    (CE, {"target": X.long()}, ["probabilities", "int64", "of shape (2, 4, 5)", "target.float()"]),
    (FOCAL, {"target": X.byte()}, ["target", "floating tensor of probabilities", "uint8"]),
    (NLL, {"target": Y.half()}, ["target", "class indices", "float16"]),
    (CATEGORICAL, {"target": Y > 0}, ["target", "class indices", "torch.bool"]),
    (CATEGORICAL, {"target": Y.float()}, ["target", "class indices", "float32"]),
    (CE, {"return_stats": 1}, ["return_stats", "True or False", "int 1"]),
    # what torch deprecated
    (CE, {"size_average": True}, ["size_average=True", "reduction"]),
    (NLL, {"reduce": False}, ["reduce=False", "reduction"]),
    # class weights
    (CE, {"weight": 2.0}, ["weight", "real tensor", "float"]),
    (CE, {"weight": [1.0, 1.0, 1.0]}, ["weight", "list"]),
    (CE, {"weight": ones(3) * 1j}, ["weight", "complex64"]),
    (CE, {"weight": fl.boundary()}, ["weight", "one value per class", "weight_map"]),
    (CE, {"weight": fl.target > 0}, ["weight", "one value per class", "weight_map"]),
    # masks and maps
    (CE, {"weight_map": 2.0}, ["weight_map", "weight source", "float"]),
    (CE, {"weight_map": fl.target > 0}, ["weight_map must be", "weight_map=fl.normalized"]),
    (CE, {"weight_map": ones(2, 4, 5) * 1j}, ["weight_map", "complex64"]),
    (CE, {"mask": True}, ["mask", "bool", "mask=None"]),
    (CE, {"mask": fl.target}, ["mask", "fl.target > 0"]),
    (CE, {"mask": fl.boundary()}, ["mask", "weight source"]),
    (CE, {"mask": ones(2, 4, 5) * 1j}, ["mask", "complex64"]),
    # options
    (CE, {"ignore_index": 1.0}, ["ignore_index", "int", "float 1.0"]),
    (CE, {"ignore_index": None}, ["ignore_index", "NoneType"]),
    (CE, {"ignore_index": True}, ["ignore_index", "bool True"]),
    (CE, {"ignore_index": torch.tensor(1)}, ["ignore_index", "Tensor"]),
    (CE, {"label_smoothing": "0.1"}, ["label_smoothing", "number", "str"]),
    (CE, {"label_smoothing": None}, ["label_smoothing", "NoneType"]),
    (FOCAL, {"gamma": "2"}, ["gamma", "number", "str"]),
    (FOCAL, {"gamma": True}, ["gamma", "bool True"]),
    (CATEGORICAL, {"eps": 1j}, ["eps", "number", "complex"]),
    (CE, {"reduction": None}, ["reduction", "NoneType", '"sample_mean"']),
    (CE, {"normalizer": True}, ["normalizer", "bool True"]),
]
VALUE = [
    # shapes of input, target and class weight
    (CE, {"input": ones(), "target": Y[0, 0, 0]}, ["input", "(N, C)", "shape ()"]),
    (CE, {"target": Y[:, :2]}, ["class indices of shape (2, 4, 5)", "got (2, 2, 5)", "channel"]),
    (CE, {"target": Y[0]}, ["class indices of shape (2, 4, 5)", "got (4, 5)"]),
    (CE, {"target": X[:1]}, ["probabilities of shape (2, 3, 4, 5)", "got (1, 3, 4, 5)"]),
    (CE, {"target": Y.unsqueeze(-1)}, ["class indices of shape (2, 4, 5)", "got (2, 4, 5, 1)"]),
    (CE, {"target": X[:, :2]}, ["probabilities of shape (2, 3, 4, 5)", "got (2, 2, 4, 5)"]),
    (NLL, {"target": X}, ["nll_loss", "class indices of shape (2, 4, 5)", "got (2, 3, 4, 5)"]),
    (NLL, {"target": X.long()}, ["nll_loss", "class indices of shape (2, 4, 5)"]),
    (CE, {"input": X[0, :, 0, 0], "target": Y[0, 0]}, ["indices of shape ()", "got (5,)"]),
    (CE, {"input": X[:, :, 0, 0], "target": Y[0, 0]}, ["indices of shape (2,)", "got (5,)"]),
    (CE, {"target": Y.to("meta")}, ["target", "device of input (cpu)", "got meta"]),
    (CE, {"weight": ones(4)}, ["weight", "per class, (3,)", "(2, 3, 4, 5)", "got (4,)"]),
    (CE, {"weight": ones()}, ["weight must be (C,)", "got ()", "weight_map"]),
    (CE, {"weight": ones(1, 3)}, ["weight must be (C,)", "got (1, 3)", "weight_map"]),
    (CE, {"weight": ones(2, 4, 5)}, ["weight must be (C,)", "got (2, 4, 5)", "weight_map"]),
    (CE, {"weight": ones(3, device="meta")}, ["weight", "input (cpu)", "got meta"]),
    # masks and maps: per position
    (CE, {"mask": ones(2, 3, 4, 5)}, ["mask", "one value per position, (2, 4, 5)", "varies"]),
    (CE, {"mask": ones(1, 3, 1, 1)}, ["mask", "got (1, 3, 1, 1)", "varies over the channels"]),
    (CE, {"weight_map": ones(2, 3, 4, 5)}, ["weight_map", "one value per position", "varies"]),
    (CE, {"mask": ones(3, 4, 5)}, ["mask (3, 4, 5)", "4 dims that broadcast to (2, 1, 4, 5)"]),
    (CE, {"mask": ones(5, 4)}, ["mask (5, 4)", "spatial dims (4, 5)"]),
    (CE, {"mask": ones(1, 2, 1, 4, 5)}, ["mask (1, 2, 1, 4, 5)"]),
    (CE, {"mask": (fl.target > 0) & ones(2, 3, 1, 1)}, ["mask", "varies over the channels"]),
    (CE, {"mask": ~((fl.target > 0) | ones(9))}, ["mask (9,) does not broadcast"]),
    (CE, {"weight_map": ones(9)}, ["weight_map (9,) does not broadcast"]),
    (CE, {"weight_map": 1 + fl.edges(X) * ones(9)}, ["weight_map (9,) does not broadcast"]),
    (CE, {"weight_map": fl.edges(X) + ones(2, 3, 4, 5)}, ["weight_map", "varies over the chann"]),
    (
        CE,
        {"weight_map": fl.normalized(fl.regions.as_region(ones(2, 3, 4, 5)))},
        ["mask", "varies over the channels"],
    ),
    (CE, {"mask": ones(2, 4, 5, device="meta")}, ["mask", "input (cpu)", "got meta"]),
    (CE, {"weight_map": ones(5, device="meta")}, ["weight_map", "input (cpu)", "got meta"]),
    (
        CE,
        {"input": X[:, :, 0, 0], "target": Y[:, 0, 0], "mask": ones(2, 3)},
        ["mask", "one value per position, (2,)", "got (2, 3)"],
    ),
    (
        CE,
        {"input": X[0, :, 0, 0], "target": Y[0, 0, 0], "mask": ones(3)},
        ["mask", "one value per position, ()", "got (3,)"],
    ),
    (
        CE,
        {"input": X[0, :, 0, 0], "target": Y[0, 0, 0], "mask": ones(1, 1)},
        ["mask (1, 1) does not broadcast to input (3,)"],
    ),
    # terms that need what the operands lack
    (
        CE,
        {"input": X[:, :, 0, 0], "target": Y[:, 0, 0], "mask": fl.lengths(torch.tensor([1, 2]))},
        ["fl.lengths", "(N, C, T)", "(2, 3)"],
    ),
    (CE, {"mask": fl.lengths(torch.tensor([1, 2]))}, ["fl.lengths", "(2, 3, 4, 5)"]),
    (CE, {"mask": fl.box(1, 2, 3, 4, 5, 6)}, ["fl.box", "three spatial dims"]),
    (CE, {"target": X, "weight_map": fl.boundary()}, ["fl.boundary()", "class indices", "labels"]),
    (CE, {"mask": fl.image(X[:, :, :2]).mean() > 0}, ["image", "spatial shape of input"]),
    # options
    (CE, {"target": X, "ignore_index": 0}, ["ignore_index", "negative", "probabilities", "got 0"]),
    (FOCAL, {"target": X, "ignore_index": 255}, ["ignore_index", "probabilities", "got 255"]),
    (CATEGORICAL, {"target": X, "ignore_index": 1}, ["ignore_index", "probabilities", "got 1"]),
    (CE, {"ignore_index": 2**63}, ["ignore_index", "64 bits"]),
    (CE, {"label_smoothing": -0.1}, ["label_smoothing", ">= 0", "<= 1", "-0.1"]),
    (CE, {"label_smoothing": 1.01}, ["label_smoothing", "<= 1", "1.01"]),
    (CE, {"label_smoothing": float("nan")}, ["label_smoothing", "nan"]),
    (FOCAL, {"gamma": -1e-9}, ["gamma", ">= 0", "-1e-09"]),
    (FOCAL, {"gamma": float("inf")}, ["gamma", "finite", "inf"]),
    (CATEGORICAL, {"eps": 0}, ["eps", "> 0", "got 0"]),
    (CATEGORICAL, {"eps": 0.6}, ["eps", "<= 0.5", "0.6"]),
    (CE, {"reduction": "avg"}, ["reduction", "'avg'", '"mean", "none", "sum"']),
    (CE, {"normalizer": "pixels"}, ["normalizer", "'pixels'", '"positions"']),
    (CE, {"normalizer": 0}, ["normalizer", "positive finite number"]),
    (CE, {"normalizer": "all", "reduction": "sum"}, ["normalizer='all'", "reduction='sum'"]),
    (CE, {"normalizer": 2, "reduction": "sample_mean"}, ["normalizer", "sample_mean", "got 2"]),
    (CE, {"normalizer": ones(1)}, ["normalizer", "without dims", "(1,)"]),
]
TABLE = [(*row[:2], TypeError, row[2]) for row in TYPE]
TABLE += [(*row[:2], ValueError, row[2]) for row in VALUE]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("name", "replaced", "error", "fragments"),
    TABLE,
    ids=[f"{name}-{'-'.join(replaced)}-{fragments[-1]}" for name, replaced, _, fragments in TABLE],
)
def test_bad_call(module, name, replaced, error, fragments):
    with pytest.raises(error) as caught:
        getattr(MODULES[module], name)(**{"input": X, "target": Y, **replaced})
    assert type(caught.value) is error
    for fragment in fragments:
        assert fragment in str(caught.value), str(caught.value)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", CLASS)
def test_every_loss_checks_its_operands(module, name):
    loss = getattr(MODULES[module], name)
    for options, message in (
        ({"target": Y[:1]}, "must hold class indices"),
        ({"weight": ones(9)}, "one value per class"),
        ({"mask": ones(9)}, r"mask \(9,\) does not broadcast"),
        ({"mask": ones(1, 3, 1, 1)}, "varies over the channels"),
        ({"weight_map": ones(9)}, r"weight_map \(9,\) does not broadcast"),
        ({"reduction": "avg"}, "reduction must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            loss(**{"input": X, "target": Y, **options})


# ---- labels out of range ------------------------------------------------------------------------

BYTES = torch.tensor([[0, 255], [9, 2]], dtype=torch.uint8)
SEVEN = torch.tensor([[7, 0], [1, 8]])
LEFT_OUT = torch.tensor([[0, 1], [1, 1]])
# (labels, other arguments, value and place in the message)
OUT_OF_RANGE = [
    (torch.tensor([[0, 3], [1, 2]]), {}, "3 at position (0, 1)"),
    (torch.tensor([[0, 1], [-1, 2]]), {}, "-1 at position (1, 0)"),
    (BYTES, {"ignore_index": 255}, "9 at position (1, 0)"),
    (torch.tensor([[[0, 1]], [[1, 9]]]), {}, "9 at position (1, 1)"),
    (torch.tensor([[-100, 1], [1, 77]]), {}, "77 at position (1, 1)"),
    (SEVEN, {"mask": LEFT_OUT}, "8 at position (1, 1)"),
    (SEVEN, {"mask": fl.target != 7}, "8 at position (1, 1)"),
    (SEVEN, {"weight_map": torch.tensor([0.0, 1.0])}, "8 at position (1, 1)"),
    (torch.tensor([[0, 0], [1, -100]]), {"ignore_index": -1}, "-100 at position (1, 1)"),
    (torch.tensor([[0, 2**40], [1, 0]]), {}, f"{2**40} at position (0, 1)"),
]


@pytest.mark.parametrize("reduction", ("mean", "none"))
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", CLASS)
def test_a_label_out_of_range_is_an_index_error(name, module, reduction):
    x = torch.rand(2, 3, 2)
    for labels, options, shown in OUT_OF_RANGE:
        with pytest.raises(IndexError) as caught:
            getattr(MODULES[module], name)(x, labels, reduction=reduction, **options)
        assert shown in str(caught.value), str(caught.value)
        assert name in str(caught.value) and "[0, 3)" in str(caught.value)


@pytest.mark.parametrize("name", CLASS)
def test_labels_that_int64_cannot_hold(name):
    """A uint64 label is neither wrapped into range nor taken for a negative ignore_index."""
    x = torch.rand(2, 3)
    for value in (2**64 - 100, 2**63):
        labels = torch.tensor([0, value], dtype=torch.uint64)
        for ignore_index in (-100, -(2**63), 5):
            with pytest.raises(IndexError, match=f"{value} at position"):
                getattr(fl, name)(x, labels, ignore_index=ignore_index)
        masked = getattr(fl, name)(x, labels, mask=torch.tensor([True, False]))
        assert masked == getattr(fl, name)(x[:1], torch.tensor([0]))
    with pytest.raises(IndexError, match="156 at position"):  # -100 in uint8
        getattr(fl, name)(x, torch.tensor([0, 156], dtype=torch.uint8))


def test_a_label_of_a_single_position():
    with pytest.raises(IndexError, match=r"got 4 at position \(\)"):
        fl.cross_entropy(torch.rand(3), torch.tensor(4))


def test_nothing_is_computed_before_an_error():
    """Wrong arguments win over wrong labels."""
    for module in MODULES.values():
        with pytest.raises(ValueError, match="reduction"):
            module.cross_entropy(X, Y + 7, reduction="avg")


def test_numbers_from_numpy_are_numbers():
    for module in MODULES.values():
        module.cross_entropy(X, Y, label_smoothing=np.float32(0.5), ignore_index=np.int64(2))
        module.softmax_focal_loss(X, Y, gamma=np.int64(2), normalizer=np.float64(2))


GOOD = [
    ((3,), [(), (1,)]),
    ((2, 3), [(2,), (1,), (), (2, 1), (1, 1)]),
    ((2, 3, 5), [(2, 5), (1, 5), (2, 1), (5,), (1,), (), (2, 1, 5), (1, 1, 1)]),
    ((2, 3, 4, 5), [(2, 4, 5), (1, 4, 5), (4, 5), (4, 1), (5,), (2, 1, 4, 5), (1, 1, 1, 5)]),
]


@pytest.mark.parametrize(
    ("shape", "given"), [(shape, given) for shape, all_given in GOOD for given in all_given]
)
def test_accepted_shapes_of_masks_and_maps(shape, given):
    """Each says the same as its expansion to the positions."""
    positions = (*shape[:1], *shape[2:]) if len(shape) > 1 else ()
    column = (*shape[:1], 1, *shape[2:]) if len(shape) > 1 else (1,)
    x, y = torch.randn(shape), torch.randint(0, 3, positions)
    mask = torch.rand(given) + 0.1
    full = mask
    if len(given) == len(shape) - 1 and len(shape) > 1:
        full = mask.reshape(given[:1] + (1,) + given[1:])
    full = full.expand(column).reshape(positions)
    for name in ("mask", "weight_map"):
        got = fl.cross_entropy(x, y, **{name: mask})
        torch.testing.assert_close(got, fl.cross_entropy(x, y, **{name: full}))
