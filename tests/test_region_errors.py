"""Bad regions and weight sources: what an expression refuses when it is made, and what a call
refuses; every message checked, the fused functions and the reference alike."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import fusedloss as fl

X = torch.rand(2, 3, 4, 5)
VOLUME = torch.rand(2, 1, 3, 4, 5)
NAN, INF = float("nan"), float("inf")
EDGES = fl.edges(X)
MODULES = {"functional": fl.functional, "reference": fl.reference}


def ones(*shape, **options):
    return torch.ones(shape, **options)


def run_if(region):
    if region:
        raise AssertionError("silently true")


# (what makes the expression, exception, fragments of the message)
CONSTRUCTION = [
    # truth values
    (lambda: run_if(fl.target > 0), TypeError, ["truth value", "fl.target > 0", "& | ~"]),
    (lambda: 0 < fl.target < 5, TypeError, ["truth value", "(fl.target > 0) & (fl.target < 5)"]),
    (lambda: not fl.target.isfinite(), TypeError, ["truth value", "fl.target.isfinite()"]),
    (lambda: run_if(fl.target), TypeError, ["fl.target stands for", "fl.target > 0"]),
    (lambda: run_if(fl.image(X)), TypeError, ["fl.image(", ".mean() < 0.2"]),
    (lambda: fl.center() or fl.box(0, 0, 1, 1), TypeError, ["truth value", "& | ~"]),
    # quantities that are not there
    (lambda: fl.target.isnan(), AttributeError, ["fl.target", "'isnan'", "~fl.target.isfinite()"]),
    (lambda: fl.target.var(), AttributeError, ["fl.target", "'var'", ".isfinite()"]),
    (lambda: fl.input.mean(), AttributeError, ["fl.input", "'mean'", ".var()"]),
    (lambda: fl.image(X).var(), AttributeError, ["fl.image(tensor)", "'var'", ".mean()"]),
    # things that stand for a tensor
    (lambda: fl.target & (fl.target > 0), TypeError, ["fl.target stands for", "fl.target > 0"]),
    (lambda: ~fl.target, TypeError, ["fl.target stands for"]),
    (lambda: fl.input > 1, TypeError, ["fl.input stands for", "fl.input.var() > 0.1", "mask="]),
    (lambda: 1 <= fl.input, TypeError, ["fl.input stands for"]),
    (lambda: fl.input == 1, TypeError, ["fl.input stands for"]),
    (lambda: fl.input & (fl.target > 0), TypeError, ["fl.input stands for"]),
    (lambda: (fl.target > 0) | fl.input, TypeError, ["operand of & and |", "fl.input stands for"]),
    (lambda: ~fl.input, TypeError, ["fl.input stands for"]),
    (lambda: bool(fl.input), TypeError, ["fl.input stands for"]),
    (lambda: fl.input.var() & X, TypeError, ["fl.input.var() is no region", "compare"]),
    (lambda: bool(fl.input.var()), TypeError, ["fl.input.var() is no region"]),
    (lambda: bool(fl.input.var() > 0), TypeError, ["truth value", "& | ~"]),
    (lambda: 0 < fl.input.var() < 1, TypeError, ["truth value", "& | ~"]),
    (lambda: fl.image(X) < 0.2, TypeError, ["fl.image(tensor(float32", ".mean() < 0.2"]),
    (lambda: fl.image(X).mean() | X, TypeError, [".mean() is no region", "compare"]),
    (lambda: bool(fl.center()), TypeError, ["truth value", "fl.center(0.5)"]),
    (lambda: fl.center() and fl.box(0, 0, 1, 1), TypeError, ["truth value"]),
    (lambda: fl.center() & True, TypeError, ["operand of & and |", "bool (True)"]),
    (lambda: fl.center() | EDGES, TypeError, ["operand of & and |", "weight source fl.edges"]),
    (lambda: (fl.target > 0) & 1, TypeError, ["operand of & and |", "int (1)", "fl.target > 0"]),
    (lambda: fl.center() | [True], TypeError, ["operand of & and |", "list", "torch.as_tensor"]),
    (lambda: fl.center() & fl.target.isfinite, TypeError, ["operand of & and |", "call it"]),
    # numbers
    (lambda: fl.target > X, TypeError, ["fl.target > ...", "(2, 3, 4, 5)", "mask=target > value"]),
    (lambda: fl.target == "sky", TypeError, ["fl.target == ...", "real number", "str"]),
    (lambda: fl.input.var() > X, TypeError, ["fl.input.var() > ...", "(2, 3, 4, 5)", "mask="]),
    (lambda: fl.image(X).mean() < X, TypeError, [".mean() < ...", "mask=image.mean(1) < value"]),
    (lambda: fl.input.var() > "1", TypeError, ["real number", "got str"]),
    (lambda: fl.input.var(correction=-1), ValueError, ["correction", ">= 0", "-1"]),
    (lambda: fl.input.var(correction=NAN), ValueError, ["correction", "finite", "nan"]),
    (lambda: fl.input.var(INF), ValueError, ["correction", "finite", "inf"]),
    (lambda: fl.input.var(True), TypeError, ["correction", "number", "bool"]),
    (lambda: fl.center(0), ValueError, ["fraction", "> 0", "<= 1", "got 0"]),
    (lambda: fl.center(1.5), ValueError, ["fraction", "<= 1", "1.5"]),
    (lambda: fl.center(NAN), ValueError, ["fraction", "nan"]),
    (lambda: fl.center(-0.5), ValueError, ["fraction", "> 0", "-0.5"]),
    (lambda: fl.center(INF), ValueError, ["fraction", "finite", "inf"]),
    (lambda: fl.center("half"), TypeError, ["fraction", "number", "str"]),
    (lambda: fl.box(0, 0, INF, 5), ValueError, ["fl.box: x2", "finite", "inf"]),
    (lambda: fl.box(0, NAN, 1, 1, 1, 1), ValueError, ["fl.box: y1", "finite", "nan"]),
    (lambda: fl.box(0, 0, 1), TypeError, ["fl.box(x1, y1, x2, y2)", "got fl.box(0, 0, 1)"]),
    (lambda: fl.box((0, 0, 1, 1)), TypeError, ["fl.box(x1, y1, z1, x2, y2, z2)", "tuple"]),
    (lambda: fl.box(0, 0, 1, 1, 1), TypeError, ["fl.box(x1, y1, x2, y2)"]),
    (lambda: fl.box(0, 0, width=3, height=4), TypeError, ["fl.box(x1, y1", "width=3"]),
    (lambda: fl.box(0, 0, 1, torch.tensor(1)), TypeError, ["fl.box: y2", "tensor", "fl.boxes"]),
    (lambda: fl.box(0, 0, 1, True), TypeError, ["fl.box: y2", "number", "bool"]),
    (lambda: fl.disk(1, 2), TypeError, ["fl.disk(x, y, radius)", "fl.disk(x, y, z, radius)"]),
    (lambda: fl.disk(1, 2, -1), ValueError, ["radius", ">= 0", "-1"]),
    (lambda: fl.disk(1, 2, NAN), ValueError, ["fl.disk: radius", "finite", "nan"]),
    (lambda: fl.disk(1, 2, 3, INF), ValueError, ["fl.disk: radius", "finite", "inf"]),
    (lambda: fl.disk(1, INF, 1), ValueError, ["fl.disk: y", "finite", "inf"]),
    (lambda: fl.keypoints(ones(2, 2), -0.5), ValueError, ["radius", ">= 0", "-0.5"]),
    (lambda: fl.keypoints(ones(2, 2), NAN), ValueError, ["radius", "finite", "nan"]),
    (lambda: fl.keypoints(ones(2, 2), INF), ValueError, ["radius", "finite", "inf"]),
    (lambda: fl.keypoints(ones(2, 2), None), TypeError, ["radius", "number", "NoneType"]),
    (lambda: fl.boundary(radius=-1), ValueError, ["radius", ">= 0", "-1"]),
    (lambda: fl.boundary(radius=1.5), TypeError, ["radius", "integer", "float 1.5"]),
    (lambda: fl.boundary(radius=True), TypeError, ["radius", "integer", "bool"]),
    (lambda: fl.boundary(radius=INF), TypeError, ["radius", "integer", "float inf"]),
    (lambda: fl.boundary(outside=NAN), ValueError, ["outside", "finite", "nan"]),
    (lambda: fl.boundary(inside=INF), ValueError, ["inside", "finite", "inf"]),
    (lambda: fl.boundary(outside="0"), TypeError, ["outside", "number", "str"]),
    (lambda: fl.edges(X, "prewitt"), ValueError, ["operator", '"sobel"', "'prewitt'"]),
    (lambda: fl.edges(X, operator=None), TypeError, ["operator", "NoneType", '"forward"']),
    # tensors
    (lambda: fl.boxes([[0, 0, 1, 1]]), TypeError, ["fl.boxes", "real tensor", "list"]),
    (lambda: fl.boxes(ones(3, 4) > 0), TypeError, ["fl.boxes", "integer or floating", "bool"]),
    (lambda: fl.boxes(ones(3, 4, dtype=torch.complex64)), TypeError, ["fl.boxes", "complex64"]),
    (lambda: fl.boxes(ones(3, 4).to_sparse()), TypeError, ["fl.boxes", "dense", "sparse_coo"]),
    (lambda: fl.boxes(ones(3, 5)), ValueError, ["fl.boxes", "(K, 4)", "(N, K, 6)", "(3, 5)"]),
    (lambda: fl.boxes(ones(0, 5)), ValueError, ["fl.boxes", "(K, 4)", "(0, 5)"]),
    (lambda: fl.boxes(ones(0)), ValueError, ["fl.boxes", "(K, 4)", "got (0,)"]),
    (lambda: fl.boxes(ones(4)), ValueError, ["fl.boxes", "(K, 4)", "got (4,)"]),
    (lambda: fl.boxes(ones(1, 2, 3, 4)), ValueError, ["fl.boxes", "got (1, 2, 3, 4)"]),
    (lambda: fl.disks(ones(3, 2)), ValueError, ["fl.disks", "(x, y, radius)", "(3, 2)"]),
    (lambda: fl.keypoints(ones(3, 4), 1), ValueError, ["fl.keypoints", "(x, y, z)", "(3, 4)"]),
    (lambda: fl.lengths([3, 4]), TypeError, ["fl.lengths", "tensor", "list"]),
    (lambda: fl.lengths(ones(2)), TypeError, ["fl.lengths", "integer", "float32"]),
    (lambda: fl.lengths(ones(2) > 0), TypeError, ["fl.lengths", "integer", "bool"]),
    (lambda: fl.lengths(ones(2, 1).int()), ValueError, ["fl.lengths", "(N,)", "(2, 1)"]),
    (lambda: fl.image(np.ones((1, 1, 4, 5))), TypeError, ["image", "real tensor", "ndarray"]),
    (lambda: fl.image(X.int()), TypeError, ["image", "floating or uint8", "int32"]),
    (lambda: fl.image(X > 0), TypeError, ["image", "floating or uint8", "bool"]),
    (lambda: fl.image(ones(5)), ValueError, ["image", "(N, channels", "got (5,)"]),
    (lambda: fl.image(ones(2, 0, 4, 5)), ValueError, ["image", "(2, 0, 4, 5)"]),
    (lambda: fl.edges(X.long()), TypeError, ["fl.edges: image", "floating or uint8", "int64"]),
    (lambda: fl.edges(ones(2, 3)), ValueError, ["fl.edges: image", "spatial dims", "(2, 3)"]),
    (lambda: fl.edges(VOLUME, "sobel"), ValueError, ["sobel", "2-D", "(2, 1, 3, 4, 5)"]),
    (lambda: fl.activation(1.0), TypeError, ["fl.activation: features", "tensor", "float"]),
    (lambda: fl.activation(ones(2, 3)), ValueError, ["fl.activation: features", "(2, 3)"]),
    (lambda: fl.activation(ones(2, 3, 0, 4)), ValueError, ["features", "empty", "(2, 3, 0, 4)"]),
    (lambda: fl.boundary([1, 2]), TypeError, ["fl.boundary: labels", "tensor", "list"]),
    (lambda: fl.boundary(ones(3)), ValueError, ["fl.boundary: labels", "got (3,)"]),
    (lambda: fl.normalized(None), TypeError, ["region", "NoneType"]),
    (lambda: fl.normalized(0.5), TypeError, ["tensor or a region", "float (0.5)"]),
    (lambda: fl.normalized(EDGES), TypeError, ["tensor or a region", "weight source fl.edges"]),
    (lambda: fl.normalized(fl.target), TypeError, ["fl.target > 0"]),
    # the algebra of sources
    (lambda: EDGES * (fl.target > 0), TypeError, ["operand of *", "fl.target > 0", "normalized"]),
    (lambda: (fl.target > 0) + EDGES, TypeError, ["operand of +", "fl.normalized(region)"]),
    (lambda: 1 + 4 * (fl.target > 0), TypeError, ["no number: fl.target > 0", "fl.normalized"]),
    (lambda: X * fl.center(), TypeError, ["region"]),
    (lambda: EDGES - "1", TypeError, ["operand of -", "number", "str"]),
    (lambda: EDGES * True, TypeError, ["operand of *", "number", "bool"]),
    (lambda: EDGES + NAN, ValueError, ["operand of +", "finite", "nan"]),
    (lambda: EDGES / 0, ValueError, ["divisor", "not be 0"]),
    (lambda: EDGES / INF, ValueError, ["divisor", "finite", "inf"]),
    (lambda: EDGES / X, TypeError, ["divided by a number alone", "tensor(float32"]),
    (lambda: EDGES / EDGES, TypeError, ["divided by a number alone", "fl.edges"]),
    (lambda: 1 / EDGES, TypeError, ["divided by a number alone", "fl.edges"]),
    (lambda: X / EDGES, TypeError, ["divided by a number alone", "fl.edges"]),
    (lambda: torch.exp(EDGES), TypeError, ["exp does not take a weight source"]),
    (lambda: np.ones(3) * EDGES, TypeError, ["operand of *", "ndarray"]),
    (lambda: EDGES > 0.5, TypeError, ["not supported"]),
    (lambda: bool(EDGES), TypeError, ["no truth value", "fl.edges"]),
    # modules
    (lambda: fl.MSELoss(weight=fl.target > 0), TypeError, ["weight", "the region fl.target > 0"]),
    (lambda: fl.MSELoss(weight=2.0), TypeError, ["weight", "weight source", "float"]),
    (lambda: fl.MSELoss(mask=EDGES), TypeError, ["mask", "weight source fl.edges"]),
    (lambda: fl.MSELoss(mask=fl.input), TypeError, ["mask", "fl.input stands for"]),
]

FLAT = {"input": X[:, 0], "target": X[:, 0]}  # images without channels: (2, 4, 5)
DEEP = {"input": VOLUME, "target": VOLUME}
TABLE = {"input": X[:, :, 0, 0], "target": X[:, :, 0, 0]}  # (2, 3)
LINE = {"input": X[0, 0, 0], "target": X[0, 0, 0]}  # (5,)
META = {"device": "meta"}

# (keyword arguments that replace those of a good call, exception, fragments)
CALLS = [
    ({"mask": fl.target}, TypeError, ["mask: fl.target stands for", "fl.target > 0"]),
    ({"mask": fl.target.isfinite}, TypeError, ["mask", "method", "call it"]),
    ({"mask": fl.center}, TypeError, ["mask", "function", "call it"]),
    ({"mask": True}, TypeError, ["mask", "bool (True)", "mask=None"]),
    ({"mask": 1}, TypeError, ["mask", "int (1)", "compare", "fl.target > 0"]),
    ({"mask": "center"}, TypeError, ["mask", "tensor or a region", "str"]),
    ({"mask": np.ones((4, 5))}, TypeError, ["mask", "ndarray", "torch.as_tensor"]),
    ({"mask": fl.input}, TypeError, ["mask: fl.input stands for"]),
    ({"mask": fl.input.var()}, TypeError, ["mask: fl.input.var() is no region"]),
    ({"mask": fl.image(X)}, TypeError, ["mask: fl.image(", ".mean() < 0.2"]),
    ({"mask": EDGES}, TypeError, ["mask", "weight source fl.edges"]),
    # channels and spatial dims
    ({**LINE, "mask": fl.input.var() > 0}, ValueError, ["channel dim", "(5,)", "unsqueeze(1)"]),
    ({**LINE, "mask": fl.image(X).mean() > 0}, ValueError, ["channel dim", "(5,)"]),
    ({**LINE, "mask": ~(fl.input.var() > 0) | (fl.target > 0)}, ValueError, ["channel dim"]),
    ({**LINE, "weight": EDGES}, ValueError, ["fl.edges: image", "channel dim", "(5,)"]),
    ({**LINE, "weight": fl.activation(X)}, ValueError, ["spatial dims", "(5,)"]),
    ({**TABLE, "mask": fl.center()}, ValueError, ["fl.center", "spatial dims", "(2, 3)"]),
    ({**LINE, "mask": fl.center()}, ValueError, ["fl.center", "(5,)"]),
    (
        {**FLAT, "mask": fl.box(0, 0, 1, 1)},
        ValueError,
        ["fl.box", "two spatial dims", "(2, 4, 5)", "unsqueeze(1)"],
    ),
    ({**DEEP, "mask": fl.box(0, 0, 1, 1)}, ValueError, ["two spatial dims", "(2, 1, 3, 4, 5)"]),
    ({"mask": fl.box(0, 0, 0, 1, 1, 1)}, ValueError, ["three spatial dims", "(2, 3, 4, 5)"]),
    ({**FLAT, "mask": fl.disk(0, 0, 1)}, ValueError, ["fl.disk", "(2, 4, 5)", "unsqueeze(1)"]),
    ({"mask": fl.disk(0, 0, 0, 1)}, ValueError, ["fl.disk", "three spatial dims"]),
    (
        {**FLAT, "mask": fl.boxes(ones(1, 4))},
        ValueError,
        ["fl.boxes", "two or three spatial dims", "(2, 4, 5)", "unsqueeze(1)"],
    ),
    ({**FLAT, "mask": fl.disks(ones(1, 3))}, ValueError, ["fl.disks", "unsqueeze(1)"]),
    ({**FLAT, "mask": fl.keypoints(ones(1, 2), 1)}, ValueError, ["fl.keypoints", "unsqueeze(1)"]),
    (
        {**DEEP, "mask": fl.boxes(ones(7, 4))},
        ValueError,
        ["fl.boxes of shape (7, 4)", "two spatial dims", "(2, 1, 3, 4, 5)", "6 numbers"],
    ),
    ({"mask": fl.boxes(ones(2, 7, 6))}, ValueError, ["(2, 7, 6)", "three spatial", "4 numbers"]),
    ({"mask": fl.disks(ones(7, 4))}, ValueError, ["(7, 4)", "three spatial dims", "3 numbers"]),
    ({**DEEP, "mask": fl.keypoints(ones(7, 2), 1)}, ValueError, ["(7, 2)", "3 numbers"]),
    ({"mask": fl.lengths(ones(2).int())}, ValueError, ["(N, C, T)", "(2, 3, 4, 5)"]),
    ({**LINE, "mask": fl.lengths(ones(5).int())}, ValueError, ["(N, T)", "(5,)"]),
    # batch, size and device
    ({"mask": fl.boxes(ones(3, 7, 4))}, ValueError, ["fl.boxes", "batch size", "2", "(3, 7, 4)"]),
    ({"mask": fl.boxes(ones(1, 7, 4))}, ValueError, ["fl.boxes", "batch size", "(1, 7, 4)"]),
    ({**FLAT, "mask": fl.lengths(ones(3).int())}, ValueError, ["fl.lengths", "batch", "(3,)"]),
    ({"mask": fl.image(X[..., 1:]).mean() > 0}, ValueError, ["image", "(N or 1, channels, 4, 5)"]),
    ({"mask": fl.image(X[0]).mean() > 0}, ValueError, ["image", "spatial shape", "(3, 4, 5)"]),
    (
        {"mask": fl.image(ones(3, 3, 4, 5)).mean() > 0},
        ValueError,
        ["image", "batch size of input, 2 or 1", "(3, 3, 4, 5)"],
    ),
    ({"mask": fl.boxes(ones(1, 4, **META))}, ValueError, ["fl.boxes", "(cpu)", "got meta"]),
    ({"mask": fl.image(X.to("meta")).mean() > 0}, ValueError, ["image", "(cpu)", "got meta"]),
    ({"mask": ~(fl.center() & fl.boxes(ones(3, 7, 4)))}, ValueError, ["fl.boxes", "batch size"]),
    ({"mask": fl.center() | ones(4, 4)}, ValueError, ["mask (4, 4)"]),
    # weight sources
    ({"weight": fl.target > 0}, TypeError, ["weight", "region fl.target > 0", "fl.normalized"]),
    ({"weight": fl.target}, TypeError, ["weight", "weight source", "Target"]),
    ({"weight": 2}, TypeError, ["weight", "real tensor", "weight source", "int"]),
    ({"weight": fl.edges(X[..., 1:])}, ValueError, ["fl.edges: image", "(2, 3, 4, 4)"]),
    ({"weight": 1 + fl.edges(ones(3, 3, 4, 5))}, ValueError, ["fl.edges: image", "batch size"]),
    ({"weight": fl.edges(X.to("meta"))}, ValueError, ["fl.edges: image", "got meta"]),
    (
        {"weight": fl.normalized(fl.image(X[..., 1:]).mean() > 0)},
        ValueError,
        ["image", "spatial shape", "(2, 3, 4, 4)"],
    ),
    ({"weight": 2 * fl.normalized(fl.boxes(ones(3, 7, 4)))}, ValueError, ["fl.boxes", "batch"]),
    ({**DEEP, "weight": fl.edges(X)}, ValueError, ["spatial shape", "(2, 3, 4, 5)"]),
    ({**DEEP, "weight": fl.activation(X)}, ValueError, ["features", "as many spatial dims"]),
    ({"weight": fl.activation(ones(3, 1, 2, 2))}, ValueError, ["features", "2 or 1"]),
    ({"weight": fl.boundary()}, ValueError, ["fl.boundary()", "(N, 1, ", "(2, 3, 4, 5)"]),
    ({**LINE, "weight": fl.boundary()}, ValueError, ["fl.boundary()", "(5,)"]),
    ({"weight": fl.boundary(X)}, ValueError, ["fl.boundary: labels", "(N or 1, 4, 5)"]),
    ({"weight": fl.boundary(ones(4, 5))}, ValueError, ["fl.boundary: labels", "got (4, 5)"]),
    ({"weight": fl.boundary(ones(3, 4, 5))}, ValueError, ["fl.boundary: labels", "2 or 1"]),
    ({**TABLE, "weight": fl.boundary(ones(2, 1))}, ValueError, ["fl.boundary", "spatial dims"]),
    ({"weight": fl.normalized(ones(4, 4))}, ValueError, ["mask (4, 4)"]),
    ({"weight": EDGES * ones(3, 4, 5)}, ValueError, ["weight (3, 4, 5)", "(1, 3, 4, 5)"]),
    ({"weight": EDGES * X.to(torch.complex64)}, TypeError, ["weight", "complex64"]),
]


def identified(table):
    return [f"{index}-{row[-1][0]}" for index, row in enumerate(table)]


@pytest.mark.parametrize(("make", "error", "fragments"), CONSTRUCTION, ids=identified(CONSTRUCTION))
def test_refused_when_made(make, error, fragments):
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    for fragment in fragments:
        assert fragment in str(caught.value), str(caught.value)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(("replaced", "error", "fragments"), CALLS, ids=identified(CALLS))
def test_refused_at_the_call(module, replaced, error, fragments):
    arguments = {"input": X, "target": X, **replaced}
    for name in ("mse_loss", "binary_cross_entropy"):
        with pytest.raises(error) as caught:
            getattr(MODULES[module], name)(**arguments)
        assert type(caught.value) is error
        for fragment in fragments:
            assert fragment in str(caught.value), str(caught.value)


FAMILIES = {
    "cross_entropy": torch.zeros(2, 4, 5, dtype=torch.long),
    "dice_loss": X,
    "dice_cross_entropy_loss": X,
}
# Rows of the same input. Class losses advise no map of channels, and cross-entropy has labels.
OF_FAMILIES = [
    (name, *row)
    for name in FAMILIES
    for row in CALLS
    if not {"input", "target"} & {*row[0]}
    and "(1, 3, 4, 5)" not in row[2]
    and (name, row[2][0]) != ("cross_entropy", "fl.boundary()")
]


@pytest.mark.parametrize(
    ("name", "replaced", "error", "fragments"), OF_FAMILIES, ids=identified(OF_FAMILIES)
)
def test_the_other_families_refuse_the_same(name, replaced, error, fragments):
    others = {{"weight": "weight_map"}.get(key, key): value for key, value in replaced.items()}
    for module in MODULES.values():
        with pytest.raises(error) as caught:
            getattr(module, name)(X, FAMILIES[name], **others)
        assert type(caught.value) is error
        message = str(caught.value).replace("weight_map", "weight")
        for fragment in fragments:
            assert fragment in message, message


def test_maps_refuse_what_a_loss_refuses():
    for region, error in ((None, TypeError), (True, TypeError), (EDGES, TypeError)):
        with pytest.raises(error, match="region"):
            fl.region_mask(region, X, X)
    for source, error in ((None, TypeError), (2.0, TypeError), (fl.center(), TypeError)):
        with pytest.raises(error, match="weight source"):
            fl.weight_map(source, X, X)
    for look, expression in ((fl.region_mask, fl.center()), (fl.weight_map, EDGES)):
        with pytest.raises(TypeError, match="input must be a floating tensor"):
            look(expression, X.int(), X)
        with pytest.raises(ValueError, match="target must have the shape of input"):
            look(expression, X, X[:1])
    with pytest.raises(ValueError, match="two spatial dims"):
        fl.region_mask(fl.box(0, 0, 1, 1), X[:, 0], X[:, 0])
    with pytest.raises(ValueError, match="spatial shape"):
        fl.weight_map(fl.edges(X[..., 1:]), X, X)


def test_what_looks_odd_but_is_allowed():
    """Two variances of different correction, a channel dim that is not one, an empty box."""
    both = (fl.input.var() > 0.05) & (fl.input.var(correction=0) < 0.2)
    selected = (X.var(1, keepdim=True) > 0.05) & (X.var(1, correction=0, keepdim=True) < 0.2)
    assert torch.equal(fl.region_mask(both, X, X), selected) and 0 < selected.sum() < 40
    composed = ((X - 1) ** 2)[selected.expand_as(X)].mean()
    torch.testing.assert_close(fl.mse_loss(X, ones(*X.shape), mask=both), composed)
    assert fl.region_mask(fl.center(), X[:, 0], X[:, 0]).shape == (2, 1, 5)
    assert not fl.region_mask(fl.box(3, 3, 1, 1), X, X).any()


EMPTY = (fl.boxes(ones(0, 4)), fl.boxes(ones(2, 0, 4)), fl.disks(ones(0, 3)))
EMPTY += (fl.keypoints(ones(2, 0, 2), 1.0),)


@pytest.mark.parametrize("nothing", EMPTY, ids=repr)
def test_an_empty_tensor_of_coordinates_selects_nothing(nothing):
    x = X.clone().requires_grad_()
    loss, stats = fl.mse_loss(x, X + 1, mask=nothing, return_stats=True)
    loss.backward()
    assert loss == 0 and stats.selected == 0 and not x.grad.any()
    assert not fl.region_mask(nothing, X, X).any()
    assert fl.mse_loss(X, X + 2, mask=~nothing | nothing) == F.mse_loss(X, X + 2)
