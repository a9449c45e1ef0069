#!/usr/bin/env python3
"""Writes a generated head CT: a skull with brain, ventricles and scalp, an optional bleed, and whatever is odd about a
study that a test wants. Prints what was written as JSON. It looks like a head to a program; it is no patient."""

from __future__ import annotations

import argparse
import datetime
import json
import random as standard_random
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from ct_series import CTHeader, CTVolume, uid_source, write_series

AIR, SCALP, SKULL, CSF, WHITE, GREY, BLOOD = -1000, 35, 950, 6, 30, 38, 68


def head_phantom(
    slices: int,
    size: int,
    pixel_spacing_mm: float,
    positions_mm: list[float],
    *,
    seed: int,
    noise_hu: float,
    bleed: str,
) -> tuple[np.ndarray, list[int]]:
    """Hounsfield units [slice][row][column], and the indices of slices with blood. The head is an ellipsoid of 150 mm
    width, 190 mm length and 170 mm height, cut at the level of the skull base."""
    random = np.random.default_rng(seed)
    z = np.asarray(positions_mm)
    # Feet to head: from 30 mm below the widest level to just above the vertex.
    height = (z - z[0]) / max(z[-1] - z[0], 1e-6) * 120 - 30 if slices > 1 else np.array([10.0])
    axis = (np.arange(size) - (size - 1) / 2) * pixel_spacing_mm
    y, x = axis[None, :, None], axis[None, None, :]
    h = height[:, None, None]

    def ellipsoid(half_width: float, half_length: float, half_height: float) -> np.ndarray:
        return np.sqrt((x / half_width) ** 2 + (y / half_length) ** 2 + (h / half_height) ** 2)

    volume = np.full((slices, size, size), AIR, np.float32)
    volume[ellipsoid(79, 99, 90) < 1] = SCALP
    volume[ellipsoid(75, 95, 86) < 1] = SKULL
    # Below the widest level the skull base grows inward, until little brain is left.
    inside = ellipsoid(68, 88, 79) / np.where(h < 0, np.maximum(1 + 0.65 * h / 30, 0.2), 1)
    volume[inside < 1] = CSF
    brain = inside < 0.975
    # Cortex of varying thickness over white matter, with a slow unevenness as in real brains.
    folds = ndimage.gaussian_filter(
        random.standard_normal(volume.shape), (1.0, 6 / pixel_spacing_mm, 6 / pixel_spacing_mm)
    )
    folds /= folds.std() or 1
    volume[brain] = np.where((inside > 0.88 + 0.04 * folds)[brain], GREY, WHITE)
    volume[brain & (np.abs(folds) < 0.07) & (inside > 0.85)] = CSF
    for side in (-1, 1):
        ventricle = ((x - side * 11) / 6) ** 2 + ((y - 5) / 28) ** 2 + ((h - 12) / 14) ** 2 < 1
        volume[ventricle] = CSF
        nucleus = ((x - side * 24) / 9) ** 2 + ((y + 8) / 16) ** 2 + ((h - 8) / 12) ** 2 < 1
        volume[nucleus] = GREY
    volume[brain & (np.abs(x) < 0.6) & (y < -40)] = GREY

    with_blood: list[int] = []
    if bleed != "none":
        centre = {"left": (32.0, 10.0, 20.0), "right": (-32.0, 10.0, 20.0), "small": (30.0, 0.0, 20.0)}[bleed]
        radius = 6.0 if bleed == "small" else 19.0
        distance = np.sqrt((x - centre[0]) ** 2 + ((y - centre[1]) / 1.2) ** 2 + (h - centre[2]) ** 2)
        blood = (distance < radius * (1 + 0.08 * folds)) & brain
        volume[blood] = BLOOD
        with_blood = [int(i) for i in np.flatnonzero(blood.any(axis=(1, 2)))]
    in_plane = 0.5 / pixel_spacing_mm
    volume = ndimage.gaussian_filter(volume, (0, in_plane, in_plane))
    volume += random.normal(0, noise_hu, volume.shape)
    circle = np.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2) <= size / 2 * pixel_spacing_mm
    return np.where(circle[None], volume, -1024), with_blood


