"""What is masked out or ignored does not exist: whatever its logits, label, probabilities, class
weight or map hold changes no bit of any result."""

import pytest
import torch

import fusedloss as fl
from tests import class_cases as cases
from tests import numpy_terms as terms
from tests.class_cases import FUNCTION_TARGETS, INDEX, LABELS, PROBABILITY, REDUCTIONS, TARGETS
from tests.class_oracle import active, dense_mask, evaluate
from tests.test_nan_rule import junk_like

SHAPE = (3, 4, 5, 6)
POSITIONS, COLUMN = (3, 5, 6), (3, 1, 5, 6)
NAN, INF = float("nan"), float("inf")


def _half(shape, rng):
    return terms.tensor_mask(torch.rand(shape, generator=rng) < 0.5)


def _floats(shape, rng):
    return cases.make_weight(shape, torch.float32, rng, 0.4)


# How positions are excluded: generator -> changes to the problem.
EXCLUDED = {
    "bool": lambda rng: dict(mask=_half(POSITIONS, rng)),
    "uint8": lambda rng: dict(mask=terms.tensor_mask(torch.randint(0, 2, COLUMN).byte())),
    "float": lambda rng: dict(mask=terms.tensor_mask(_floats(POSITIONS, rng))),
    "map": lambda rng: dict(weight_map=terms.tensor_weight(_floats(POSITIONS, rng))),
    "mask-and-map": lambda rng: dict(
        mask=terms.tensor_mask(_floats(COLUMN, rng)),
        weight_map=terms.tensor_weight(_floats(POSITIONS, rng)),
    ),
    "region": lambda rng: dict(
        mask=terms.both(terms.inverted(terms.box(0, 1, 4, 4)), _half((5, 6), rng))
    ),
    "source": lambda rng: dict(
        weight_map=terms.product(
            terms.tensor_weight(_floats(POSITIONS, rng)),
            terms.boundary(torch.randint(0, 2, POSITIONS, generator=rng), inside=2.0),
        )
    ),
    "everything": lambda rng: dict(mask=terms.tensor_mask(torch.zeros(POSITIONS).bool())),
}


def clean_problem(loss, kind, excluded, reduction, dtype=torch.float32):
    rng = cases.generator(str(loss), kind, excluded, reduction)
    weight = cases.CLASS_WEIGHTS["float"](SHAPE, rng) if len(excluded) % 2 else None
    problem = cases.make_problem(
        loss, kind, SHAPE, dtype, rng=rng, reduction=reduction, weight=weight
    )
    problem = problem.with_(**EXCLUDED[excluded](rng))
    grad_output = torch.tensor(0.7)
    if reduction == "none":
        grad_output = torch.randn(POSITIONS, generator=rng)
    return problem.with_(grad_output=grad_output)


def poisoned(problem, start=0):
    """Junk where positions take no part: in the logits, probabilities, and the map under the mask;
    in labels any integer, out of range or not."""
    skipped = ~active(problem)
    everywhere = skipped.expand(SHAPE)
    input = torch.where(everywhere, junk_like(problem.input, start), problem.input)
    target = problem.target
    if problem.target_kind == PROBABILITY:
        target = torch.where(everywhere, junk_like(target, start + 1), target)
    else:
        labels = torch.tensor(
            [-7, 4, 99, -(2**62), 2**62, 0, -101]
        )  # an ignored one is not selected
        labels = labels[(start + torch.arange(target.numel())) % 7].reshape(target.shape)
        ignored = target == problem.ignore_index  # stays ignored, or else stays masked
        hidden = skipped[:, 0] & ~ignored
        target = torch.where(hidden, labels, target)
    changes = {"input": input, "target": target}
    mask, weight_map = dense_mask(problem), problem.weight_map
    if mask is not None and weight_map is not None:
        given = weight_map.expression
        if isinstance(given, torch.Tensor):
            junk = torch.where(mask[:, 0] != 0, given, junk_like(given, start + 3))
            changes["weight_map"] = weight_map._replace(expression=junk)
    if problem.reduction == "none":
        junk = junk_like(problem.grad_output, start)
        changes["grad_output"] = torch.where(skipped[:, 0], junk, problem.grad_output)
    return problem.with_(**changes)


