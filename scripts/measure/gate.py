#!/usr/bin/env python3
"""Whether real heads get through to the model, and phantoms do not: `ichnode analyze` over all studies of CT-ICH, the
tilted GE head, the head of Debian's invesalius-examples with and without a large skull defect, and two plastic
phantoms. Prints a line for each; fails where a head is refused or a phantom is not.

CT-ICH comes as 8-bit windows without pixel spacing: 0.45 mm is assumed, and a slice is 5 mm."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
for folder in ("Tests/Tools", "scripts/demo"):
    sys.path.insert(0, str(ROOT / folder))
from ct_series import CTHeader, CTVolume, write_series  # noqa: E402
from head_ends import SLICE_MILLIMETRES, SPACING_MILLIMETRES, hounsfield  # noqa: E402
from invesalius_head import EXAMPLE, demo_header, load_head  # noqa: E402
from node_fixture import ICHNODE, MODELS, SHARED_DATA, why_not  # noqa: E402

BONE, SOFT_TISSUE = 150, 35
DEFECT_DEGREES = 120


def ct_ich(patient: Path) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        # A slice of which one window is missing stays out of the middle of no series: see the README of the data.
        slices = [hounsfield(each) for each in sorted(patient.glob("brain-*.jpg"))]
        found = [(index, each) for index, each in enumerate(slices) if each is not None]
        positions = [float(index * SLICE_MILLIMETRES) for index, _ in found]
        volume = CTVolume(
            np.stack([each for _, each in found]), SPACING_MILLIMETRES, SPACING_MILLIMETRES, positions, 5.0
        )
        write_series(volume, CTHeader(series_description="HEAD 5.0", kernel="H30s"), folder)

    return write


def example_head(has_defect: bool) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        volume = load_head()
        if has_defect:
            volume.hounsfield = without_bone(volume.hounsfield)
        write_series(volume, demo_header("GATE", "GATE"), folder)

    return write


def without_bone(pixels: np.ndarray) -> np.ndarray:
    """A third of the skull is soft tissue, as after a decompressive craniectomy."""
    _, rows, columns = pixels.shape
    y, x = np.mgrid[:rows, :columns]
    angle = np.degrees(np.arctan2(y - rows / 2, x - columns / 2))
    defect = np.abs(angle) < DEFECT_DEGREES / 2
    pixels = pixels.copy()
    pixels[(pixels > BONE) & defect[None]] = SOFT_TISSUE
    return pixels


def outcome(write: Callable[[Path], None] | None, folder: Path | None) -> str:
    """What `ichnode analyze` says of a study: the first line that it prints of it after its name."""
    with tempfile.TemporaryDirectory(prefix="ichnode-gate-") as temporary:
        source = folder or Path(temporary) / "study"
        if write:
            write(source)
        command = [ICHNODE, "analyze", source, "--output", f"{temporary}/results", "--model", MODELS[0]]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        lines = [line.strip() for line in result.stdout.splitlines()]
        words = ("positive", "negative", "undetermined", "not a head CT")
        return next((line for line in lines if line.startswith(words)), f"failed: {result.stderr[-300:]}")


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 2
    heads: list[tuple] = [
        (patient.name, ct_ich(patient), None)
        for patient in sorted((SHARED_DATA / "ct-ich").glob("patient-*"))
        if any(patient.glob("brain-*.jpg"))
    ]
    if EXAMPLE.exists():
        heads += [("invesalius", example_head(False), None), ("with a skull defect", example_head(True), None)]
    dicom = SHARED_DATA / "dicom"
    heads += [("ge-head-tilt", None, dicom / "ge-head-tilt")] if dicom.is_dir() else []
    phantoms = [(each.name, None, each) for each in sorted(dicom.glob("*phantom*"))]
    if not heads:
        print(f"{SHARED_DATA} holds no heads: set ICHNODE_SHARED_DATA", file=sys.stderr)
        return 2
    wrong = 0
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda each: outcome(each[1], each[2]), heads + phantoms)
        for (name, *_), says in zip(heads + phantoms, found):
            is_head = any(name == each[0] for each in heads)
            analysed = says.startswith(("positive", "negative"))
            is_right = analysed if is_head else says.startswith("undetermined: no brain tissue")
            wrong += not is_right
            print(f"{name:24} {'' if is_right else 'WRONG: '}{says}", flush=True)
    print(f"{len(heads)} heads and {len(phantoms)} phantoms: {wrong} judged wrongly")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
