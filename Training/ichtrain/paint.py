"""Haemorrhages and harmless look-alikes painted into slices of brains that have none.

Every painter works on one canvas slice, HU float32 [256][256] at about 0.8 mm per pixel, with the distance to the inner
skull in pixels (0 outside the intracranial space). A lesion is described once and painted into neighbouring slices with
a smaller `extent`, so a study can be given a lesion that spans several slabs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from .study import CLASSES

KINDS = ["intraparenchymal", "epidural", "subdural", "subarachnoid", "intraventricular"]
KIND_WEIGHTS = [0.33, 0.25, 0.20, 0.12, 0.10]
ALONG_FALX = 0.25
"""Share of the subdural haemorrhages that lie along the falx instead of the inner skull."""

MINIMUM_PIXELS = 40
MINIMUM_CORE_PIXELS = 10
MILLIMETRES_PER_PIXEL = 0.8


@dataclass
class Lesion:
    """What one haemorrhage looks like. Lengths in canvas pixels, densities in HU, angles in radians."""

    kind: str
    row: float
    column: float
    radius: float
    aspect: float
    angle: float
    thickness: float
    half_width: float
    density: float
    edge: float
    texture: float
    texture_scale: float
    oedema: float
    oedema_width: float
    phases: np.ndarray
    ragged: float
    mixed: float
    along_falx: bool

    def half_height_slices(self, slice_spacing_mm: float) -> float:
        """Half the extent along z in slices."""
        radius = self.radius if self.kind in ("intraparenchymal", "intraventricular") else max(self.radius, 14)
        return max(0.8, radius * MILLIMETRES_PER_PIXEL / slice_spacing_mm)


def smooth_noise(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Correlated noise of unit variance, float32 [size][size]; `scale` is the grain in pixels."""
    cells = max(3, int(np.ceil(size / scale)) + 1)
    coarse = torch.from_numpy(rng.standard_normal((1, 1, cells, cells), np.float32))
    fine = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)[0, 0].numpy()
    return fine / (fine.std() + 1e-6)


def choose_lesion(rng: np.random.Generator, distance: np.ndarray, kind: str | None = None) -> Lesion:
    """A random lesion centred somewhere inside the intracranial space of this slice."""
    kind = kind or str(rng.choice(KINDS, p=KIND_WEIGHTS))
    rows, columns = np.nonzero(distance > (4 if kind == "intraparenchymal" else 0))
    if len(rows) == 0:
        rows, columns = np.nonzero(distance >= 0)
    at = rng.integers(len(rows))
    radius = float(np.exp(rng.uniform(np.log(5.0), np.log(36.0))))
    epidural = kind == "epidural"
    along_falx = kind == "subdural" and rng.random() < ALONG_FALX
    return Lesion(
        kind=kind,
        row=float(rows[at]),
        column=float(columns[at]),
        radius=radius,
        aspect=float(np.exp(rng.uniform(-0.45, 0.45))),
        angle=float(rng.uniform(-np.pi, np.pi)),
        thickness=float(np.exp(rng.uniform(np.log(6), np.log(32)) if epidural else rng.uniform(np.log(4), np.log(18)))),
        half_width=float(rng.uniform(0.18, 0.7) if epidural else rng.uniform(0.45, 1.5)),
        density=float(rng.uniform(52, 85)),
        edge=float(rng.uniform(0.4, 2.2)),
        texture=float(rng.uniform(0, 8)),
        texture_scale=float(rng.uniform(2, 9)),
        oedema=float(rng.uniform(5, 16)) if rng.random() < 0.5 else 0.0,
        oedema_width=float(rng.uniform(3, 11)),
        phases=rng.uniform(0, 2 * np.pi, 6),
        ragged=float(rng.uniform(0, 0.28)),
        mixed=float(rng.uniform(8, 22)) if rng.random() < 0.2 else 0.0,
        along_falx=along_falx,
    )


