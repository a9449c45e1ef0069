"""Reader of InVesalius projects (`.inv3`: a tar.gz of a property list and `matrix.dat`). For checks, never training."""

from __future__ import annotations

import plistlib
import tarfile
from pathlib import Path

import numpy as np


def read_inv3(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """(planes [slice][row][column] HU int16, positions [slice] mm, spacing (x, y, z) mm).

    Rows are stored bottom up and are turned here, so that row 0 is anterior; slices are stored feet to head.
    """
    with tarfile.open(path, "r:gz") as archive:
        members = {Path(member.name).name: member for member in archive.getmembers()}
        project = plistlib.load(archive.extractfile(members["main.plist"]))
        matrix = project["matrix"]
        pixels = archive.extractfile(members[matrix["filename"]]).read()
    planes = np.frombuffer(pixels, np.dtype(matrix["dtype"])).reshape(matrix["shape"])[:, ::-1]
    spacing = tuple(float(value) for value in project["spacing"])
    return np.ascontiguousarray(planes), np.arange(len(planes)) * spacing[2], spacing
