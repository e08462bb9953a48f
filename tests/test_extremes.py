"""Infinite denominators, saturated logits and options beyond a float: bugs once, rows now."""

import pytest
import torch

import fusedloss as fl
import fusedloss.functional as F

INF, NAN = float("inf"), float("nan")


def test_an_infinite_denominator_is_not_an_empty_one(backend):
    input, target = backend.place(torch.tensor([1.0, 2.0, 3.0])), backend.place(torch.zeros(3))
    infinite = backend.place(torch.tensor([1.0, INF, 1.0]))
    assert backend.functions.mse_loss(input, target, weight=infinite).isnan()
    assert backend.functions.mse_loss(input, target, mask=infinite).isnan()


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64), ids=str)
def test_bce_gradient_where_the_sigmoid_saturates(backend, dtype):
    logits = torch.tensor([12.0, 16.0, 18.0, 20.0, 25.0, -12.0, -30.0], dtype=dtype)
    target = (logits > 0).to(dtype)
    input = backend.place(logits).requires_grad_()
    loss = backend.functions.binary_cross_entropy_with_logits(
        input, backend.place(target), reduction="sum"
    )
    loss.backward()
    exact = torch.sigmoid(-logits.double().abs()) * torch.where(logits > 0, -1.0, 1.0)
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2.0**-8, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(input.grad.cpu().double(), exact, rtol=tolerance, atol=0)


@pytest.mark.parametrize("gamma", (0.0, 0.5, 1.0, 2.0, 3.0))
def test_focal_of_the_reference_takes_targets_beyond_0_and_1(gamma):
    """As torchvision's formula has it: a power of a negative number, NaN where gamma is broken."""
    x = torch.tensor([0.5, -0.5, 2.0, -2.0], dtype=torch.float64)
    t = torch.tensor([1.25, -1.0, 2.0, -0.5], dtype=torch.float64)
    p = torch.sigmoid(x)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    wanted = (1 - (p * t + (1 - p) * (1 - t))) ** gamma * cross_entropy
    got = fl.reference.sigmoid_focal_loss(x, t, alpha=-1, gamma=gamma, reduction="none")
    torch.testing.assert_close(got, wanted, equal_nan=True, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", (0.0, 0.5, 0.99, 2.0, 3.0))
def test_focal_at_huge_wrong_logits(backend, gamma):
    logits = torch.tensor([100.0, 1e4, 1e35, torch.finfo(torch.float32).max])
    input = backend.place(logits).requires_grad_()
    loss = backend.functions.sigmoid_focal_loss(
        input, backend.place(torch.zeros(4)), alpha=-1, gamma=gamma, reduction="none"
    )
    loss.backward(torch.ones_like(loss))
    torch.testing.assert_close(input.grad.cpu(), torch.ones(4), rtol=1e-5, atol=0)


def test_bce_of_a_right_and_huge_logit_is_zero(backend):
    input, target = backend.place(torch.tensor([1e4])), backend.place(torch.ones(1))
    assert backend.functions.binary_cross_entropy_with_logits(input, target).item() == 0


@pytest.mark.parametrize("name", ("huber_loss", "smooth_l1_loss"))
def test_nan_reaches_the_gradient_of_the_reference(name):
    input = torch.tensor([NAN, 1.0], requires_grad=True)
    getattr(fl.reference, name)(input, torch.zeros(2)).backward()
    assert input.grad[0].isnan() and input.grad[1] == 0.5


@pytest.mark.parametrize("name", ("l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss"))
@pytest.mark.parametrize("module", (fl.functional, fl.reference), ids=("functional", "reference"))
def test_an_infinite_target_is_as_in_torch(module, name):
    target = torch.tensor([INF, -INF, NAN, INF, 0.0, INF])
    results = []
    for functions in (module, torch.nn.functional):
        input = torch.tensor([0.5, -0.5, 2.0, -INF, NAN, INF], requires_grad=True)
        values = getattr(functions, name)(input, target, reduction="none")
        values.sum().backward()
        results.append((values.detach(), input.grad))
    torch.testing.assert_close(*results, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "option"),
    (("huber_loss", "delta"), ("mse_loss", "normalizer"), ("sigmoid_focal_loss", "alpha")),
)
def test_an_integer_beyond_a_float_is_refused_by_name(name, option):
    with pytest.raises(ValueError, match=option):
        getattr(F, name)(torch.zeros(2), torch.zeros(2), **{option: 10**400})


def test_an_infinite_weight_spoils_its_own_gradient_alone(backend):
    """0 times infinity, as in `(loss * weight).sum() / weight.sum()`."""
    for reduction in ("mean", "sample_mean"):
        input = backend.place(torch.tensor([[1.0, 2.0, 3.0]])).requires_grad_()
        target, weight = torch.zeros(1, 3), torch.tensor([[1.0, INF, 0.0]])
        loss = backend.functions.mse_loss(
            input, backend.place(target), weight=backend.place(weight), reduction=reduction
        )
        loss.backward()
        assert input.grad.isnan().tolist() == [[False, True, False]]
        assert input.grad[0, ::2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("activation", ("sigmoid", "softmax"))
def test_an_infinite_weight_map_spoils_every_class_of_its_position(backend, activation):
    """Also one that the label is not: 0 times infinity."""
    x, labels = torch.tensor([[[0.3, -1.0, 2.0], [1.0, 0.5, 0.1]]]), torch.tensor([[0, 1, 1]])
    infinite = torch.tensor([[1.0, INF, 1.0]])
    loss = backend.functions.dice_loss(
        backend.place(x),
        backend.place(labels),
        activation=activation,
        per="sample_class",
        weight_map=backend.place(infinite),
        reduction="none",
    )
    assert loss.isnan().all()
