"""The intracranial space of one slice, found from bone. Used in training only, never by the node."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def intracranial_mask(plane: np.ndarray) -> np.ndarray:
    """HU [row][column] at about 0.8 mm per pixel -> bool [row][column], the space inside the skull.

    Bone above 180 HU is closed and filled; of what is left, soft tissue is opened and the largest component kept.
    """
    bone = ndimage.binary_closing(np.pad(plane > 180, 12), iterations=8)[12:-12, 12:-12]
    inside = ndimage.binary_fill_holes(bone) & (plane > -30) & (plane < 150)
    inside = ndimage.binary_opening(inside & ~ndimage.binary_dilation(plane > 180), iterations=3)
    labels, count = ndimage.label(inside)
    if count == 0:
        return np.zeros(plane.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes(labels == sizes.argmax())


def intracranial_distance(plane: np.ndarray) -> np.ndarray:
    """Distance in pixels to the edge of the intracranial space, uint8 [row][column]; 0 outside it."""
    return np.clip(np.ceil(ndimage.distance_transform_edt(intracranial_mask(plane))), 0, 255).astype(np.uint8)
