"""Bad calls: one table, every message checked; the fused functions and the reference alike.

A row is (function, keyword arguments that replace those of a good call, exception, fragments).
"""

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch

import fusedloss as fl
from fusedloss import _checks
from tests.families import ELEMENTWISE

X = torch.rand(2, 3, 4, 5)
with warnings.catch_warnings():  # torch calls both a prototype
    warnings.simplefilter("ignore")
    NESTED = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(3, 3)])
    RAGGED = torch.nested.nested_tensor([torch.ones(2, 3)], layout=torch.jagged)
MODULES = {"functional": fl.functional, "reference": fl.reference}


def ones(*shape, **options):
    return torch.ones(shape, **options)


TYPE = [
    # input and target
    ("mse_loss", {"input": [1.0]}, ["input", "floating tensor", "list"]),
    ("mse_loss", {"input": np.ones(3)}, ["input", "floating tensor", "ndarray"]),
    ("mse_loss", {"input": X.int()}, ["input", "float16", "int32"]),
    ("mse_loss", {"input": X > 0}, ["input", "bool"]),
    ("mse_loss", {"input": X.to(torch.complex64)}, ["input", "complex64"]),
    ("mse_loss", {"input": X.to(torch.float8_e4m3fn)}, ["input", "float8_e4m3fn"]),
    ("mse_loss", {"input": X.to_sparse()}, ["input", "dense", "sparse_coo"]),
    ("mse_loss", {"target": 0.0}, ["target", "real tensor", "float"]),
    ("mse_loss", {"input": np.ones(3)}, ["input", "ndarray", "torch.as_tensor"]),
    ("mse_loss", {"target": np.ones(3)}, ["target", "ndarray", "torch.as_tensor"]),
    ("mse_loss", {"target": [1.0]}, ["target", "list", "torch.as_tensor"]),
    ("mse_loss", {"weight": np.ones(3)}, ["weight", "ndarray", "torch.as_tensor"]),
    ("binary_cross_entropy", {"weight": (1.0,)}, ["weight", "tuple", "torch.as_tensor"]),
    (
        "binary_cross_entropy_with_logits",
        {"pos_weight": [1.0, 2.0]},
        ["pos_weight", "list", "torch.as_tensor"],
    ),
    ("mse_loss", {"mask": fl.target.isfinite}, ["mask", "method", "fl.target.isfinite()"]),
    ("mse_loss", {"target": X.double}, ["target", "call it"]),
    ("mse_loss", {"target": None}, ["target", "NoneType"]),
    ("mse_loss", {"target": X.to(torch.complex64)}, ["target", "integer", "complex64"]),
    ("mse_loss", {"target": X.to_sparse()}, ["target", "dense", "sparse_coo"]),
    (
        "l1_loss",
        {"target": torch.quantize_per_tensor(X, 0.1, 0, torch.quint8)},
        ["target", "quint8"],
    ),
    ("mse_loss", {"input": NESTED}, ["input", "dense", "a nested tensor"]),
    ("mse_loss", {"target": NESTED}, ["target", "dense", "a nested tensor"]),
    ("mse_loss", {"mask": NESTED}, ["mask", "dense", "a nested tensor"]),
    ("mse_loss", {"weight": NESTED}, ["weight", "dense", "a nested tensor"]),
    ("mse_loss", {"target": RAGGED}, ["target", "dense", "nested tensor"]),
    ("mse_loss", {"return_stats": 1}, ["return_stats", "True or False", "int 1"]),
    ("l1_loss", {"return_stats": None}, ["return_stats", "True or False", "NoneType"]),
    # what torch deprecated
    ("l1_loss", {"size_average": True}, ["size_average=True", "reduction"]),
    ("mse_loss", {"reduce": False}, ["reduce=False", "reduction"]),
    ("smooth_l1_loss", {"size_average": False}, ["size_average=False", "reduction"]),
    ("binary_cross_entropy", {"reduce": True}, ["reduce=True", "reduction"]),
    ("binary_cross_entropy_with_logits", {"size_average": 1}, ["size_average=1", "reduction"]),
    # weight and mask
    ("mse_loss", {"weight": 2.0}, ["weight", "real tensor", "float"]),
    ("mse_loss", {"weight": X.to(torch.complex64)}, ["weight", "complex64"]),
    ("mse_loss", {"weight": X.to_sparse()}, ["weight", "dense", "sparse_coo"]),
    (
        "binary_cross_entropy_with_logits",
        {"pos_weight": 3.0},
        ["pos_weight", "real tensor", "float"],
    ),
    ("mse_loss", {"mask": True}, ["mask", "bool", "mask=None"]),
    ("mse_loss", {"mask": [True]}, ["mask", "list", "as_tensor"]),
    ("mse_loss", {"mask": [torch.ones(3), torch.ones(2)]}, ["mask", "list", "pad_sequence"]),
    ("mse_loss", {"mask": np.ones(3)}, ["mask", "ndarray", "as_tensor"]),
    ("mse_loss", {"mask": fl.target}, ["mask", "fl.target > 0", "isfinite"]),
    ("mse_loss", {"mask": "target > 0"}, ["mask", "str"]),
    ("mse_loss", {"mask": fl.boundary()}, ["mask", "weight source fl.boundary()", "into weight"]),
    ("mse_loss", {"mask": X.to(torch.complex64)}, ["mask", "complex64"]),
    ("mse_loss", {"mask": X.to_sparse() & (fl.target > 0)}, ["mask", "dense", "sparse_coo"]),
    # reduction and normalizer
    ("mse_loss", {"reduction": None}, ["reduction", "NoneType", '"sample_mean"']),
    ("mse_loss", {"reduction": 1}, ["reduction", "int"]),
    ("mse_loss", {"normalizer": True}, ["normalizer", "bool True", '"positions"']),
    ("mse_loss", {"normalizer": 1j}, ["normalizer", "complex"]),
    ("mse_loss", {"normalizer": [3.0]}, ["normalizer", "list"]),
    ("mse_loss", {"normalizer": torch.tensor(True)}, ["normalizer", "torch.bool"]),
    ("mse_loss", {"normalizer": torch.tensor(1j)}, ["normalizer", "complex64"]),
    # numbers
    ("smooth_l1_loss", {"beta": "1"}, ["beta", "number", "str"]),
    ("smooth_l1_loss", {"beta": True}, ["beta", "number", "bool True"]),
    ("huber_loss", {"delta": torch.tensor(1.0)}, ["delta", "number", "Tensor"]),
    ("huber_loss", {"delta": None}, ["delta", "number", "NoneType"]),
    ("charbonnier_loss", {"eps": 1j}, ["eps", "number", "complex"]),
    ("sigmoid_focal_loss", {"gamma": [2]}, ["gamma", "number", "list"]),
    ("sigmoid_focal_loss", {"alpha": None}, ["alpha", "number", "NoneType"]),
]

