#!/usr/bin/env python3
"""Turns the head CT of Debian's package invesalius-examples into a DICOM series.

Cranium.inv3 is a gzipped tar with a property list (shape, spacing) and `matrix.dat`: 16-bit signed Hounsfield units,
108 axial slices of 256 x 256, feet to head, rows stored bottom up."""

from __future__ import annotations

import argparse
import plistlib
import sys
import tarfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Tests" / "Tools"))
from ct_series import CTHeader, CTVolume, write_series  # noqa: E402

EXAMPLE = Path("/usr/share/doc/invesalius-examples/examples/Cranium.inv3")


def load_head(path: Path = EXAMPLE) -> CTVolume:
    """The example scan, oriented as a scanner would have written it."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: install Debian's package invesalius-examples (scripts/setup demo)")
    with tarfile.open(path) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers()}
        project = plistlib.load(archive.extractfile(members["main.plist"]))
        matrix = project["matrix"]
        stored = archive.extractfile(members[matrix["filename"]]).read()
    values = np.frombuffer(stored, dtype=np.dtype(matrix["dtype"]).newbyteorder("<")).reshape(matrix["shape"])
    column_spacing, row_spacing, slice_spacing = (round(float(s), 6) for s in project["spacing"])
    count = len(values)
    return CTVolume(
        hounsfield=np.ascontiguousarray(values[:, ::-1, :]),
        row_spacing_mm=row_spacing,
        column_spacing_mm=column_spacing,
        slice_positions_mm=[index * slice_spacing for index in range(count)],
        slice_thickness_mm=slice_spacing,
    )


def demo_header(label: str, run: str) -> CTHeader:
    """Synthetic identity for one of the demo's patients; every UID is fresh."""
    return CTHeader(
        patient_name=f"DEMO^{label}",
        patient_id=f"DEMO-{run}-{label}",
        accession_number=f"{run}{label[:1]}"[:16],
        series_description="HEAD WITHOUT CONTRAST 1.5",
        manufacturer="InVesalius example",
        model="Cranium",
        station="DEMOCT",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder for the DICOM files")
    parser.add_argument("--input", type=Path, default=EXAMPLE, help="InVesalius project (default: %(default)s)")
    arguments = parser.parse_args()
    written = write_series(load_head(arguments.input), demo_header("CLEAN", "0"), arguments.output)
    print(f"{len(written)} slices in {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
