"""The demo's painter of haemorrhages, which no training uses: three-dimensional, by another method than `paint`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("scripts/demo", "Tests/Tools")]
from ct_series import CTVolume  # noqa: E402
from paint_haemorrhage import Haemorrhage, Sizes, paint_with_mask  # noqa: E402

SIZES = Sizes(
    parenchymal_diameter=(11, 40),
    epidural_length=(20, 60),
    epidural_thickness=(6, 19),
    subdural_length=(50, 110),
    subdural_thickness=(4, 11),
    shares=(0.4, 0.3, 0.3),
)


def paint(
    planes: np.ndarray, positions_mm: np.ndarray, pixel_mm: float, seed: int, sizes: Sizes = SIZES
) -> tuple[np.ndarray, np.ndarray, Haemorrhage]:
    """Planes [slice][row][column] HU, feet to head -> (painted HU, mask of the blood, what was painted).

    Raises ValueError or RuntimeError where the scan has no place for it; another seed may find one.
    """
    thickness = float(np.median(np.diff(positions_mm)))
    return paint_with_mask(CTVolume(planes, pixel_mm, pixel_mm, list(positions_mm), thickness), seed, sizes)