VALUE = [
    ("mse_loss", {"target": X[:1]}, ["target (1, 3, 4, 5)", "input (2, 3, 4, 5)", "expand"]),
    ("mse_loss", {"target": torch.tensor(1.0)}, ["target ()", "input (2, 3, 4, 5)"]),
    ("mse_loss", {"target": X.to("meta")}, ["target", "device of input (cpu)", "got meta"]),
    (
        "mse_loss",
        {"target": torch.ones(2, 4, 5).long()},
        ["target (2, 4, 5)", "cross_entropy", "one_hot(target, 3).movedim(-1, 1)"],
    ),
    ("mse_loss", {"target": ones(2, 4, 5)}, ["target (2, 4, 5)", "expand"]),
    ("mse_loss", {"input": ones(2, 1, 5), "target": ones(2, 5)}, ["target.unsqueeze(1)"]),
    ("mse_loss", {"input": ones(2, 5), "target": ones(2, 1, 5)}, ["target.squeeze(1)"]),
    # masks: the number of dims decides
    (
        "mse_loss",
        {"input": X[:, 0], "target": X[:, 0], "mask": ones(2, 4)},
        ["mask (2, 4)", "last dim", "mask.unsqueeze(-1), (2, 4, 1)"],
    ),
    (
        "mse_loss",
        {"mask": ones(3, 4, 5)},
        ["mask (3, 4, 5)", "input (2, 3, 4, 5)", "positions (2, 4, 5)", "written (1, 3, 4, 5)"],
    ),
    ("mse_loss", {"mask": ones(2, 2, 4, 5)}, ["mask (2, 2, 4, 5)", "4 dims that broadcast"]),
    ("mse_loss", {"mask": ones(5, 4)}, ["mask (5, 4)", "spatial dims (4, 5)"]),
    ("mse_loss", {"mask": ones(3)}, ["mask (3,)", "one per channel", "written (1, 3, 1, 1)"]),
    ("mse_loss", {"mask": ones(2)}, ["mask (2,)", "one per sample", "written (2, 1, 1, 1)"]),
    ("mse_loss", {"mask": ones(1, 2, 3, 4, 5)}, ["mask (1, 2, 3, 4, 5)", "4 dims"]),
    ("mse_loss", {"mask": (fl.target > 0) & ones(4, 4)}, ["mask (4, 4)"]),
    (
        "mse_loss",
        {"input": X[:, 0], "target": X[:, 0], "mask": ones(4, 5)},
        ["mask (4, 5)", "positions (2, 5)", "input.unsqueeze(1)", "(1, 4, 5)"],
    ),
    (
        "mse_loss",
        {"input": X[:, :, 0, 0], "target": X[:, :, 0, 0], "mask": ones(3)},
        ["mask (3,)", "positions (2,)", "written (1, 3)"],
    ),
    ("mse_loss", {"input": X[0, 0, 0], "target": X[0, 0, 0], "mask": ones(4)}, ["mask (4,)"]),
    ("mse_loss", {"input": ones(), "target": ones(), "mask": ones(1)}, ["mask (1,)", "input ()"]),
    ("mse_loss", {"mask": ones(2, 4, 5, device="meta")}, ["mask", "input (cpu)", "got meta"]),
    ("mse_loss", {"mask": ones(device="meta")}, ["mask", "input (cpu)", "got meta"]),
    # weights
    ("mse_loss", {"weight": ones(3, 4, 5)}, ["weight (3, 4, 5)", "a weight per channel"]),
    ("huber_loss", {"weight": ones(2, 3)}, ["weight (2, 3)", "spatial dims (4, 5)"]),
    ("mse_loss", {"weight": ones(5, device="meta")}, ["weight", "input (cpu)", "got meta"]),
    (
        "binary_cross_entropy",
        {"weight": ones(2, 4, 5)},
        ["weight", "(2, 4, 5)", "weight.unsqueeze(1)"],
    ),
    ("binary_cross_entropy", {"weight": ones(1, 2, 3, 4, 5)}, ["weight", "(1, 2, 3, 4, 5)"]),
    (
        "binary_cross_entropy_with_logits",
        {"pos_weight": ones(3)},
        ["pos_weight", "torch's rules", "(3,)", "(2, 3, 4, 5)", "pos_weight.reshape(-1, 1, 1)"],
    ),
    # reduction and normalizer
    ("mse_loss", {"reduction": "avg"}, ["reduction", "'avg'", '"mean", "none", "sum"']),
    ("mse_loss", {"reduction": "batchmean"}, ["reduction", "'batchmean'"]),
    ("mse_loss", {"normalizer": "pixels"}, ["normalizer", "'pixels'", '"positions"']),
    ("mse_loss", {"normalizer": 0}, ["normalizer", "positive finite number", "got 0"]),
    ("mse_loss", {"normalizer": -1.5}, ["normalizer", "got -1.5"]),
    ("mse_loss", {"normalizer": float("nan")}, ["normalizer", "got nan"]),
    ("mse_loss", {"normalizer": float("inf")}, ["normalizer", "got inf"]),
    ("mse_loss", {"normalizer": ones(1)}, ["normalizer", "without dims", "(1,)"]),
    ("mse_loss", {"normalizer": ones(device="meta")}, ["normalizer", "input (cpu)", "got meta"]),
    (
        "mse_loss",
        {"normalizer": "all", "reduction": "sum"},
        ["normalizer='all'", "reduction='sum'", '"mean" or "sample_mean"'],
    ),
    ("mse_loss", {"normalizer": 2.0, "reduction": "none"}, ["normalizer=2.0", "reduction='none'"]),
    (
        "mse_loss",
        {"normalizer": 2, "reduction": "sample_mean"},
        ["normalizer", "sample_mean", "got 2", 'reduction="mean"'],
    ),
    (
        "mse_loss",
        {"normalizer": ones(), "reduction": "sample_mean"},
        ["normalizer", "sample_mean", "tensor of shape ()"],
    ),
    # numbers
    ("smooth_l1_loss", {"beta": -0.1}, ["beta", ">= 0", "-0.1"]),
    ("smooth_l1_loss", {"beta": float("nan")}, ["beta", "finite", "nan"]),
    ("smooth_l1_loss", {"beta": float("inf")}, ["beta", "finite", "inf"]),
    ("huber_loss", {"delta": 0.0}, ["delta", "> 0", "0.0"]),
    ("huber_loss", {"delta": -1}, ["delta", "> 0", "-1"]),
    ("charbonnier_loss", {"eps": 0}, ["eps", "> 0", "got 0"]),
    ("sigmoid_focal_loss", {"gamma": -1e-9}, ["gamma", ">= 0", "-1e-09"]),
    ("sigmoid_focal_loss", {"alpha": float("nan")}, ["alpha", "finite", "nan"]),
    ("sigmoid_focal_loss", {"alpha": -float("inf")}, ["alpha", "finite", "-inf"]),
    # values, on the CPU
    (
        "binary_cross_entropy",
        {"input": torch.tensor([0.5, 1.5]), "target": ones(2)},
        ["input", "[0, 1]", "1.5", "(1,)"],
    ),
    (
        "binary_cross_entropy",
        {
            "input": torch.tensor([[-7.0, 0.5], [0.5, -0.25]]),
            "target": torch.tensor([[-1.0, 1.0], [1.0, 1.0]]),
            "mask": fl.target >= 0,
        },
        ["input", "[0, 1]", "-0.25", "(1, 1)"],
    ),
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
    arguments = {"input": X, "target": X, **replaced}
    with pytest.raises(error) as caught:
        getattr(MODULES[module], name)(**arguments)
    assert type(caught.value) is error
    for fragment in fragments:
        assert fragment in str(caught.value), str(caught.value)


def test_every_loss_checks_its_operands():
    for module in MODULES.values():
        for name in ELEMENTWISE:
            loss = getattr(module, name)
            with pytest.raises(ValueError, match=r"target must have the shape of input"):
                loss(X, X[:1])
            with pytest.raises(ValueError, match=r"mask \(9,\) does not broadcast"):
                loss(X, X, mask=ones(9))
            with pytest.raises(TypeError, match=r"weight must be a real tensor"):
                loss(X, X, weight=1)
            with pytest.raises(ValueError, match=r"reduction must be one of"):
                loss(X, X, reduction="avg")


GOOD = [
    ((), [()]),
    ((6,), [(6,), (1,), ()]),
    ((2, 3), [(2, 3), (1, 3), (2, 1), (2,), (1,), ()]),
    ((2, 3, 5), [(2, 3, 5), (2, 1, 5), (1, 3, 1), (2, 5), (1, 5), (2, 1), (5,), (1,), ()]),
    ((2, 3, 4, 5), [(2, 1, 4, 5), (1, 3, 1, 1), (2, 4, 5), (1, 4, 5), (4, 5), (4, 1), (5,), ()]),
    ((2, 3, 4, 5, 6), [(2, 1, 4, 5, 6), (2, 4, 5, 6), (4, 5, 6), (5, 6), (6,), ()]),
    ((0, 3, 4), [(0, 1, 4), (1, 3, 4), (0, 4), (1, 4), (4,)]),
]


@pytest.mark.parametrize(
    ("shape", "given"), [(shape, given) for shape, all_given in GOOD for given in all_given]
)
def test_accepted_shapes_and_what_they_mean(shape, given):
    """A view of fewer dims lies where the contract says: channel dim 1 inserted for positions,
    aligned from the right below that."""
    input = torch.rand(shape)
    mask = torch.rand(given)
    region = fl.regions.as_region(mask)
    _checks.check_elementwise(input, input, mask, None, region, "mean", None)
    view = _checks.broadcast_view(mask, input.ndim)
    assert view.ndim == input.ndim
    if len(given) == len(shape):
        assert view is mask
    elif len(given) == len(shape) - 1 and len(shape) >= 2:
        assert torch.equal(view, mask.reshape(given[:1] + (1,) + given[1:]))
    else:
        assert torch.equal(view, mask.reshape((1,) * (len(shape) - len(given)) + given))
    assert view.expand(shape).shape == input.shape


def test_scalars_on_the_cpu_go_with_any_device():
    input = torch.rand(2, 3, device="meta")
    region = fl.regions.as_region(torch.tensor(True))
    _checks.check_elementwise(
        input, input, torch.tensor(1.0), torch.tensor(2.0), region, "mean", torch.tensor(3.0)
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    "value",
    (np.float32(0.5), np.float16(0.5), np.float64(0.5), np.int64(2), Fraction(1, 2), 2),
    ids=repr,
)
def test_every_real_number_is_a_number(module, value):
    functions, t = MODULES[module], X.flip(0)
    for name, option in (
        ("smooth_l1_loss", "beta"),
        ("huber_loss", "delta"),
        ("charbonnier_loss", "eps"),
        ("sigmoid_focal_loss", "alpha"),
        ("sigmoid_focal_loss", "gamma"),
        ("mse_loss", "normalizer"),
    ):
        loss = getattr(functions, name)
        assert torch.equal(loss(X, t, **{option: value}), loss(X, t, **{option: float(value)}))
    for above in (fl.target > value, value < fl.target):
        assert torch.equal(
            functions.mse_loss(X, t, mask=above), functions.mse_loss(X, t, mask=t > float(value))
        )


def test_nothing_is_computed_before_an_error():
    """Wrong arguments win over wrong values."""
    for module in MODULES.values():
        with pytest.raises(ValueError, match="reduction"):
            module.binary_cross_entropy(X + 7, X, reduction="avg")


# Advice must not be given where it would not help: (replaced, what the message must not say)
MISLEADING = [
    ({"input": X[:, 0], "target": X[:, 0], "mask": ones(2, 4)}, "input.unsqueeze(1)"),
    ({"input": X[:, 0], "target": X[:, 0], "mask": ones(2, 4)}, "per channel"),
    ({"input": X[:, 0], "target": X[:, 0], "mask": ones(4, 5)}, "unsqueeze(-1)"),
    ({"mask": ones(7, 4, 5)}, "must be written"),
    ({"target": torch.ones(2, 9, 5).long()}, "one_hot"),
]


@pytest.mark.parametrize(("replaced", "absent"), MISLEADING)
def test_no_advice_that_does_not_help(replaced, absent):
    with pytest.raises(ValueError) as caught:
        fl.mse_loss(**{"input": X, "target": X, **replaced})
    assert absent not in str(caught.value)


def test_a_method_that_fl_target_does_not_have():
    with pytest.raises(AttributeError, match=r"no 'isnan'.*~fl\.target\.isfinite\(\)"):
        fl.target.isnan()
    assert not hasattr(fl.target, "shape")
