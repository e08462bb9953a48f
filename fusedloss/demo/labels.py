"""Labels of the retina by classical filters: vessels are thin and dark, the optic disc bright."""

import numpy as np
from skimage import filters, measure, morphology

CLASSES = ("retina", "vessel", "optic disc")
VESSEL, DISC = 1, 2
RIDGE = (0.010, 0.024)  # how far a vessel stands out: its faint ends, and what begins one
BRIGHT = 0.53  # green of the optic disc; the retina around it has about 0.3
SMALLEST = 80  # pixels of a vessel; fewer are a speck


def field_of_view(photo: np.ndarray) -> tuple[float, float, float]:
    """x, y and radius of the disk that an (H, W, 3) photograph shows, its blurred rim left out."""
    rows, columns = np.nonzero(photo.mean(2) > 0.1)
    x, y = ((at.min() + at.max()) / 2 for at in (columns, rows))
    return float(x), float(y), float(np.ptp(rows) / 2 - 3)


def retina_classes(photo: np.ndarray, field: tuple[float, float, float]) -> np.ndarray:
    """(H, W) int64, 0 outside the field of view.

    A closing of the green channel, where vessels have most contrast, fills what is thin and dark.
    What it filled in the shape of a line is a vessel, and what stays bright is the optic disc.
    """
    x, y, radius = field
    rows, columns = np.indices(photo.shape[:2])
    seen = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    green = _continued(photo[..., 1], seen)
    closed = morphology.closing(green, morphology.disk(7))
    ridges = filters.sato(closed - green, sigmas=(1.0, 1.5, 2.0, 2.5), black_ridges=False)
    vessels = filters.apply_hysteresis_threshold(ridges, *RIDGE) & seen
    numbers = measure.label(vessels, connectivity=2)
    vessels &= np.bincount(numbers.ravel())[numbers] >= SMALLEST
    disc = morphology.opening(filters.gaussian(closed, 3) > BRIGHT, morphology.disk(9)) & seen
    return np.where(vessels, VESSEL, np.where(disc, DISC, 0)).astype(np.int64)


def _continued(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """`values` where `seen`, and around it their blurred continuation: no filter sees a rim."""
    near = filters.gaussian(np.where(seen, values, 0), 12)
    share = filters.gaussian(seen.astype(values.dtype), 12)
    return np.where(seen, values, near / np.maximum(share, 1e-6))
