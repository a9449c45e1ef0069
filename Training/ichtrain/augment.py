"""Batches for the slice encoder: which slices go in, and how they are made to look like other scanners' slices."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from . import paint
from .study import PAINT_SIZE, Study
from .model import MAP_STRIDE
from .preprocess import AIR_HU, INPUT_SIZE

POSITIVES, PAIRS, NEGATIVES = 4, 3, 6
BATCH_SIZE = POSITIVES + 2 * PAIRS + NEGATIVES
SKULL_STRIP_PROBABILITY = 0.35
LOOKALIKE_PROBABILITY = 0.5


@dataclass
class Batch:
    """One training step.

    hounsfield: [N,1,192,192]. labels: [N,7] (any, five subtypes, fracture), NaN where unknown. coverage: [N,24,24], the
    share of each map cell that is painted blood. has_map: [N], whether that share is known (clean negatives and painted
    slices).
    """

    hounsfield: torch.Tensor
    labels: torch.Tensor
    coverage: torch.Tensor
    has_map: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


class SliceSampler:
    """Draws batches of 16: 4 slices with ICH, 3 pairs of one slice clean and painted, 6 other negatives.

    Half of the negatives come from studies with ICH elsewhere, so that the look of a head or a scan does not give the
    answer away. Slices of which nobody said whether they bleed are left out; where no slice is known to bleed, two more
    pairs stand in for the 4. Raises ValueError where no slice is known not to bleed.
    """

    def __init__(self, studies: list[Study], seed: int):
        self.studies = studies
        self.rng = np.random.default_rng(seed)
        self.positive = self._slices(1, True)
        self.negative_of_positive = self._slices(0, True)
        self.negative = self._slices(0, False) or self.negative_of_positive
        if not self.negative:
            raise ValueError("no slice is known to be without haemorrhage: add studies without, or labels of slices")
        self.looked_through: set[int] = set()
        self.paintable = dict([*self.negative, *self.negative_of_positive])
        weights = np.array([np.sqrt(len(found)) for _, found in self.positive])
        self.positive_weights = weights / weights.sum()

    def _slices(self, value: int, of_positive: bool) -> list[tuple[int, np.ndarray]]:
        """(study, its slices whose *any* is `value`) for positive or negative studies that have such slices."""
        found = [
            (index, np.flatnonzero(study.labels[:, 0] == value))
            for index, study in enumerate(self.studies)
            if study.is_positive == of_positive
        ]
        return [(index, slices) for index, slices in found if len(slices)]

    def batch(self) -> Batch:
        rng = self.rng
        planes: list[np.ndarray] = []
        distances: list[np.ndarray] = []
        coverages: list[np.ndarray | None] = []
        labels: list[np.ndarray] = []
        styles: list[int] = []

        def add(plane, distance, coverage, label, style):
            planes.append(plane), distances.append(distance), coverages.append(coverage)
            labels.append(label), styles.append(style)

        nothing = np.zeros((PAINT_SIZE, PAINT_SIZE), np.float32)
        for _ in range(POSITIVES if self.positive else 0):
            index, slices = self.positive[rng.choice(len(self.positive), p=self.positive_weights)]
            plane, distance, label = self._slice(index, int(rng.choice(slices)))
            add(plane, distance, None, label, len(styles))
        for _ in range(PAIRS if self.positive else PAIRS + POSITIVES // 2):
            plane, distance, label, painted = self._painted()
            style = len(styles)
            painted_label = painted[2].copy()
            painted_label[-1] = label[-1]
            add(plane, distance, nothing, label, style)
            add(painted[0], distance, painted[1], painted_label, style if rng.random() < 0.7 else style + 1)
        for number in range(NEGATIVES):
            source = self.negative_of_positive if number % 2 and self.negative_of_positive else self.negative
            index, slices = source[rng.integers(len(source))]
            plane, distance, label = self._slice(index, int(rng.choice(slices)))
            add(plane, distance, nothing, label, len(styles))
        return augment(rng, planes, distances, coverages, labels, styles)

    def _painted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(HU, distance, labels) of a slice without haemorrhage, and what `paint.paint_slice` made of it.

        Slices that show little brain are never painted; a study is looked through when it is first drawn.
        """
        while self.paintable:
            index = int(self.rng.choice(list(self.paintable)))
            if index not in self.looked_through:
                self.looked_through.add(index)
                area = (self.studies[index].distance > 0).reshape(len(self.studies[index].labels), -1).sum(1)
                slices = self.paintable[index]
                self.paintable[index] = slices[area[slices] > max(0.25 * area.max(), 1)]
            if len(self.paintable[index]) == 0:
                del self.paintable[index]
                continue
            plane, distance, label = self._slice(index, int(self.rng.choice(self.paintable[index])))
            painted = paint.paint_slice(self.rng, plane, distance)
            if painted is not None:
                return plane, distance, label, painted
        raise ValueError("no slice shows a brain to paint on: are these head CTs in Hounsfield units?")

    def _slice(self, index: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(HU, distance, labels), sometimes with a harmless look-alike added whatever the label."""
        study = self.studies[index]
        plane, distance = study.canvas[number].astype(np.float32), study.distance[number]
        if self.rng.random() < LOOKALIKE_PROBABILITY and distance.any():
            plane = paint.paint_lookalike(self.rng, plane, distance)
        return plane, distance, study.labels[number].astype(np.float32)


def augment(rng, planes, distances, coverages, labels, styles) -> Batch:
    """Canvas slices [256][256] -> Batch at 192. Entries of equal style (a pair) get the very same changes."""
    seeds = {style: int(rng.integers(2**31)) for style in styles}
    stack = np.zeros((len(planes), 3, PAINT_SIZE, PAINT_SIZE), np.float32)
    matrices = np.empty((len(planes), 2, 3), np.float32)
    for n, (plane, distance, coverage) in enumerate(zip(planes, distances, coverages)):
        stack[n, 0] = plane - AIR_HU
        stack[n, 1] = distance > 0
        if coverage is not None:
            stack[n, 2] = coverage
        matrices[n] = random_affine(np.random.default_rng(seeds[styles[n]]))
    grid = F.affine_grid(torch.from_numpy(matrices), [len(planes), 3, INPUT_SIZE, INPUT_SIZE], align_corners=False)
    sampled = F.grid_sample(torch.from_numpy(stack), grid, align_corners=False)
    out = sampled[:, 0].numpy() + AIR_HU
    inside = sampled[:, 1] > 0.5
    for n in range(len(planes)):
        out[n] = scanner_look(np.random.default_rng(seeds[styles[n]] + 1), out[n], inside[n])
    return Batch(
        hounsfield=torch.from_numpy(out)[:, None],
        labels=torch.from_numpy(np.stack(labels)),
        coverage=F.avg_pool2d(sampled[:, 2:3], MAP_STRIDE)[:, 0],
        has_map=torch.tensor([coverage is not None for coverage in coverages]),
    )


def random_affine(rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """[2][3], output to input in [-1,1]: flip, up to 25 degrees, scale, aspect (gantry tilt, head shape), shift."""
    angle = np.deg2rad(rng.uniform(-25, 25)) * strength
    scale = np.exp(rng.uniform(-0.16, 0.16) * strength)
    aspect = np.exp(rng.uniform(-0.1, 0.1) * strength)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([flip * scale * aspect, scale / aspect])
    return np.concatenate([rotation, rng.uniform(-0.09, 0.09, (2, 1)) * strength], 1).astype(np.float32)


def scanner_look(rng: np.random.Generator, plane: np.ndarray, inside: torch.Tensor) -> np.ndarray:
    """HU [192][192] -> the same head as another scanner might show it: level, width, sharpness, noise, skull strip."""
    size = plane.shape[0]
    out = 35 + (plane - 35) * np.float32(np.exp(rng.uniform(-0.1, 0.1))) + np.float32(rng.uniform(-6, 6))
    if rng.random() < 0.15:
        coarse = int(rng.integers(100, 170))
        small = F.interpolate(torch.from_numpy(out)[None, None], (coarse, coarse), mode="bilinear", antialias=True)
        out = F.interpolate(small, (size, size), mode="bilinear")[0, 0].numpy()
    kind = rng.random()
    if kind < 0.3:
        out = ndimage.gaussian_filter(out, rng.uniform(0.3, 1.3))
    elif kind < 0.5:
        soft = np.clip(out, -100, 150)
        out = out + rng.uniform(0.3, 1.2) * (soft - ndimage.gaussian_filter(soft, rng.uniform(0.7, 1.3)))
    if rng.random() < 0.7:
        sigma = float(np.exp(rng.uniform(np.log(0.8), np.log(12))))
        noise = rng.standard_normal((size, size), np.float32)
        if rng.random() < 0.5:
            noise = ndimage.gaussian_filter(noise, rng.uniform(0.4, 1.2))
            noise /= noise.std()
        out = out + sigma * noise
    if rng.random() < 0.3:
        out = out + rng.uniform(0.5, 4.0) * paint.smooth_noise(rng, size, rng.uniform(3, 20))
    if rng.random() < SKULL_STRIP_PROBABILITY and inside.float().mean() > 0.03:
        width = 2 * int(rng.integers(0, 9)) + 1
        rows = F.max_pool2d(inside.float()[None, None], (1, width), 1, (0, width // 2))
        kept = F.max_pool2d(rows, (width, 1), 1, (width // 2, 0))[0, 0].numpy() > 0
        out = np.where(kept, out, AIR_HU)
    return np.clip(out, AIR_HU, 3071).astype(np.float32)
