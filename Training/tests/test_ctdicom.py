"""CT-ICH written as DICOM and read again is the same to training."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path

import numpy as np
import pydicom
from generated import head

from ichtrain import ctdicom, ctich, dicom, folder

DATA = Path(os.environ.get("ICH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "ct-ich"


class SeriesTests(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)

    def write(self, name: str, planes: np.ndarray, seed: str = "seed") -> tuple[str, list[str]]:
        positions = np.arange(len(planes)) * 5.0 - 40
        return ctdicom.write_series(self.root / name, planes, positions, (0.4, 0.5, 5.0), "P1", "CT head", seed)

    def test_files_say_what_they_are(self) -> None:
        study_uid, uids = self.write("a", head())
        paths = sorted((self.root / "a").iterdir())
        datasets = [pydicom.dcmread(path) for path in paths]
        self.assertEqual([dataset.SOPInstanceUID for dataset in datasets], uids)
        self.assertTrue(study_uid.startswith("2.25.") and len(study_uid) <= 64)
        first = datasets[0]
        self.assertEqual(first.StudyInstanceUID, study_uid)
        self.assertEqual(first.PixelSpacing, [0.5, 0.4])
        self.assertEqual((first.RescaleIntercept, first.PixelRepresentation, first.BitsAllocated), (-1024, 0, 16))
        self.assertIn("synthetic", first.SeriesDescription)
        self.assertTrue(first.DerivationDescription)
        self.assertEqual([float(dataset.ImagePositionPatient[2]) for dataset in datasets[:2]], [-40, -35])
        found = np.stack([dicom.read_hounsfield(path) for path in paths])
        np.testing.assert_array_equal(found, head())

    def test_equal_arguments_give_equal_files(self) -> None:
        for name in ("a", "b"):
            self.write(name, head())
        other, _ = self.write("c", head(), "another seed")
        same, _ = self.write("d", head())
        self.assertNotEqual(other, same)
        for path in (self.root / "a").iterdir():
            self.assertEqual(path.read_bytes(), (self.root / "b" / path.name).read_bytes())


@unittest.skipUnless(DATA.is_dir(), f"CT-ICH is not there: set ICH_DATA to the folder that holds {DATA.name}")
class RoundTripTests(unittest.TestCase):
    def test_converted_studies_are_the_same_to_training(self) -> None:
        patients = [49, 100]
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            ctdicom.convert_ctich(DATA, root / "dicom", patients)
            tables = root / "dicom" / "labels.csv", root / "dicom" / "slice-labels.csv"
            reading = folder.read(root / "dicom", root / "cache", *tables, announce=lambda text: None)
            self.assertEqual((reading.left_out, reading.warnings), ([], []))
            found = {study.patient: study for study in reading.studies}
            rows = ctich.read_labels(DATA)
            self.assertEqual(set(found), {str(patient) for patient in patients})
            for patient in patients:
                original = ctich.load_study(DATA, patient, rows[patient], root / "original")
                study = found[str(patient)]
                self.assertEqual((study.patient, study.stratum), (original.patient, original.stratum))
                for name in ("inputs", "canvas", "distance", "labels", "study_labels"):
                    with self.subTest(patient=patient, array=name):
                        np.testing.assert_array_equal(getattr(study, name), getattr(original, name))
                        self.assertEqual(getattr(study, name).dtype, getattr(original, name).dtype)

    def test_a_patient_that_is_not_there(self) -> None:
        with tempfile.TemporaryDirectory() as temporary, self.assertRaisesRegex(ValueError, "no patient 7777"):
            ctdicom.convert_ctich(DATA, Path(temporary), [7777])


if __name__ == "__main__":
    unittest.main()
