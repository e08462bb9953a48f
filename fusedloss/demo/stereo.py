"""The stereo job: learn the disparity of the motorcycle scene, fused and eager, and compare.

The scene's disparity is infinite where it could not be measured; the loss is over the rest of it.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import fusedloss as fl
from fusedloss.demo import data, measure, pictures, report, training
from fusedloss.demo.model import StereoNet


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
    ways = {"fused": fused, "eager": eager_index}
    runs = {name: _train(name, way, pair, steps) for name, way in ways.items()}
    text = _table(runs, pair)
    _draw(out, runs, pair)
    return text


def _train(name, way, pair, steps):
    with tqdm(total=steps, desc=f"training, {name} loss", unit="step") as bar:

        def tick(value):
            bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            bar.update()

        def loss(output):
            return way(output, pair.disparity)

        return training.train(StereoNet, (pair.left, pair.right), loss, steps, tick)


def _table(runs, pair):
    known = pair.disparity.isfinite()
    errors = {name: (r.output - pair.disparity).abs()[known] for name, r in runs.items()}
    output = runs["fused"].output
    losses = {
        way.__name__: lambda x, way=way: way(x, pair.disparity)
        for way in (fused, eager_index, eager_where)
    }
    times = list(measure.milliseconds(losses, output).values())
    memory = [measure.peak_bytes(loss, output) / 1e6 for loss in losses.values()]
    apart = max(abs(a - b) for a, b in zip(*(r.losses for r in runs.values()), strict=True))
    size = "x".join(map(str, output.shape[2:]))
    device, gradient = pair.left.device.type, output.nbytes / 1e6
    rows = [
        report.Row("final error, pixels", [e.mean().item() for e in errors.values()] + [None]),
        report.Row(
            "pixels off by more than 3",
            [(e > 3).float().mean().item() for e in errors.values()] + [None],
            "{:.2%}",
        ),
        report.Row("largest difference of the loss curves", [None, apart, None], "{:.1e}"),
        report.Row("loss forward + backward, ms", times),
        report.Row("  times the fused loss", [t / times[0] for t in times], "{:.1f}"),
        report.Row("peak extra memory, MB", memory, "{:.2f}"),
    ]
    notes = f"""\
Times: median of interleaved rounds on the {size} output, on one pinned thread ({device}).
Memory: most held at once by forward + backward, the gradient ({gradient:.2f} MB) included.
eager: loss(x[mask], t[mask]); eager, where: torch.where(mask, loss, 0).sum() / mask.sum().
Finding the mask is part of all three."""
    return (
        report.table("motorcycle, smooth L1", ["fused", "eager", "eager, where"], rows)
        + "\n"
        + notes
    )


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