def assert_same_bits(got, wanted, problem):
    assert wanted.loss.isfinite().all()
    assert torch.equal(got.loss, wanted.loss)
    assert torch.equal(got.gradient, wanted.gradient)
    assert (got.gradient[~active(problem).expand(SHAPE)] == 0).all()
    for value, right in zip(got.stats[:3], wanted.stats[:3], strict=True):
        assert torch.equal(value, right)


@pytest.mark.parametrize("excluded", EXCLUDED)
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=str)
def test_excluded_positions_do_not_exist(backend, loss, kind, excluded):
    for reduction in backend.thin(REDUCTIONS, len(excluded)):
        problem = clean_problem(loss, kind, excluded, reduction)
        wanted = evaluate(problem, backend)
        for start in backend.thin((0, 1, 4)):
            assert_same_bits(evaluate(poisoned(problem, start), backend), wanted, problem)


@pytest.mark.parametrize("dtype", cases.FLOATS[1:], ids=str)
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_excluded_positions_of_other_dtypes(backend, loss, kind, dtype):
    for excluded in backend.thin(("bool", "mask-and-map"), len(loss.name)):
        problem = clean_problem(loss, kind, excluded, "mean", dtype)
        wanted = evaluate(problem, backend)
        assert_same_bits(evaluate(poisoned(problem), backend), wanted, problem)


@pytest.mark.parametrize("dtype", LABELS, ids=str)
@pytest.mark.parametrize("label", (-100, -1, 255, 2, 7))
@pytest.mark.parametrize("name", ("cross_entropy", "softmax_focal_loss"))
def test_ignored_labels_hide_their_logits(backend, name, label, dtype):
    """Also a label that is a class, or one that the dtype of the labels cannot hold."""
    fits = torch.iinfo(dtype).min <= label <= torch.iinfo(dtype).max
    rng = cases.generator(name, label, dtype)
    labels = torch.randint(0, 4, POSITIONS, generator=rng)
    if fits:
        labels[torch.rand(POSITIONS, generator=rng) < 0.4] = label
    labels = labels.to(dtype)
    ignored = labels.to(torch.int64) == label
    loss = cases.FUNCTION[name]
    input = cases.make_input(loss, SHAPE, rng=rng)
    for reduction in backend.thin(REDUCTIONS):
        weight = cases.CLASS_WEIGHTS["float"](SHAPE, rng)
        problem = cases.Problem(loss, input, labels, weight, ignore_index=label)
        problem = problem.with_(reduction=reduction)
        wanted = evaluate(problem, backend)
        junk = torch.where(ignored.unsqueeze(1), junk_like(input), input)
        assert_same_bits(evaluate(problem.with_(input=junk), backend), wanted, problem)
        assert wanted.stats.selected == (~ignored).sum()


REGIONS_OF_LABELS = (
    (fl.target != 255, 255),
    (fl.target < 4, 99),
    (~(fl.target >= 4) & fl.target.isfinite(), 7),
    ((fl.target >= 0) & ~(fl.target == 9), 9),
)


@pytest.mark.parametrize(("region", "label"), REGIONS_OF_LABELS, ids=str)
@pytest.mark.parametrize(("loss", "kind"), [r for r in TARGETS if r[1] == INDEX], ids=str)
def test_a_label_excludes_itself(backend, loss, kind, region, label):
    rng = cases.generator(str(loss), repr(region))
    input = cases.make_input(loss, SHAPE, rng=rng)
    labels = torch.randint(0, 4, POSITIONS, generator=rng)
    skipped = torch.rand(POSITIONS, generator=rng) < 0.5
    given = torch.where(skipped, label, labels).to(torch.uint8)
    for reduction in backend.thin(REDUCTIONS):
        problem = cases.Problem(loss, input, labels, mask=terms.tensor_mask(~skipped))
        problem = problem.with_(reduction=reduction)
        wanted = evaluate(problem, backend)
        junk = torch.where(skipped.unsqueeze(1), junk_like(input), input)
        other = problem.with_(input=junk, target=given, mask=terms.Term(region, None))
        got = evaluate(other, backend)
        assert torch.equal(got.loss, wanted.loss)
        assert torch.equal(got.gradient, wanted.gradient)
        assert got.stats.selected == wanted.stats.selected == (~skipped).sum()


