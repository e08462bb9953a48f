"""Every region term and every weight source over a photograph: the code, and what it looks like.

The losses never make these maps; `fl.region_mask` and `fl.weight_map` do, for looking at them.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

import fusedloss as fl
from fusedloss.demo import pictures
from fusedloss.demo.data import Fundus, StereoPair
from fusedloss.demo.labels import VESSEL

NEAR = 40  # pixels of disparity: the motorcycle and the floor before it
LEGEND = "regions: grey takes no part; weight sources: the lighter, the more a position counts"
_TENSOR = re.compile(r"tensor\(\w+, \([^)]*\)\)")


class Term(NamedTuple):
    """An expression, the names of the tensors in it, and the input and target that it is shown."""

    expression: object
    names: tuple[str, ...]
    input: torch.Tensor
    target: torch.Tensor

    @property
    def title(self) -> str:
        """The expression as it prints itself, its tensors by name."""
        if isinstance(self.expression, torch.Tensor):
            return self.names[0]
        names = iter(self.names)
        return _TENSOR.sub(lambda _: next(names), repr(self.expression))


def regions(pair: StereoPair) -> list[Term]:
    """A mask tensor, every term, and two combinations, with coordinates of the motorcycle scene."""
    photo, disparity = pair.left, pair.disparity
    red = photo[:, 0] - photo[:, 1:].amax(1) > 0.2
    rows = torch.arange(photo.shape[2], device=photo.device)
    lengths = (440 + 240 * torch.sin(rows / 60)).long()  # every row of pixels is a sequence
    bench_and_box = _table([[40, 100, 290, 310], [610, 180, 690, 280]], photo)
    wheels = _table([[203, 318, 87], [601, 374, 92]], photo)
    lamps = _table([[536, 155], [475, 189], [572, 130], [156, 233], [108, 209]], photo)

    def of(expression, *names):
        return Term(expression, names, disparity, disparity)

    return [
        of(red, "red"),
        of(fl.target > NEAR),
        of(fl.target.isfinite()),
        Term(fl.input.var() > 0.03, (), photo, photo),
        of(fl.image(photo).mean() < 0.2, "photo"),
        of(fl.center(0.5)),
        of(fl.box(90, 85, 690, 462)),
        of(fl.boxes(bench_and_box), "found"),
        of(fl.disk(203, 318, radius=87)),
        of(fl.disks(wheels), "wheels"),
        of(fl.keypoints(lamps, 24), "lamps"),
        Term(fl.lengths(lengths), ("lengths",), disparity[0, 0], disparity[0, 0]),
        of(fl.target.isfinite() & (fl.target > NEAR) & ~fl.disks(wheels), "wheels"),
        of(red & fl.box(90, 85, 690, 462) | fl.disks(wheels), "red", "wheels"),
    ]


def sources(pair: StereoPair) -> list[Term]:
    """Every weight source, a product and a sum."""
    photo, disparity = pair.left, pair.disparity
    features = F.adaptive_avg_pool2d(photo - photo.mean((2, 3), keepdim=True), (9, 13))
    near = disparity.isfinite() & (disparity > NEAR)

    def of(expression, *names):
        return Term(expression, names, disparity, disparity)

    return [
        of(fl.edges(photo), "photo"),
        of(fl.edges(photo, operator="sobel"), "photo"),
        of(fl.activation(features), "features"),
        of(fl.normalized(fl.image(photo).mean() < 0.2), "photo"),
        of(fl.boundary(near, radius=3), "near"),
        of(fl.boundary(near, radius=8, inside=5.0, outside=1.0), "near"),
        of(fl.activation(features) * fl.normalized(fl.target > NEAR), "features"),
        of(1 + 4 * fl.edges(photo, operator="sobel") - fl.boundary(near) / 2, "photo", "near"),
    ]


def label_regions(fundus: Fundus) -> list[Term]:
    """What a region can say about class labels; `input` is what a network would return for them."""
    x, y, radius = fundus.field
    vessels = (fl.target == VESSEL) & fl.disk(x, y, radius=radius / 2)
    return [Term(vessels, (), fundus.photo, fundus.classes)]


def label_sources(fundus: Fundus) -> list[Term]:
    """The borders between class labels."""
    expressions = (1 + 4 * fl.boundary(), fl.boundary(radius=4, inside=5.0, outside=1.0))
    return [Term(expression, (), fundus.photo, fundus.classes) for expression in expressions]


def draw(path: Path, pair: StereoPair, fundus: Fundus) -> None:
    """Writes the sheet: photographs, and a tile per expression."""
    fundus = _band(fundus)
    photo, retina = _picture(pair.left), _picture(fundus.photo)
    disparity = _plane(pair.disparity)
    tiles = [
        pictures.Tile("photo", photo),
        pictures.Tile("disparity, the target", disparity, np.isfinite(disparity)),
        *_mask_tiles(regions(pair), photo),
        *_weight_tiles(sources(pair)),
        pictures.Tile("retina; its labels are the target", retina),
        *_mask_tiles(label_regions(fundus), retina),
        *_weight_tiles(label_sources(fundus)),
    ]
    pictures.sheet(path, LEGEND, tiles)


def _mask_tiles(terms: list[Term], photo: np.ndarray) -> list[pictures.Tile]:
    masks = [fl.region_mask(term.expression, term.input, term.target) for term in terms]
    return [
        pictures.Tile(f"mask={term.title}", photo, _plane(mask))
        for term, mask in zip(terms, masks, strict=True)
    ]


def _weight_tiles(terms: list[Term]) -> list[pictures.Tile]:
    maps = [fl.weight_map(term.expression, term.input, term.target) for term in terms]
    return [
        pictures.Tile(f"weight={term.title}", _plane(weights))
        for term, weights in zip(terms, maps, strict=True)
    ]


def _band(fundus: Fundus) -> Fundus:
    """The middle of the retina, as wide for its height as the other pictures of the sheet."""
    top, height = 76, 318
    rows = slice(top, top + height)
    x, y, radius = fundus.field
    return Fundus(fundus.photo[..., rows, :], fundus.classes[..., rows, :], (x, y - top, radius))


def _picture(photo: torch.Tensor) -> np.ndarray:
    return photo[0].permute(1, 2, 0).cpu().numpy()


def _table(rows, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(rows, device=like.device)


def _plane(values: torch.Tensor) -> np.ndarray:
    return values.reshape(values.shape[-2:]).cpu().numpy()
