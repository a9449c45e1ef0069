"""A head that no training saw, untouched and with painted haemorrhages: what cross-validation on one hospital hides."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import paint
from .anatomy import intracranial_distance
from .inv3 import read_inv3
from .package import Package
from .preprocess import slab_indices

RADIUS_MM = (8.0, 25.0)


def challenge(package_folder: Path, head: Path, lesions: int, seed: int) -> list[dict]:
    """Outcomes of the untouched head and of `lesions` painted copies, as rows for a table."""
    package = Package(package_folder)
    planes, positions, spacing = read_inv3(head)
    rows = [describe(package, "untouched", planes, positions, spacing[2], None)]
    distance = np.stack([intracranial_distance(plane.astype(np.float32)) for plane in planes])
    rng = np.random.default_rng(seed)
    while len(rows) <= lesions:
        kind = ["intraparenchymal", "epidural", "subdural"][len(rows) % 3]
        painted = paint.paint_study(rng, planes, distance, spacing[2], kind, RADIUS_MM)
        if painted is not None and painted[1].sum() >= 4:
            rows.append(describe(package, kind, painted[0], positions, spacing[2], painted[1]))
    return rows


def describe(package: Package, name: str, planes, positions, spacing_mm: float, visible: np.ndarray | None) -> dict:
    """One row: study probability and, where blood was painted, how its slabs fared."""
    outcome = package.run(planes, positions, spacing_mm)
    row = {"what": name, "study_probability": outcome.study_probability, "study_logit": float(outcome.study_logits[0])}
    flagged = outcome.slice_probabilities >= package.description["slice_threshold"]
    row["flagged_slabs"] = np.flatnonzero(flagged).tolist()
    row["highest_slice_probability"] = float(outcome.slice_probabilities.max())
    if visible is not None:
        slabs = slab_indices(positions, spacing_mm)
        slabs = np.arange(len(planes)) if slabs is None else slabs - slabs.min()
        blood = np.unique(slabs[visible])
        row["painted_slabs"] = blood.tolist()
        row["painted_slabs_flagged"] = int(np.isin(blood, row["flagged_slabs"]).sum())
        row["top_slab_painted"] = bool(np.isin(outcome.slice_logits.argmax(), blood))
    return row
