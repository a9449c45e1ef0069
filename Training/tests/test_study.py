"""Labels of slices, slabs and studies; folds."""

from __future__ import annotations

import unittest
from collections import Counter

import numpy as np

from ichtrain import runs
from ichtrain.study import LABELS, Study, complete_labels, slab_labels

NAN = np.nan


def column(*values: float) -> np.ndarray:
    """[slice][`LABELS`] with these for *any*, the rest unknown."""
    labels = np.full((len(values), len(LABELS)), NAN, np.float32)
    labels[:, 0] = values
    return labels


def study_label(value: float) -> np.ndarray:
    return column(value)[0]


def study(identifier: str, patient: str, positive: bool, stratum: int = 0) -> Study:
    nothing = np.zeros((1, 1, 1), np.int16)
    labels, of_study = complete_labels(None, study_label(float(positive)), 1)
    return Study(identifier, patient, stratum, labels, of_study, nothing, nothing, nothing, "")


class LabelTests(unittest.TestCase):
    def test_slices_tell_of_their_study(self) -> None:
        self.assertEqual(complete_labels(column(0, 1, NAN), None, 3)[1][0], 1)
        self.assertEqual(complete_labels(column(0, 0), None, 2)[1][0], 0)
        self.assertTrue(np.isnan(complete_labels(column(0, NAN), None, 2)[1][0]))

    def test_a_study_without_haemorrhage_tells_of_its_slices(self) -> None:
        labels, of_study = complete_labels(None, study_label(0), 4)
        self.assertTrue((labels[:, :6] == 0).all())
        self.assertTrue((of_study[:6] == 0).all())
        self.assertTrue(np.isnan(labels[:, 6]).all(), "no haemorrhage says nothing of fractures")

    def test_a_study_with_haemorrhage_leaves_its_slices_open(self) -> None:
        self.assertTrue(np.isnan(complete_labels(None, study_label(1), 4)[0]).all())
        np.testing.assert_array_equal(complete_labels(column(0, NAN), study_label(1), 2)[0][:, 0], [0, NAN])

    def test_contradictions(self) -> None:
        with self.assertRaisesRegex(ValueError, "study has not"):
            complete_labels(column(0, 1), study_label(0), 2)
        with self.assertRaisesRegex(ValueError, "none of its slices"):
            complete_labels(column(0, 0), study_label(1), 2)

    def test_slabs_have_what_one_slice_has(self) -> None:
        labels = column(0, 0, 0, 1, 0, NAN, 1, NAN)
        found = slab_labels(labels, np.array([3, 3, 4, 4, 5, 5, 7, 7]))
        np.testing.assert_array_equal(found[:, 0], [0, 1, NAN, 1])
        self.assertIs(slab_labels(labels, None), labels)


class FoldTests(unittest.TestCase):
    def setUp(self) -> None:
        self.studies = [
            study(f"{patient}-{number}", f"p{patient}", patient % 3 == 0 and number == 0, patient % 2)
            for patient in range(60)
            for number in range(1 + patient % 4 // 2)
        ]

    def test_a_patient_is_in_one_fold(self) -> None:
        folds = runs.folds_of(self.studies, 5)
        self.assertEqual(set(folds), set(range(5)))
        of_patient: dict[str, set[int]] = {}
        for one, fold in zip(self.studies, folds):
            of_patient.setdefault(one.patient, set()).add(int(fold))
        self.assertTrue(all(len(found) == 1 for found in of_patient.values()))
        self.assertLess(len(of_patient), len(self.studies))

    def test_folds_hold_equal_shares(self) -> None:
        folds = runs.folds_of(self.studies, 5)
        for positive in (True, False):
            for stratum in (0, 1):
                patients = {
                    (one.patient, int(fold)) for one, fold in zip(self.studies, folds)
                    if one.stratum == stratum and (int(one.patient[1:]) % 3 == 0) == positive
                }
                counts = Counter(fold for _, fold in patients)
                self.assertEqual(len(counts), 5)
                self.assertLessEqual(max(counts.values()) - min(counts.values()), 1)


if __name__ == "__main__":
    unittest.main()
