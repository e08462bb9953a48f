"""Random region terms and weight sources that go with a shape: everything that `fl` has."""

import torch

import fusedloss as fl
from tests import cases

_COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")


class RandomTerms:
    """`operand()` makes a mask or weight tensor for this shape, `layout(tensor)` other strides."""

    def __init__(self, shape, rng, operand, layout):
        self.shape = tuple(shape)
        self.spatial = self.shape[2:]
        self.rng = rng
        self.operand = operand
        self.layout = layout

    # ---- regions -------------------------------------------------------------------------------

    def region(self) -> fl.Region:
        """A single term."""
        kinds = [self._tensor, self._target, self._target]
        if len(self.shape) >= 2:
            kinds += [self._variance, self._mean]
        if len(self.shape) in (2, 3):
            kinds.append(self._lengths)
        if self.spatial:
            kinds.append(lambda: fl.center(self.rng.choice((0.3, 0.5, 0.8, 1.0))))
        if len(self.spatial) in (2, 3):
            kinds += [self._box, self._disk]
        return self.rng.choice(kinds)()

    def _compared(self, quantity, values):
        comparison = self.rng.choice(_COMPARISONS)
        return getattr(quantity, f"__{comparison}__")(self.rng.choice(values))

    def _tensor(self):
        return fl.regions.as_region(self.operand())

    def _target(self):
        if self.rng.chance(0.3):
            return fl.target.isfinite()
        return self._compared(fl.target, (0, 1, -1, 0.25, 0.5, -0.7, 0.1, 1e9))

    def _variance(self):
        correction = self.rng.choice((0, 1, 1, 0.5, 2))
        return self._compared(fl.input.var(correction), (0, 0.1, 1.3, 2.7))

    def _mean(self):
        image = self._image()
        values = (100, 127, 128.5) if image.dtype is torch.uint8 else (0, 0.25, 0.52)
        return self._compared(fl.image(image).mean(), values)

    def _lengths(self):
        longest = self.shape[-1]
        lengths = torch.randint(-1, longest + 2, self.shape[:1], generator=self.rng.tensors)
        return fl.lengths(lengths.clamp(-1, 120).to(self.rng.choice(cases.INTEGERS[2:6])))

    def _box(self):
        if self.rng.chance(0.4):
            return fl.box(*self._rows(2, 0)[0].reshape(-1, self._width(2, 0))[0].tolist())
        return fl.boxes(self._table(2, 0))

    def _disk(self):
        kind = self.rng.randrange(3)
        if kind == 0:
            *centre, radius = self._rows(1, 1)[0].reshape(-1, self._width(1, 1))[0].tolist()
            return fl.disk(*centre, abs(radius))
        if kind == 1:
            return fl.disks(self._table(1, 1))
        return fl.keypoints(self._table(1, 0), self.rng.choice((0, 0.5, 2, 40)))

    def _width(self, per_dim, extra):
        return per_dim * len(self.spatial) + extra

    def _rows(self, per_dim, extra):
        """(1 or N, K, width), somewhere around the image."""
        count = self.rng.choice((1, 2, 5))
        leading = (max(1, self.shape[0]), count)
        size = [*self.spatial[::-1]] * per_dim + [max(*self.spatial, 1) / 2] * extra
        rows = torch.rand((*leading, self._width(per_dim, extra)), generator=self.rng.tensors)
        return (1.4 * rows - 0.2) * torch.tensor(size)

    def _table(self, per_dim, extra):
        rows = self._rows(per_dim, extra)
        if self.shape[0] == 0 or self.rng.chance(0.5):
            rows = rows[0] if self.shape[0] or self.rng.chance(0.5) else rows[:0]
        rows[..., :1, :].masked_fill_(torch.tensor(self.rng.chance(0.2)), float("nan"))
        dtype = self.rng.choice(cases.FLOATS + (torch.int64, torch.int16))
        rows = rows if dtype.is_floating_point else rows.nan_to_num().round()
        return self.layout(rows.to(dtype))

    # ---- what they and the sources read --------------------------------------------------------

    def _image(self, spatial=None):
        samples = self.rng.choice((1, self.shape[0]))
        shape = (samples, self.rng.choice((1, 2, 3, 5)), *(spatial or self.spatial))
        values = torch.rand(shape, generator=self.rng.tensors)
        if self.rng.chance(0.4):
            return self.layout((255 * values).to(torch.uint8))
        return self.layout(values.to(self.rng.choice(cases.FLOATS)))

    def _labels(self):
        values = torch.rand((self.rng.choice((1, self.shape[0])), *self.spatial))
        smooth = values.cumsum(-1) / 7  # runs of equal labels
        labels = (smooth + torch.rand(1)).floor() if self.rng.chance(0.7) else (3 * values).floor()
        dtype = self.rng.choice(cases.FLOATS + cases.INTEGERS)
        labels = self.layout(labels.to(torch.int64).remainder(3).to(dtype))
        return labels.unsqueeze(1) if self.rng.chance(0.3) else labels

    # ---- weight sources: non-negative and well-conditioned ---------------------------------------

    def source(self, leaves: int) -> fl.WeightSource:
        left = self._leaf()
        for _ in range(leaves - 1):
            other = self.rng.choice(
                (lambda: self.rng.choice((0.5, 1, 2.25)), self.operand, self._leaf)
            )()
            kind = self.rng.randrange(6)
            if kind == 0:
                left = left / self.rng.choice((0.5, 3))
            elif kind < 3:
                left = other + left if self.rng.chance(0.5) else left + other
            elif kind < 5:
                left = other * left if self.rng.chance(0.5) else left * other
            else:
                left = 2 * left.leaves[0] + (3 - self._leaf() / 16) * left
        return left

    def _leaf(self) -> fl.WeightSource:
        kinds = [self._normalized]
        if self.spatial:
            kinds += [self._edges, self._activation, self._boundary]
        return self.rng.choice(kinds)()

    def _normalized(self):
        region = self.region()
        return fl.normalized(region & self.region() if self.rng.chance(0.3) else region)

    def _edges(self):
        operator = "sobel" if len(self.spatial) == 2 and self.rng.chance(0.5) else "forward"
        return fl.edges(self._image(), operator)

    def _activation(self):
        if len(self.spatial) > 3:
            return self._edges()
        size = [
            max(1, self.rng.choice((side, side // 2, side // 5, 2 * side, 3)))
            for side in self.spatial
        ]
        return fl.activation(self._image([min(side, 3000) for side in size]))

    def _boundary(self):
        labels = None
        if self.shape[1] != 1 or self.rng.chance(0.7):
            labels = self._labels()
        return fl.boundary(
            labels, self.rng.choice((0, 1, 1, 2, 3, 5, 40)), 3.0, self.rng.choice((0.0, 0.5))
        )
