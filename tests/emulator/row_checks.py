"""Checks of a row that the tests of several families make alike."""

import torch

import fusedloss as fl


def check_every_schedule(row):
    """The same bits under every schedule and on every grid, and right ones."""
    results = set()
    for seed in range(8):
        grid = {"multiprocessors": 1 + seed % 4, "blocks_per_multiprocessor": 1 + seed % 3}
        with row.traced(seed=seed, preempt=0.05, **grid) as reports:
            loss, gradient, sums, again = row.both()
        assert [report.launches for report in reports] == [1, 1]
        assert row.kernel in reports[0].kernels[0].kernel
        assert row.is_right(loss, again) and (not row.is_scalar or row.is_right(loss, gradient))
        written = gradient if row.is_scalar else again
        results.add((loss.numpy().tobytes(), written.numpy().tobytes(), sums.numpy().tobytes()))
    assert len(results) == 1


def check_reads_nothing_of(row, *buffers):
    """Of a row in which nothing takes part."""
    with row.traced() as reports:
        loss, gradient, _, again = row.both()
    assert loss == 0 and not gradient.any() and not again.any()
    for report in reports:
        assert all(report.buffers[name].bytes_read == 0 for name in buffers)
        assert report.buffers["gradient"].bytes_written == gradient.nbytes


def check_what_takes_no_part_is_not_read(row, ignore_index):
    """Whether it is masked out or its label is ignored."""
    input, target = row.operands
    nowhere = fl.regions.TensorRegion(torch.zeros(1).bool())
    check_reads_nothing_of(row.on(input, target, region=nowhere), "input")
    check_reads_nothing_of(row.on(input, torch.full_like(target, ignore_index)), "input")


def check_label_outside(row, label):
    """A device assert where the label takes part, and nothing where it does not."""
    input, target = row.operands
    target = target.clone()
    target.view(-1)[17] = label
    mask = torch.ones(target.shape, dtype=torch.bool)
    for takes_part in (True, False):
        mask.view(-1)[17] = takes_part
        case = row.on(input, target, region=fl.regions.TensorRegion(mask))
        with case.traced(check=False) as reports:
            case.forward()
        assert reports[0].kinds == ({"device_assert"} if takes_part else set())
