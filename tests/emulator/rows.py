"""What the rows of the tables have in common: one call each of a family's ops under emulation."""

import dataclasses

import torch


class KernelRow:
    """The base of a frozen dataclass that has the fields `name`, `reduction`, `region` and gives

    ops, project   the module of the family's ops, and which of its projects is traced
    operands       input and target
    _arguments     of an op, but for the words that only the forward pass has
    expected       loss and gradient of the reference in float64
    """

    kernel = ""  # part of the kernel's name
    loss_tolerance = {"rtol": 2e-6, "atol": 1e-6}

    def __str__(self):
        return self.name

    def on(self, input, target, **changes):
        """This row with other operands."""
        row = dataclasses.replace(self, **changes)
        row.__dict__["operands"] = input, target
        return row

    @property
    def is_scalar(self):
        return self.reduction != "none"

    def forward(self, gradient=True):
        """With the gradient, where the loss is a scalar."""
        call, *rest = self._arguments
        flags = " sums" + " gradient" * (gradient and self.is_scalar)
        return self.ops.forward(call + flags, *rest)

    def backward(self, grad_output, sums):
        return self.ops.backward(*self._arguments, grad_output, sums)

    def both(self):
        """Loss, gradient and sums of a forward pass, and the gradient of a backward pass."""
        loss, gradient, sums = self.forward()
        return loss, gradient, sums, self.backward(torch.ones_like(loss), sums)

    def traced(self, **options):
        return self.ops.recorded(self.project, traced=True, max_excess=None, **options)

    def measure(self):
        """What a traced forward pass with its gradient asked of memory."""
        with self.traced(preempt=0.01) as reports:
            loss, gradient, _ = self.forward()
        (report,) = reports
        assert not self.is_scalar or self.is_right(loss, gradient), self
        return report

    def is_right(self, loss, gradient):
        want_loss, want_gradient = self.expected
        error = (gradient - want_gradient).norm()
        return bool(
            torch.allclose(loss.double(), want_loss, **self.loss_tolerance)
            and error <= 1e-5 * want_gradient.norm()
            and (gradient[want_gradient == 0] == 0).all()
        )


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2))


def random_labels(shape, ignore_index, generator):
    """Labels for an input of ``shape``; every tenth is ``ignore_index`` unless that is None."""
    positions = (shape[0], *shape[2:])
    labels = torch.randint(0, shape[1], positions, generator=generator)
    ignored = torch.rand(positions, generator=generator) < 0.1
    return labels if ignore_index is None else torch.where(ignored, ignore_index, labels)


def excess(report):
    """Sectors against the ideal of the lines that move the most."""
    lines = [line for line in report.coalescing if line.bytes >= report.bytes_written // 4]
    return max((line.excess for line in lines), default=1.0)
