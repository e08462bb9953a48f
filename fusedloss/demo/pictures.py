"""Draws what the demo shows, as PNG files of at most 300 kB each."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from PIL import Image

OUTSIDE = ListedColormap(["#d0d0d0"])


def photograph(path: Path, pixels: np.ndarray, title: str) -> None:
    """An (H, W, 3) picture with values in [0, 1]."""
    figure, axes = _canvas(title)
    axes.imshow(pixels, interpolation="antialiased")
    _save(figure, path)


def map_of(
    path: Path,
    values: np.ndarray,
    title: str,
    label: str,
    limits: tuple[float, float],
    region: np.ndarray | None = None,
    colours: str = "turbo",
) -> None:
    """An (H, W) map with a colour bar; where `region` is False it is hatched out in grey."""
    figure, axes = _canvas(title)
    shown = values if region is None else np.ma.masked_where(~region, values)
    drawn = axes.imshow(
        shown, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest"
    )
    if region is not None:
        axes.imshow(np.ma.masked_where(region, region), cmap=OUTSIDE, interpolation="nearest")
    figure.colorbar(drawn, ax=axes, label=label, fraction=0.032, pad=0.02)
    _save(figure, path)


def curves(path: Path, losses: dict[str, list[float]], title: str, label: str) -> None:
    """One line per run; the first is drawn broad, so that one that coincides stays visible."""
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(6.4, 5.0), sharex=True, height_ratios=[3, 1], layout="constrained"
    )
    for (name, values), style in zip(losses.items(), _line_styles(), strict=False):
        above.plot(values, label=name, **style)
    above.set(title=title, ylabel=label, yscale="log")
    above.legend()
    first, *others = losses.values()
    for values in others:
        below.plot(np.abs(np.subtract(values, first)), color="black", linewidth=0.8)
    below.set(xlabel="step", ylabel="difference")
    _save(figure, path)


def _line_styles():
    yield {"linewidth": 4.0, "color": "tab:orange", "alpha": 0.6}
    yield {"linewidth": 1.0, "color": "tab:blue"}


def _canvas(title):
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.set(title=title, xticks=[], yticks=[])
    return figure, axes


def _save(figure, path):
    # 256 colours are enough to look at and keep a photograph within the size.
    figure.set_dpi(100)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    Image.fromarray(pixels).quantize(256).save(path, optimize=True)
    plt.close(figure)
