"""The tables of the elementwise family: losses, dtypes, layouts, masks, weights, reductions.

Everything here is data and small builders of tensors; nothing computes a loss, so every backend,
the emulator and the benchmarks can use it.
"""

import zlib
from dataclasses import dataclass, field, replace

import torch

import fusedloss as fl


@dataclass(frozen=True)
class Loss:
    """A function of the family with its own options; `kind` says what inputs it takes."""

    name: str
    options: dict = field(default_factory=dict)
    kind: str = "real"  # "probability", "logit"
    pos_weight: bool = False

    def __str__(self):
        short = self.name.removesuffix("_loss")
        options = "".join(f"-{key}={value:g}" for key, value in self.options.items())
        return short + options + ("-pos_weight" if self.pos_weight else "")


LOSSES = (
    Loss("l1_loss"),
    Loss("mse_loss"),
    Loss("smooth_l1_loss"),
    Loss("smooth_l1_loss", {"beta": 0.0}),
    Loss("smooth_l1_loss", {"beta": 0.3}),
    Loss("huber_loss"),
    Loss("huber_loss", {"delta": 0.4}),
    Loss("charbonnier_loss"),
    Loss("charbonnier_loss", {"eps": 0.5}),
    Loss("log_cosh_loss"),
    Loss("binary_cross_entropy", kind="probability"),
    Loss("binary_cross_entropy_with_logits", kind="logit"),
    Loss("binary_cross_entropy_with_logits", kind="logit", pos_weight=True),
    Loss("sigmoid_focal_loss", kind="logit"),
    Loss("sigmoid_focal_loss", {"alpha": -1.0, "gamma": 0.0}, "logit"),
    Loss("sigmoid_focal_loss", {"alpha": 0.6, "gamma": 0.5}, "logit"),
    Loss("sigmoid_focal_loss", {"alpha": 0.25, "gamma": 1.5}, "logit"),
)
# One row per function, for tests that cross many other tables; by name, and all in order.
FUNCTION = {loss.name: loss for loss in reversed(LOSSES)}
FUNCTIONS = tuple(FUNCTION[name] for name in dict.fromkeys(loss.name for loss in LOSSES))

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64) + (
    torch.uint16,
    torch.uint32,
    torch.uint64,
)
REDUCTIONS = ("mean", "sum", "none", "sample_mean")
NORMALIZERS = (None, "weights", "selected", "positions", "all", 7.5, "tensor")


def normalizers(reduction: str) -> tuple:
    """The normalizers that go with a reduction."""
    if reduction in ("sum", "none"):
        return (None,)
    return NORMALIZERS if reduction == "mean" else NORMALIZERS[:5]


def generator(*key) -> torch.Generator:
    """A random generator that depends on the words of `key` alone."""
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


@dataclass(frozen=True)
class Problem:
    """A call of `loss` with all its tensors; `mask` is a tensor or a region."""

    loss: Loss
    input: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor | None = None
    pos_weight: torch.Tensor | None = None
    mask: object = None
    reduction: str = "mean"
    normalizer: object = None
    grad_output: torch.Tensor | None = None  # None: ones

    def arguments(self) -> dict:
        """Keyword arguments of the function, without `input` and `target`."""
        result = dict(self.loss.options, reduction=self.reduction, weight=self.weight)
        if self.pos_weight is not None:
            result["pos_weight"] = self.pos_weight
        return result | {"mask": self.mask, "normalizer": self.normalizer}

    def with_(self, **changes) -> "Problem":
        return replace(self, **changes)


# ---- values ------------------------------------------------------------------------------------


def make_input(loss: Loss, shape, dtype=torch.float32, rng=None) -> torch.Tensor:
    if loss.kind == "probability":
        values = torch.rand(shape, generator=rng, dtype=torch.float64)
        values = torch.where(values < 0.05, 0.0, torch.where(values > 0.95, 1.0, values))
    else:
        values = 2 * torch.randn(shape, generator=rng, dtype=torch.float64)
    return values.to(dtype)


def make_target(loss: Loss, shape, dtype=torch.float32, rng=None) -> torch.Tensor:
    if dtype.is_floating_point:
        if loss.kind == "real":
            return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)
        soft = torch.rand(shape, generator=rng, dtype=torch.float64)
        hard = torch.randint(0, 2, shape, generator=rng)
        return torch.where(torch.rand(shape, generator=rng) < 0.5, soft, hard).to(dtype)
    low, high = (-5, 6) if loss.kind == "real" else (0, 2)
    if not dtype.is_signed:
        low, high = (0, 2) if dtype is torch.bool else (0, high)
    return torch.randint(low, high, shape, generator=rng).to(dtype)


