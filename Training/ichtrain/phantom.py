"""A study made of a closed formula, and what the shipped package says of it: the node's tests compare to this."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from . import preprocess
from .package import Package

PLANES, SIZE, SPACING_MM = 12, 128, 2.5
FORMULA = (
    "12 planes of 128 rows x 128 columns, plane z at z * 2.5 mm, slice spacing 2.5 mm. All integers; x column, y row, "
    "z plane, from 0. dx = x - 64, dy = y - 64. Outside dx*dx*3136 + dy*dy*2116 <= 6635776 (half axes 46, 56): -1024. "
    "Inside it but outside dx*dx*2601 + dy*dy*1681 <= 4372281 (half axes 41 and 51): 900. Inside both: 70 where "
    "(x-80)*(x-80) + (y-56)*(y-56) + 9*(z-6)*(z-6) <= 100, else 30 + ((x*7 + y*13 + z*29) mod 17) - 8."
)


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """(planes [12][128][128] HU int16, positions [12] mm) by `FORMULA`."""
    z, y, x = np.mgrid[0:PLANES, 0:SIZE, 0:SIZE].astype(np.int64)
    dx, dy = x - 64, y - 64
    outer = dx * dx * 3136 + dy * dy * 2116 <= 6635776
    inner = dx * dx * 2601 + dy * dy * 1681 <= 4372281
    lesion = (x - 80) ** 2 + (y - 56) ** 2 + 9 * (z - 6) ** 2 <= 100
    brain = 30 + (x * 7 + y * 13 + z * 29) % 17 - 8
    planes = np.where(outer, np.where(inner, np.where(lesion, 70, brain), 900), -1024)
    return planes.astype(np.int16), np.arange(PLANES) * SPACING_MM


def rounded(values, digits: int = 6) -> list:
    return np.round(np.asarray(values, np.float64), digits).tolist()


def write_reference(package_folder: Path, output: Path) -> None:
    """Runs the package on the phantom and writes every intermediate value worth comparing as JSON."""
    package = Package(package_folder)
    planes, positions = phantom()
    outcome = package.run(planes, positions, SPACING_MM)
    size = package.description["input_size"]
    probes = [[size // 2, size // 2], [size // 4, size // 2], [size // 2, 3 * size // 4], [size // 8, size // 2]]
    reference = {
        "formula": FORMULA,
        "package": {"name": package.description["name"], "version": package.description["version"]},
        "encoder_sha256": package.description["encoder"]["sha256"],
        "head_sha256": package.description["head"]["sha256"],
        "planes": PLANES,
        "rows": SIZE,
        "columns": SIZE,
        "slice_spacing_mm": SPACING_MM,
        "positions_mm": positions.tolist(),
        "plane_sums_hu": planes.astype(np.int64).sum((1, 2)).tolist(),
        "slab_indices": preprocess.slab_indices(positions, SPACING_MM).tolist(),
        "study_box": {"x": outcome.crop.x, "y": outcome.crop.y, "size": outcome.crop.size},
        "input_mean_hu": rounded(outcome.inputs.mean((1, 2), dtype=np.float64), 3),
        "input_probes_row_column": probes,
        "input_probe_hu": [rounded([plane[r, c] for r, c in probes], 3) for plane in outcome.inputs],
        "encoder_logits": rounded(outcome.logits),
        "lesion_map_maximum": rounded(outcome.lesion_map.max((1, 2))),
        "study_logits": rounded(outcome.study_logits),
        "slice_logits": rounded(outcome.slice_logits),
        "attention": rounded(outcome.attention),
        "study_probability": round(outcome.study_probability, 6),
        "slice_probabilities": rounded(outcome.slice_probabilities),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(reference, indent=1) + "\n")
