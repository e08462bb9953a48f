"""Saturated logits, clipped probabilities, every gamma: values against mpmath and finite
derivatives."""

import itertools

import mpmath
import pytest
import torch

import fusedloss as fl
from fusedloss import reference

INF = float("inf")
ROWS = [
    [1000.0, 0.0, -1000.0],
    [-1000.0, 0.0, 1000.0],
    [88.0, 0.0, -88.0],
    [20.0, -20.0, 0.0],
    [17.0, 16.5, -3.0],
    [1e-4, 0.0, -1e-4],
    [0.0, 0.0, 0.0],
    [1e35, 0.0, 1e30],
    [3e38, 3e38, 3e38],
    [1.0, 2.0, 3.0],
]
TARGETS = [torch.full((len(ROWS),), label) for label in (0, 1, 2)]
TARGETS += [torch.tensor(t).repeat(len(ROWS), 1) for t in ([0.2, 0.3, 0.5], [0.0, 1.0, 0.0])]
GAMMAS = (0, 1e-3, 0.25, 0.5, 0.99, 1, 1.5, 2, 3, 5, 50)


def focal(row, shares, gamma):
    """In 60 digits: value and derivative by every logit."""
    with mpmath.workdps(60):
        row = [mpmath.mpf(v) for v in row]
        largest = max(row)
        terms = [mpmath.exp(v - largest) for v in row]
        total = sum(terms)
        value, slopes = mpmath.mpf(0), [mpmath.mpf(0)] * len(row)
        for c, share in enumerate(shares):
            if share == 0:
                continue
            p = terms[c] / total
            q = sum(term for k, term in enumerate(terms) if k != c) / total
            log_p = row[c] - largest - mpmath.log(total)
            power = q**gamma if gamma else mpmath.mpf(1)
            value -= share * power * log_p
            by_log_p = -power  # d/dx_j = by_log_p (delta_cj - p_j)
            if gamma and q:
                by_log_p += gamma * q ** (gamma - 1) * p * log_p
            for j in range(len(row)):
                p_j = terms[j] / total
                slopes[j] += share * by_log_p * ((q if j == c else 0) - (p_j if j != c else 0))
        return float(value), [float(slope) for slope in slopes]


