"""Painted haemorrhages, look-alikes, and how batches are drawn."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

import numpy as np

TRAINING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TRAINING)]
sys.path += [str(TRAINING.parent / "Tests" / "Tools")]

from ichtrain import augment, paint  # noqa: E402
from ichtrain.study import CLASSES, LABELS, UNKNOWN, Study, complete_labels, prepare  # noqa: E402
from make_ct_series import head_phantom  # noqa: E402


def study(name: str, bleed: str, knows_slices: bool = True) -> Study:
    """A phantom of 10 slices of 12 mm."""
    positions = [12.0 * index for index in range(10)]
    planes, blood = head_phantom(10, 128, 1.9, positions, seed=len(name), noise_hu=3, bleed=bleed)
    slices = np.zeros((10, len(LABELS)), np.float32)
    slices[blood, 0] = slices[blood, CLASSES.index("intraparenchymal")] = 1
    whole = slices.max(0)
    labels, study_labels = complete_labels(slices if knows_slices else None, whole, 10)
    arrays = prepare(np.clip(planes, -1024, 3071).astype(np.float32))
    return Study(name, name, 0, labels, study_labels, **arrays, sha256="")


class Painting(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.clean, cls.bleeding = study("clean", "none"), study("bleeding", "left")

    def middle(self) -> tuple[np.ndarray, np.ndarray]:
        area = (self.clean.distance > 0).sum((1, 2))
        return self.clean.canvas[area.argmax()].astype(np.float32), self.clean.distance[area.argmax()]

    def test_every_kind_is_bright_inside_the_skull_and_nowhere_else(self) -> None:
        rng = np.random.default_rng(2)
        plane, distance = self.middle()
        seen = set()
        for _ in range(60):
            result = paint.paint_slice(rng, plane, distance)
            if result is None:
                continue
            painted, coverage, label = result
            kind = CLASSES[int(np.flatnonzero(label[1 : len(CLASSES)])[0]) + 1]
            seen.add(kind)
            blood = coverage > 0.5
            self.assertGreaterEqual(blood.sum(), paint.MINIMUM_PIXELS)
            self.assertGreater(np.median(painted[blood]), np.median(plane[distance > 0]) + 8, kind)
            self.assertTrue((painted[distance == 0] == plane[distance == 0]).all(), kind)
            self.assertEqual(label[0], 1)
        self.assertTrue({"intraparenchymal", "epidural", "subdural"} <= seen, seen)

    def test_a_lesion_goes_through_neighbouring_slices(self) -> None:
        rng = np.random.default_rng(4)
        for _ in range(5):
            canvas, visible, _ = paint.paint_study(rng, self.clean.canvas, self.clean.distance, 12.0, "epidural")
            changed = (canvas != self.clean.canvas).any((1, 2))
            self.assertTrue(changed[visible].all())
            at = np.flatnonzero(visible)
            self.assertEqual(len(at), at[-1] - at[0] + 1, "without a gap")

    def test_look_alikes_are_finite_and_change_something(self) -> None:
        rng = np.random.default_rng(6)
        plane, distance = self.middle()
        for _ in range(30):
            painted = paint.paint_lookalike(rng, plane, distance)
            self.assertTrue(np.isfinite(painted).all())
            self.assertTrue((painted != plane).any())

    def test_a_batch_has_pairs_and_labels_that_fit(self) -> None:
        sampler = augment.SliceSampler([self.clean, self.bleeding], 1)
        for _ in range(3):
            batch = sampler.batch()
            self.assertEqual(tuple(batch.hounsfield.shape), (augment.BATCH_SIZE, 1, 192, 192))
            self.assertEqual(int(batch.labels[:, 0].sum()), augment.POSITIVES + augment.PAIRS)
            painted = batch.coverage.amax((1, 2)) > 0
            self.assertEqual(int(painted.sum()), augment.PAIRS)
            self.assertTrue((batch.labels[painted, 0] == 1).all())
            # Of real haemorrhage nobody knows the place, of everything else everybody.
            self.assertEqual(int((~batch.has_map).sum()), augment.POSITIVES)

    def test_slices_of_unknown_label_are_never_drawn(self) -> None:
        unknown = study("unknown", "left", knows_slices=False)
        self.assertTrue(np.isnan(unknown.labels[:, 0]).all() and unknown.is_positive)
        sampler = augment.SliceSampler([self.clean, unknown], 1)
        batch = sampler.batch()
        self.assertEqual(len(batch.labels), augment.BATCH_SIZE)
        self.assertFalse(batch.labels[:, 0].isnan().any())
        self.assertEqual(int(batch.labels[:, 0].sum()), augment.PAIRS + augment.POSITIVES // 2)

    def test_without_negatives_says_what_is_missing(self) -> None:
        with self.assertRaisesRegex(ValueError, "without haemorrhage"):
            augment.SliceSampler([study("unknown", "left", knows_slices=False)], 1)

    def test_contradicting_labels_are_refused(self) -> None:
        labels = np.full((3, len(LABELS)), UNKNOWN, np.float32)
        labels[1, 0] = 1
        none = np.full(len(LABELS), UNKNOWN, np.float32)
        none[0] = 0
        with self.assertRaisesRegex(ValueError, "correct one"):
            complete_labels(labels, none, 3)


if __name__ == "__main__":
    unittest.main()
