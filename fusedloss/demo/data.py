"""Reads the pictures of the demo out of the installed scikit-image wheel; nothing is downloaded."""

from importlib import resources
from typing import NamedTuple

import numpy as np
import skimage
import torch
from PIL import Image


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


def motorcycle() -> StereoPair:
    """The motorcycle scene of the Middlebury 2014 stereo data, 500 x 741 pixels."""
    folder = resources.files(skimage) / "data"

    def picture(name):
        with (folder / name).open("rb") as file:
            pixels = np.asarray(Image.open(file).convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255)[None].contiguous()

    with (folder / "motorcycle_disp.npz").open("rb") as file, np.load(file) as arrays:
        disparity = torch.from_numpy(arrays["arr_0"].astype(np.float32))[None, None]
    left, right = picture("motorcycle_left.png"), picture("motorcycle_right.png")
    return StereoPair(left, right, disparity)
