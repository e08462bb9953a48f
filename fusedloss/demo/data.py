"""Reads the pictures of the demo out of the installed scikit-image wheel; nothing is downloaded."""

from importlib import resources
from typing import NamedTuple

import numpy as np
import skimage
import torch
from PIL import Image

from fusedloss.demo import labels

FOLDER = resources.files(skimage) / "data"


class StereoPair(NamedTuple):
    """A rectified stereo pair and what is known about it.

    left, right: (1, 3, H, W) float32 in [0, 1]. disparity: (1, 1, H, W) float32, how many pixels
    further left a point of `left` lies in `right`; infinite where it was not measured.
    """

    left: torch.Tensor
    right: torch.Tensor
    disparity: torch.Tensor

    def to(self, device: str) -> "StereoPair":
        """The same pair on another device."""
        return StereoPair(*(tensor.to(device) for tensor in self))

    def crop(self, size: int) -> "StereoPair":
        """The square of `size` pixels in the middle of the scene."""
        height, width = self.disparity.shape[2:]
        top, left = (height - size) // 2, (width - size) // 2
        return StereoPair(*(t[:, :, top : top + size, left : left + size] for t in self))


class Fundus(NamedTuple):
    """A photograph of the back of an eye, and the class of every pixel.

    photo: (1, 3, H, W) float32 in [0, 1]. classes: (1, H, W) int64, indices into
    `labels.CLASSES`. field: x, y and radius of the field of view, a disk; all around it is black.
    """

    photo: torch.Tensor
    classes: torch.Tensor
    field: tuple[float, float, float]

    def to(self, device: str) -> "Fundus":
        """The same on another device."""
        return Fundus(self.photo.to(device), self.classes.to(device), self.field)

    def crop(self, size: int) -> "Fundus":
        """A square of `size` pixels around the optic disc, where all classes are."""
        rows, columns = (self.classes[0] == labels.DISC).nonzero().T
        top, left = (
            int(min(max(at.float().mean() - size / 2, 0), whole - size))
            for at, whole in zip((rows, columns), self.classes.shape[1:], strict=True)
        )
        part = (..., slice(top, top + size), slice(left, left + size))
        x, y, radius = self.field
        return Fundus(self.photo[part], self.classes[part], (x - left, y - top, radius))


def motorcycle() -> StereoPair:
    """The motorcycle scene of the Middlebury 2014 stereo data, 500 x 741 pixels."""
    with (FOLDER / "motorcycle_disp.npz").open("rb") as file, np.load(file) as arrays:
        disparity = torch.from_numpy(arrays["arr_0"].astype(np.float32))[None, None]
    left, right = _picture("motorcycle_left.png"), _picture("motorcycle_right.png")
    return StereoPair(left, right, disparity)


def retina() -> Fundus:
    """A healthy retina (Mikael Häggström, public domain) at a third of its size, 470 x 470 pixels.

    Nobody has drawn its vessels; the labels are those of a classical filter.
    """
    photo = torch.nn.functional.avg_pool2d(_picture("retina.jpg"), 3)
    pixels = photo[0].permute(1, 2, 0).numpy()
    field = labels.field_of_view(pixels)
    return Fundus(photo, torch.from_numpy(labels.retina_classes(pixels, field))[None], field)


def _picture(name: str) -> torch.Tensor:
    with (FOLDER / name).open("rb") as file:
        pixels = np.asarray(Image.open(file).convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255)[None].contiguous()
