"""One call of the class kernels per loss and layout, and what it asks of memory.

    python -m tests.emulator.classes

prints the table: launches, bytes against the ideal, sectors against the ideal. The ideal is that
the logits of every position that takes part are read once, or as often as ``reads`` says, and that
the gradient is written once; labels, masks and maps are read once in each phase.
"""

import dataclasses
import functools

import torch

import fusedloss as fl
from fusedloss import _classwise_dispatch, reference
from fusedloss.reference import ClassOperands

from . import classwise
from .rows import KernelRow, excess, rand, random_labels

OPTIONS = {"softmax_focal_loss": (2.0,), "categorical_cross_entropy": (1e-7,)}


@dataclasses.dataclass(frozen=True)
class Row(KernelRow):
    """A mean over float32 logits; every tenth label is ignored.

    ``reads``: how often a pass with a gradient reads the logits of a position that takes part.
    """

    name: str
    loss: str = "cross_entropy"
    shape: tuple = (2, 19, 24, 64)
    kernel: str = "class_columns"
    reads: int = 1
    channels_last: bool = False
    strides: tuple | None = None  # of the last dim, in a larger tensor
    probabilities: bool = False
    weight: bool = False
    smoothing: float = 0.0
    region: object = None
    weight_map: object = None
    reduction: str = "mean"
    offset: int = 0
    labels: torch.dtype = torch.int64

    ops, project = classwise, classwise.SMALL

    @functools.cached_property
    def operands(self):
        generator = torch.Generator().manual_seed(1)
        size = torch.Size(self.shape).numel()

        def placed(values):
            whole = torch.cat((torch.zeros(self.offset), values.flatten()))[self.offset :]
            if not self.channels_last:
                return whole.view(self.shape)
            order = (0, *range(2, len(self.shape)), 1)
            back = (0, len(self.shape) - 1, *range(1, len(self.shape) - 1))
            return whole.view([self.shape[i] for i in order]).permute(back)

        input = 2 * torch.randn(size, generator=generator)
        if self.loss == "categorical_cross_entropy":
            input = input.exp()
        if self.loss == "nll_loss":
            input = input.view(self.shape).log_softmax(1)
        input = placed(input)
        if self.strides is not None:
            input = torch.stack((input, input), -1).flatten(-2)[..., ::2]
        if self.probabilities:
            target = placed(torch.rand(size, generator=generator) + 0.1)
            return input, target / target.sum(1, keepdim=True)
        return input, random_labels(self.shape, -100, generator).to(self.labels)

    @functools.cached_property
    def class_weight(self):
        if not self.weight:
            return None
        return torch.rand(self.shape[1], generator=torch.Generator().manual_seed(3)) + 0.5

    @property
    def _reference_arguments(self):
        operands = ClassOperands(
            *self.operands, self.class_weight, self.weight_map, -100, self.smoothing
        )
        return self.loss, OPTIONS.get(self.loss, ()), operands, self.region, self.reduction, None

    @functools.cached_property
    def _words(self):
        return _classwise_dispatch._op_arguments(*self._reference_arguments)

    @property
    def others(self):
        return self._words[2]

    @property
    def _arguments(self):
        call, numbers, others, code = self._words
        return call, numbers, -100, *self.operands, others, *code

    @functools.cached_property
    def expected(self):
        """Loss and gradient of the reference in float64."""
        name, options, operands, *rest = self._reference_arguments
        input = operands.input.detach().double().requires_grad_()
        operands = operands._replace(input=input)
        loss = reference.classwise(name, options, operands, *rest, False)
        (gradient,) = torch.autograd.grad(loss.sum(), input)
        return loss.detach(), gradient

    @functools.cached_property
    def active(self):
        """How many positions take part."""
        input, target = self.operands
        result = torch.ones(self.shape[0], *self.shape[2:], dtype=torch.bool)
        if not self.probabilities:
            result &= target != -100
        if self.region is not None:
            result &= fl.region_mask(self.region, input, target)[:, 0]
        if self.weight_map is not None:
            result &= fl.weight_map(self.weight_map, input, target)[:, 0] != 0
        return int(result.sum())

    @property
    def ideal(self):
        """Bytes of logits to read in a pass with a gradient."""
        classes = 1 if self.loss == "nll_loss" else self.shape[1]
        return self.reads * 4 * classes * self.active


MASK = rand(2, 24, 64) > 0.3
LAST = {"channels_last": True, "kernel": "class_staged"}
LONG = {"shape": (24, 1000), "kernel": "class_rows", "reads": 2}
LONGEST = {"shape": (5, 5000), "kernel": "class_rows", "reads": 2}

ROWS = [
    Row("cross entropy, planes"),
    Row("with a mask", region=fl.regions.TensorRegion(MASK)),
    Row(
        "with a box and edges", region=fl.box(8, 4, 40, 20), weight_map=fl.edges(rand(2, 3, 24, 64))
    ),
    Row("class weights", weight=True, labels=torch.int32),
    Row("smoothed", smoothing=0.1),
    Row("probabilities", probabilities=True),
    Row("focal", "softmax_focal_loss"),
    Row("negative log-likelihood", "nll_loss"),
    Row("categorical", "categorical_cross_entropy"),
    Row("many planes", shape=(2, 60, 8, 64), reads=2),
    Row("channels last", **LAST),
    Row("channels last, focal", "softmax_focal_loss", **LAST),
    Row("channels last, categorical", "categorical_cross_entropy", **LAST),
    Row("rows of 32", shape=(700, 32), kernel="class_staged"),
    Row("rows of 1000", **LONG),
    Row("rows of 1000, weighted", weight=True, **LONG),
    Row("rows of 1000, focal", "softmax_focal_loss", **LONG),
    Row("rows of 1000, nll", "nll_loss", shape=(24, 1000), kernel="class_rows"),
    Row("rows of 1000, probabilities", probabilities=True, **(LONG | {"reads": 3})),
    Row("rows of 5000", **LONGEST),
    Row("rows of 5000, smoothed", smoothing=0.1, **LONGEST),
]


def main():
    print("forward with gradient, float32, in bytes")
    columns = (
        "kernel         launches     logits      ideal   gradient      ideal    others  excess"
    )
    print(f"{'loss and layout':28} {columns}")
    for row in ROWS:
        report = row.measure()
        read = report.buffers["input"].bytes_read
        written = report.buffers["gradient"].bytes_written
        others = report.bytes_read - read - report.buffers["workspace"].bytes_read
        print(
            f"{row.name:28} {row.kernel:14} {report.launches:8} {read:10} {row.ideal:10} "
            f"{written:10} {row.operands[0].numel() * 4:10} {others:9} {excess(report):7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