def make_weight(shape, dtype=torch.float32, rng=None, zeros=0.2) -> torch.Tensor:
    """Non-negative, some of it exactly 0."""
    if dtype.is_floating_point:
        values = 0.25 + torch.rand(shape, generator=rng, dtype=torch.float64)
    else:
        values = torch.randint(1, 2 if dtype is torch.bool else 4, shape, generator=rng)
    keep = torch.rand(shape, generator=rng) >= zeros
    return (values * keep).to(dtype)


def make_problem(loss, shape, dtype=torch.float32, target_dtype=None, rng=None, **others):
    """`loss` of random values; `others` are fields of Problem."""
    rng = rng or generator(str(loss), tuple(shape), dtype)
    input = make_input(loss, shape, dtype, rng)
    target = make_target(loss, shape, target_dtype or dtype, rng)
    if loss.pos_weight and "pos_weight" not in others:
        others["pos_weight"] = 0.5 + torch.rand(shape[1:2], generator=rng)
        if len(shape) > 2:
            others["pos_weight"] = others["pos_weight"].reshape(-1, *[1] * (len(shape) - 2))
    return Problem(loss, input, target, **others)


# ---- masks and weights by name: (problem shape, dtype, generator) -> tensor or region ----------


def _bools(shape, rng):
    return torch.rand(shape, generator=rng) < 0.6


def positions(shape):
    return (*shape[:1], *shape[2:]) if len(shape) >= 2 else tuple(shape)


def _column(shape):
    return (*shape[:1], 1, *shape[2:])


REGIONS = {
    "none": lambda shape, rng: None,
    "bool": lambda shape, rng: _bools(shape, rng),
    "bool-positions": lambda shape, rng: _bools(positions(shape), rng),
    "bool-spatial": lambda shape, rng: _bools(shape[2:], rng),
    "bool-samples": lambda shape, rng: _bools((shape[0], *[1] * (len(shape) - 1)), rng),
    "bool-channels": lambda shape, rng: _bools((1, shape[1], *[1] * (len(shape) - 2)), rng),
    "uint8-column": lambda shape, rng: 3 * _bools(_column(shape), rng).to(torch.uint8),
    "float": lambda shape, rng: make_weight(shape, torch.float32, rng, 0.4),
    "float-column": lambda shape, rng: make_weight(_column(shape), torch.float32, rng, 0.4),
    "target": lambda shape, rng: fl.target > 0,
    "target-band": lambda shape, rng: (fl.target >= -0.5) & ~(fl.target >= 0.75),
    "finite-and-bool": lambda shape, rng: fl.target.isfinite() & _bools(_column(shape), rng),
    "nested": lambda shape, rng: (
        (make_weight(_column(shape), torch.float32, rng, 0.4) | (fl.target < 0.25))
        & ~(_bools(shape, rng) & _bools(shape[2:], rng))
    ),
    "nothing": lambda shape, rng: torch.zeros(positions(shape), dtype=torch.bool),
}

WEIGHTS = {
    "none": lambda shape, rng: None,
    "full": lambda shape, rng: make_weight(shape, torch.float32, rng),
    "column": lambda shape, rng: make_weight(_column(shape), torch.float32, rng),
    "channels": lambda shape, rng: make_weight(
        (1, shape[1], *[1] * (len(shape) - 2)), torch.float32, rng
    ),
    "int64-samples": lambda shape, rng: make_weight(
        (shape[0], *[1] * (len(shape) - 1)), torch.int64, rng
    ),
    "scalar": lambda shape, rng: torch.tensor(1.75),
}

# Terms and sources that need spatial dims: two or three.


def _coordinates(shape, rng, per_dim, extra=0, count=4, lead=True):
    """(N, count, ...) or (count, ...) rows of coordinates somewhere around the spatial dims."""
    spatial = shape[:1:-1]
    leading = (shape[0], count) if lead else (count,)
    rows = 1.4 * torch.rand((*leading, per_dim * len(spatial) + extra), generator=rng) - 0.2
    return rows * torch.tensor([*spatial] * per_dim + [max(spatial) / 2] * extra)


