"""torch's own sample inputs for cross_entropy and nll_loss, run through ours, and what torch does
at odd values."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing._internal.common_methods_invocations import op_db

from fusedloss import functional
from tests.cases import FLOATS

NAMES = ("cross_entropy", "nll_loss")
OPERATORS = {op.name.rpartition(".")[2]: op for op in op_db if op.name.startswith("nn.functional.")}
INF = float("inf")


def samples(name):
    return list(OPERATORS[name].sample_inputs("cpu", torch.float64, requires_grad=True))


def converted(value, dtype):
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().to(dtype)
    return value


def test_torch_has_samples_of_all_kinds():
    assert len(samples("cross_entropy")) >= 20 and len(samples("nll_loss")) >= 50
    assert any(s.args[0].is_floating_point() for s in samples("cross_entropy"))
    assert any(s.kwargs.get("ignore_index") is not None for s in samples("nll_loss"))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_samples_of_torch(name, dtype):
    """Against torch in float64 on the same (rounded) numbers."""
    ours, theirs = getattr(functional, name), getattr(F, name)
    epsilon = torch.finfo(dtype).eps
    for sample in samples(name):
        sample = sample.transform(lambda value: converted(value, dtype))
        wide = sample.transform(lambda value: converted(value, torch.float64))
        input, wide_input = sample.input.requires_grad_(), wide.input.requires_grad_()
        got = ours(input, *sample.args, **sample.kwargs)
        wanted = theirs(wide_input, *wide.args, **wide.kwargs)
        assert got.dtype is dtype
        if wanted.isnan().all():
            assert got == 0  # a mean over ignored labels alone is 0 here
            continue
        largest = wide_input.detach().abs().max().item()
        close = dict(rtol=2 * epsilon, atol=2.0**-23 * largest if epsilon > 1e-8 else 1e-14)
        torch.testing.assert_close(got.double(), wanted, **close)
        grad_output = torch.rand_like(got) + 0.5
        (gradient,) = torch.autograd.grad(got, input, grad_output)
        (slope,) = torch.autograd.grad(wanted, wide_input, grad_output.double())
        assert gradient.dtype is dtype
        torch.testing.assert_close(gradient.double(), slope, rtol=4 * epsilon, atol=4 * epsilon)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_other_tensors(name):
    """The gradients that torch's samples ask for: of probabilities and class weights."""
    ours, theirs = getattr(functional, name), getattr(F, name)
    checked = 0
    for sample in samples(name):
        tensors = [sample.input, *sample.args, *sample.kwargs.values()]
        tensors = [t for t in tensors if isinstance(t, torch.Tensor) and t.requires_grad]
        got = ours(sample.input, *sample.args, **sample.kwargs)
        wanted = theirs(sample.input, *sample.args, **sample.kwargs)
        if wanted.isnan().all():
            continue
        grad_output = torch.rand_like(got) + 0.5
        gradients = torch.autograd.grad(got, tensors, grad_output)
        for g, w in zip(gradients, torch.autograd.grad(wanted, tensors, grad_output), strict=True):
            torch.testing.assert_close(g, w, rtol=1e-12, atol=1e-12)
        checked += len(tensors)
    assert checked >= 20


@pytest.mark.parametrize("name", NAMES)
def test_legacy_flags_are_refused(name):
    x, y = torch.zeros(2, 3), torch.tensor([0, 1])
    for places in ((None, True), (None, None, -100, False), (None, False, -100, True)):
        with pytest.raises(TypeError, match="reduction"):
            getattr(functional, name)(x, y, *places)


ROWS = [
    [0.0, 1.0, 2.0],
    [0.0, -INF, 1.0],
    [-INF, -INF, 1.0],
    [-INF, -INF, -INF],
    [1e4, -1e4, 0.0],
    [3e38, 0.0, -3e38],
    [INF, 0.0, 1.0],
    [float("nan"), 0.0, 1.0],
    [88.0, 88.0, -88.0],
]
ODD_TARGETS = [torch.full((9,), label) for label in (0, 1, 2)]
ODD_TARGETS += [torch.tensor(row).repeat(9, 1) for row in ([0.2, 0.3, 0.5], [0.0, 1.0, 0.0])]


@pytest.mark.parametrize("smoothing", (0.0, 0.1))
@pytest.mark.parametrize("target", ODD_TARGETS, ids=["0", "1", "2", "soft", "one-hot"])
def test_infinite_and_saturated_logits_as_torch(backend, target, smoothing):
    logits = torch.tensor(ROWS)
    options = {"reduction": "none", "label_smoothing": smoothing}
    results = []
    for function, place in (
        (backend.functions.cross_entropy, backend.place),
        (F.cross_entropy, 0),
    ):
        place = place or (lambda value: value)
        input = place(logits.clone()).requires_grad_()
        loss = function(input, place(target), **options)
        (gradient,) = torch.autograd.grad(loss, input, torch.ones_like(loss))
        results.append((loss.detach().cpu(), gradient.cpu()))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, equal_nan=True, rtol=1e-6, atol=1e-6)


def test_on_purpose_unlike_torch():
    """A mean over nothing is 0; a class of weight 0 drops out though its logit is -inf."""
    x = torch.zeros(2, 3, requires_grad=True)
    y = torch.tensor([-100, -100])
    assert F.cross_entropy(x, y).isnan()
    loss = functional.cross_entropy(x, y)
    assert loss == 0 and loss.requires_grad
    logits = torch.tensor([[0.0, -INF, 1.0]], requires_grad=True)
    weight = torch.tensor([1.0, 0.0, 1.0])
    options = {"weight": weight, "label_smoothing": 0.3}
    assert F.cross_entropy(logits, torch.tensor([0]), **options).isnan()
    loss = functional.cross_entropy(logits, torch.tensor([0]), **options)
    two = torch.tensor([[0.0, 1.0]])
    smooth = -0.1 * F.log_softmax(two, 1).sum() - 0.7 * F.log_softmax(two, 1)[0, 0]
    torch.testing.assert_close(loss.detach(), smooth)
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()
