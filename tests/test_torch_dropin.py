"""torch's own sample inputs for its losses, run through ours: value and gradient equal torch's."""

import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db

from fusedloss import functional
from tests.cases import FLOATS, Loss, Problem
from tests.oracle import assert_gradient, assert_loss

NAMES = (
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
)
OPERATORS = {op.name.rpartition(".")[2]: op for op in op_db if op.name.startswith("nn.functional.")}


def samples(name, dtype):
    return list(OPERATORS[name].sample_inputs("cpu", dtype, requires_grad=True))


def refused(sample):
    """Contract, section 2: on purpose unlike torch. None where nothing is."""
    target = sample.args[0]
    if target.shape != sample.input.shape:
        return ValueError, "target must have the shape of input"
    if sample.kwargs.get("size_average") is not None or sample.kwargs.get("reduce") is not None:
        return TypeError, "deprecated"
    return None


def test_torch_has_samples_for_every_name():
    for name in NAMES:
        assert len([s for s in samples(name, torch.float32) if not refused(s)]) >= 4, name


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_samples_of_torch(name, dtype):
    """Against torch in float64 on the same (rounded) numbers, with the contract's tolerances."""
    ours, theirs = getattr(functional, name), getattr(torch.nn.functional, name)
    for sample in samples(name, torch.float64):
        error = refused(sample)
        if error:
            with pytest.raises(error[0], match=error[1]):
                ours(sample.input, *sample.args, **sample.kwargs)
            continue
        sample = sample.transform(lambda value: converted(value, dtype))
        wide = sample.transform(lambda value: converted(value, torch.float64))
        input, wide_input = sample.input.requires_grad_(), wide.input.requires_grad_()
        got = ours(input, *sample.args, **sample.kwargs)
        wanted = theirs(wide_input, *wide.args, **wide.kwargs)
        if input.numel() == 0 and wanted.isnan().all():
            assert got == 0 or got.numel() == 0  # a mean over nothing is 0 here
            continue
        grad_output = torch.rand_like(got) + 0.5
        (gradient,) = torch.autograd.grad(got, input, grad_output)
        (slope,) = torch.autograd.grad(wanted, wide_input, grad_output.double())
        kind = "logit" if name.endswith("logits") else "real"
        reduction = sample.kwargs.get("reduction", "mean")
        problem = Problem(Loss(name, kind=kind), input.detach(), None, reduction=reduction)
        assert_loss(got.detach(), wanted.detach(), problem)
        assert_gradient(gradient, slope, problem)


def converted(value, dtype):
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().to(dtype)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_other_tensors(name):
    """The gradients that torch's samples ask for: of target, weight, pos_weight."""
    ours, theirs = getattr(functional, name), getattr(torch.nn.functional, name)
    checked = 0
    for sample in samples(name, torch.float64):
        if refused(sample) or sample.input.numel() == 0:
            continue
        tensors = [sample.input, *sample.args, *sample.kwargs.values()]
        tensors = [t for t in tensors if isinstance(t, torch.Tensor) and t.requires_grad]
        got = ours(sample.input, *sample.args, **sample.kwargs)
        wanted = theirs(sample.input, *sample.args, **sample.kwargs)
        grad_output = torch.rand_like(got) + 0.5
        gradients = torch.autograd.grad(got, tensors, grad_output)
        for g, w in zip(gradients, torch.autograd.grad(wanted, tensors, grad_output), strict=True):
            torch.testing.assert_close(g, w, rtol=1e-12, atol=1e-12)
        checked += len(tensors)
    assert checked >= 8


@pytest.mark.parametrize("name", NAMES)
def test_signature_starts_as_that_of_torch(name):
    import inspect

    ours = list(inspect.signature(getattr(functional, name)).parameters.values())
    theirs = list(inspect.signature(getattr(torch.nn.functional, name)).parameters.values())
    for mine, other in zip(ours, theirs, strict=False):
        assert mine.name == other.name
        assert mine.default == other.default, mine.name
    extra = ours[len(theirs) :]
    assert extra and all(parameter.kind is parameter.KEYWORD_ONLY for parameter in extra)


@pytest.mark.parametrize("size_average, reduce", ((True, None), (None, False), (False, True)))
def test_legacy_flags_are_refused(size_average, reduce):
    x = torch.ones(2)
    for name in ("l1_loss", "mse_loss", "smooth_l1_loss"):
        with pytest.raises(TypeError, match="reduction"):
            getattr(functional, name)(x, x, size_average, reduce)


@pytest.mark.parametrize("name", ("l1_loss", "mse_loss", "huber_loss"))
def test_torch_weights(name):
    """Weights of the input's shape: torch's own mean, weighted or (huber) not."""
    x, t = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    weight = torch.rand(4, 5, dtype=torch.float64)
    for reduction in ("mean", "sum", "none"):
        got = getattr(functional, name)(x, t, reduction=reduction, weight=weight)
        wanted = getattr(torch.nn.functional, name)(x, t, reduction=reduction, weight=weight)
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=0)
