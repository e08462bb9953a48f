"""Large results on the CPU go into memory that earlier ones freed (csrc/ops/result_memory.h).

What must not happen: two results that share memory while both are in use, an element that keeps
what stood there before, memory that grows without bound, threads or forked processes that wait.
"""

import gc
import multiprocessing
import os
import subprocess
import sys
import threading

import pytest
import torch

import fusedloss as fl
from fusedloss import _ops

MEGABYTE = 1 << 20
SHAPE = (2, 4, 512, 512)  # 8 MB of float32
KEPT = 4 * MEGABYTE  # what is smaller malloc keeps


@pytest.fixture(autouse=True)
def nothing_idle():
    gc.collect()
    _ops.release_result_memory()
    yield
    _ops.release_result_memory()


def gradient(input, loss=fl.mse_loss, target=None):
    leaf = input.detach().requires_grad_()
    target = torch.zeros_like(leaf) if target is None else target
    return torch.autograd.grad(loss(leaf, target), leaf)[0]


def test_freed_memory_is_used_again():
    input = torch.randn(SHAPE)
    first = gradient(input)
    address, size = first.data_ptr(), first.nbytes
    del first
    assert gradient(input).data_ptr() == address
    assert _ops.release_result_memory() == size
    assert _ops.release_result_memory() == 0


@pytest.mark.parametrize(
    ("wanted", "reused"),
    [((2, 4, 512, 512), True), ((2, 4, 400, 400), False), ((2, 4, 490, 512), True)],
)
def test_by_results_of_about_the_size(wanted, reused):
    address = gradient(torch.randn(SHAPE)).data_ptr()
    assert (gradient(torch.randn(wanted)).data_ptr() == address) is reused


