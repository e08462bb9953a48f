"""How the tables of the overlap kernels run a call and judge it: the reference in float64, with the
tolerances of the contract (section 9), and random calls of all of the family.

    with kernels_only():
        got = run(problem, grad_output)
    assert_matches(got, exact(problem, grad_output), problem)
"""

import contextlib
import random
from typing import NamedTuple

import torch

import fusedloss as fl
from fusedloss import _overlap_dispatch, reference
from tests import compound_cases, overlap_cases
from tests.cases import FLOATS, LAYOUTS
from tests.oracle import assert_rounded, assert_same_special

SIXTEEN = (torch.float16, torch.bfloat16)
# Those whose two parts take p from the logits in the same way; the others have no kernel.
COMPOUNDS = [
    loss
    for loss in compound_cases.LOSSES
    if loss[2] == (compound_cases.activation_of(loss) == "softmax")
]


class Run(NamedTuple):
    loss: torch.Tensor
    gradient: torch.Tensor
    stats: fl.Stats


@contextlib.contextmanager
def kernels_only():
    """A call that goes to the reference fails."""

    def refuse(*_):
        raise AssertionError("this call has not taken a kernel")

    call = _overlap_dispatch._Call
    saved, call.by_reference = call.by_reference, refuse
    try:
        yield
    finally:
        call.by_reference = saved


def run(problem, grad_output=None, module=fl) -> Run:
    input = problem.input.detach().requires_grad_()
    function = getattr(module, problem.name)
    loss, stats = function(input, problem.target, **problem.arguments(), return_stats=True)
    grad_output = torch.full_like(loss, 1.0 if grad_output is None else grad_output)
    (gradient,) = torch.autograd.grad(loss, input, grad_output)
    return Run(loss.detach(), gradient, stats)


def exact(problem, grad_output=None) -> Run:
    options = {name: _double(value) for name, value in problem.options.items()}
    wide = problem.with_(
        input=problem.input.double(), target=_double(problem.target), options=options
    )
    return run(wide, grad_output, reference)


def _double(value):
    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if floating else value


def assert_matches(got: Run, wanted: Run, problem) -> None:
    dtype = problem.input.dtype
    compound = problem.name not in overlap_cases.FUNCTIONS
    assert got.loss.dtype is dtype and got.gradient.dtype is dtype
    assert got.gradient.stride() == torch.empty_like(problem.input).stride(), "memory format"
    _assert_loss(got.loss, wanted.loss, 4 if compound else 1)
    _assert_gradient(got.gradient, wanted.gradient)
    assert torch.equal(got.stats.selected, wanted.stats.selected)
    for name in ("total", "normalizer", "intersection", "input_sum", "target_sum"):
        value, right = getattr(got.stats, name), getattr(wanted.stats, name)
        tolerance = 1e-11 if value.dtype is torch.float64 else 4e-6
        assert value.shape == right.shape, name
        assert_same_special(value, right, name)
        finite = right.isfinite()
        error = (value.double() - right).abs()[finite]
        assert (error <= tolerance * (1 + right.abs()[finite])).all(), (name, value, right)


def _assert_loss(got, wanted, factor) -> None:
    assert got.shape == wanted.shape
    if got.dtype in SIXTEEN:
        slack = (
            1e-6 * factor * (1 + wanted.abs().nan_to_num().max().item()) if wanted.numel() else 0
        )
        return assert_rounded(got, wanted, "loss", slack)
    assert_same_special(got, wanted, "loss")
    finite = wanted.isfinite()
    share = factor * (1e-12 if got.dtype is torch.float64 else 1e-6)
    error = (got.double() - wanted).abs()[finite]
    assert (error <= share * (wanted.abs()[finite] + 1)).all(), (got, wanted)


def _assert_gradient(got, wanted) -> None:
    """Where a pool's terms cancel (one element, no smoothing), their rounding errors remain."""
    largest = wanted.abs().nan_to_num(posinf=0).max().item() if wanted.numel() else 0
    if got.dtype in SIXTEEN:
        return assert_rounded(got, wanted, "gradient", 2.0**-21 * largest + 1e-8)
    assert_same_special(got, wanted, "gradient")
    finite = wanted.isfinite()
    error = (got.double() - wanted)[finite].norm()
    share, remains = (1e-11, 1e-16) if got.dtype is torch.float64 else (1e-5, 1e-8)
    assert error <= share * wanted[finite].norm() + remains, (error, wanted.norm())


