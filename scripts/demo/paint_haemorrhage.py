#!/usr/bin/env python3
"""Paints a simulated acute haemorrhage into a head CT that has none, for the demo.

Kind, place, size, shape and density follow from a seed. Three kinds: an intraparenchymal bleed with or without an
oedema rim, an epidural lens and a subdural crescent against the inner table. The blood gets a texture of its own and
noise with the spectrum of the scan's noise. No model is trained with this painter: it serves the demo and the check for
shortcuts (`python -m ichtrain challenge`)."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Tests" / "Tools"))
from ct_series import CTVolume, new_uid, read_series  # noqa: E402

BONE_HU = 200
MINIMUM_AREA_MM2 = 25  # of blood in a slice that counts as painted
SOFT_EDGE_MM = 1.6  # width of the partial-volume transition


@dataclass
class Haemorrhage:
    """What was painted, and where. Slices count from 0 at the feet; the centre is [slice, row, column]."""

    seed: int
    kind: str
    centre: tuple[int, int, int]
    diameter_mm: float
    thickness_mm: float
    volume_ml: float
    mean_hounsfield: float
    oedema_rim_mm: float
    slices: list[int]


@dataclass(frozen=True)
class Sizes:
    """Ranges that sizes are drawn from, in millimetres; how often each kind is. By default unmistakable bleeds."""

    parenchymal_diameter: tuple[float, float] = (24, 45)
    epidural_length: tuple[float, float] = (32, 45)
    epidural_thickness: tuple[float, float] = (13, 19)
    subdural_length: tuple[float, float] = (75, 110)
    subdural_thickness: tuple[float, float] = (7, 11)
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2)  # intraparenchymal, epidural, subdural


# --- Anatomy ----------------------------------------------------------------------------------------------------------


def intracranial_mask(hounsfield: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """What the skull encloses, without bone: [slice][row][column]."""
    hounsfield = hounsfield.astype(np.float32)
    bone = ndimage.gaussian_filter(hounsfield, 0.8 / spacing) > BONE_HU
    whole = ~bone & _surrounded_by(bone)
    box = _box_around(whole)
    enclosed = whole[box]
    # Clipped first, so that smoothing spreads neither air nor bone; then enough of it that noise makes no holes.
    smooth = ndimage.gaussian_filter(np.clip(hounsfield[box], -60, 130), 1.5 / spacing)
    soft = enclosed & (smooth > -20) & (smooth < 105)
    # What holds together after a 3 mm erosion is the brain; orbits, muscles and marrow fall off.
    labels, count = ndimage.label(ndimage.distance_transform_edt(soft, spacing) > 3.0)
    if count == 0:
        raise ValueError("no brain found in this scan: is it a head CT in Hounsfield units?")
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    brain = ndimage.distance_transform_edt(labels != largest, spacing) <= 3.5
    mask = np.zeros_like(whole)
    mask[box] = ndimage.binary_closing(brain, _ball(3.0, spacing)) & enclosed
    return mask


def depth_below_table(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Millimetres from a voxel of the mask to what is not of it."""
    depth, box = np.zeros(mask.shape, np.float32), _box_around(mask)
    depth[box] = ndimage.distance_transform_edt(mask[box], spacing)
    return depth


def _box_around(mask: np.ndarray, margin: int = 4) -> tuple[slice, ...]:
    if not mask.any():
        raise ValueError("no brain found in this scan: is it a head CT in Hounsfield units?")
    (box,) = ndimage.find_objects(mask.astype(np.int8))
    return tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)


def _ball(radius_mm: float, spacing: np.ndarray) -> np.ndarray:
    reach = np.ceil(radius_mm / spacing).astype(int)
    grid = np.mgrid[tuple(slice(-r, r + 1) for r in reach)]
    return ((grid * spacing[:, None, None, None]) ** 2).sum(axis=0) <= radius_mm**2


def _surrounded_by(bone: np.ndarray) -> np.ndarray:
    """Where bone lies above and in at least seven of eight directions within the slice: holds beside the orbits, the
    sella and a skull defect too, where the outline of bone in a slice is not closed."""
    directions = sum(
        _seen_along(bone, row, column).astype(np.int8)
        for row in (-1, 0, 1)
        for column in (-1, 0, 1)
        if (row, column) != (0, 0)
    )
    above = np.flip(np.logical_or.accumulate(np.flip(bone, 0), axis=0), 0)
    return (directions >= 7) & above


