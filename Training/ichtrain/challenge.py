"""What cross-validation in one hospital hides: haemorrhages of another painter, and a head from another scanner.

A network that has learned how the head of a trauma patient looks, and not blood, does well in cross-validation and
fails here. No training uses this painter, none saw these brains painted or not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from . import preprocess
from . import statistics as st
from .runs import folds_of
from .evaluate import OperatingPoints, cross_fitted, load_predictions, mean_of_seeds
from .inv3 import read_inv3
from .members import Answer, Members
from .package import Package
from .painter import Sizes, paint
from .study import PAINT_SIZE, Study

MINIMUM_PIXELS = 150
"""Of blood in a slice of the 256-pixel canvas: smaller lesions are not counted."""

CANVAS_PIXEL_MM, SLICE_SPACING_MM = 0.8, 5.0
HEAD_SIZES = Sizes()


@dataclass
class Lesion:
    """One painted study. Counts are of its slices with at least `MINIMUM_PIXELS` of blood."""

    study: str
    kind: str
    slices: int
    over_threshold: int
    largest_slice_over_threshold: bool
    hottest_in_lesion: int
    hottest_of_those_over: int
    study_called_positive: bool
    clean_slices_flagged: int


def shortcuts(studies: list[Study], work: Path, folds: int, lesions: int = 2, seed: int = 11) -> dict:
    """Paints `lesions` copies of every held-out study without haemorrhage and asks the networks that never saw it.

    A slice is over the threshold where its calibrated probability reaches the threshold for flagged slices, fitted on
    the other folds. Unpainted, the same slices are compared with all other slices of the same studies.
    """
    predictions = load_predictions(work)
    cases = mean_of_seeds(predictions)
    points = cross_fitted(cases)
    fold_of = folds_of(studies, folds)
    found, clean_flags, other_flags = [], [], []
    for fold in range(folds):
        folders = [work / f"seed-{number}" / f"fold-{fold}" for number in predictions]
        members = Members(folders)
        for index in np.flatnonzero(fold_of == fold):
            study = studies[index]
            if study.is_positive:
                continue
            own = points[study.identifier]
            clean = slice_probabilities(members.run(study.inputs), own) >= own.slice_threshold
            used = np.zeros(len(clean), bool)
            for number in range(lesions):
                row = one_lesion(study, members, own, clean, seed + 1000 * int(index) + number)
                if row is not None:
                    found.append(row[0])
                    used |= row[1]
            clean_flags += clean[used].tolist()
            other_flags += clean[~used].tolist()
            print(f"fold {fold} {study.identifier}: {len(found)} lesions", flush=True)
    return shortcut_summary(found, clean_flags, other_flags)


def one_lesion(
    study: Study, members: Members, own: OperatingPoints, clean: np.ndarray, seed: int
) -> tuple[Lesion, np.ndarray] | None:
    """(outcome, which slices count), or None where no slice gets a lesion large enough."""
    positions = np.arange(len(study.canvas)) * SLICE_SPACING_MM
    try:
        painted, mask, haemorrhage = paint(study.canvas, positions, CANVAS_PIXEL_MM, seed)
    except (ValueError, RuntimeError):
        return None
    area = mask.reshape(len(mask), -1).sum(1)
    counted = area >= MINIMUM_PIXELS
    if not counted.any():
        return None
    whole = preprocess.Crop(0, 0, PAINT_SIZE)
    # Untouched slices as they are, so that only the blood makes the difference.
    inputs = study.inputs.astype(np.float32)
    touched = (painted != study.canvas).reshape(len(mask), -1).any(1)
    difference = preprocess.crop_and_resize((painted - study.canvas)[touched] + preprocess.AIR_HU, whole)
    inputs[touched] += difference - preprocess.AIR_HU
    answer = members.run(inputs)
    over = slice_probabilities(answer, own) >= own.slice_threshold
    hit = np.array([hottest_in(answer.lesion_map[t], mask[t]) for t in range(len(mask))])
    probability = st.calibrated(answer.study[0], own.calibration["study"])
    lesion = Lesion(
        study=study.identifier,
        kind=haemorrhage.kind,
        slices=int(counted.sum()),
        over_threshold=int((over & counted).sum()),
        largest_slice_over_threshold=bool(over[int(area.argmax())]),
        hottest_in_lesion=int((hit & counted).sum()),
        hottest_of_those_over=int((hit & over & counted).sum()),
        study_called_positive=bool(probability >= own.thresholds["balanced"]),
        clean_slices_flagged=int((clean & counted).sum()),
    )
    return lesion, counted


def slice_probabilities(answer: Answer, own: OperatingPoints) -> np.ndarray:
    return st.calibrated(answer.slices, own.calibration["slice"])


def hottest_in(lesion_map: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the map's highest cell [M,M] holds blood of the mask [256][256]."""
    row, column = np.unravel_index(lesion_map.argmax(), lesion_map.shape)
    cell = mask.shape[0] / lesion_map.shape[0]
    rows = slice(int(row * cell), int(np.ceil((row + 1) * cell)))
    return bool(mask[rows, int(column * cell) : int(np.ceil((column + 1) * cell))].any())