def paint_lesion(
    rng: np.random.Generator, plane: np.ndarray, distance: np.ndarray, lesion: Lesion, extent: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """(painted HU, coverage in [0,1]) of one slice. extent: 1 in the lesion's central slice, near 0 at its ends."""
    size = plane.shape[0]
    inside = distance > 0
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    if lesion.kind in ("intraparenchymal", "intraventricular", "subarachnoid"):
        depth = _blob_depth(lesion, rows, columns, lesion.radius * extent)
        if lesion.kind == "intraparenchymal":
            depth += lesion.ragged * lesion.radius * 0.4 * smooth_noise(rng, size, max(3.0, lesion.radius / 3))
    elif lesion.along_falx:
        depth = _falx_depth(rng, lesion, rows, columns, inside, extent)
    else:
        depth = _crescent_depth(rng, lesion, rows, columns, distance, inside, extent)
    coverage = 1 / (1 + np.exp(-np.clip(depth / lesion.edge, -20, 20)))
    coverage = coverage * ndimage.gaussian_filter(inside.astype(np.float32), 0.6) * inside
    if lesion.kind in ("subarachnoid", "intraventricular"):
        coverage = coverage * _fluid(rng, lesion, plane, distance, rows)
    if extent < 0.45:
        coverage = coverage * float(rng.uniform(0.55, 1.0))
    density = lesion.density + lesion.texture * smooth_noise(rng, size, lesion.texture_scale)
    if lesion.mixed:
        density -= lesion.mixed * np.clip(smooth_noise(rng, size, max(4.0, lesion.radius / 2)), 0, 1.5)
    grain = plane - ndimage.gaussian_filter(plane, 1.2)
    density = np.clip(density, 40, 92) + np.clip(grain, -12, 12) * float(rng.uniform(0.3, 1.0))
    painted = plane.astype(np.float32)
    if lesion.oedema and lesion.kind == "intraparenchymal":
        halo = 1 / (1 + np.exp(-np.clip((depth + lesion.oedema_width) / 2, -20, 20)))
        painted = painted - lesion.oedema * halo * inside * (painted > 10)
    target = np.maximum(density, painted) if lesion.kind == "subarachnoid" else density
    painted = painted * (1 - coverage) + target * coverage
    return painted.astype(np.float32), coverage.astype(np.float32)


def _blob_depth(lesion: Lesion, rows: np.ndarray, columns: np.ndarray, radius: float) -> np.ndarray:
    """Signed depth in pixels below the surface of a noisy ellipse, positive inside."""
    dy, dx = rows - lesion.row, columns - lesion.column
    cosine, sine = np.cos(lesion.angle), np.sin(lesion.angle)
    u = (cosine * dx + sine * dy) * lesion.aspect
    v = (-sine * dx + cosine * dy) / lesion.aspect
    bearings = np.linspace(-np.pi, np.pi, 721, dtype=np.float32)
    outline = np.ones_like(bearings)
    for order, phase in enumerate(lesion.phases[:5], start=2):
        outline += lesion.ragged / order * np.cos(order * bearings + phase)
    nearest = np.rint((np.arctan2(v, u) + np.pi) * (720 / (2 * np.pi))).astype(np.int32)
    return radius * outline[nearest] - np.sqrt(u * u + v * v)


def _crescent_depth(rng, lesion, rows, columns, distance, inside, extent) -> np.ndarray:
    """Signed depth of a lens (epidural) or wide crescent (subdural) that lies against the inner skull."""
    if not inside.any():
        return np.full(distance.shape, -50, np.float32)
    centre_row, centre_column = rows[inside].mean(), columns[inside].mean()
    bearing = np.arctan2(lesion.row - centre_row, lesion.column - centre_column)
    theta = np.arctan2(rows - centre_row, columns - centre_column)
    across = np.abs((theta - bearing + np.pi) % (2 * np.pi) - np.pi) / (lesion.half_width * max(extent, 0.3))
    if lesion.kind == "epidural":
        profile = np.sqrt(np.clip(1 - across**2, 0, 1))
    else:
        profile = np.clip(1 - across**4, 0, 1) * (1 + 0.35 * np.cos(3 * theta + lesion.phases[0]))
    uneven = lesion.ragged * 0.3 * lesion.thickness * smooth_noise(rng, distance.shape[0], 12)
    thickness = lesion.thickness * extent * profile + uneven
    return np.where(profile > 0, thickness - distance, -50).astype(np.float32)


def _falx_depth(rng, lesion, rows, columns, inside, extent) -> np.ndarray:
    """Signed depth of a band on one side of the midline, thickest in its middle."""
    if not inside.any():
        return np.full(inside.shape, -50, np.float32)
    middle_row, middle_column = rows[inside].mean(), columns[inside].mean()
    reach = max(12.0, (0.2 + 0.2 * lesion.half_width) * float(inside.any(1).sum()) * max(extent, 0.3))
    along = (rows - lesion.row) / reach
    side = 1.0 if lesion.column > middle_column else -1.0
    tilt = 0.03 * lesion.angle
    beside = side * (columns - middle_column - tilt * (rows - middle_row))
    thickness = 0.6 * lesion.thickness * extent * np.sqrt(np.clip(1 - along**2, 0, 1))
    thickness += lesion.ragged * 0.2 * lesion.thickness * smooth_noise(rng, rows.shape[0], 10)
    return np.where(np.abs(along) < 1, np.minimum(thickness - beside, beside + 1), -50).astype(np.float32)


def _fluid(rng, lesion, plane, distance, rows) -> np.ndarray:
    """Where cerebrospinal fluid may be replaced by blood: sulci and cisterns, or the dependent part of ventricles."""
    smooth = ndimage.gaussian_filter(plane, 0.8)
    if lesion.kind == "subarachnoid":
        return 1 / (1 + np.exp(np.clip((smooth - rng.uniform(20, 27)) / 2, -20, 20)))
    deep = distance > 0.35 * max(1, int(distance.max()))
    fluid = ndimage.binary_opening((smooth < 20) & deep, iterations=1)
    if not fluid.any():
        return np.zeros(plane.shape, np.float32)
    level = np.quantile(rows[fluid], rng.uniform(0.0, 0.7))
    return ndimage.gaussian_filter((fluid & (rows >= level)).astype(np.float32), 0.7)


def paint_slice(
    rng: np.random.Generator, plane: np.ndarray, distance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(painted HU, coverage, labels [any, five subtypes, fracture]) or None where no lesion would be visible."""
    for _ in range(4):
        lesion = choose_lesion(rng, distance)
        if lesion.kind == "intraventricular":
            lesion.radius = 60.0
            lesion.row, lesion.column = centroid(distance)
        elif lesion.kind == "subarachnoid":
            lesion.radius = max(lesion.radius, 14.0) * 1.8
        extent = float(np.sqrt(1 - rng.uniform(0, 0.85) ** 2)) if rng.random() < 0.6 else 1.0
        painted, coverage = paint_lesion(rng, plane, distance, lesion, extent)
        if is_visible(coverage, lesion.kind):
            labels = np.zeros(len(CLASSES) + 1, np.float32)
            labels[[0, CLASSES.index(lesion.kind)]] = 1
            return painted, coverage, labels
    return None


def is_visible(coverage: np.ndarray, kind: str) -> bool:
    """Whether a reader could see the blood: large enough and, but for blood in sulci, at least three pixels thick.

    Thinner crescents taught as blood would turn every bright rim along the skull into blood.
    """
    blood = coverage > 0.5
    if blood.sum() < MINIMUM_PIXELS:
        return False
    return kind == "subarachnoid" or ndimage.binary_erosion(blood, np.ones((3, 3))).sum() >= MINIMUM_CORE_PIXELS


def centroid(distance: np.ndarray) -> tuple[float, float]:
    """(row, column) of the centre of the intracranial space; the middle of the canvas where there is none."""
    rows, columns = np.nonzero(distance)
    if len(rows) == 0:
        return distance.shape[0] / 2, distance.shape[1] / 2
    return float(rows.mean()), float(columns.mean())


def paint_study(
    rng: np.random.Generator,
    canvas: np.ndarray,
    distance: np.ndarray,
    slice_spacing_mm: float = 5.0,
    kind: str | None = None,
    radius_mm: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray, Lesion] | None:
    """(painted canvas [slice][256][256], visible [slice] bool, lesion): one lesion through neighbouring slices."""
    area = (distance > 0).reshape(len(distance), -1).sum(1)
    eligible = np.flatnonzero(area > 0.35 * area.max())
    if len(eligible) == 0:
        return None
    for _ in range(6):
        centre = int(rng.choice(eligible))
        lesion = choose_lesion(rng, distance[centre], kind)
        if radius_mm is not None:
            lesion.radius = float(rng.uniform(*radius_mm)) / MILLIMETRES_PER_PIXEL
        if lesion.kind == "intraventricular":
            lesion.radius, (lesion.row, lesion.column) = 60.0, centroid(distance[centre])
        half = lesion.half_height_slices(slice_spacing_mm) * float(rng.uniform(0.7, 1.3))
        painted, visible = canvas.astype(np.float32), np.zeros(len(canvas), bool)
        for index in range(max(0, int(centre - half)), min(len(canvas), int(centre + half) + 2)):
            extent = np.sqrt(max(0.0, 1 - ((index - centre) / max(half, 0.9)) ** 2))
            if extent < 0.2 or not (distance[index] > 0).any():
                continue
            plane, coverage = paint_lesion(rng, painted[index], distance[index], lesion, float(extent))
            painted[index], visible[index] = plane, is_visible(coverage, lesion.kind)
        if visible[centre]:
            return painted, visible, lesion
    return None


def paint_lookalike(rng: np.random.Generator, plane: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The slice with one to three things that are bright or streaky and not blood."""
    painted = plane.astype(np.float32)
    painters = [_calcified_falx, _calcifications, _dense_vessels, _streaks, _cupping, _motion, _bone_glow, _scar]
    weights = [0.13, 0.15, 0.10, 0.12, 0.12, 0.07, 0.18, 0.13]
    for painter in rng.choice(len(painters), size=int(rng.integers(1, 4)), replace=False, p=weights):
        painted = painters[painter](rng, painted, distance)
    return painted


def _calcified_falx(rng, plane, distance) -> np.ndarray:
    """A thin dense or calcified line near the midline."""
    row, column = centroid(distance)
    rows, columns = np.mgrid[0 : plane.shape[0], 0 : plane.shape[1]].astype(np.float32)
    tilt = rng.uniform(-0.08, 0.08)
    across = np.abs(columns - column - rng.uniform(-5, 5) - tilt * (rows - row))
    height = max(8.0, float((distance > 0).any(1).sum()))
    middle, half = row + rng.uniform(-0.45, 0.45) * height, rng.uniform(5, 40)
    line = np.clip(rng.uniform(0.6, 2.0) - across, 0, 1) * np.clip((half - np.abs(rows - middle)) / 3, 0, 1)
    target = rng.uniform(55, 75) if rng.random() < 0.5 else rng.uniform(100, 500)
    line = ndimage.gaussian_filter(line * (distance > 0), rng.uniform(0.3, 0.8))
    return plane + (np.maximum(target, plane) - plane) * line


def _calcifications(rng, plane, distance) -> np.ndarray:
    """Small, very dense spots: pineal, choroid (often in pairs), basal ganglia, vessel walls."""
    row, column = centroid(distance)
    rows, columns = np.mgrid[0 : plane.shape[0], 0 : plane.shape[1]].astype(np.float32)
    out = plane
    for _ in range(int(rng.integers(1, 4))):
        dy, dx = rng.uniform(-25, 45), rng.uniform(0, 40)
        sides = (-1, 1) if rng.random() < 0.6 else (rng.choice([-1, 1]),)
        for side in sides:
            radius, density = rng.uniform(1.0, 4.0), rng.uniform(95, 400)
            away = np.hypot(rows - row - dy - rng.uniform(-3, 3), columns - column - side * dx - rng.uniform(-3, 3))
            spot = np.clip((radius - away) / 1.2 + 0.5, 0, 1) * (distance > 2)
            out = out + (np.maximum(density, out) - out) * spot
    return out


def _dense_vessels(rng, plane, distance) -> np.ndarray:
    """Vessels of dense blood (a high haematocrit): a venous sinus in the corner of the skull, or a thin artery."""
    rows, columns = np.mgrid[0 : plane.shape[0], 0 : plane.shape[1]].astype(np.float32)
    row, column = centroid(distance)
    density = rng.uniform(48, 68)
    if rng.random() < 0.5:
        bearing = rng.normal(np.pi / 2, 0.9)
        theta = np.arctan2(rows - row, columns - column)
        across = np.abs((theta - bearing + np.pi) % (2 * np.pi) - np.pi)
        vessel = np.clip(rng.uniform(3, 6) - distance, 0, 1) * np.clip((rng.uniform(0.04, 0.12) - across) * 40, 0, 1)
        vessel = vessel * (distance > 0)
    else:
        angle, bend = rng.uniform(-np.pi, np.pi), rng.uniform(-0.02, 0.02)
        dy, dx = rows - row - rng.uniform(-30, 30), columns - column - rng.uniform(-40, 40)
        u, v = np.cos(angle) * dx + np.sin(angle) * dy, -np.sin(angle) * dx + np.cos(angle) * dy
        vessel = np.clip(rng.uniform(1.2, 2.4) - np.abs(v - bend * u * u), 0, 1)
        vessel = vessel * np.clip((rng.uniform(4, 18) - np.abs(u)) / 2, 0, 1) * (distance > 3)
    vessel = ndimage.gaussian_filter(vessel, 0.6)
    return plane + (np.maximum(density, plane) - plane) * vessel


def _streaks(rng, plane, distance) -> np.ndarray:
    """Dark and bright bands of beam hardening, or thin metal-like streaks."""
    rows, columns = np.mgrid[0 : plane.shape[0], 0 : plane.shape[1]].astype(np.float32)
    row, column = centroid(distance)
    out = plane.copy()
    angle = rng.normal(0, 0.25) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)
    for _ in range(int(rng.integers(1, 6))):
        a = angle + rng.normal(0, 0.15)
        offset = (rows - row) * np.cos(a) - (columns - column) * np.sin(a) - rng.uniform(-70, 70)
        out += rng.uniform(-16, 13) * np.exp(-0.5 * (offset / rng.uniform(1.0, 7)) ** 2)
    return out


def _cupping(rng, plane, distance) -> np.ndarray:
    """Brighter (or darker) brain all along the skull, and a slow drift across the slice."""
    rim = np.exp(-distance.astype(np.float32) / rng.uniform(3, 16)) * (distance > 0)
    return plane + rng.uniform(-6, 16) * rim + rng.uniform(0, 3) * smooth_noise(rng, plane.shape[0], 90)


def _motion(rng, plane, distance) -> np.ndarray:
    """A second, shifted ghost of the head."""
    ghost = ndimage.shift(plane, rng.uniform(-5, 5, 2), order=1, mode="nearest")
    weight = rng.uniform(0.15, 0.5)
    return (1 - weight) * plane + weight * ghost


def _bone_glow(rng, plane, distance) -> np.ndarray:
    """Bone that shines into the brain beside it: a soft point spread or partial volume with a sloping skull."""
    if rng.random() < 0.4:
        soft = ndimage.gaussian_filter(plane, rng.uniform(0.8, 2.0))
        return soft + rng.uniform(0.0, 1.0) * np.clip(plane - ndimage.gaussian_filter(plane, 1.0), -15, 15)
    bone = ndimage.gaussian_filter(np.clip(plane - 150, 0, 1500), rng.uniform(1.5, 5.0))
    return plane + rng.uniform(0.01, 0.06) * bone * (distance > 0)


def _scar(rng, plane, distance) -> np.ndarray:
    """An old infarct or contusion: dark, soft-edged, often at the surface."""
    lesion = choose_lesion(rng, distance, "intraparenchymal")
    rows, columns = np.mgrid[0 : plane.shape[0], 0 : plane.shape[1]].astype(np.float32)
    depth = _blob_depth(lesion, rows, columns, min(lesion.radius, 24.0))
    depth += 3 * smooth_noise(rng, plane.shape[0], 6)
    share = 1 / (1 + np.exp(-np.clip(depth / rng.uniform(0.8, 3.0), -20, 20))) * (distance > 0)
    dark = np.minimum(plane, rng.uniform(4, 24) + np.clip(plane - ndimage.gaussian_filter(plane, 1.5), -8, 8))
    return plane + (dark - plane) * share