def _seen_along(bone: np.ndarray, row_step: int, column_step: int) -> np.ndarray:
    """Whether a ray that arrives at a voxel in the given direction has crossed bone."""
    if row_step == 0:
        # A walk along the columns is a walk along the rows of the transposed slices.
        return _seen_along(bone.swapaxes(1, 2), column_step, 0).swapaxes(1, 2)
    seen = np.zeros_like(bone)
    rows = range(1, bone.shape[1]) if row_step > 0 else range(bone.shape[1] - 2, -1, -1)
    for row in rows:
        arriving = bone[:, row - row_step] | seen[:, row - row_step]
        if column_step > 0:
            seen[:, row, 1:] = arriving[:, :-1]
        elif column_step < 0:
            seen[:, row, :-1] = arriving[:, 1:]
        else:
            seen[:, row] = arriving
    return seen


def _supratentorial_slices(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Slices from the level of the orbits' roof to below the vertex: there the cavity is one oval, wider than the skull
    base's, and its outline is the inner table all around."""
    area = mask.sum(axis=(1, 2)) * spacing[1] * spacing[2]
    widest = int(np.argmax(ndimage.gaussian_filter1d(area, 2)))
    first = widest - int(round(15 / spacing[0]))
    indices = np.arange(len(area))
    return np.flatnonzero((indices >= first) & (area > 0.5 * area.max()))


# --- Random fields ----------------------------------------------------------------------------------------------------


def smooth_field(
    shape: tuple[int, ...], spacing: np.ndarray, scale_mm: float, random: np.random.Generator
) -> np.ndarray:
    """Gaussian random field with the given correlation length, mean 0, standard deviation 1."""
    field = ndimage.gaussian_filter(random.standard_normal(shape), scale_mm / spacing, mode="wrap")
    return (field - field.mean()) / field.std()


def scan_noise(
    hounsfield: np.ndarray, mask: np.ndarray, shape: tuple[int, ...], random: np.random.Generator
) -> np.ndarray:
    """Noise with the in-plane power spectrum and strength of the scan's own, estimated from patches of brain around the
    slices given."""
    patch = 24
    taper = np.outer(np.hanning(patch), np.hanning(patch))
    spectra, deviations = [], []
    for plane, inside in zip(hounsfield, mask):
        residual = plane - ndimage.gaussian_filter(plane, 2.5)
        for row in range(0, plane.shape[0] - patch, patch // 2):
            for column in range(0, plane.shape[1] - patch, patch // 2):
                window = np.s_[row : row + patch, column : column + patch]
                if not inside[window].all():
                    continue
                values = residual[window]
                deviations.append(1.4826 * float(np.median(np.abs(values - np.median(values)))))
                spectra.append(np.abs(np.fft.fft2(values * taper)) ** 2)
    if not spectra:
        return random.normal(0, 4, shape)
    # The quieter half: patches across sulci and ventricles have structure on top of the noise.
    quiet = np.argsort(deviations)[: max(1, len(deviations) // 2)]
    amplitude = np.sqrt(np.mean([spectra[i] for i in quiet], axis=0))
    strength = float(np.mean([deviations[i] for i in quiet]))
    rows, columns = shape[1:]
    y = np.abs(np.fft.fftfreq(rows))[:, None] * patch + np.zeros((1, columns))
    x = np.abs(np.fft.fftfreq(columns))[None, :] * patch + np.zeros((rows, 1))
    half = amplitude[: patch // 2 + 1, : patch // 2 + 1]
    transfer = ndimage.map_coordinates(half, [y, x], order=1, mode="nearest")
    noise = np.fft.ifft2(np.fft.fft2(random.standard_normal(shape), axes=(1, 2)) * transfer, axes=(1, 2)).real
    return noise / noise.std() * strength


# --- Shapes: level sets, positive inside, in millimetres --------------------------------------------------------------


def _coordinates(shape: tuple[int, ...], centre: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Millimetres from the centre: [axis][slice][row][column]."""
    grid = np.indices(shape, dtype=np.float32)
    return (grid - centre[:, None, None, None]) * spacing[:, None, None, None]


def _rotation(random: np.random.Generator) -> np.ndarray:
    matrix, _ = np.linalg.qr(random.standard_normal((3, 3)))
    return matrix


def parenchymal_level(
    shape: tuple[int, ...], centre: np.ndarray, spacing: np.ndarray, diameter_mm: float, random: np.random.Generator
) -> np.ndarray:
    """A lobulated blob: an ellipsoid in a random direction whose surface is pushed in and out by smooth noise."""
    radius = diameter_mm / 2
    axes = radius * np.array([1.0, random.uniform(0.8, 1.0), random.uniform(0.7, 0.95)])
    offsets = np.tensordot(_rotation(random), _coordinates(shape, centre, spacing), axes=1)
    distance = np.sqrt(((offsets / axes[:, None, None, None]) ** 2).sum(axis=0))
    coarse = smooth_field(shape, spacing, radius * 0.42, random)
    fine = smooth_field(shape, spacing, radius * 0.16, random)
    level = radius * (1 - distance + 0.22 * coarse + 0.08 * fine)
    # The noise moves the surface, not the size: the blob keeps the ellipsoid's volume.
    voxels = min(level.size - 1, int(4 / 3 * np.pi * axes.prod() / spacing.prod()))
    return level - np.partition(level.ravel(), -voxels)[-voxels]


def extra_axial_level(
    shape: tuple[int, ...],
    centre: np.ndarray,
    spacing: np.ndarray,
    depth_mm: np.ndarray,
    length_mm: float,
    thickness_mm: float,
    lens: bool,
    random: np.random.Generator,
) -> np.ndarray:
    """A collection against the inner table. A lens ends steeply and bulges in the middle; a crescent keeps its
    thickness and thins out towards its ends."""
    offsets = _coordinates(shape, centre, spacing)
    # Chords across the curved table are shorter than the way along it, most of all towards the vertex.
    along = np.sqrt(offsets[0] ** 2 * (1.0 if lens else 1.3) + offsets[1] ** 2 + offsets[2] ** 2)
    along += 0.06 * length_mm * smooth_field(shape, spacing, 9.0, random)
    fraction = np.clip(along / (length_mm / 2), 0, None)
    profile = 1 - fraction**2 if lens else np.sqrt(np.clip(1 - fraction**3, 0, None))
    profile = np.where(fraction < 1, profile, -0.5)
    thickness = thickness_mm * profile + 0.08 * thickness_mm * smooth_field(shape, spacing, 6.0, random)
    return thickness - depth_mm


# --- Painting ---------------------------------------------------------------------------------------------------------


def paint(volume: CTVolume, seed: int) -> tuple[np.ndarray, Haemorrhage]:
    """The volume's Hounsfield units with a haemorrhage, and what it is."""
    painted, _, haemorrhage = paint_with_mask(volume, seed)
    return painted, haemorrhage


def paint_with_mask(
    volume: CTVolume, seed: int, sizes: Sizes = Sizes()
) -> tuple[np.ndarray, np.ndarray, Haemorrhage]:
    """The volume's Hounsfield units with a haemorrhage, where it is (bool, same shape), and what it is."""
    random = np.random.default_rng(seed)
    spacing = np.array([volume.slice_spacing_mm, volume.row_spacing_mm, volume.column_spacing_mm])
    original = volume.hounsfield.astype(np.float32)
    mask = intracranial_mask(original, spacing)
    depth = depth_below_table(mask, spacing)
    candidates = _supratentorial_slices(mask, spacing)
    kind = random.choice(["intraparenchymal", "epidural", "subdural"], p=sizes.shares)

    rim = 0.0
    if kind == "intraparenchymal":
        diameter = float(random.uniform(*sizes.parenchymal_diameter))
        thickness = diameter
        centre = _draw_centre(depth, candidates, random, lambda d: d > diameter / 2 + 4)
    else:
        lens = kind == "epidural"
        diameter = float(random.uniform(*(sizes.epidural_length if lens else sizes.subdural_length)))
        thickness = float(random.uniform(*(sizes.epidural_thickness if lens else sizes.subdural_thickness)))
        centre = _draw_lateral_centre(mask, depth, candidates, spacing, random)

    # Only the box around the lesion is computed.
    reach = np.ceil((diameter * 0.85 + 16) / spacing).astype(int)
    low = np.maximum(centre - reach, 0)
    high = np.minimum(centre + reach + 1, original.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    shape, local = original[box].shape, (centre - low).astype(np.float32)

    if kind == "intraparenchymal":
        level = parenchymal_level(shape, local, spacing, diameter, random)
        rim = float(random.choice([0.0, random.uniform(3, 6)]))
    else:
        level = extra_axial_level(shape, local, spacing, depth[box], diameter, thickness, kind == "epidural", random)
    # Blood stays within the skull, and within one piece.
    inside = np.clip(ndimage.gaussian_filter(mask[box].astype(np.float32), 0.5 / spacing) * 2 - 1, 0, 1)
    level = np.where(_main_piece(level > 0, local) | (level <= 0), level, -SOFT_EDGE_MM)
    weight = ndimage.gaussian_filter(np.clip(0.5 + level / SOFT_EDGE_MM, 0, 1), 0.4 / spacing) * inside

    # Density: one mean per bleed, denser clots and thinner parts at two scales, the scan's own noise.
    mean = float(random.uniform(62, 74))
    blood = mean + 3.0 * smooth_field(shape, spacing, 6.0, random) + 2.0 * smooth_field(shape, spacing, 1.8, random)
    noise = scan_noise(original[low[0] : high[0]], mask[low[0] : high[0]], shape, random)
    painted = original[box].copy()
    if rim > 0:
        swelling = np.clip((rim + level) / 2.0, 0, 1) * inside * (1 + 0.25 * smooth_field(shape, spacing, 5.0, random))
        painted -= np.clip(swelling, 0, 1.3) * 12.0 * np.clip((painted - 8) / 20, 0, 1)
    painted = painted * (1 - weight) + (np.clip(blood, 52, 82) + noise) * weight

    result = original.copy()
    result[box] = painted
    solid = weight > 0.5
    area = solid.sum(axis=(1, 2)) * spacing[1] * spacing[2]
    slices = [int(low[0] + i) for i in np.flatnonzero(area >= MINIMUM_AREA_MM2)]
    if not slices:
        raise RuntimeError(
            f"seed {seed} painted nothing: the place found has no room for a {diameter:.0f} mm {kind} bleed"
        )
    whole = np.zeros(original.shape, bool)
    whole[box] = solid
    return np.rint(result).astype(np.int16), whole, Haemorrhage(
        seed=seed,
        kind=str(kind),
        centre=tuple(int(c) for c in centre),
        diameter_mm=round(diameter, 1),
        thickness_mm=round(thickness, 1),
        volume_ml=round(float(solid.sum() * spacing.prod() / 1000), 1),
        mean_hounsfield=round(float(painted[solid].mean()), 1),
        oedema_rim_mm=round(rim, 1),
        slices=slices,
    )


def _draw_centre(depth, candidates, random, condition) -> np.ndarray:
    room = np.zeros(depth.shape, bool)
    room[candidates] = condition(depth[candidates])
    places = np.argwhere(room)
    if len(places) == 0:
        places = np.argwhere(depth == depth[candidates].max())
    return places[random.integers(len(places))]


def _draw_lateral_centre(mask, depth, candidates, spacing, random) -> np.ndarray:
    """A place on the convexity of one side: the outermost brain voxel in a direction from the slice's centre, within 60
    degrees of straight left or right."""
    index = int(random.choice(candidates[len(candidates) // 5 : -len(candidates) // 5]))
    plane = mask[index]
    middle = np.argwhere(plane).mean(axis=0)
    angle = random.uniform(-np.pi / 3, np.pi / 3) + (np.pi if random.random() < 0.5 else 0.0)
    step = np.array([np.sin(angle) / spacing[1], np.cos(angle) / spacing[2]])
    inside = [middle]
    for millimetres in range(1, 150):
        place = np.rint(middle + millimetres * step).astype(int)
        if (place < 0).any() or (place >= plane.shape).any():
            break
        if plane[tuple(place)]:
            inside.append(place)
    return np.array([index, *np.rint(inside[-1]).astype(int)])


def _main_piece(solid: np.ndarray, centre: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(solid)
    if count <= 1:
        return solid
    at_centre = labels[tuple(np.clip(np.rint(centre).astype(int), 0, np.array(solid.shape) - 1))]
    return labels == (at_centre or 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))


# --- Command line -----------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="folder with the DICOM files of a head CT without haemorrhage")
    parser.add_argument("output", type=Path, help="folder for the painted series: a new study of another patient")
    parser.add_argument("--seed", type=int, required=True, help="decides kind, place, size and texture")
    parser.add_argument(
        "--report", type=Path, help="where to write what was painted, as JSON (default: standard output)"
    )
    arguments = parser.parse_args()

    volume, slices = read_series(arguments.input)
    painted, haemorrhage = paint(volume, arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    study, series, frame = new_uid(), new_uid(), new_uid()
    instances = []
    for index, ds in enumerate(slices):
        slope, intercept = float(ds.RescaleSlope), float(ds.RescaleIntercept)
        bits, signed = int(ds.BitsStored), bool(ds.PixelRepresentation)
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        stored = np.clip(np.rint((painted[index] - intercept) / slope), low, high)
        if ds.file_meta.TransferSyntaxUID.is_compressed:
            ds.decompress()
        ds.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        ds.PatientName = "DEMO^PAINTED"
        ds.PatientID = f"{ds.PatientID}-P"[:64]
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid()
        ds.save_as(arguments.output / f"CT{index + 1:04d}.dcm", enforce_file_format=True)
        if index in haemorrhage.slices:
            instances.append({"instance_number": int(ds.InstanceNumber), "sop_instance_uid": ds.SOPInstanceUID})
    report = json.dumps({**asdict(haemorrhage), "study_instance_uid": study, "instances": instances}, indent=2)
    if arguments.report:
        arguments.report.write_text(report + "\n")
    else:
        print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
