"""One call of the CUDA kernels per region and weight source, and what it asks of memory.

    python -m tests.emulator.programs

prints the table: launches, bytes against the ideal, sectors against the ideal. The ideal is that
input and target are read in the 16-byte packs of which something takes part, and once more wherever
the region or the weight itself looks at them; that the gradient is written once; and that tensors,
images and tables are read once in each phase that needs them. A neighbour is asked for again, from
the cache: `times` says how often a phase requests each of their bytes.
"""

import dataclasses
import functools

import torch

import fusedloss as fl
from fusedloss import _elementwise_dispatch, _program, reference

from . import elementwise
from .rows import KernelRow, rand

SHAPE = (2, 3, 48, 64)


@dataclasses.dataclass(frozen=True)
class Row(KernelRow):
    """A mean squared error with this region and weight.

    ``input_looks`` and ``target_looks``: how often each phase reads them whole to know the factors;
    ``times``: how often a phase requests each byte of the other tensors at most.
    """

    name: str
    region: object = None
    weight: object = None
    input_looks: int = 0
    target_looks: int = 0
    times: float = 1
    shape: tuple = SHAPE
    reduction: str = "mean"
    normalizer: str | None = None
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    ops, project = elementwise, elementwise.PROJECT

    @functools.cached_property
    def operands(self):
        generator = torch.Generator().manual_seed(1)
        format = torch.channels_last if self.channels_last else torch.contiguous_format
        return tuple(
            torch.randn(self.shape, generator=generator)
            .to(self.dtype)
            .contiguous(memory_format=format)
            for _ in range(2)
        )

    @property
    def _words(self):
        options = "mse_loss", (), self.weight, None, self.region
        return _elementwise_dispatch._op_arguments(
            *self.operands, *options, self.reduction, self.normalizer
        )

    @property
    def _arguments(self):
        call, numbers, others, code = self._words
        return call, numbers, *self.operands, others, *code

    @functools.cached_property
    def expected(self):
        """Loss and gradient of the reference."""
        input, target = (operand.float() for operand in self.operands)
        input.requires_grad_()
        options = {} if self.normalizer is None else {"normalizer": self.normalizer}
        loss = reference.mse_loss(
            input,
            target,
            mask=self.region,
            weight=self.weight,
            reduction=self.reduction,
            **options,
        )
        (gradient,) = torch.autograd.grad(loss.sum(), input)
        return loss.detach(), gradient

    def is_right(self, loss, gradient):
        want_loss, want_gradient = self.expected
        eps = max(torch.finfo(self.dtype).eps, 1e-6)
        return bool(
            torch.allclose(loss.float(), want_loss, rtol=4 * eps, atol=1e-6)
            and torch.allclose(gradient.float(), want_gradient, rtol=20 * eps, atol=1e-6)
        )

    @property
    def ranges(self):
        """How many weights are normalised by their range, in a phase of their own."""
        return self._words[3][1][::4].count(_program.NORMALIZE)

    @property
    def others(self):
        return self._words[2]

    @functools.cached_property
    def selected_bytes(self):
        """Of the 16-byte packs of the input that have an element with a factor other than 0."""
        input, target = self.operands
        factor = torch.ones(self.shape)
        if self.region is not None:
            factor = factor * (fl.region_mask(self.region, input, target) != 0)
        if self.weight is not None:
            factor = factor * (fl.weight_map(self.weight, input, target) != 0)
        if self.channels_last:
            factor = factor.permute(0, 2, 3, 1)
        packs = factor.reshape(-1, 16 // input.element_size())
        return 16 * int((packs != 0).any(1).sum())

    def ideal(self, phases):
        """Bytes to read of input and target in a launch with so many phases over the elements."""
        whole = self.operands[0].nbytes
        # The main phase has what it looked at in registers, but the channels of a variance.
        input = self.selected_bytes + phases * self.input_looks * whole
        target = phases * self.target_looks * whole if self.target_looks else self.selected_bytes
        return input, target


IMAGE, FEATURES = rand(2, 3, 48, 64), rand(2, 8, 6, 8) - 0.5
LABELS = (rand(2, 1, 6, 8).mul(3).floor().repeat_interleave(8, 2).repeat_interleave(8, 3)).to(
    torch.uint8
)
BOXES = torch.tensor([[[4, 4, 20, 20], [30, 8, 60, 40]], [[0, 0, 9, 9], [8, 30, 40, 47]]])
TENSOR = rand(2, 1, 48, 64) > 0.4

ROWS = [
    Row("tensor & box", fl.regions.TensorRegion(TENSOR) & fl.box(8, 4, 40, 30)),
    Row("center", fl.center(0.5)),
    Row("box", fl.box(8, 4, 40, 30)),
    Row("boxes", fl.boxes(BOXES), times=1e9),
    Row("disk", fl.disk(30, 20, 11.5)),
    Row("disks", fl.disks(torch.tensor([[30.0, 20, 9], [50, 40, 5]])), times=1e9),
    Row("keypoints", fl.keypoints(torch.tensor([[30.0, 20], [50, 40]]), radius=6.0), times=1e9),
    Row("variance", fl.input.var() > 1.0, input_looks=1),
    Row("image mean", fl.image(IMAGE).mean() < 0.5),
    Row("target > 0", (fl.target > 0) & fl.center(1), target_looks=1),
    Row("nested", (fl.center(0.7) | fl.disk(5, 5, 6)) & ~fl.box(20, 20, 30, 28)),
    Row("affine tensor", None, 1 + 2 * fl.weights.TensorWeight(rand(2, 1, 48, 64))),
    Row("edges", None, fl.edges(IMAGE), times=3),
    Row("edges in a box", fl.box(8, 4, 40, 30), fl.edges(IMAGE), times=3),
    Row("sobel", None, fl.edges(IMAGE, operator="sobel"), times=9),
    Row("activation", None, fl.activation(FEATURES), times=4 * 64),
    Row("normalized", None, fl.normalized(fl.image(IMAGE).mean() < 0.5)),
    Row("normalized target", None, fl.normalized(fl.target > 0), target_looks=1),
    Row("boundary 1", None, fl.boundary(LABELS, radius=1, inside=3.0, outside=1.0), times=9 + 1),
    Row("boundary 3", None, fl.boundary(LABELS, radius=3, inside=3.0, outside=0.5), times=49 + 1),
]


def requested(row, report):
    """(bytes asked of input and target, the ideal, bytes asked of all other tensors)."""
    buffers = report.buffers
    phases = 2 if report.kernels[0].cooperative else 1
    input, target = row.ideal(phases)
    if row.target_looks:
        target += row.ranges * row.operands[1].nbytes
    others = sum(buffers[f"other{i}"].bytes_read for i in range(len(row.others)))
    return buffers["input"].bytes_read + buffers["target"].bytes_read, input + target, others


def main():
    whole = ROWS[0].operands[0].nbytes
    print(f"mse_loss {SHAPE}, forward with gradient, in bytes; input, target and gradient: {whole}")
    columns = "launches  input+target       ideal  gradient    others  requested   times"
    print(f"{'factors':18}  {columns}")
    for row in ROWS:
        report = row.measure()
        read, ideal, others = requested(row, report)
        size = sum(tensor.nbytes for tensor in row.others)
        times = f"{others / size / (2 + row.ranges):.1f}" if size else "-"
        written = report.buffers["gradient"].bytes_written
        print(
            f"{row.name:18}  {report.launches:8}  {read:12}  {ideal:10}  {written:8}  {size:8}  "
            f"{others:9}  {times:>6}",
            flush=True,
        )


if __name__ == "__main__":
    main()
