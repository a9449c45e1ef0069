"""A study as training sees it, whatever it was read from, and its cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import preprocess
from .anatomy import intracranial_distance

SUBTYPES = ["epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]
CLASSES = ["any", *SUBTYPES]
LABELS = [*CLASSES, "fracture"]
PAINT_SIZE = 256
CACHE_VERSION = 3
UNKNOWN = np.nan


@dataclass
class Study:
    """One study, slabs feet to head.

    identifier: name within its data set. patient: whose it is; folds never part a patient's studies. stratum: folds
    hold equal shares of each. labels: [slab][`LABELS`] float32, 1, 0, or NaN where nobody said. study_labels: the same
    for the study as a whole. inputs: [slab][192][192] HU int16 as the node would feed them. canvas: [slab][256][256] HU
    int16 of the same crop, for painting and augmentation. distance: [slab][256][256] pixels to the inner skull, uint8,
    0 outside the intracranial space. sha256: over all its files.
    """

    identifier: str
    patient: str
    stratum: int
    labels: np.ndarray
    study_labels: np.ndarray
    inputs: np.ndarray
    canvas: np.ndarray
    distance: np.ndarray
    sha256: str

    @property
    def is_positive(self) -> bool:
        return bool(self.study_labels[0] == 1)

    @property
    def knows_slices(self) -> bool:
        """Whether every slab is labelled for *any*, or follows from a study without haemorrhage."""
        return not np.isnan(self.labels[:, 0]).any()


def complete_labels(
    labels: np.ndarray | None, study_labels: np.ndarray | None, slabs: int
) -> tuple[np.ndarray, np.ndarray]:
    """(slab labels, study labels), each filled from the other where that leaves no doubt.

    A study has what one of its slabs has; it has not what all slabs are known not to have. A study without something
    has no slab with it. Raises ValueError where the two contradict each other.
    """
    labels = np.full((slabs, len(LABELS)), UNKNOWN, np.float32) if labels is None else labels.astype(np.float32)
    study = np.full(len(LABELS), UNKNOWN, np.float32) if study_labels is None else study_labels.astype(np.float32)
    for column, name in enumerate(LABELS):
        found = labels[:, column]
        if (found == 1).any() and study[column] == 0:
            raise ValueError(f"slices have {name} and the study has not: correct one of the two label files")
        if (found == 0).all() and study[column] == 1:
            raise ValueError(f"the study has {name} and none of its slices has: correct one of the two label files")
        if np.isnan(study[column]):
            study[column] = 1 if (found == 1).any() else 0 if (found == 0).all() else UNKNOWN
        if study[column] == 0:
            labels[:, column] = 0
    if study[0] == 0:
        labels[:, 1 : len(CLASSES)] = study[1 : len(CLASSES)] = 0
    return labels, study


def slab_labels(labels: np.ndarray, indices: np.ndarray | None) -> np.ndarray:
    """Labels of slices [slice][L] -> of slabs [slab][L]: present where one member has it, unknown where none has and
    one is unknown. indices: of `preprocess.slab_indices`."""
    if indices is None:
        return labels
    members = [labels[indices == index] for index in np.unique(indices)]
    return np.stack([np.where((m == 1).any(0), 1, np.where(np.isnan(m).any(0), UNKNOWN, 0)) for m in members])


def prepare(slabs: np.ndarray) -> dict[str, np.ndarray]:
    """Slabs [slab][row][column] HU -> `inputs`, `canvas` and `distance` of a Study."""
    crop = preprocess.study_crop(slabs)
    canvas = np.rint(preprocess.crop_and_resize(slabs, crop, PAINT_SIZE)).astype(np.int16)
    return {
        "inputs": np.rint(preprocess.crop_and_resize(slabs, crop)).astype(np.int16),
        "canvas": canvas,
        "distance": np.stack([intracranial_distance(plane) for plane in canvas]),
    }


def cached(path: Path, make) -> dict[str, np.ndarray]:
    """The arrays in `path`; where it is missing, those that make() returns, written there for the next time."""
    if path.exists():
        with np.load(path) as stored:
            return dict(stored)
    arrays = make()
    save_arrays(path, arrays)
    return arrays


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes beside the final name first, so that an interrupted write leaves what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp.npz")
    np.savez(temporary, **arrays)
    temporary.replace(path)


def files_digest(files: list[Path]) -> str:
    """SHA-256 over the names (each followed by a zero byte) and contents of files, in order of name."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        digest.update(path.name.encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()
