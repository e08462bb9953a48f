"""The networks of the demo, small enough to train in a minute on two cores."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn


def conv(
    inputs: int, outputs: int, stride: int = 1, dilation: int = 1, activation=nn.ReLU
) -> nn.Sequential:
    """A 3 x 3 convolution that keeps the size (over `stride`), group norm and `activation`."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation),
        nn.GroupNorm(4, outputs),
        activation(inplace=True),
    )


class StereoNet(nn.Module):
    """Disparity from a stereo pair: match descriptors at 1/4 size, then sharpen at 1/2 size.

    The descriptors of both pictures are compared at `shifts` shifts (4 pixels each); convolutions
    turn the scores into probabilities of the shifts, whose mean is the coarse disparity. A second
    stage corrects it, looking at the left picture's edges. Output: (N, 1, H, W), in pixels.
    """

    def __init__(self, shifts: int = 16, width: int = 24):
        super().__init__()
        self.shifts = shifts
        self.describe = nn.Sequential(
            conv(3, 16, stride=2),
            conv(16, width, stride=2),
            conv(width, width),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.match = nn.Sequential(
            conv(shifts + width, 32),
            conv(32, 32, dilation=2),
            conv(32, 32, dilation=4),
            conv(32, 32, dilation=8),
            nn.Conv2d(32, shifts, 3, padding=1),
        )
        self.sharpen = nn.Sequential(
            conv(4, 16), conv(16, 16, dilation=2), conv(16, 16), nn.Conv2d(16, 1, 3, padding=1)
        )

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        size = left.shape[2:]
        left, right = _centred(left), _centred(right)
        features = self.describe(left)
        coarse = self.coarse(features, self.describe(right))
        half = F.avg_pool2d(left, 2)
        coarse = _doubled(coarse)
        fine = coarse + self.sharpen(torch.cat([half, coarse / (4 * self.shifts)], 1))
        return _doubled(fine)[:, :, : size[0], : size[1]]

    def coarse(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """The expected disparity at 1/4 size, in full-size pixels, from both descriptors."""
        width = left.shape[3]
        scores = [
            (left * F.pad(right, (shift, 0))[..., :width]).mean(1) for shift in range(self.shifts)
        ]
        likely = self.match(torch.cat([torch.stack(scores, 1), left], 1)).softmax(1)
        pixels = torch.arange(self.shifts, device=left.device, dtype=left.dtype) * 4
        return (likely * pixels.view(1, -1, 1, 1)).sum(1, keepdim=True)


class VesselNet(nn.Module):
    """Classes of every pixel of a photograph: a small U-Net over the full, 1/2 and 1/4 size.

    Dilated convolutions at 1/4 size see what is around a pixel; on the way back up the finer
    features say where the borders are. Output: (N, classes, H, W), logits. SiLU has no
    kink, at which all the equally black pixels around the field of view would turn at once: two
    runs that differ by rounding alone stay together.
    """

    def __init__(self, classes: int, width: int = 8):
        super().__init__()
        smooth = partial(conv, activation=nn.SiLU)
        self.fine = smooth(3, width)
        self.middle = nn.Sequential(
            smooth(width, 2 * width, stride=2), smooth(2 * width, 2 * width)
        )
        self.coarse = nn.Sequential(
            smooth(2 * width, 4 * width, stride=2),
            smooth(4 * width, 4 * width, dilation=2),
            smooth(4 * width, 4 * width, dilation=4),
            smooth(4 * width, 4 * width, dilation=8),
        )
        self.join_middle = smooth(6 * width, 2 * width)
        self.join_fine = nn.Sequential(
            smooth(3 * width, 2 * width), nn.Conv2d(2 * width, classes, 1)
        )

    def forward(self, photo: torch.Tensor) -> torch.Tensor:
        size = photo.shape[2:]
        fine = self.fine(_centred(photo))
        middle = self.middle(fine)
        middle = self.join_middle(torch.cat([middle, _doubled(self.coarse(middle))], 1))
        logits = self.join_fine(torch.cat([fine, _doubled(middle)], 1))
        return logits[:, :, : size[0], : size[1]]


def _centred(picture: torch.Tensor) -> torch.Tensor:
    """Around 0 and continued to a multiple of 4 pixels, so that it can be halved twice."""
    height, width = picture.shape[2:]
    return F.pad(picture - 0.5, (0, -width % 4, 0, -height % 4), mode="replicate")


def _doubled(features: torch.Tensor) -> torch.Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear")