def _numbers(shape, rng, per_dim, extra=0):
    row = _coordinates(shape, rng, per_dim, extra, 1, lead=False)[0].tolist()
    return [
        abs(value) if index >= per_dim * len(shape[2:]) else value
        for index, value in enumerate(row)
    ]


def _photo(shape, rng, channels=3):
    return torch.rand((shape[0], channels, *shape[2:]), generator=rng)


TERMS = {
    "variance": lambda shape, rng: fl.input.var() > 0.1,
    "dark": lambda shape, rng: fl.image((255 * _photo(shape, rng)).to(torch.uint8)).mean() < 127,
    "center": lambda shape, rng: fl.center(0.6),
    "box": lambda shape, rng: fl.box(*_numbers(shape, rng, 2)),
    "boxes": lambda shape, rng: fl.boxes(_coordinates(shape, rng, 2)),
    "int-boxes": lambda shape, rng: fl.boxes(_coordinates(shape, rng, 2, lead=False).long()),
    "disk": lambda shape, rng: fl.disk(*_numbers(shape, rng, 1, 1)),
    "disks": lambda shape, rng: fl.disks(_coordinates(shape, rng, 1, 1)),
    "keypoints": lambda shape, rng: fl.keypoints(_coordinates(shape, rng, 1, lead=False), 1.5),
    "nested": lambda shape, rng: (
        ~(fl.image(_photo(shape, rng)).mean() < 0.4) & (fl.input.var() > 0.05)
        | fl.boxes(_coordinates(shape, rng, 2)) & (fl.target > 0)
    ),
}

SOURCES = {
    "edges": lambda shape, rng: fl.edges(_photo(shape, rng)),
    "edges-uint8": lambda shape, rng: fl.edges((255 * _photo(shape, rng)[:1]).to(torch.uint8)),
    "activation": lambda shape, rng: fl.activation(
        torch.randn((shape[0], 4, *(1 + size // 2 for size in shape[2:])), generator=rng)
    ),
    "normalized": lambda shape, rng: fl.normalized(fl.image(_photo(shape, rng)).mean() < 0.5),
    "normalized-target": lambda shape, rng: fl.normalized(fl.target > 0),
    "boundary": lambda shape, rng: fl.boundary(
        torch.randint(0, 2, positions(shape), generator=rng), inside=5.0, outside=0.5
    ),
    "affine": lambda shape, rng: 1 + 4 * fl.edges(_photo(shape, rng)),
    "product": lambda shape, rng: (
        make_weight(positions(shape), rng=rng)
        * (
            fl.boundary(torch.randint(0, 2, _column(shape), generator=rng), 2) / 2
            + fl.edges(_photo(shape, rng))
        )
    ),
}


# ---- layouts: the same values in other strides -------------------------------------------------


def _copied(tensor, make_view):
    """The values of `tensor` in a view that `make_view` cuts out of fresh memory."""
    view = make_view(tensor)
    return view.copy_(tensor)


def _padded(tensor):
    """Every second element of a larger tensor in the last dim, behind an odd offset."""
    shape = (*tensor.shape[:-1], 2 * tensor.shape[-1] + 3)
    return tensor.new_full(shape, float("nan") if tensor.is_floating_point() else 1)[..., 3::2]


def _transposed(tensor):
    return tensor.new_empty(tensor.shape[::-1]).permute(tuple(range(tensor.ndim))[::-1])


def _channels_last(tensor):
    if tensor.ndim < 3:
        return tensor.new_empty(tensor.shape)
    shape = (tensor.shape[0], *tensor.shape[2:], tensor.shape[1])
    return tensor.new_empty(shape).movedim(-1, 1)


def _cropped(tensor):
    """A window of a larger tensor: rows with gaps between them."""
    if tensor.ndim == 0:
        return tensor.new_empty(3)[1]
    shape = [size + 2 for size in tensor.shape]
    return tensor.new_empty(shape)[tuple(slice(1, -1) for _ in shape)]


LAYOUTS = {
    "contiguous": lambda tensor: tensor,
    "channels_last": lambda tensor: _copied(tensor, _channels_last),
    "transposed": lambda tensor: _copied(tensor, _transposed),
    "sliced": lambda tensor: _copied(tensor, _padded) if tensor.ndim else tensor,
    "cropped": lambda tensor: _copied(tensor, _cropped),
    "expanded": lambda tensor: (
        tensor.narrow(0, 0, 1).expand(tensor.shape) if tensor.ndim and tensor.shape[0] else tensor
    ),
}