# ---- random calls --------------------------------------------------------------------------------


class _Chooser(random.Random):
    def __init__(self, seed):
        super().__init__(seed)
        self.tensors = overlap_cases.generator("overlap", seed)

    def chance(self, probability):
        return self.random() < probability


def random_problem(seed: int):
    """(problem, grad_output) of an overlap loss or compound that has a kernel."""
    rng = _Chooser(seed)
    shape = _shape(rng)
    per = rng.choice(overlap_cases.PER)
    if rng.chance(0.5):
        problem = _overlap(rng, shape, per)
    else:
        problem = _compound(rng, shape, per)
    layout = LAYOUTS[rng.choice([*LAYOUTS])]
    problem = problem.with_(input=layout(problem.input))
    if rng.chance(0.5):
        problem = problem.with_(target=layout(problem.target))
    return problem, rng.choice((1.0, 0.7, -3.0, 0.0))


def _shape(rng):
    spatial = [rng.choice((1, 2, 3, 5, 8, 13, 21)) for _ in range(rng.choice((0, 1, 2, 2, 3)))]
    if spatial and rng.chance(0.2):
        spatial[-1] = rng.randrange(300, 3000)
    return (rng.choice((1, 2, 3, 7)), rng.choice((1, 2, 3, 4, 5, 9, 20)), *spatial)


def _others(rng, shape, per, positional, target):
    """Mask, map and the options that all have."""
    spatial = len(shape) in (4, 5)
    classes = shape[1]
    masks = [*overlap_cases.masks(positional), *(overlap_cases.SPATIAL_MASKS if spatial else ())]
    masks.remove("variance")
    if positional and target == "soft":
        masks = [name for name in masks if name not in ("target", "nested")]
    maps = [*overlap_cases.maps(positional), *(overlap_cases.SPATIAL_MAPS if spatial else ())]
    return {
        "per": per,
        "mask": rng.choice(masks),
        "weight_map": rng.choice(maps),
        "include_background": classes == 1 or rng.chance(0.7),
        "skip_absent": rng.chance(0.3),
        "squared": rng.chance(0.3),
        "smooth": rng.choice((1e-6, 0.0, 1.0, (0.0, 1.0))),
    }


def _class_weight(rng, classes):
    if rng.chance(0.5):
        return None
    return torch.rand(classes, generator=rng.tensors) * (
        torch.rand(classes, generator=rng.tensors) < 0.8
    )


def _overlap(rng, shape, per):
    activation = rng.choice(("none", "sigmoid", "softmax") if shape[1] > 1 else ("none", "sigmoid"))
    target = rng.choice(("labels", "soft", "soft")) if shape[1] > 1 else "soft"
    name, own = rng.choice(overlap_cases.LOSSES)
    options = _others(rng, shape, per, activation == "softmax", target)
    if name != "dice_loss":
        del options["squared"]
    options |= own | {
        "weight": _class_weight(rng, shape[1]),
        "ignore_index": rng.choice((None, overlap_cases.IGNORED)),
        "reduction": rng.choice(overlap_cases.reductions(per)),
    }
    dtype = rng.choice(FLOATS)
    return overlap_cases.make_problem(
        name, shape, activation, target, rng.tensors, dtype, **options
    )


def _compound(rng, shape, per):
    losses = [loss for loss in COMPOUNDS if not loss[2] or shape[1] > 1]
    loss = rng.choice(losses)
    target = rng.choice(("labels", "soft")) if shape[1] > 1 else "soft"
    positional = compound_cases.is_positional(loss)
    options = _others(rng, shape, per, positional, target)
    reduction = rng.choice(compound_cases.reductions(per))
    options |= {
        "weight": _class_weight(rng, shape[1]),
        "dice_class_weight": _class_weight(rng, shape[1]),
        "ignore_index": overlap_cases.IGNORED,
        "reduction": reduction,
    }
    if reduction != "sum":
        options["normalizer"] = rng.choice(compound_cases.NORMALIZERS[: 5 + (reduction == "mean")])
    if positional and "cross" in loss[0] and rng.chance(0.4):
        options["label_smoothing"] = 0.1
    dtype = rng.choice(FLOATS)
    return compound_cases.make_problem(loss, shape, target, rng.tensors, dtype, **options)
