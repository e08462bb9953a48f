"""The largest errors against the float64 reference, beside what the contract allows.

    python -m tests.accuracy

One line per loss and dtype over random problems: the worst loss and the worst gradient, each
divided by its tolerance (1 would be all that is allowed); in 16 bits, the distance of loss and
gradient from the exact result in units of the last place (0.5 is rounding), of gradients above
2^-14 of the largest. The tables of the tests check the same; this shows by how much they pass.
"""

import itertools

import torch

import fusedloss as fl
from fusedloss import reference
from tests.cases import FLOATS
from tests.oracle import ulp

SHAPES = ((4, 5, 33, 47), (2, 19, 64, 65), (64, 1000), (3, 2, 9, 10, 31))
REDUCTIONS = ("mean", "sum", "sample_mean")
EPSILON = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}

ELEMENTWISE = {
    "l1_loss": {},
    "mse_loss": {},
    "smooth_l1_loss": {},
    "huber_loss": {},
    "charbonnier_loss": {},
    "log_cosh_loss": {},
    "binary_cross_entropy": {},
    "binary_cross_entropy_with_logits": {},
    "sigmoid_focal_loss": {},
}
CLASSWISE = {
    "cross_entropy": {"label_smoothing": 0.1},
    "nll_loss": {},
    "softmax_focal_loss": {},
    "categorical_cross_entropy": {},
}
OVERLAP = {
    "dice_loss": {"activation": "softmax", "squared": True},
    "jaccard_loss": {"activation": "sigmoid", "per": "sample_class"},
    "tversky_loss": {"activation": "softmax", "alpha": 0.3, "beta": 0.7, "gamma": 0.75},
    "dice_cross_entropy_loss": {"label_smoothing": 0.1},
    "dice_bce_loss": {},
    "dice_focal_loss": {},
}


def operands(name, shape, dtype, rng):
    """(input, target, mask, weight as the function's argument)."""
    normal = torch.randn(shape, generator=rng, dtype=torch.float64)
    positions = (shape[0], *shape[2:])
    mask = torch.rand(positions, generator=rng) < 0.7
    weight = 0.5 + torch.rand(positions, generator=rng)
    if name in ELEMENTWISE:
        other = torch.randn(shape, generator=rng, dtype=torch.float64)
        if name == "binary_cross_entropy":
            normal = normal.sigmoid()
        target = (other > 0).double() if "l" in name and "cross" in name else other
        target = target.sigmoid() if "focal" in name else target
        full = weight.unsqueeze(1).expand(shape) if "binary" in name else weight
        return normal.to(dtype), target.to(dtype), mask, {"weight": full}
    target = torch.randint(0, shape[1], positions, generator=rng)
    if name == "nll_loss":
        normal = (3 * normal).log_softmax(1)
    elif name == "categorical_cross_entropy":
        normal = normal.sigmoid()
    return (3 * normal).to(dtype), target, mask, {"weight_map": weight}


def worst_errors(name, options, dtype) -> tuple[float, float]:
    """Of loss and gradient, in tolerances or ulp."""
    worst = [0.0, 0.0]
    for shape, reduction in itertools.product(SHAPES, REDUCTIONS):
        rng = torch.Generator().manual_seed(len(shape))
        input, target, mask, weight = operands(name, shape, dtype, rng)
        found = [
            run(functions, name, x.requires_grad_(), t, mask, weights, reduction, options)
            for functions, x, t, weights in (
                (fl, input, target, weight),
                (reference, input.double(), wide(target), {k: wide(v) for k, v in weight.items()}),
            )
        ]
        for place, error in enumerate(errors(name, input, *found)):
            worst[place] = max(worst[place], error)
    return tuple(worst)


def wide(tensor):
    return tensor.double() if tensor.is_floating_point() else tensor


def run(functions, name, input, target, mask, weights, reduction, options):
    function = getattr(functions, name)
    input = input.detach().requires_grad_()
    loss = function(input, target, mask=mask, reduction=reduction, **weights, **options)
    return loss.detach(), torch.autograd.grad(loss, input)[0]


def errors(name, input, got, exact) -> list[float]:
    dtype = input.dtype
    if dtype not in EPSILON:
        return [in_ulp(value, right, dtype) for value, right in zip(got, exact, strict=True)]
    share = {torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
    right = exact[0].abs().item()
    if name in ELEMENTWISE:
        allowed = share * right * (4 if "focal" in name else 1)
    elif name in CLASSWISE:
        allowed = share * right + EPSILON[dtype] * input.double().abs().max().item()
    else:
        allowed = share * (right + 1)
    norm = (got[1].double() - exact[1]).norm() / exact[1].norm()
    allowed_norm = 1e-5 if dtype is torch.float32 else 1e-12
    return [(got[0].double() - exact[0]).abs().item() / allowed, norm.item() / allowed_norm]


def in_ulp(value, right, dtype) -> float:
    counts = value.isfinite() & (right.abs() > 2.0**-14 * right.abs().max())
    error = (value.double() - right).abs() / ulp(right, dtype)
    return error[counts].max().item() if counts.any() else 0.0


def main():
    print(f"{'loss and gradient, of the tolerance; 16 bits: in ulp':40}", end="")
    print("".join(f"{str(dtype).removeprefix('torch.'):>16}" for dtype in FLOATS))
    for name, options in {**ELEMENTWISE, **CLASSWISE, **OVERLAP}.items():
        print(f"{name:40}", end="")
        for dtype in FLOATS:
            loss, gradient = worst_errors(name, options, dtype)
            print(f"{loss:>9.2f}{gradient:>7.2f}", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
