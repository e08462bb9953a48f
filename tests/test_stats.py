"""What comes with ``return_stats=True``: through program transforms, export, pickle, by name."""

import copy
import io
import pickle

import pytest
import torch
from torch.func import grad, grad_and_value, jacfwd, jacrev, jvp, vjp, vmap

import fusedloss as fl
from tests import cases
from tests.cases import FUNCTION

SHAPE = (3, 4)
LOSSES = tuple(FUNCTION[name] for name in ("mse_loss", "binary_cross_entropy_with_logits"))
MODULES = {"functional": fl.functional, "reference": fl.reference}


def operands(loss):
    problem = cases.make_problem(loss, SHAPE, torch.float64)
    return problem.input, problem.target


def loss_and_stats(module, loss, reduction="mean"):
    def function(input, target):
        mask = fl.target > 0.1
        result = getattr(module, loss.name)(
            input, target, mask=mask, reduction=reduction, return_stats=True
        )
        return result if reduction != "none" else (result[0].sum(), result[1])

    return function


# Each: a function of (input, target) -> (loss, stats); the transformed call's stats.
WHOLE = {
    "grad": lambda f, x, t: grad(f, has_aux=True)(x, t)[1],
    "grad_and_value": lambda f, x, t: grad_and_value(f, has_aux=True)(x, t)[1][1],
    "jvp": lambda f, x, t: jvp(lambda x: f(x, t), (x,), (x,), has_aux=True)[2],
    "vjp": lambda f, x, t: vjp(lambda x: f(x, t), x, has_aux=True)[2],
    "jacrev": lambda f, x, t: jacrev(f, has_aux=True)(x, t)[1],
    "jacfwd": lambda f, x, t: jacfwd(f, has_aux=True)(x, t)[1],
    "grad-of-grad": lambda f, x, t: grad(
        lambda x: (lambda g, aux: (g.sum(), aux))(*grad(f, has_aux=True)(x, t)), has_aux=True
    )(x)[1],
}
ROWS = {
    "vmap": lambda f, x, t: vmap(f)(x, t)[1],
    "vmap-of-grad": lambda f, x, t: vmap(grad(f, has_aux=True))(x, t)[1],
}


def assert_stats(got, wanted):
    assert type(got) is fl.Stats
    for ours, right in zip(got[:3], wanted[:3], strict=True):
        torch.testing.assert_close(ours, right)
    assert got.intersection is None and got.input_sum is None and got.target_sum is None


@pytest.mark.parametrize("reduction", cases.REDUCTIONS)
@pytest.mark.parametrize("transform", WHOLE)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("module", MODULES)
def test_of_the_whole(module, loss, transform, reduction):
    input, target = operands(loss)
    function = loss_and_stats(MODULES[module], loss, reduction)
    assert_stats(WHOLE[transform](function, input, target), function(input, target)[1])


@pytest.mark.parametrize("reduction", cases.REDUCTIONS)
@pytest.mark.parametrize("transform", ROWS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("module", MODULES)
def test_of_every_row(module, loss, transform, reduction):
    input, target = operands(loss)
    function = loss_and_stats(MODULES[module], loss, reduction)
    rows = [function(x, t)[1][:3] for x, t in zip(input, target, strict=True)]
    wanted = [torch.stack(fields) for fields in zip(*rows, strict=True)]
    assert_stats(ROWS[transform](function, input, target), wanted)


def test_exported_and_loaded():
    class Module(torch.nn.Module):
        def forward(self, input, target):
            return loss_and_stats(fl.functional, LOSSES[0])(input, target)

    input, target = operands(LOSSES[0])
    file = io.BytesIO()
    torch.export.save(torch.export.export(Module(), (input, target)), file)
    file.seek(0)
    loss, stats = torch.export.load(file).module()(input, target)
    wanted = Module()(input, target)
    torch.testing.assert_close(loss, wanted[0])
    assert_stats(stats, wanted[1])


@pytest.mark.parametrize("fields", (3, 6))
def test_a_named_tuple(fields):
    values = tuple(torch.tensor(float(index)) for index in range(fields))
    stats = fl.Stats(*values)
    names = ("total", "normalizer", "selected", "intersection", "input_sum", "target_sum")
    assert stats._fields == names
    for same in (stats, copy.deepcopy(stats), pickle.loads(pickle.dumps(stats))):
        assert isinstance(same, fl.Stats)
        for index, name in enumerate(names):
            wanted = float(index) if index < fields else None
            assert getattr(same, name) == same._asdict()[name] == same[index] == wanted
        assert list(same) == list(same[:]) == [getattr(same, name) for name in names]
    assert ("intersection" in repr(stats)) == (fields == 6)


@pytest.mark.parametrize("dynamic", (False, True))
def test_made_and_read_in_compiled_code(dynamic):
    def function(input, target):
        loss, stats = loss_and_stats(fl.functional, LOSSES[0])(input, target)
        pools = fl.Stats(*stats[:3], loss, stats.total, 2 * loss)
        return (loss if stats.intersection is None else -loss), stats, pools, pools.input_sum

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    input, target = operands(LOSSES[0])
    wanted, got = function(input, target), compiled(input, target)
    torch.testing.assert_close(got[0], wanted[0])
    assert_stats(got[1], wanted[1])
    assert type(got[2]) is fl.Stats
    for ours, right in zip((*got[2], got[3]), (*wanted[2], wanted[3]), strict=True):
        torch.testing.assert_close(ours, right)
