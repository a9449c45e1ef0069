"""The layout of RSNA 2019, with the faults that set has."""

from __future__ import annotations

import tempfile
import unittest
import warnings
from pathlib import Path

import numpy as np
from generated import SLICES, SPACING_MM, head, write_csv
from pydicom.dataset import FileDataset

from ichtrain import ctdicom, preprocess, rsna
from ichtrain.folder import LabelError
from ichtrain.study import CLASSES

SUBTYPE_OF_SLICE = {5: "subdural", 6: "subdural", 7: "epidural"}


def quiet(text: str) -> None:
    """In place of print."""


class RSNATests(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.data, self.cache = Path(temporary.name) / "data", Path(temporary.name) / "cache"
        self.images = self.data / rsna.IMAGES
        self.images.mkdir(parents=True)
        self.rows: list[list] = []

    def add_study(self, name: str, patient: str, bleeds: bool = False, wrapped: bool = False) -> list[str]:
        """Returns the image IDs, feet to head; the set has no more attributes than these."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these IDs are no UIDs
            return self.written_study(name, patient, bleeds, wrapped)

    def written_study(self, name: str, patient: str, bleeds: bool, wrapped: bool) -> list[str]:
        ids = []
        for number, plane in enumerate(head()):
            image = f"ID_{name}{(number * 7) % SLICES:05d}"
            dataset = ctdicom.new_dataset(image)
            for keyword in ("SOPClassUID", "ImageType", "Manufacturer", "BodyPartExamined", "SpecificCharacterSet"):
                delattr(dataset, keyword)
            dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"ID_study{name}", f"ID_series{name}"
            dataset.PatientID = patient
            ctdicom.place(dataset, plane.shape, number * SPACING_MM, (3.5, 3.5, SPACING_MM))
            del dataset.SliceThickness
            self.set_pixels(dataset, plane, wrapped)
            dataset.save_as(self.images / f"{image}.dcm", enforce_file_format=True)
            ids.append(image)
            present = {"any", SUBTYPE_OF_SLICE[number]} if bleeds and number in SUBTYPE_OF_SLICE else set()
            self.rows += [[f"{image}_{name}", int(name in present)] for name in CLASSES]
        return ids

    @staticmethod
    def set_pixels(dataset: FileDataset, plane: np.ndarray, wrapped: bool) -> None:
        ctdicom.set_pixels(dataset, plane)
        if wrapped:
            dataset.PixelData = (plane.astype(int) % 4096).astype("<u2").tobytes()
            dataset.BitsStored, dataset.HighBit, dataset.RescaleIntercept = 12, 11, 0

    def read(self, **options) -> rsna.Reading:
        write_csv(self.data / rsna.TABLE, ["ID", "Label"], *self.rows)
        return rsna.read(self.data, self.cache, announce=quiet, **options)

    def test_studies_patients_and_labels(self) -> None:
        self.add_study("aa", "ID_p1", bleeds=True)
        self.add_study("bb", "ID_p1")
        self.add_study("cc", "ID_p2", wrapped=True)
        self.rows += self.rows[:12]  # rows that are there twice
        reading = self.read()
        self.assertEqual((reading.left_out, reading.warnings), ([], []))
        first, second, third = reading.studies
        self.assertEqual([study.patient for study in reading.studies], ["ID_p1", "ID_p1", "ID_p2"])
        self.assertEqual([study.is_positive for study in reading.studies], [True, False, False])
        np.testing.assert_array_equal(np.flatnonzero(first.labels[:, 0]), [5, 6, 7])
        np.testing.assert_array_equal(np.flatnonzero(first.labels[:, CLASSES.index("epidural")]), [7])
        self.assertTrue(np.isnan(first.labels[:, -1]).all())
        expected, _ = preprocess.encoder_input(head(), np.arange(SLICES) * SPACING_MM, SPACING_MM)
        for study in reading.studies:
            np.testing.assert_array_equal(study.inputs, np.rint(expected))

    def test_an_unreadable_image_is_left_out_and_said(self) -> None:
        ids = self.add_study("aa", "ID_p1", bleeds=True)
        path = self.images / f"{ids[2]}.dcm"
        path.write_bytes(path.read_bytes()[:-2000])
        (self.images / f"{ids[9]}.dcm").write_bytes(b"")
        for _ in range(2):  # as well from the cache
            reading = self.read()
            self.assertEqual(len(reading.studies[0].labels), SLICES - 2)
            np.testing.assert_array_equal(np.flatnonzero(reading.studies[0].labels[:, 0]), [4, 5, 6])
            said = " ".join(name for name, _ in reading.left_out)
            self.assertIn(ids[2], said)
            self.assertIn(ids[9], said)

    def test_unreadable_haemorrhage_does_not_make_a_negative(self) -> None:
        ids = self.add_study("aa", "ID_p1", bleeds=True)
        path = self.images / f"{ids[6]}.dcm"
        path.write_bytes(path.read_bytes()[:-2000])
        reading = self.read()
        self.assertEqual(reading.studies, [])
        self.assertIn(("ID_studyaa", "an image with haemorrhage cannot be read"), reading.left_out)

    def test_images_without_labels_and_labels_without_images(self) -> None:
        ids = self.add_study("aa", "ID_p1")
        self.rows = [row for row in self.rows if not row[0].startswith(ids[0])]
        self.rows += [[f"ID_absent_{name}", 0] for name in CLASSES]
        reading = self.read()
        self.assertEqual(reading.left_out, [("ID_studyaa", "1 of its images lack labels in stage_2_train.csv")])
        self.assertIn("1 labelled images have no file", reading.warnings[0])

    def test_contradicting_rows_are_an_error(self) -> None:
        ids = self.add_study("aa", "ID_p1")
        self.rows += [[f"{ids[3]}_any", 1]]
        with self.assertRaisesRegex(LabelError, f"contradicts an earlier row about {ids[3]}_any"):
            self.read()

    def test_limit(self) -> None:
        for name in ("aa", "bb", "cc"):
            self.add_study(name, "ID_p1")
        self.assertEqual(len(self.read(limit=2).studies), 2)

    def test_another_folder_is_refused(self) -> None:
        with self.assertRaisesRegex(FileNotFoundError, "stage_2_train.csv"):
            rsna.read(self.data, self.cache)


if __name__ == "__main__":
    unittest.main()
