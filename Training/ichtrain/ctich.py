"""Reader of PhysioNet CT-ICH as 8-bit window images (`patient-NNN/brain-SS.jpg`, `bone-SS.jpg`, `labels.csv`)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from . import preprocess
from .study import CACHE_VERSION, LABELS, Study, cached, complete_labels, files_digest, prepare

NAME = "CT-ICH"
FIRST_NEGATIVE_ONLY_PATIENT = 98
"""All patients from here on have no haemorrhage: a stratum of its own."""


def read_hounsfield(folder: Path, slice_number: int) -> np.ndarray:
    """One slice as HU, int16 [650][650].

    Inside the brain window (level 40, width 120) the brain image counts; where it is saturated, the bone image (level
    700, width 3200). One bone image is missing: there saturated white is taken as 1000 HU, saturated black as air.
    """
    brain = np.asarray(Image.open(folder / f"brain-{slice_number:02d}.jpg").convert("L"), np.float32)
    bone_path = folder / f"bone-{slice_number:02d}.jpg"
    if bone_path.exists():
        outside = -900 + 3200 * np.asarray(Image.open(bone_path).convert("L"), np.float32) / 255
    else:
        outside = np.where(brain >= 253, 1000, preprocess.AIR_HU).astype(np.float32)
    hounsfield = np.where((brain <= 1) | (brain >= 253), outside, -20 + 120 * brain / 255)
    return preprocess.clip_planes(hounsfield)


def read_labels(root: Path) -> dict[int, dict[int, list[int]]]:
    """Patient number -> slice number -> labels in the order of `LABELS`, both ascending (slices feet to head)."""
    rows: dict[int, dict[int, list[int]]] = {}
    with open(root / "labels.csv", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(int(row["patient"]), {})[int(row["slice"])] = [int(row[name]) for name in LABELS]
    return {patient: dict(sorted(slices.items())) for patient, slices in sorted(rows.items())}


def load_study(root: Path, patient: int, slices: dict[int, list[int]], cache: Path) -> Study:
    """One study, preprocessed, from the cache folder where it is there."""
    folder = root / f"patient-{patient:03d}"

    def make() -> dict[str, np.ndarray]:
        slabs = np.stack([read_hounsfield(folder, number) for number in slices]).astype(np.float32)
        return {**prepare(slabs), "sha256": np.array(files_digest(list(folder.iterdir())))}

    arrays = cached(cache / f"ctich-{patient:03d}-v{CACHE_VERSION}.npz", make)
    labels, study_labels = complete_labels(np.array(list(slices.values())), None, len(slices))
    stratum = int(patient < FIRST_NEGATIVE_ONLY_PATIENT)
    sha256 = str(arrays.pop("sha256"))
    return Study(str(patient), str(patient), stratum, labels, study_labels, **arrays, sha256=sha256)


def load(root: Path, cache: Path) -> list[Study]:
    """All studies below `root`, by patient number."""
    return [load_study(root, patient, slices, cache) for patient, slices in read_labels(root).items()]


def subsets(studies: list[Study]) -> dict[str, set[str]]:
    """Groups whose figures are given beside those of all: the patients among whom all haemorrhages are."""
    return {"patients_49_to_97": {study.identifier for study in studies if study.stratum == 1}}