@pytest.mark.parametrize(
    ("loss", "kind"), [row for row in FUNCTION_TARGETS if row[0].kind != "share"], ids=str
)
def test_weight_zero_of_the_label_hides_the_position(backend, loss, kind):
    """NaN behind a class weight of 0 does not leak, but the position is selected."""
    input = torch.tensor([[0.5, -1.0, 2.0], [NAN, INF, 1.0], [1.0, 0.0, -INF]])
    labels, weight = torch.tensor([0, 1, 0]), torch.tensor([2.0, 0.0, 1.0])
    target = labels
    if kind == PROBABILITY:
        target = torch.nn.functional.one_hot(labels, 3).float()
        input[2, 2] = -9.0  # torch's 0 * inf is NaN, and so is ours
    for reduction in REDUCTIONS:
        problem = cases.Problem(loss, input, target, weight, reduction=reduction)
        got = evaluate(problem, backend)
        assert got.loss.isfinite().all() and got.gradient.isfinite().all()
        assert (got.gradient[1] == 0).all() and (got.gradient[0] != 0).any()
        assert got.stats.selected == 3
        clean = problem.with_(input=torch.where(input.isfinite(), input, -9.0))
        assert torch.equal(got.gradient[:2], evaluate(clean, backend).gradient[:2])


@pytest.mark.parametrize("kind", (INDEX, PROBABILITY))
def test_a_class_of_weight_zero_drops_out_of_the_sum(backend, kind):
    """Of smoothing and of soft targets, whatever its logit and its probability are."""
    weight = torch.tensor([1.0, 0.0, 2.0])
    target = torch.tensor([0, 2]) if kind == INDEX else torch.tensor([[0.5, 0.1, 0.4]] * 2)
    for low, smoothing in ((-INF, 0.2), (-INF, 1.0), (-1e30, 0.2)):
        loss = cases.Loss(
            "cross_entropy",
            {"label_smoothing": smoothing},
            normalizers=cases.FUNCTION["cross_entropy"].normalizers,
        )
        input = torch.tensor([[0.3, low, 1.0], [2.0, low, -1.0]])
        got = evaluate(cases.Problem(loss, input, target, weight), backend)
        assert got.loss.isfinite() and got.gradient.isfinite().all()
        near = evaluate(cases.Problem(loss, input.clamp(min=-60), target, weight), backend)
        torch.testing.assert_close(got.loss, near.loss)
        torch.testing.assert_close(got.gradient, near.gradient)
    if kind == PROBABILITY:
        poisoned = target.clone()
        poisoned[:, 1] = NAN
        for name in ("cross_entropy", "softmax_focal_loss", "categorical_cross_entropy"):
            loss = cases.FUNCTION[name]
            problem = cases.Problem(loss, torch.rand(2, 3), target, weight, normalizer="weights")
            wanted = evaluate(problem, backend)
            got = evaluate(problem.with_(target=poisoned), backend)
            assert torch.equal(got.loss, wanted.loss)
            assert torch.equal(got.gradient, wanted.gradient)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=str)
def test_gradients_of_everything_are_zero_there(backend, loss, kind, reduction):
    """Class weights, masks, maps and probabilities that require grad, junk beside them."""
    problem = clean_problem(loss, kind, "mask-and-map", reduction)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5])
    problem = problem.with_(weight=weight)
    wanted, got = (_all_gradients(p, backend) for p in (problem, poisoned(problem)))
    skipped = ~active(problem)
    for name, gradient in got.items():
        assert torch.equal(gradient, wanted[name]) and gradient.isfinite().all(), name
    assert (got["input"][skipped.expand(SHAPE)] == 0).all()
    assert (got["weight_map"][skipped[:, 0]] == 0).all()
    assert (got["mask"][dense_mask(problem) == 0] == 0).all()
    assert got["weight"][1] == 0 and (got["weight"][0] != 0 or reduction == "none")
    if kind == PROBABILITY:
        assert (got["target"][skipped.expand(SHAPE)] == 0).all()
        assert (got["target"][:, 1] == 0).all()