def shortcut_summary(lesions: list[Lesion], clean_flags: list[bool], other_flags: list[bool]) -> dict:
    def count(rows: list[Lesion]) -> dict:
        slices, over = sum(row.slices for row in rows), sum(row.over_threshold for row in rows)
        return {
            "lesions": len(rows),
            "slices_over_threshold": st.wilson(over, slices),
            "largest_slice_over_threshold": st.wilson(sum(r.largest_slice_over_threshold for r in rows), len(rows)),
            "hottest_point_in_lesion_of_those_over": st.wilson(sum(r.hottest_of_those_over for r in rows), over),
            "hottest_point_in_lesion_of_all": st.wilson(sum(r.hottest_in_lesion for r in rows), slices),
            "studies_called_positive": st.wilson(sum(r.study_called_positive for r in rows), len(rows)),
        }

    kinds = sorted({lesion.kind for lesion in lesions})
    return {
        "all": count(lesions),
        **{kind: count([lesion for lesion in lesions if lesion.kind == kind]) for kind in kinds},
        "same_slices_unpainted_flagged": st.wilson(sum(clean_flags), len(clean_flags)),
        "other_slices_flagged": st.wilson(sum(other_flags), len(other_flags)),
        "rows": [asdict(lesion) for lesion in lesions],
    }


def foreign_head(package_folder: Path, head: Path, lesions: int, seed: int) -> list[dict]:
    """Outcomes of the untouched head of `invesalius-examples` and of `lesions` copies painted in different places."""
    package = Package(package_folder)
    planes, positions, spacing = read_inv3(head)
    rows = [describe(package, "untouched", planes, positions, spacing[2], None)]
    for number in range(lesions):
        painted, mask, haemorrhage = paint(planes, positions, spacing[0], seed + number, HEAD_SIZES)
        rows.append(describe(package, haemorrhage.kind, painted, positions, spacing[2], mask.any((1, 2))))
    return rows


def describe(package: Package, name: str, planes, positions, spacing_mm: float, visible: np.ndarray | None) -> dict:
    """One row: study probability and, where blood was painted, how its slabs fared."""
    outcome = package.run(planes, positions, spacing_mm)
    threshold = package.description["thresholds"]["balanced"]
    row = {
        "what": name,
        "positive": outcome.study_probability >= threshold,
        "study_probability": round(outcome.study_probability, 4),
        "threshold": round(threshold, 4),
    }
    flagged = outcome.slice_probabilities >= package.description["slice_threshold"]
    row["flagged_slabs"] = np.flatnonzero(flagged).tolist()
    if visible is not None:
        slabs = preprocess.slab_indices(positions, spacing_mm)
        slabs = np.arange(len(planes)) if slabs is None else np.unique(slabs, return_inverse=True)[1]
        blood = np.unique(slabs[visible])
        row["painted_slabs"] = blood.tolist()
        row["painted_slabs_flagged"] = int(np.isin(blood, row["flagged_slabs"]).sum())
        row["top_slab_painted"] = bool(np.isin(outcome.slice_logits.argmax(), blood))
    return row
