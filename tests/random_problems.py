"""Random calls of the elementwise family: everything that may be combined, combined at random."""

import random

import torch

import fusedloss as fl
from tests import cases
from tests.oracle import active
from tests.random_terms import RandomTerms

_DTYPE_WEIGHTS = (6, 3, 2, 2)  # of cases.FLOATS


class Chooser(random.Random):
    """A seeded source of choices and of tensors."""

    def __init__(self, seed):
        super().__init__(seed)
        self.tensors = torch.Generator().manual_seed(seed)

    def chance(self, probability):
        return self.random() < probability

    def floating(self):
        return self.choices(cases.FLOATS, _DTYPE_WEIGHTS)[0]

    def dtype(self):
        return self.choice(cases.INTEGERS) if self.chance(0.3) else self.floating()


def random_problem(seed: int) -> cases.Problem:
    rng = Chooser(seed)
    loss = rng.choice(cases.LOSSES)
    shape = _shape(rng)
    dtype = rng.floating()
    target_dtype = dtype if rng.chance(0.5) else rng.dtype()
    reduction = rng.choice(cases.REDUCTIONS)
    problem = cases.Problem(
        loss,
        _layout(cases.make_input(loss, shape, dtype, rng.tensors), rng),
        _layout(cases.make_target(loss, shape, target_dtype, rng.tensors), rng),
        weight=_weight(loss, shape, rng) if rng.chance(0.6) else None,
        pos_weight=_operand(_aligned(shape, rng), rng, 0.0) if loss.pos_weight else None,
        mask=_region(shape, rng, rng.randrange(4)) if rng.chance(0.8) else None,
        reduction=reduction,
        normalizer=_normalizer(reduction, rng),
        grad_output=_grad_output(reduction, shape, rng),
    )
    reads_input = "fl.input" in f"{problem.mask!r} {problem.weight!r}"
    return problem if reads_input or rng.chance(0.5) else _spoiled(problem)


def _shape(rng):
    shape = [rng.choice((0, 1, 1, 2, 3, 4, 5, 6, 7)) for _ in range(rng.randrange(6))]
    if shape and rng.chance(0.25):
        shape[rng.randrange(len(shape))] = rng.randrange(300, 5000)
        while (numel := torch.Size(shape).numel()) > 200_000:
            shape[shape.index(max(shape))] = 1 + max(shape) * 100_000 // numel
    return tuple(shape)


def _layout(tensor, rng):
    name = rng.choice(("contiguous",) * 3 + tuple(cases.LAYOUTS))
    tensor = cases.LAYOUTS[name](tensor)
    if name == "contiguous" and tensor.ndim and rng.chance(0.3):  # memory in any order of dims
        order = rng.sample(range(tensor.ndim), tensor.ndim)
        back = sorted(range(tensor.ndim), key=order.__getitem__)
        tensor = tensor.permute(order).contiguous().permute(back)
    return tensor


def _holes(shape, rng):
    """`shape` with some sizes 1."""
    return tuple(1 if rng.chance(0.35) else size for size in shape)


def _aligned(shape, rng):
    """Any shape that broadcasts to `shape` by torch's rules."""
    return _holes(shape[rng.randint(0, len(shape)) :], rng)


def _sectioned(shape, rng):
    """Any shape that broadcasts to `shape` by the contract's section 1."""
    missing = rng.choice((0, 0, 1, 2, 3, 4))
    if missing == 0 or not shape:
        return _holes(shape, rng)
    if missing == 1 and len(shape) >= 2:
        return _holes(cases.positions(shape), rng)
    return _holes(shape[max(2, missing) :] if len(shape) > 1 else (), rng)


def _operand(shape, rng, zeros):
    return _layout(cases.make_weight(shape, rng.dtype(), rng.tensors, zeros), rng)


def _terms(shape, rng):
    return RandomTerms(
        shape,
        rng,
        operand=lambda: _operand(_sectioned(shape, rng), rng, 0.3),
        layout=lambda tensor: _layout(tensor, rng),
    )


def _weight(loss, shape, rng):
    if rng.chance(0.4):
        return _terms(shape, rng).source(rng.choice((1, 1, 2, 3, 5)))
    torch_rules = loss.name.startswith("binary_cross_entropy")
    return _operand(_aligned(shape, rng) if torch_rules else _sectioned(shape, rng), rng, 0.2)


def _region(shape, rng, depth):
    if depth == 0 or rng.chance(0.2):
        region = _terms(shape, rng).region()
        return region.tensor if isinstance(region, fl.regions.TensorRegion) else region
    if rng.chance(0.25):
        return ~fl.regions.as_region(_region(shape, rng, depth - 1))
    left = fl.regions.as_region(_region(shape, rng, depth - 1))
    right = _region(shape, rng, depth - 1)
    return left & right if rng.chance(0.5) else left | right


def _normalizer(reduction, rng):
    value = rng.choice(cases.normalizers(reduction))
    if value == "tensor":
        value = torch.tensor(rng.choice((3.5, 0.25, 1e4)), dtype=rng.floating())
    return value


def _grad_output(reduction, shape, rng):
    if rng.chance(0.4):
        return None
    if reduction == "none":
        return _layout(torch.randn(shape, generator=rng.tensors), rng)
    return torch.tensor(rng.choice((0.37, -2.5, 1024.0, 0.0)))


def _spoiled(problem):
    """With NaN and infinities in `input` wherever no element takes part."""
    skipped = ~active(problem)
    junk = torch.tensor([float("nan"), float("inf"), -float("inf")])
    junk = junk[torch.arange(skipped.numel()) % 3].reshape(skipped.shape)
    input = problem.input
    spoiled = torch.where(skipped, junk.to(input.dtype), input)
    if input.numel() and 0 not in input.stride():
        spoiled = torch.empty_strided(input.shape, input.stride(), dtype=input.dtype).copy_(spoiled)
    return problem.with_(input=spoiled)