def test_small_results_are_left_to_malloc():
    input = torch.randn(KEPT // 4 - 1)
    gradient(input)
    assert _ops.release_result_memory() == 0
    gradient(torch.randn(KEPT // 4))
    assert _ops.release_result_memory() == KEPT


def test_results_in_use_share_nothing():
    inputs = [torch.full(SHAPE, float(k)) for k in range(5)]
    held = [gradient(input) for input in inputs]
    assert len({g.data_ptr() for g in held}) == len(held)
    for k, result in enumerate(held):
        torch.testing.assert_close(result, torch.full(SHAPE, 2.0 * k / inputs[0].numel()))


@pytest.mark.parametrize("take", [lambda g: g[1, 2], lambda g: g.view(-1)[-3:], torch.Tensor.numpy])
def test_a_view_keeps_its_memory(take):
    result = gradient(torch.ones(SHAPE))
    view, address = take(result), result.data_ptr()
    before = torch.as_tensor(view).clone()
    del result
    other = gradient(torch.zeros(SHAPE))
    assert other.data_ptr() != address
    torch.testing.assert_close(torch.as_tensor(view), before, rtol=0, atol=0)


def test_a_gradient_that_is_saved_stays():
    """Between forward and backward, through retain_graph, and as .grad of a leaf."""
    leaf = torch.randn(SHAPE, requires_grad=True)
    target = torch.zeros(SHAPE)
    loss = fl.mse_loss(leaf, target)
    gradient(torch.ones(SHAPE))
    (3 * loss).backward(retain_graph=True)
    first = leaf.grad.clone()
    gradient(torch.ones(SHAPE))
    loss.backward()
    torch.testing.assert_close(first, 6 * leaf.detach() / leaf.numel())
    torch.testing.assert_close(leaf.grad, 8 * leaf.detach() / leaf.numel())


LABELS = torch.randint(0, 4, (2, 512, 512), generator=torch.Generator().manual_seed(0))
CALLS = {
    "mse, mask": lambda x: fl.mse_loss(x, x.detach() + 1, mask=LABELS[:, None] > 1),
    "mse, center": lambda x: fl.mse_loss(x, x.detach() + 1, mask=fl.center()),
    "mse, empty": lambda x: fl.mse_loss(
        x, x.detach() + 1, mask=torch.zeros(SHAPE, dtype=torch.bool)
    ),
    "bce, none": lambda x: fl.binary_cross_entropy_with_logits(
        x, torch.zeros(SHAPE), reduction="none"
    ),
    "cross_entropy": lambda x: fl.cross_entropy(x, LABELS, ignore_index=2),
    "cross_entropy, empty": lambda x: fl.cross_entropy(x, LABELS * 0 + 7, ignore_index=7),
    "nll, none": lambda x: fl.nll_loss(x, LABELS, ignore_index=2, reduction="none"),
    "softmax_focal": lambda x: fl.softmax_focal_loss(x, LABELS, mask=LABELS > 0),
    "dice, sigmoid": lambda x: fl.dice_loss(x, (x.detach() > 0).float(), activation="sigmoid"),
    "dice, softmax": lambda x: fl.dice_loss(x, LABELS, activation="softmax", per="sample_class"),
    "tversky, one class aside": lambda x: fl.tversky_loss(
        x, LABELS, activation="softmax", per="class", include_background=False
    ),
    "dice + ce": lambda x: fl.dice_cross_entropy_loss(x, LABELS, ignore_index=1),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CALLS)
def test_every_element_is_written(name, layout):
    """What stood in the memory, NaN here, shows nowhere: gradients in forward and in backward."""
    input = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    input = input.contiguous(memory_format=layout)

    def outcome():
        leaf = input.clone().requires_grad_()
        loss = CALLS[name](leaf)
        (2 * loss.sum()).backward()
        return loss.detach(), leaf.grad

    wanted = [part.clone() for part in outcome()]
    for _ in range(4):
        gc.collect()
        used = [gradient(input) for _ in range(3)]
        addresses = {result.data_ptr() for result in used}
        for result in used:
            result.fill_(torch.nan)
        del used, result
        loss, found = outcome()
        assert found.data_ptr() in addresses
        for got, expected in zip((loss, found), wanted, strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_idle_memory_is_bounded():
    input = torch.randn(24 * MEGABYTE)  # 96 MB
    held = [gradient(input) for _ in range(7)]
    assert held[0].nbytes * 7 > 512 * MEGABYTE
    held.clear()
    assert _ops.release_result_memory() == 5 * 96 * MEGABYTE


def test_larger_results_are_not_kept():
    gradient(torch.zeros(129 * MEGABYTE))  # 516 MB
    assert _ops.release_result_memory() == 0


def test_threads_have_their_own():
    failures = []

    def train(number):
        input = torch.full(SHAPE, float(number))
        for _ in range(20):
            if not torch.equal(gradient(input), 2 * input / input.numel()):
                failures.append(number)

    threads = [threading.Thread(target=train, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not failures


def in_child(results):
    torch.set_num_threads(1)
    results.put(gradient(torch.ones(SHAPE)).sum().item())


def test_a_forked_process_goes_on():
    gradient(torch.ones(SHAPE))
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=in_child, args=(results,))
    child.start()
    assert results.get(timeout=60) == pytest.approx(2.0)
    child.join(timeout=60)
    assert child.exitcode == 0


def release_in_child(results):
    torch.set_num_threads(1)
    _ops.release_result_memory()
    results.put(gradient(torch.ones(SHAPE)).sum().item())


def test_a_forked_process_waits_for_no_lock():
    """Other threads of the parent take, keep and release meanwhile."""
    stop = threading.Event()

    def work():
        while not stop.is_set():
            gradient(torch.ones(SHAPE))
            _ops.release_result_memory()

    torch.set_num_threads(1)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(12):
            results = context.SimpleQueue()
            child = context.Process(target=release_in_child, args=(results,))
            child.start()
            child.join(timeout=60)
            assert child.exitcode == 0
            assert results.get() == pytest.approx(2.0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_sizes_beyond_all_addresses_are_refused():
    for elements in (2**62 + 2**20, 2**62 - 1):
        input = torch.zeros(1).expand(elements)
        with pytest.raises(RuntimeError):
            fl.mse_loss(input, input, reduction="none")


def test_another_bound_from_the_environment():
    """With 0 results are torch's own, whose storage can be resized; here it cannot."""
    program = (
        "import torch, fusedloss as fl\n"
        "leaf = torch.ones(2 << 20, requires_grad=True)\n"
        "fl.mse_loss(leaf, torch.zeros(2 << 20)).backward()\n"
        "print(leaf.grad.untyped_storage().resizable())\n"
        "leaf.grad = None\n"
        "print(torch.ops.fusedloss.release_result_memory())\n"
    )
    for bound, wanted in (
        ("0", ["True", "0"]),
        ("7", ["True", "0"]),
        ("8", ["False", str(8 * MEGABYTE)]),
    ):
        command = [sys.executable, "-c", program]
        environment = os.environ | {"FUSEDLOSS_KEPT_MB": bound}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == wanted


def test_results_are_ordinary_tensors(tmp_path):
    result = gradient(torch.randn(SHAPE))
    torch.save(result, tmp_path / "gradient.pt")
    assert torch.equal(torch.load(tmp_path / "gradient.pt"), result)
    assert result.untyped_storage().nbytes() == result.nbytes
    copy = result.clone()
    result.share_memory_()
    assert torch.equal(result, copy)
    result.add_(1).mul_(2)
    assert torch.equal(result, (copy + 1) * 2)
