"""Draws what the demo shows, as PNG files of at most 300 kB each."""

import io
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap, PowerNorm, to_rgb
from matplotlib.patches import Patch, Rectangle
from PIL import Image

LARGEST = 300_000  # bytes of a file, which decide how many colours it has
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
    """One picture of a sheet: an (H, W, 3) photograph or an (H, W) map, flat where not `region`.

    box: x1, y1, x2, y2 of a dashed frame.
    """

    title: str
    values: np.ndarray
    region: np.ndarray | None = None
    box: tuple[int, int, int, int] | None = None


def painted(classes: np.ndarray, colours: list[str]) -> np.ndarray:
    """(H, W) class indices as an (H, W, 3) picture."""
    return np.array([to_rgb(colour) for colour in colours])[classes]


def sheet(
    path: Path,
    title: str,
    tiles: list[Tile],
    columns: int = 4,
    size: tuple[float, float] = (2.75, 2.2),
    key: dict[str, str] | None = None,
) -> None:
    """All tiles in rows of `columns`, each of `size` inches; a map's colours go with the root of
    its values, so that small ones are seen, from the least to the largest.

    key: the colours of `painted` tiles by name, for a legend at the bottom.
    """
    rows = -(-len(tiles) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(size[0] * columns, size[1] * rows),
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle(title, fontsize=10)
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.05, wspace=0, hspace=0)
    for place in axes.flat:
        place.set_axis_off()
    for place, tile in zip(axes.flat, tiles, strict=False):
        _fill(place, tile, size[0])
    if key:
        handles = [Patch(facecolor=colour, label=name) for name, colour in key.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(key), frameon=False)
    _save(figure, path)


def _fill(place, tile: Tile, width: float) -> None:
    colours = {"cmap": "magma", "norm": PowerNorm(0.5)} if tile.values.ndim == 2 else {}
    place.imshow(tile.values, **colours, interpolation="antialiased")
    if tile.region is not None:
        outside = np.ma.masked_where(tile.region, tile.region)
        place.imshow(outside, cmap=OUTSIDE, interpolation="nearest")
    if tile.box is not None:
        x1, y1, x2, y2 = tile.box
        frame = {"edgecolor": "white", "linestyle": "--", "facecolor": "none"}
        place.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, **frame))
    characters = int(width * 15.7)  # of this font
    place.set_title(
        _wrapped(tile.title, characters), fontsize=7.2, family="monospace", loc="left", pad=3
    )


def _wrapped(code: str, width: int) -> str:
    """The code in as few lines as fit, where possible without a break in a call or a comparison."""
    ways = []
    for comma, compared in ((",\xa0", "\xa0\\1\xa0"), (", ", "\xa0\\1\xa0"), (", ", " \\1\xa0")):
        joined = re.sub(r" ([<>]) ", compared, code.replace(", ", comma))
        ways.append(textwrap.wrap(joined, width, break_long_words=False))
    fitting = [lines for lines in ways if max(map(len, lines)) <= width] or ways[-1:]
    return "\n".join(min(fitting, key=len))


def _line_styles():
    yield {"linewidth": 4.0, "color": "tab:orange", "alpha": 0.6}
    yield {"linewidth": 1.0, "color": "tab:blue"}


def _canvas(title):
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.set(title=title, xticks=[], yticks=[])
    return figure, axes


def _save(figure, path):
    figure.set_dpi(100)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    for colours in (256, 192, 160, 128, 112, 96, 80, 64):
        encoded = io.BytesIO()
        picture.quantize(colours).save(encoded, "png", optimize=True)
        if encoded.tell() <= LARGEST:
            break
    # kmeans finds a colour for what has few pixels too.
    picture.quantize(colours, kmeans=1).save(path, optimize=True)
    plt.close(figure)
