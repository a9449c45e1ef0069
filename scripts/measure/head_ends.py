#!/usr/bin/env python3
"""How much brain the ends of whole heads show, and how many heads are noticed as cut off when slices are missing there.

Reads the CT-ICH studies as 8-bit windows (its README says how), 5 mm a slice, and measures each slice as
`BrainCheck.enclosedArea` (Sources/ICHModel/Study/BrainCheck.swift) does, whose limits these figures are for. Pixel
spacing is not in the data: 0.45 mm is assumed."""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SPACING_MILLIMETRES = 0.45
SLICE_MILLIMETRES = 5
SQUARE_MILLIMETRES = 2.0
BONE, STOP, TISSUE = 250, -30, (15, 60)
LEAST_DIRECTIONS = 11
# x, y
DIRECTIONS = [
    (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1),
    (2, 1), (2, -1), (-2, 1), (-2, -1), (1, 2), (1, -2), (-1, 2), (-1, -2),
]  # fmt: skip


def hounsfield(brain: Path) -> np.ndarray | None:
    bone = brain.with_name(brain.name.replace("brain", "bone"))
    if not bone.exists():
        return None
    soft = np.asarray(Image.open(brain).convert("L"), dtype=float)
    hard = np.asarray(Image.open(bone).convert("L"), dtype=float)
    return np.where((soft <= 1) | (soft >= 253), -900 + 3200 * hard / 255, -20 + 120 * soft / 255)


def enclosed_area(values: np.ndarray) -> float:
    """mm² of brain-like tissue that bone surrounds."""
    side = round(SQUARE_MILLIMETRES / SPACING_MILLIMETRES)
    count = values.shape[0] // side
    squares = values[: count * side, : count * side].reshape(count, side, count, side)
    mean, bone = squares.mean((1, 3)), squares.max((1, 3)) > BONE
    stop = ~bone & (mean < STOP)
    tissue = ~bone & (mean >= TISSUE[0]) & (mean <= TISSUE[1])
    hits = np.zeros((count, count), dtype=int)
    for direction in DIRECTIONS:
        hits += reaches_bone(bone, stop, direction)
    return float((tissue & (hits >= LEAST_DIRECTIONS)).sum()) * (side * SPACING_MILLIMETRES) ** 2


def reaches_bone(bone: np.ndarray, stop: np.ndarray, direction: tuple[int, int]) -> np.ndarray:
    """Of each square, whether steps in the direction meet bone before what stops them."""
    x, y = direction
    found = np.zeros_like(bone)
    going = np.ones_like(bone)
    at = np.zeros_like(bone)
    rows, columns = np.indices(bone.shape)
    for _ in range(max(bone.shape)):
        rows, columns = rows + y, columns + x
        inside = (rows >= 0) & (rows < bone.shape[0]) & (columns >= 0) & (columns < bone.shape[1])
        going &= inside
        if not going.any():
            break
        at[:] = False
        at[going] = bone[rows[going], columns[going]]
        found |= at
        going &= ~at
        at[:] = False
        at[going] = stop[rows[going], columns[going]]
        going &= ~at
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="CT-ICH: patient-NNN/brain-SS.jpg and bone-SS.jpg")
    parser.add_argument("--top", type=float, default=60, help="cm² from which the upper end counts as cut off")
    parser.add_argument("--base", type=float, default=45, help="cm² from which the lower end does")
    arguments = parser.parse_args()
    heads = []
    for folder in sorted(arguments.folder.glob("patient-*")):
        slices = [hounsfield(path) for path in sorted(folder.glob("brain-*.jpg"))]
        heads.append([enclosed_area(each) / 100 for each in slices if each is not None])
        print(f"{folder.name}  base {heads[-1][0]:.0f} cm²  top {heads[-1][-1]:.0f} cm²", file=sys.stderr)
    if not heads:
        parser.error(f"no patient-* in {arguments.folder}")
    for name, limit, ends in (
        ("top", arguments.top, [head[::-1] for head in heads]),
        ("base", arguments.base, heads),
    ):
        whole = [head[0] for head in ends]
        print(f"{name}: {statistics.median(whole):.0f} cm² median, {max(whole):.1f} cm² at most, of {len(ends)} heads")
        for missing in range(0, 12):
            noticed = sum(head[missing] >= limit for head in ends)
            print(f"  {missing * SLICE_MILLIMETRES:2} mm missing: {noticed} of {len(ends)} noticed from {limit:.0f} cm²")
    return 0


if __name__ == "__main__":
    sys.exit(main())
