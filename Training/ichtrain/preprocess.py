"""From Hounsfield planes to encoder input: the contract that training and the node share.

The node implements this text a second time, in Swift; `reference/phantom.json` holds both to the same numbers.

1. A plane is HU, int16, clipped to [-1024, 3071], [row][column], padding already -1024. Slices run feet to head.
2. `slab_indices`, `average_slabs`: thin slices are averaged to slabs of about `SLAB_THICKNESS_MM`.
3. `skull_box`: bounding box of the largest 4-connected component above `BOX_THRESHOLD_HU` in one slab.
4. `study_crop`: one square crop for the whole study.
5. `crop_and_resize`: crop, pad with air, resize with an antialiased triangle filter to `INPUT_SIZE`.

In-plane pixels are taken as square. The windows are applied inside the encoder graph, which takes raw HU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

AIR_HU = -1024
MAXIMUM_HU = 3071
SLAB_THICKNESS_MM = 5.0
BOX_THRESHOLD_HU = 250
BOX_MARGIN = 0.08
INPUT_SIZE = 192


@dataclass(frozen=True)
class Crop:
    """A square of `size` pixels whose upper left pixel is column `x`, row `y`; it may reach outside the image."""

    x: int
    y: int
    size: int


def round_half_away(value: float) -> int:
    """The nearest integer; halves go away from zero (2.5 -> 3, -2.5 -> -3)."""
    return int(math.floor(value + 0.5)) if value >= 0 else -int(math.floor(-value + 0.5))


def clip_planes(planes: np.ndarray) -> np.ndarray:
    """HU planes [slice][row][column] as int16 in [-1024, 3071]."""
    return np.clip(np.rint(planes), AIR_HU, MAXIMUM_HU).astype(np.int16)


def slab_indices(
    positions_mm: np.ndarray, spacing_mm: float, thickness_mm: float = SLAB_THICKNESS_MM
) -> np.ndarray | None:
    """The slab index of every slice, or None where every slice is its own slab.

    positions_mm: [slice], millimetres along the slice normal, ascending. With k = max(1, round_half_away(t / s)) the
    index is floor(z / (k s) + 1e-4), so the grid is anchored at position zero and not at the first slice.
    """
    k = max(1, round_half_away(thickness_mm / spacing_mm))
    if k == 1:
        return None
    return np.floor(np.asarray(positions_mm, np.float64) / (k * spacing_mm) + 1e-4).astype(np.int64)


def average_slabs(
    planes: np.ndarray, positions_mm: np.ndarray, spacing_mm: float, thickness_mm: float = SLAB_THICKNESS_MM
) -> np.ndarray:
    """Planes [slice][row][column] HU -> slabs [slab][row][column] HU, float32, each the mean of its member planes."""
    indices = slab_indices(positions_mm, spacing_mm, thickness_mm)
    if indices is None:
        return planes.astype(np.float32)
    return np.stack([planes[indices == index].astype(np.float32).mean(0) for index in np.unique(indices)])


def skull_box(slab: np.ndarray) -> tuple[int, int, int, int] | None:
    """Inclusive bounding box (x0, y0, x1, y1) in pixels of the largest 4-connected component above 250 HU.

    Largest by pixel count; of equals, the one whose first pixel in row-major order comes first. None where no pixel
    exceeds the threshold.
    """
    labels, count = ndimage.label(slab > BOX_THRESHOLD_HU)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = np.flatnonzero(sizes == sizes.max())
    if len(largest) > 1:
        flat = labels.ravel()
        largest = [flat[np.flatnonzero(np.isin(flat, largest))[0]]]
    rows, columns = ndimage.find_objects(labels)[int(largest[0]) - 1]
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1


def study_crop(slabs: np.ndarray) -> Crop:
    """The one square crop of a study [slab][row][column], HU.

    Of the slabs with a box, those count whose size = max(width, height) is at least 0.6 of the 90th percentile of all
    sizes. Edges: 10th percentile of x0 and y0, 90th of x1 and y1, plus one. Side: the longer of both extents + 8 %.
    Percentiles interpolate linearly. Without any box: the whole image, padded to a square.
    """
    boxes = [box for box in (skull_box(slab) for slab in slabs) if box is not None]
    if not boxes:
        height, width = slabs.shape[1:]
        side, centre_x, centre_y = float(max(width, height)), width / 2, height / 2
    else:
        x0, y0, x1, y1 = np.array(boxes, np.float64).T
        size = np.maximum(x1 - x0 + 1, y1 - y0 + 1)
        kept = size >= 0.6 * np.percentile(size, 90)
        left, top = np.percentile(x0[kept], 10), np.percentile(y0[kept], 10)
        right, bottom = np.percentile(x1[kept], 90) + 1, np.percentile(y1[kept], 90) + 1
        side = (1 + BOX_MARGIN) * max(right - left, bottom - top)
        centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    n = math.ceil(side)
    return Crop(round_half_away(centre_x - n / 2), round_half_away(centre_y - n / 2), n)


def crop_square(slab: np.ndarray, crop: Crop) -> np.ndarray:
    """The crop of one slab [row][column] as float32 [size][size], -1024 outside the image."""
    out = np.full((crop.size, crop.size), AIR_HU, np.float32)
    height, width = slab.shape
    x0, y0 = max(crop.x, 0), max(crop.y, 0)
    x1, y1 = min(crop.x + crop.size, width), min(crop.y + crop.size, height)
    if x1 > x0 and y1 > y0:
        out[y0 - crop.y : y1 - crop.y, x0 - crop.x : x1 - crop.x] = slab[y0:y1, x0:x1]
    return out


def crop_and_resize(slabs: np.ndarray, crop: Crop, size: int = INPUT_SIZE) -> np.ndarray:
    """Slabs [slab][row][column] HU -> encoder input [slab][size][size] HU, float32."""
    out = np.empty((len(slabs), size, size), np.float32)
    for index, slab in enumerate(slabs):
        square = torch.from_numpy(crop_square(slab, crop))[None, None]
        resized = torch.nn.functional.interpolate(
            square, size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )
        out[index] = resized[0, 0].numpy()
    return out


def encoder_input(
    planes: np.ndarray, positions_mm: np.ndarray, spacing_mm: float, size: int = INPUT_SIZE
) -> tuple[np.ndarray, Crop]:
    """The whole contract: planes [slice][row][column] HU -> ([slab][size][size] HU float32, crop)."""
    slabs = average_slabs(clip_planes(planes), positions_mm, spacing_mm)
    crop = study_crop(slabs)
    return crop_and_resize(slabs, crop, size), crop