def _all_gradients(problem, backend):
    names = ["input", "weight", "mask", "weight_map"]
    names += ["target"] if problem.target_kind == PROBABILITY else []
    given = {"input": problem.input, "target": problem.target} | problem.arguments()
    given["mask"] = given["mask"].tensor
    placed = {name: backend.place(value) for name, value in given.items()}
    for name in names:
        placed[name] = placed[name].detach().requires_grad_()
    loss = getattr(backend.functions, problem.loss.name)(**placed)
    grad_output = backend.place(problem.grad_output).to(loss.dtype)
    gradients = torch.autograd.grad(loss, [placed[name] for name in names], grad_output)
    return {name: gradient.cpu() for name, gradient in zip(names, gradients, strict=True)}


def test_unused_class_weights_do_not_matter(backend):
    """A weight that no position uses may be NaN, as in torch."""
    input, target = torch.randn(4, 3), torch.tensor([0, 2, 0, 2])
    weight = torch.tensor([1.0, NAN, 2.0])
    problem = cases.Problem(cases.FUNCTION["cross_entropy"], input, target, weight)
    result = evaluate(problem, backend)
    wanted = torch.nn.functional.cross_entropy(input, target, weight=weight)
    torch.testing.assert_close(result.loss, wanted)
    assert result.gradient.isfinite().all()


@pytest.mark.parametrize("value", (NAN, INF))
@pytest.mark.parametrize(("loss", "kind"), FUNCTION_TARGETS, ids=str)
def test_nan_that_takes_part_propagates(backend, loss, kind, value):
    others = dict(reduction="none", mask=cases.label(">=", -9))
    problem = cases.make_problem(loss, kind, SHAPE, **others)
    label = 2
    target, input = problem.target.clone(), problem.input.clone()
    input[1, label, 3, 4] = value
    if kind == INDEX:
        target[1, 3, 4] = label
    result = evaluate(problem.with_(input=input, target=target), backend)
    spoiled = torch.zeros(POSITIONS, dtype=torch.bool)
    spoiled[1, 3, 4] = True
    assert torch.equal(~result.loss.isfinite(), spoiled)
    clean = evaluate(problem.with_(target=target), backend)
    others = ~spoiled.unsqueeze(1).expand(SHAPE)
    assert torch.equal(result.gradient[others], clean.gradient[others])


def test_weight_zero_still_counts(backend):
    """A map of 0 hides a position but counts in selected, positions and all, as in torch."""
    loss = cases.FUNCTION["cross_entropy"]
    input, target = torch.randn(2, 3, 4), torch.randint(0, 3, (2, 4))
    target[0, 0] = -100
    weight_map = torch.tensor([1.0, 1.0, 0.0, 0.0])
    input[:, :, 2:] = NAN
    for normalizer, count in (("selected", 7), ("positions", 7), ("all", 8), ("weights", 3)):
        problem = cases.Problem(
            loss, input, target, weight_map=terms.tensor_weight(weight_map), normalizer=normalizer
        )
        result = evaluate(problem, backend)
        assert result.stats.selected == 7 and result.stats.normalizer == count
        torch.testing.assert_close(result.loss, result.stats.total / count)


@pytest.mark.parametrize("classes", (8, 20, 63, 64))
@pytest.mark.parametrize("loss", ("cross_entropy", "softmax_focal_loss"))
def test_rows_of_logits_do_not_see_what_stands_beside_them(loss, classes):
    """Classes side by side are taken several positions at a time."""
    rng = cases.generator(loss, classes)
    logits = torch.randn(40, classes, generator=rng)
    labels = torch.randint(0, classes, (40,), generator=rng)
    mask = torch.rand(40, generator=rng) < 0.5
    results = []
    for junk in (None, NAN, INF, -INF, 3e38, 20.0):
        input = logits.clone()
        if junk is not None:
            input[~mask] = junk
        input.requires_grad_()
        value = getattr(fl, loss)(input, labels, mask=mask, reduction="sum")
        results.append((value.detach(), torch.autograd.grad(value, input)[0]))
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0]) and torch.equal(gradient, results[0][1])
