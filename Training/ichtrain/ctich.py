"""Reader of PhysioNet CT-ICH as 8-bit window images (`patient-NNN/brain-SS.jpg`, `bone-SS.jpg`, `labels.csv`)."""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from . import preprocess
from .anatomy import intracranial_distance

SUBTYPES = ["epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]
CLASSES = ["any", *SUBTYPES]
PAINT_SIZE = 256
CACHE_VERSION = 2


@dataclass
class Study:
    """One study, slices feet to head.

    identifier: patient number. labels: [slice][any, five subtypes, fracture], 0 or 1. inputs: [slice][192][192] HU as
    the node would feed them. canvas: [slice][256][256] HU of the same crop, for painting and augmentation.
    distance: [slice][256][256] pixels to the inner skull, 0 outside the intracranial space. sha256: of all its files.
    """

    identifier: int
    labels: np.ndarray
    inputs: np.ndarray
    canvas: np.ndarray
    distance: np.ndarray
    sha256: str

    @property
    def is_positive(self) -> bool:
        return bool(self.labels[:, 0].any())


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


def read_labels(root: Path) -> dict[int, np.ndarray]:
    """Patient number -> [slice][any, five subtypes in the order of `CLASSES`, fracture]."""
    rows: dict[int, list[tuple[int, list[int]]]] = {}
    with open(root / "labels.csv", newline="") as file:
        for row in csv.DictReader(file):
            values = [int(row[name]) for name in [*CLASSES, "fracture"]]
            rows.setdefault(int(row["patient"]), []).append((int(row["slice"]), values))
    return {patient: np.array([values for _, values in sorted(found)], np.int8) for patient, found in rows.items()}


def slice_numbers(root: Path) -> dict[int, list[int]]:
    """Patient number -> slice numbers with a label, ascending (feet to head)."""
    numbers: dict[int, list[int]] = {}
    with open(root / "labels.csv", newline="") as file:
        for row in csv.DictReader(file):
            numbers.setdefault(int(row["patient"]), []).append(int(row["slice"]))
    return {patient: sorted(found) for patient, found in numbers.items()}


def study_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files of a study, in order of name."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()


def load_study(root: Path, patient: int, labels: np.ndarray, numbers: list[int], cache: Path) -> Study:
    """One study, preprocessed, from the cache folder where it is there."""
    path = cache / f"ctich-{patient:03d}-v{CACHE_VERSION}.npz"
    if path.exists():
        with np.load(path) as stored:
            fields = {name: stored[name] for name in ("inputs", "canvas", "distance")}
            return Study(patient, labels, sha256=str(stored["sha256"]), **fields)
    folder = root / f"patient-{patient:03d}"
    slabs = np.stack([read_hounsfield(folder, number) for number in numbers]).astype(np.float32)
    crop = preprocess.study_crop(slabs)
    inputs = np.rint(preprocess.crop_and_resize(slabs, crop)).astype(np.int16)
    canvas = np.rint(preprocess.crop_and_resize(slabs, crop, PAINT_SIZE)).astype(np.int16)
    distance = np.stack([intracranial_distance(plane) for plane in canvas])
    sha256 = study_digest(folder)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, inputs=inputs, canvas=canvas, distance=distance, sha256=sha256)
    os.replace(temporary, path)
    return Study(patient, labels, inputs, canvas, distance, sha256)


def load(root: Path, cache: Path) -> list[Study]:
    """All studies below `root`, by patient number."""
    labels, numbers = read_labels(root), slice_numbers(root)
    return [load_study(root, patient, labels[patient], numbers[patient], cache) for patient in sorted(labels)]
