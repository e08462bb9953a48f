"""One call of the overlap kernels per loss and layout, and what it asks of memory.

    python -m tests.emulator.overlaps

prints the table: launches, bytes and sectors against the ideal. The logits are read once in each of
the two phases, of sums and of the gradient, and the gradient is written once. Where they do not lie
in shared memory (StagedCells), a thread asks for them again, from the cache, as often as it needs
the largest, the exponentials and the probabilities: ``looks``. Labels, soft targets, masks and maps
are read once in each phase.
"""

import dataclasses
import functools

import torch

import fusedloss as fl
from fusedloss import _overlap_arguments, reference
from fusedloss._compound_checks import checked_compound, focal_part
from fusedloss._overlap_call import Compound, Operands, Overlap, Pointwise
from fusedloss._overlap_checks import checked_options

from . import overlap
from .rows import KernelRow, excess, rand, random_labels

PARTS = {
    "dice_cross_entropy_loss": lambda activation: Pointwise("cross_entropy"),
    "dice_bce_loss": lambda activation: Pointwise("binary_cross_entropy_with_logits"),
    "dice_focal_loss": lambda activation: focal_part(activation, 0.25, 2.0, None),
}


@dataclasses.dataclass(frozen=True)
class Row(KernelRow):
    """A mean over float32 logits; every tenth label is ignored.

    ``looks``: how often the phase of the sums, and that of the gradient, ask for a logit; under
    soft targets the last of them also says how often the target is asked for.
    """

    name: str
    loss: str = "dice_loss"
    activation: str = "softmax"
    shape: tuple = (2, 5, 24, 64)
    kernel: str = "PlanarCells"
    looks: tuple = (3, 3)
    soft: bool = False
    channels_last: bool = False
    strides: int = 1  # of the last dim, in a larger tensor
    per: str = "sample"
    squared: bool = False
    weight: bool = False
    smoothing: float = 0.0
    region: object = None
    weight_map: object = None
    reduction: str = "mean"
    labels: torch.dtype = torch.int64
    ignore_index: int | None = -100

    ops, project = overlap, overlap.SMALL
    loss_tolerance = {"rtol": 1e-5, "atol": 2e-6}

    @functools.cached_property
    def operands(self):
        generator = torch.Generator().manual_seed(1)

        def placed(values):
            if self.channels_last:
                return values.contiguous(memory_format=torch.channels_last)
            return torch.stack([values] * self.strides, -1).flatten(-2)[..., :: self.strides]

        input = placed(2 * torch.randn(self.shape, generator=generator))
        if self.activation == "none":
            input = input.sigmoid()
        if self.soft:
            return input, placed(torch.rand(self.shape, generator=generator))
        return input, random_labels(self.shape, self.ignore_index, generator).to(self.labels)

    @functools.cached_property
    def _checked(self):
        """(options, operands) as the reference and the ops take them."""
        ignore_index = None if self.soft else self.ignore_index
        options = Overlap(
            self.loss, self.activation, 1e-6, self.per, ignore_index, squared=self.squared
        )
        generator = torch.Generator().manual_seed(3)
        weight = torch.rand(self.shape[1], generator=generator) + 0.5 if self.weight else None
        operands = Operands(*self.operands, weight, self.weight_map, self.region)
        if self.loss not in PARTS:
            return checked_options(options), operands
        part = PARTS[self.loss](self.activation)._replace(label_smoothing=self.smoothing)
        return checked_compound(Compound(options, part, 0.5, None, weight)), operands

    @functools.cached_property
    def _words(self):
        options, operands = self._checked
        of = _overlap_arguments.of_compound if self.loss in PARTS else _overlap_arguments.of_overlap
        return of(options, operands, self.reduction)

    @property
    def others(self):
        return self._words[3]

    @property
    def _arguments(self):
        call, numbers, ignore_index, others, code = self._words
        return call, numbers, ignore_index, *self.operands, others, *code

    @functools.cached_property
    def expected(self):
        """Loss and gradient of the reference in float64."""
        options, operands = self._checked
        input = operands.input.detach().double().requires_grad_()
        operands = operands._replace(input=input)
        function = reference.compound if self.loss in PARTS else reference.overlap
        loss = function(options, operands, self.reduction, False)
        (gradient,) = torch.autograd.grad(loss.sum(), input)
        return loss.detach().flatten() if loss.ndim else loss.detach(), gradient

    @functools.cached_property
    def packs(self):
        """How many packs of positions have one that takes part; a pack is read whole."""
        input, target = self.operands
        result = torch.ones(self.shape[0], 1, *self.shape[2:], dtype=torch.bool)
        if not self.soft and self.ignore_index is not None:
            result &= (target != self.ignore_index).unsqueeze(1)
        if self.region is not None:
            result = result & fl.region_mask(self.region, input, target)
        lanes = {"PlanarCells": 4, "StagedCells": 256, "StridedCells": 1}[self.kernel]
        return int(result.reshape(-1, lanes).any(1).sum()), lanes

    @property
    def ideal(self):
        """Bytes of logits that are asked for in a pass with a gradient."""
        packs, lanes = self.packs
        return sum(self.looks) * 4 * self.shape[1] * packs * lanes


