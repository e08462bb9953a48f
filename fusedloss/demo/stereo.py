"""The stereo job: learn the disparity of the motorcycle scene.

The scene's disparity is infinite where it could not be measured; the loss is over the rest of it.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import fusedloss as fl
from fusedloss.demo import comparison, data, pictures, report
from fusedloss.demo.model import StereoNet

STEPS = 160
NOTES = """\
eager: loss(x[mask], t[mask]); eager, where: torch.where(mask, loss, 0).sum() / mask.sum().
Finding the mask is part of all three."""


def fused(output: torch.Tensor, disparity: torch.Tensor) -> torch.Tensor:
    """One call; the region is found inside it."""
    return fl.smooth_l1_loss(output, disparity, mask=fl.target.isfinite())


def eager_index(output: torch.Tensor, disparity: torch.Tensor) -> torch.Tensor:
    """The way of most published stereo training code: pick the valid pixels, then the mean."""
    mask = torch.isfinite(disparity)
    return F.smooth_l1_loss(output[mask], disparity[mask])


def eager_where(output: torch.Tensor, disparity: torch.Tensor) -> torch.Tensor:
    """The other usual way: all pixels, then a masked sum over a count."""
    mask = torch.isfinite(disparity)
    loss = F.smooth_l1_loss(output, disparity, reduction="none")
    return torch.where(mask, loss, 0).sum() / mask.sum()


def run(out: Path, steps: int, device: str, crop: int | None = None) -> str:
    """Trains twice, writes the pictures into `out` and returns the table."""
    pair = data.motorcycle()
    pair = (pair.crop(crop) if crop else pair).to(device)
    ways = {"fused": fused, "eager": eager_index, "eager, where": eager_where}
    job = comparison.Job(
        "motorcycle, smooth L1",
        StereoNet,
        (pair.left, pair.right),
        {name: partial(way, disparity=pair.disparity) for name, way in ways.items()},
        NOTES,
    )
    runs = comparison.train_both(job, steps)
    text = comparison.table(job, runs, _errors(runs, pair))
    _draw(out, runs, pair)
    return text


def _errors(runs, pair):
    known = pair.disparity.isfinite()
    errors = [(run.output - pair.disparity).abs()[known] for run in runs.values()]
    far_off = [(e > 3).float().mean().item() for e in errors]
    return [
        report.Row("final error, pixels", [e.mean().item() for e in errors]),
        report.Row("pixels off by more than 3", far_off, "{:.2%}"),
    ]


def _draw(out, runs, pair):
    out.mkdir(parents=True, exist_ok=True)
    left = np.ascontiguousarray(pair.left[0].permute(1, 2, 0).cpu().numpy())
    true = pair.disparity[0, 0].cpu().numpy()
    known = np.isfinite(true)
    guess = runs["fused"].output[0, 0].cpu().numpy()
    limits = (float(true[known].min()), float(true[known].max()))
    error = np.abs(guess - np.where(known, true, guess))
    pictures.photograph(out / "left.png", left, "left picture")
    title = f"true disparity; grey: infinite, outside the region ({(~known).sum():,} pixels)"
    pictures.map_of(out / "disparity.png", true, title, "pixels", limits, known)
    title = f"prediction after {len(runs['fused'].losses)} steps"
    pictures.map_of(out / "prediction.png", guess, title, "pixels", limits)
    title = f"error, mean {error[known].mean():.2f} pixels; grey: true disparity unknown"
    pictures.map_of(out / "error.png", error, title, "pixels", (0.0, 5.0), known, "magma")
    losses = {name: result.losses for name, result in runs.items()}
    pictures.curves(out / "curves.png", losses, "training loss, same seed", "smooth L1")
