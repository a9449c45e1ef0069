"""DICOM files made for one test: small heads by formula, with whatever is odd about them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset

from ichtrain import ctdicom

SIZE = 64
SLICES = 12
SPACING_MM = 8.0


def head(slices: int = SLICES, size: int = SIZE) -> np.ndarray:
    """[slice][row][column] HU int16: an ellipse of brain in a skull, another in every slice."""
    z, y, x = np.mgrid[0:slices, 0:size, 0:size]
    radius = np.hypot((x - size / 2) / (0.36 * size), (y - size / 2) / (0.45 * size))
    brain = 30 + (3 * x + 5 * y + 7 * z) % 11
    return np.where(radius > 1, -1024, np.where(radius > 0.88, 900, brain)).astype(np.int16)


def write_study(
    folder: Path,
    name: str = "a",
    planes: np.ndarray | None = None,
    spacing_mm: float = SPACING_MM,
    series: str = "1",
    change: Callable[[FileDataset, int], None] = lambda dataset, number: None,
) -> list[FileDataset]:
    """One series of the study `name`, an image a file, feet to head; `change` may alter each before it is written."""
    planes = head() if planes is None else planes
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, plane in enumerate(planes):
        dataset = ctdicom.new_dataset(f"1.2.3.{uid_part(name)}.{series}.{number + 1}")
        dataset.StudyInstanceUID = study_uid(name)
        dataset.SeriesInstanceUID = f"{study_uid(name)}.{series}"
        dataset.SeriesNumber, dataset.InstanceNumber = int(series), number + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.PatientID, dataset.AccessionNumber = f"patient-{name}", f"accession-{name}"
        dataset.StudyDescription, dataset.SeriesDescription = "CT head", "Head 5.0"
        ctdicom.place(dataset, plane.shape, number * spacing_mm, (3.5, 3.5, spacing_mm))
        ctdicom.set_pixels(dataset, plane)
        change(dataset, number)
        dataset.save_as(folder / f"{series}-{number + 1:03d}.dcm", enforce_file_format=True)
        written.append(dataset)
    return written


def study_uid(name: str) -> str:
    return f"1.2.3.{uid_part(name)}"


def uid_part(name: str) -> str:
    return str(int.from_bytes(name.encode(), "big"))


def write_csv(path: Path, *rows: list) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path