MASK = rand(2, 24, 64) > 0.3
BINARY = {"shape": (2, 1, 48, 64), "activation": "sigmoid", "looks": (1, 1), "soft": True}
LABELS = {"activation": "sigmoid", "looks": (1, 1), "ignore_index": 255, "labels": torch.uint8}
STRIDED = {"kernel": "StridedCells"}
LAST = {"channels_last": True, "kernel": "StagedCells", "looks": (1, 1)}

ROWS = [
    Row("softmax dice"),
    Row("with a mask", region=fl.regions.TensorRegion(MASK)),
    Row(
        "with a box and edges", region=fl.box(8, 4, 40, 20), weight_map=fl.edges(rand(2, 3, 24, 64))
    ),
    Row("squared, per class", squared=True, per="class", weight=True, labels=torch.int32),
    Row("soft targets", soft=True),
    Row("sigmoid dice, one channel", **BINARY),
    Row("sigmoid dice of labels", **LABELS),
    Row("jaccard of probabilities", "jaccard_loss", "none", looks=(1, 1), per="sample_class"),
    Row("tversky, no reduction", "tversky_loss", reduction="none"),
    Row("many classes", shape=(1, 70, 16, 16), **STRIDED),
    Row("dice + cross entropy", "dice_cross_entropy_loss"),
    Row("the same, smoothed, weighted", "dice_cross_entropy_loss", smoothing=0.1, weight=True),
    Row("dice + focal", "dice_focal_loss"),
    Row("dice + binary cross entropy", "dice_bce_loss", **BINARY),
    Row("dice + sigmoid focal", "dice_focal_loss", **LABELS),
    Row("channels last", **LAST),
    Row("channels last, with a mask", region=fl.regions.TensorRegion(MASK), **LAST),
    Row("channels last, dice + ce", "dice_cross_entropy_loss", **LAST),
    Row("channels last, 40 classes", shape=(2, 40, 8, 16), channels_last=True, **STRIDED),
    Row("odd planes", shape=(2, 5, 7, 9), **STRIDED),
    Row("rows", shape=(512, 6), per="class", kernel="StagedCells", looks=(1, 1)),
    Row("rows, a pool for each", shape=(70, 6), **STRIDED),
    Row("sliced", strides=2, **STRIDED),
]


def main():
    print("forward with gradient, float32, in bytes")
    columns = "kernel        launches     logits      ideal   looks   gradient      ideal    others"
    print(f"{'loss and layout':30} {columns}  excess")
    for row in ROWS:
        report = row.measure()
        read = report.buffers["input"].bytes_read
        written = report.buffers["gradient"].bytes_written if row.reduction != "none" else 0
        others = report.bytes_read - read - report.buffers["workspace"].bytes_read
        print(
            f"{row.name:30} {row.kernel:13} {report.launches:8} {read:10} {row.ideal:10} "
            f"{sum(row.looks):7} {written:10} {row.operands[0].numel() * 4:10} {others:9} "
            f"{excess(report):7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