def slice_positions(text: str, slices: int) -> list[float]:
    """ "5" is one spacing; "2.5x13,7x15" is 13 gaps of 2.5 mm, then 15 of 7 mm."""
    if "x" not in text:
        return [float(text) * index for index in range(slices)]
    gaps = [float(gap) for part in text.split(",") for gap in [part.split("x")[0]] * int(part.split("x")[1])]
    if len(gaps) != slices - 1:
        raise argparse.ArgumentTypeError(f"--spacing has {len(gaps)} gaps, {slices} slices need {slices - 1}")
    return [round(float(position), 6) for position in np.cumsum([0.0, *gaps])]


def odd_uid(uid: str) -> str:
    """The same UID with an odd number of characters, so that it is padded with a NUL in the file."""
    return uid if len(uid) % 2 else uid[:-1]


def write_localizer(folder: Path, header: CTHeader, uid, size: int) -> dict:
    """A scout: one sagittal CT image of the same study, in a series of its own."""
    scout = CTHeader(**header.__dict__)
    scout.series_uid, scout.series_number = uid("localizer series"), 1
    scout.series_description, scout.kernel = "Topogram 0.6 T20s", "T20s"
    scout.image_type = ("ORIGINAL", "PRIMARY", "LOCALIZER")
    scout.images_in_acquisition = None
    plane = np.full((1, size, size), -900.0)
    plane[0, size // 6 : -size // 6, size // 6 : -size // 6] = 100
    volume = CTVolume(plane, 1.0, 1.0, [0.0], 0.6)
    (entry,) = write_series(volume, scout, folder, sop_uids=[uid("localizer")], prefix="LOC")
    return entry


def arguments_from(command_line: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for the files")
    image = parser.add_argument_group("image")
    image.add_argument("--slices", type=int, default=28)
    image.add_argument("--size", type=int, default=256, help="rows and columns")
    image.add_argument("--pixel-spacing", type=float, default=None, help="mm (default: 240 mm field of view)")
    image.add_argument("--spacing", default="5", help='mm between slices: "5", or stretches as in "2.5x13,7x14"')
    image.add_argument("--thickness", type=float, default=None, help="mm (default: the median spacing)")
    image.add_argument("--tilt", type=float, default=0.0, help="gantry tilt in degrees")
    image.add_argument(
        "--bleed", choices=["none", "left", "right", "small"], default="none", help="side of the patient"
    )
    image.add_argument("--noise", type=float, default=4.0, help="HU, standard deviation")
    image.add_argument("--seed", type=int, default=1, help="of texture and noise")
    image.add_argument("--uniform", type=float, default=None, help="fill with this HU: a study without a head")
    image.add_argument("--signed", action="store_true", help="16-bit signed, intercept 0")
    image.add_argument("--padding", type=int, default=None, help="HU outside the circle, declared as padding")
    header = parser.add_argument_group("header")
    header.add_argument("--patient-name", default="PHANTOM^HEAD")
    header.add_argument("--patient-id", default="PHANTOM-1")
    header.add_argument("--issuer", default="", help="issuer of the patient ID")
    header.add_argument("--accession", default="A0001")
    header.add_argument("--charset", default="ISO_IR 100")
    header.add_argument("--institution", default="EXAMPLE HOSPITAL")
    header.add_argument("--study-description", default="CT HEAD WITHOUT CONTRAST")
    header.add_argument("--series-description", default="HEAD 5.0 H30s")
    header.add_argument("--body-part", default="HEAD")
    header.add_argument("--kernel", default="H30s")
    header.add_argument("--series-number", type=int, default=2)
    header.add_argument("--contrast", action="store_true", help="declare a contrast agent")
    header.add_argument("--image-type", default="ORIGINAL/PRIMARY/AXIAL", help="values separated by slashes")
    header.add_argument("--hours-old", type=float, default=0.0, help="age of the study")
    header.add_argument("--declare-count", type=int, default=None, help="Images in Acquisition; 0: the true number")
    study = parser.add_argument_group("study")
    study.add_argument(
        "--uid-name", default=None, help="derive all UIDs from this name: equal on every run (default: fresh)"
    )
    study.add_argument("--study-uid", default=None)
    study.add_argument("--series-uid", default=None)
    study.add_argument("--odd-uids", action="store_true", help="UIDs with an odd number of characters")
    study.add_argument("--localizer", action="store_true", help="add a scout in a series of its own")
    study.add_argument("--leave-out", default="", help='indices of slices not written, as in "3,4" (0 is at the feet)')
    study.add_argument("--head-first", action="store_true", help="number instances from head to feet")
    study.add_argument("--shuffle", action="store_true", help="number instances at random")
    study.add_argument("--implicit", action="store_true", help="write implicit VR little endian")
    return parser.parse_args(command_line)


def make(arguments: argparse.Namespace) -> dict:
    uid = uid_source(arguments.uid_name)
    if arguments.odd_uids:
        fresh = uid
        uid = lambda role: odd_uid(fresh(role))  # noqa: E731
    count = arguments.slices
    positions = slice_positions(arguments.spacing, count)
    pixel_spacing = arguments.pixel_spacing or round(240 / arguments.size, 6)
    hounsfield, with_blood = head_phantom(
        count,
        arguments.size,
        pixel_spacing,
        positions,
        seed=arguments.seed,
        noise_hu=arguments.noise,
        bleed=arguments.bleed,
    )
    if arguments.uniform is not None:
        hounsfield, with_blood = np.full_like(hounsfield, arguments.uniform), []
    if arguments.padding is not None:
        hounsfield[hounsfield == -1024] = arguments.padding
    gaps = np.diff(positions)
    volume = CTVolume(
        hounsfield=hounsfield,
        row_spacing_mm=pixel_spacing,
        column_spacing_mm=pixel_spacing,
        slice_positions_mm=positions,
        slice_thickness_mm=arguments.thickness or (float(np.median(gaps)) if len(gaps) else 5.0),
        tilt_degrees=arguments.tilt,
    )
    left_out = frozenset(int(each) for each in arguments.leave_out.split(",") if each)
    declared = arguments.declare_count
    header = CTHeader(
        patient_name=arguments.patient_name,
        patient_id=arguments.patient_id,
        issuer_of_patient_id=arguments.issuer,
        accession_number=arguments.accession,
        character_set=arguments.charset,
        institution=arguments.institution,
        study_description=arguments.study_description,
        series_description=arguments.series_description,
        body_part=arguments.body_part,
        kernel=arguments.kernel,
        series_number=arguments.series_number,
        contrast_agent="IOMERON" if arguments.contrast else "",
        image_type=tuple(arguments.image_type.split("/")),
        study_uid=arguments.study_uid or uid("study"),
        series_uid=arguments.series_uid or uid("series"),
        frame_of_reference_uid=uid("frame of reference"),
        acquired=datetime.datetime.now() - datetime.timedelta(hours=arguments.hours_old),
        images_in_acquisition=count if declared == 0 else declared,
        padding_value=arguments.padding,
        signed=arguments.signed,
        transfer_syntax="1.2.840.10008.1.2" if arguments.implicit else "1.2.840.10008.1.2.1",
    )
    numbers = list(range(count, 0, -1)) if arguments.head_first else list(range(1, count + 1))
    if arguments.shuffle:
        standard_random.Random(arguments.seed).shuffle(numbers)
    written = write_series(
        volume,
        header,
        arguments.output,
        instance_numbers=numbers,
        sop_uids=[uid(f"slice {index}") for index in range(count)],
        leave_out=left_out,
    )
    report = {
        "study_instance_uid": header.study_uid,
        "series_instance_uid": header.series_uid,
        "instances": written,
        "instance_numbers_with_blood": sorted(w["instance_number"] for w in written if w["slice"] in with_blood),
    }
    if arguments.localizer:
        report["localizer"] = write_localizer(arguments.output, header, uid, arguments.size)
    return report


if __name__ == "__main__":
    json.dump(make(arguments_from(None)), sys.stdout, indent=1)
    print()