def shares_of(target, row):
    if target.is_floating_point():
        return target[row].tolist()
    return [float(c == target[row]) for c in range(3)]


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("target", TARGETS, ids=["0", "1", "2", "soft", "one-hot"])
def test_focal_at_saturated_logits(backend, target, gamma, dtype):
    """Value and gradient are finite and right at every finite logit."""
    logits = torch.tensor(ROWS, dtype=dtype)
    goal = target.to(dtype) if target.is_floating_point() else target
    input = backend.place(logits).requires_grad_()
    loss = backend.functions.softmax_focal_loss(
        input, backend.place(goal), gamma=gamma, reduction="none"
    )
    (gradient,) = torch.autograd.grad(loss, input, torch.ones_like(loss))
    assert loss.isfinite().all() and (loss >= 0).all() and gradient.isfinite().all()
    epsilon = torch.finfo(dtype).eps
    for n, row in enumerate(logits.tolist()):
        value, slopes = focal(row, shares_of(goal, n), gamma)
        digits = (16 + 100 * gamma) * epsilon  # of (1 - p)^gamma, where log(1 - p) is about -90
        tiny = 100 * torch.finfo(dtype).tiny
        wanted = torch.tensor(value, dtype=dtype)
        torch.testing.assert_close(loss[n].detach().cpu(), wanted, rtol=digits, atol=tiny)
        wanted = torch.tensor(slopes, dtype=dtype)
        error = (gradient[n].cpu() - wanted).abs().max()
        assert error <= digits * wanted.abs().max() + tiny


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_second_derivatives_of_focal_are_finite(gamma, dtype):
    for target in TARGETS:
        goal = target.to(dtype) if target.is_floating_point() else target
        input = torch.tensor(ROWS, dtype=dtype, requires_grad=True)
        loss = reference.softmax_focal_loss(input, goal, gamma=gamma, reduction="sum")
        (first,) = torch.autograd.grad(loss, input, create_graph=True)
        for direction in (torch.ones_like(first), torch.tensor([1.0, -2.0, 0.5]).to(dtype)):
            (second,) = torch.autograd.grad((first * direction).sum(), input, retain_graph=True)
            assert second.isfinite().all()
        tangent = torch.func.jvp(
            lambda x, g=goal: reference.softmax_focal_loss(x, g, gamma=gamma),
            (input.detach(),),
            (torch.ones_like(first),),
        )
        assert all(value.isfinite() for value in tangent)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_focal_with_infinite_logits(backend, gamma):
    """A class that is ruled out (-inf) costs nothing at another label; at its own the loss is
    infinite, and the gradient that of cross entropy."""
    logits = torch.tensor([[0.0, -INF, 1.0], [0.5, -INF, -INF], [-INF, 0.0, 1.0]])
    input = backend.place(logits).requires_grad_()
    labels = backend.place(torch.tensor([0, 0, 0]))
    loss = backend.functions.softmax_focal_loss(input, labels, gamma=gamma, reduction="none")
    (gradient,) = torch.autograd.grad(loss, input, torch.ones_like(loss))
    loss, gradient = loss.detach().cpu(), gradient.cpu()
    two = torch.tensor([[0.0, 1.0]], requires_grad=True)
    wanted = reference.softmax_focal_loss(two, torch.tensor([0]), gamma=gamma)
    torch.testing.assert_close(loss[0], wanted.detach())
    slope = torch.autograd.grad(wanted, two)[0][0]
    torch.testing.assert_close(gradient[0], torch.tensor([slope[0], 0.0, slope[1]]))
    assert loss[1] == 0 and not gradient[1].any()
    assert loss[2] == INF
    p = torch.tensor([0.0, 1.0]).softmax(0)
    torch.testing.assert_close(gradient[2], torch.tensor([-1.0, *p.tolist()]))


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=str)
@pytest.mark.parametrize("eps", (1e-7, 1e-3, 0.3, 0.5))
def test_clipped_probabilities(backend, eps, dtype):
    """Also of scores that do not add up to 1; the gradient is 0 where p is clipped."""
    scores = [[0.0, 1.0, 0.0], [1e-9, 1.0, 1e-8], [5.0, 0.01, 2.0], [1e-20, 2e-20, 1e-20]]
    scores += [[1.0, 1.0, 1.0], [0.999999, 1e-7, 9e-7], [3e30, 1e30, 1e30]]
    values = torch.tensor(scores, dtype=dtype)
    for label in range(3):
        input = backend.place(values).requires_grad_()
        labels = backend.place(torch.full((len(scores),), label))
        loss = backend.functions.categorical_cross_entropy(input, labels, eps=eps, reduction="none")
        (gradient,) = torch.autograd.grad(loss, input, torch.ones_like(loss))
        for n, row in enumerate(values.tolist()):
            with mpmath.workdps(50):
                row = [mpmath.mpf(v) for v in row]
                p = row[label] / sum(row)
                low, high = mpmath.mpf(eps), 1 - mpmath.mpf(eps)
                wanted = float(-mpmath.log(min(max(p, low), high)))
                inside, outside = low < p < high, p < low or p > high
                slopes = [
                    float(((p - (j == label)) / (p * sum(row))) if inside else 0) for j in range(3)
                ]
            close = dict(rtol=8 * torch.finfo(dtype).eps, atol=0)
            torch.testing.assert_close(loss[n].item(), wanted, **close)
            wanted = torch.tensor(slopes, dtype=dtype)
            if inside or outside:
                largest = wanted.abs().max().item()
                close = dict(rtol=1e-5, atol=1e-6 * largest)
                torch.testing.assert_close(gradient[n].cpu(), wanted, **close)


def test_scores_without_a_sum_are_nan_as_in_keras(backend):
    input = backend.place(torch.zeros(2, 3))
    loss = backend.functions.categorical_cross_entropy(
        input, backend.place(torch.tensor([0, 255])), mask=fl.target != 255
    )
    assert loss.isnan()


@pytest.mark.parametrize("name", ("cross_entropy", "softmax_focal_loss"))
def test_one_class_costs_nothing(name):
    for value, gamma in itertools.product((0.0, -1e4, 3e38), (0.0, 0.5, 2.0)):
        input = torch.tensor([[value]], requires_grad=True)
        options = {"gamma": gamma} if name == "softmax_focal_loss" else {}
        loss = getattr(fl, name)(input, torch.tensor([0]), **options)
        assert loss == 0 and not torch.autograd.grad(loss, input)[0].any()
