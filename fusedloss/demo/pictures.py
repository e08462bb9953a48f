"""Draws what the demo shows, as PNG files of at most 300 kB each."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap, PowerNorm
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


class Tile(NamedTuple):
    """One picture of a sheet: an (H, W, 3) photograph or an (H, W) map, flat where not `region`."""

    title: str
    values: np.ndarray
    region: np.ndarray | None = None


def sheet(path: Path, title: str, tiles: list[Tile], columns: int = 4) -> None:
    """All tiles in rows of `columns`; a map's colours go with the root of its values, so that small
    ones are seen, from the least to the largest."""
    rows = -(-len(tiles) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.75 * columns, 2.2 * rows), layout="constrained", squeeze=False
    )
    figure.suptitle(title, fontsize=10)
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.05, wspace=0, hspace=0)
    for place in axes.flat:
        place.set_axis_off()
    for place, tile in zip(axes.flat, tiles, strict=False):
        colours = {"cmap": "magma", "norm": PowerNorm(0.5)} if tile.values.ndim == 2 else {}
        place.imshow(tile.values, **colours, interpolation="antialiased")
        if tile.region is not None:
            outside = np.ma.masked_where(tile.region, tile.region)
            place.imshow(outside, cmap=OUTSIDE, interpolation="nearest")
        place.set_title(
            _wrapped(tile.title, 43), fontsize=7.2, family="monospace", loc="left", pad=3
        )
    _save(figure, path, 96)


def _wrapped(code: str, width: int) -> str:
    """The code in lines; a comparison with a number stays together where it fits."""
    for kept in ("\xa0\\1\xa0", " \\1\xa0"):
        lines = textwrap.wrap(re.sub(r" ([<>]) ", kept, code), width, break_long_words=False)
        if max(map(len, lines)) <= width:
            break
    return "\n".join(lines)


def _line_styles():
    yield {"linewidth": 4.0, "color": "tab:orange", "alpha": 0.6}
    yield {"linewidth": 1.0, "color": "tab:blue"}


def _canvas(title):
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.set(title=title, xticks=[], yticks=[])
    return figure, axes


def _save(figure, path, colours=256):
    # So few colours are enough to look at and keep a photograph within the size.
    figure.set_dpi(100)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    Image.fromarray(pixels).quantize(colours).save(path, optimize=True)
    plt.close(figure)
