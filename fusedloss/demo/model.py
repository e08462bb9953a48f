"""The networks of the demo, small enough to train in a minute on two cores."""

import torch
import torch.nn.functional as F
from torch import nn


def conv(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution that keeps the size (over `stride`), group norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
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
        pad = (0, -size[1] % 4, 0, -size[0] % 4)
        left, right = (F.pad(picture - 0.5, pad, mode="replicate") for picture in (left, right))
        features = self.describe(left)
        coarse = self.coarse(features, self.describe(right))
        half = F.avg_pool2d(left, 2)
        coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear")
        fine = coarse + self.sharpen(torch.cat([half, coarse / (4 * self.shifts)], 1))
        full = F.interpolate(fine, scale_factor=2, mode="bilinear")
        return full[:, :, : size[0], : size[1]]

    def coarse(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """The expected disparity at 1/4 size, in full-size pixels, from both descriptors."""
        width = left.shape[3]
        scores = [
            (left * F.pad(right, (shift, 0))[..., :width]).mean(1) for shift in range(self.shifts)
        ]
        likely = self.match(torch.cat([torch.stack(scores, 1), left], 1)).softmax(1)
        pixels = torch.arange(self.shifts, device=left.device, dtype=left.dtype) * 4
        return (likely * pixels.view(1, -1, 1, 1)).sum(1, keepdim=True)
