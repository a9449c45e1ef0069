"""Hospital studies: DICOM files and tables of labels."""

from __future__ import annotations

import pickle
import random
import tempfile
import unittest
from pathlib import Path

import numpy as np
from generated import SLICES, SPACING_MM, head, study_uid, write_csv, write_study
from pydicom.dataset import FileDataset
from pydicom.uid import RLELossless

from ichtrain import folder, preprocess, readers
from ichtrain.study import LABELS


def quiet(text: str) -> None:
    """In place of print."""


class FolderTests(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)
        self.data, self.cache = self.root / "data", self.root / "cache"
        self.data.mkdir()

    def table(self, *rows: list) -> Path:
        return write_csv(self.root / "labels.csv", *rows)

    def slices(self, *rows: list) -> Path:
        return write_csv(self.root / "slices.csv", *rows)

    def read(self, labels: Path, slices: Path | None = None, **options) -> folder.Reading:
        return folder.read(self.data, self.cache, labels, slices, announce=quiet, **options)

    def read_one(self) -> folder.Study:
        reading = self.read(self.table(["study", "any"], [study_uid("a"), 0]))
        self.assertEqual(reading.left_out, [])
        return reading.studies[0]

    # Volumes

    def test_reads_what_the_contract_makes_of_the_planes(self) -> None:
        write_study(self.data / "a")
        study = self.read_one()
        expected, _ = preprocess.encoder_input(head(), np.arange(SLICES) * SPACING_MM, SPACING_MM)
        np.testing.assert_array_equal(study.inputs, np.rint(expected))
        self.assertEqual(study.canvas.shape, (SLICES, 256, 256))
        self.assertTrue((study.distance > 0).any())
        self.assertEqual((study.identifier, study.patient, study.stratum), (study_uid("a"), "patient-a", 0))

    def test_instance_numbers_and_file_names_do_not_order(self) -> None:
        write_study(self.data / "a")
        plain = np.array(self.read_one().inputs)
        numbers = random.Random(2).sample(range(1, 100), SLICES)

        def shuffle(dataset: FileDataset, number: int) -> None:
            dataset.InstanceNumber = numbers[number]

        for path in (self.data / "a").iterdir():
            path.unlink()
        write_study(self.data / "a", change=shuffle)
        for number, path in enumerate(sorted((self.data / "a").iterdir())):
            path.rename(path.with_name(f"{numbers[number]:03d}"))
        np.testing.assert_array_equal(self.read_one().inputs, plain)

    def test_from_above_is_turned(self) -> None:
        write_study(self.data / "a")
        plain = np.array(self.read_one().inputs)
        write_study(self.data / "b", "b", planes=head()[::-1], spacing_mm=-SPACING_MM, change=positive_thickness)
        reading = self.read(self.table(["study", "any"], [study_uid("b"), 0]))
        np.testing.assert_array_equal(reading.studies[0].inputs, plain)

    def test_compressed_files_read_alike(self) -> None:
        write_study(self.data / "a")
        plain = np.array(self.read_one().inputs)

        def compress(dataset: FileDataset, number: int) -> None:
            dataset.compress(RLELossless, generate_instance_uid=False)

        write_study(self.data / "a", change=compress)
        np.testing.assert_array_equal(self.read_one().inputs, plain)

    def test_thin_slices_become_slabs_with_their_labels(self) -> None:
        planes = head(64)
        written = write_study(self.data / "a", planes=planes, spacing_mm=1.25)
        rows = [[dataset.SOPInstanceUID, int(number == 9)] for number, dataset in enumerate(written)]
        slices = self.slices(["sop_instance_uid", "any"], *rows)
        reading = self.read(self.table(["study", "any"], [study_uid("a"), 1]), slices)
        study = reading.studies[0]
        self.assertEqual(len(study.inputs), 16)
        np.testing.assert_array_equal(study.labels[:, 0], np.arange(16) == 9 // 4)
        expected, _ = preprocess.encoder_input(planes, np.arange(64) * 1.25, 1.25)
        np.testing.assert_array_equal(study.inputs, np.rint(expected))

    def test_the_soft_series_is_chosen_and_contrast_refused(self) -> None:
        bone = {"ConvolutionKernel": "BONE", "SeriesDescription": "Head bone"}
        write_study(self.data / "a", series="1", planes=head() // 2, change=setting(**bone))
        write_study(self.data / "a", series="2")
        write_study(self.data / "b", "b", change=setting(ContrastBolusAgent="OMNIPAQUE"))
        write_study(self.data / "c", "c", change=setting(ContrastBolusAgent="NONE"))
        table = self.table(["study", "any"], *([study_uid(name), 0] for name in "abc"))
        reading = self.read(table)
        self.assertEqual({study.identifier for study in reading.studies}, {study_uid("a"), study_uid("c")})
        self.assertEqual(reading.left_out, [(study_uid("b"), "no series to analyse: contrast agent given")])
        soft, none = reading.studies if reading.studies[0].patient == "patient-a" else reading.studies[::-1]
        np.testing.assert_array_equal(soft.inputs, none.inputs)

    def test_a_broken_file_leaves_its_study_out(self) -> None:
        write_study(self.data / "a")
        write_study(self.data / "b", "b")
        path = self.data / "a" / "1-005.dcm"
        path.write_bytes(path.read_bytes()[:-100])
        (self.data / "b" / "notes.txt").write_text("not an image")
        table = self.table(["study", "any"], [study_uid("a"), 0], [study_uid("b"), 1])
        reading = self.read(table)
        self.assertEqual([study.identifier for study in reading.studies], [study_uid("b")])
        (name, reason), = reading.left_out
        self.assertEqual(name, study_uid("a"))
        self.assertIn("1-005.dcm: pixel data is shorter", reason)
        self.assertIn("1 files are no DICOM images, b/notes.txt for one", reading.warnings)

    # The cache

    def test_a_second_reading_takes_the_cache_and_notices_changes(self) -> None:
        write_study(self.data / "a")
        study = self.read_one()
        before = np.array(study.inputs)
        stamp = (study.folder / "inputs.npy").stat().st_mtime_ns
        self.assertEqual((self.read_one().folder / "inputs.npy").stat().st_mtime_ns, stamp)
        self.assertEqual(list(self.cache.glob("*.tmp")), [])
        write_study(self.data / "a", planes=np.where(head() == 900, 900, head() + 1).clip(-1024))
        after = self.read_one()
        self.assertNotEqual(after.sha256, study.sha256)
        self.assertFalse(np.array_equal(after.inputs, before))

    def test_arrays_stay_on_disk_and_travel_as_a_path(self) -> None:
        write_study(self.data / "a")
        study = self.read_one()
        self.assertIsInstance(study.canvas, np.memmap)
        travelled = pickle.dumps(study)
        self.assertLess(len(travelled), 10_000)
        np.testing.assert_array_equal(pickle.loads(travelled).canvas, study.canvas)

    def test_several_processes_read_alike(self) -> None:
        for name in "ab":
            write_study(self.data / name, name)
        table = self.table(["study", "any"], [study_uid("a"), 0], [study_uid("b"), 1])
        apart = self.read(table, processes=2)
        alone = folder.read(self.data, self.root / "other", table, announce=quiet)
        for left, right in zip(apart.studies, alone.studies, strict=True):
            np.testing.assert_array_equal(left.inputs, right.inputs)
            self.assertEqual(left.sha256, right.sha256)

    # Labels

    def test_studies_are_named_in_three_ways(self) -> None:
        for name in "abc":
            write_study(self.data / "2020" / name, name)
        rows = [[study_uid("a"), 1], ["accession-b", 0], ["2020/c/", 1]]
        reading = self.read(self.table(["study", "any"], *rows))
        found = {study.identifier: study.is_positive for study in reading.studies}
        self.assertEqual(found, {study_uid("a"): True, study_uid("b"): False, study_uid("c"): True})
        with self.assertRaisesRegex(folder.LabelError, "line 2: 2020 fits 3 studies"):
            self.read(self.table(["study", "any"], ["2020", 1]))

    def test_nothing_is_left_out_without_a_word(self) -> None:
        for name in "abc":
            write_study(self.data / name, name)
        reading = self.read(self.table(["study", "any"], [study_uid("a"), 0], ["gone", 1], [study_uid("c"), ""]))
        self.assertEqual(len(reading.studies), 1)
        left_out = dict(reading.left_out)
        self.assertEqual(set(left_out), {"gone", study_uid("b"), study_uid("c")})
        self.assertIn("line 3 of labels.csv: no DICOM file", left_out["gone"])
        self.assertIn("no row in labels.csv", left_out[study_uid("b")])
        self.assertIn("any is empty", left_out[study_uid("c")])
        said: list[str] = []
        reading.tell(self.cache, said.append)
        self.assertTrue(all(any(name in line for line in said) for name in left_out))
        self.assertIn("gone", (self.cache / "left-out.csv").read_text())

    def test_patient_stratum_and_subtypes(self) -> None:
        for name in "ab":
            write_study(self.data / name, name)
        head_line = ["study", "any", "subdural", "patient", "stratum", "remark"]
        rows = [[study_uid("a"), 1, 1, "x", "2019", "r"], [study_uid("b"), 0, "", "x", "2020", "r"]]
        reading = self.read(self.table(head_line, *rows))
        bleeding, clean = sorted(reading.studies, key=lambda study: study.identifier)
        self.assertEqual([(s.patient, s.stratum) for s in (bleeding, clean)], [("x", 2019), ("x", 2020)])
        self.assertEqual(bleeding.study_labels[LABELS.index("subdural")], 1)
        self.assertTrue(np.isnan(bleeding.study_labels[LABELS.index("epidural")]))
        self.assertTrue(np.isnan(bleeding.labels[:, 0]).all())
        self.assertEqual((bleeding.knows_slices, clean.knows_slices), (False, True))
        self.assertTrue((clean.labels[:, :6] == 0).all())
        self.assertEqual(reading.warnings, ["labels.csv: columns that nothing reads: remark; misspelt?"])

    def test_tables_that_have_to_be_corrected(self) -> None:
        write_study(self.data / "a")
        uid = study_uid("a")
        cases = {
            "no column any": [["study"], [uid]],
            'line 2: any is "yes": write 0, 1': [["study", "any"], [uid, "yes"]],
            "line 3: study is empty": [["study", "any"], [uid, 1], ["", 1]],
            "line 2: any is 0 and epidural is 1": [["study", "any", "epidural"], [uid, 0, 1]],
            "lines 2 and 3 contradict each other": [["study", "any"], [uid, 0], ["accession-a", 1]],
            "line 2: has another number of fields": [["study", "any"], [uid]],
            "column any is there twice": [["study", "any", "any"], [uid, 0, 1]],
        }
        for message, rows in cases.items():
            with self.subTest(message), self.assertRaisesRegex(folder.LabelError, message):
                self.read(self.table(*rows))
        repeated = self.read(self.table(["study", "any"], [uid, 0], ["accession-a", 0]))
        self.assertEqual(len(repeated.studies), 1)

    def test_slices_that_contradict_their_study_leave_it_out(self) -> None:
        written = write_study(self.data / "a")
        rows = [[dataset.SOPInstanceUID, int(number == 3)] for number, dataset in enumerate(written)]
        slices = self.slices(["sop_instance_uid", "any"], *rows)
        reading = self.read(self.table(["study", "any"], [study_uid("a"), 0]), slices)
        self.assertEqual(reading.studies, [])
        self.assertIn("slices have any and the study has not", reading.left_out[0][1])
        slices = self.slices(["sop_instance_uid", "any"], rows[0], [rows[0][0], 1])
        with self.assertRaisesRegex(folder.LabelError, "lines 2 and 3 contradict"):
            self.read(self.table(["study", "any"], [study_uid("a"), 1]), slices)

    def test_slices_not_listed_are_unknown_and_strange_ones_said(self) -> None:
        written = write_study(self.data / "a")
        slices = self.slices(["sop_instance_uid", "any"], [written[3].SOPInstanceUID, 1], ["9.9", 1])
        reading = self.read(self.table(["study", "any"], [study_uid("a"), 1]), slices)
        found = reading.studies[0].labels[:, 0]
        self.assertEqual(found[3], 1)
        self.assertEqual(np.isnan(found).sum(), SLICES - 1)
        self.assertIn("1 labelled slices are in no volume that is used, 9.9 for one", reading.warnings[0])

    def test_one_patient_id_for_all_is_said(self) -> None:
        for name in "abcdef":
            write_study(self.data / name, name, change=setting(PatientID="ANON"))
        table = self.table(["study", "any"], *([study_uid(name), 0] for name in "abcdef"))
        self.assertIn("one patient has 6 of 6 studies", self.read(table).warnings[0])

    def test_limit_and_options_by_layout(self) -> None:
        for name in "ab":
            write_study(self.data / name, name)
        table = self.table(["study", "any"], [study_uid("a"), 0], [study_uid("b"), 0])
        self.assertEqual(len(self.read(table, limit=1).studies), 1)
        with self.assertRaisesRegex(ValueError, "--labels"):
            readers.load("folder", self.data, self.cache)
        with self.assertRaisesRegex(ValueError, "its own labels"):
            readers.load("rsna", self.data, self.cache, labels=table)
        with self.assertRaisesRegex(ValueError, "ctich, rsna, folder"):
            readers.load("cq500", self.data, self.cache)
        with self.assertRaises(FileNotFoundError):
            readers.load("folder", self.data / "absent", self.cache, table)


def setting(**values: str):
    """A change that sets attributes of every image."""

    def change(dataset: FileDataset, number: int) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return change


def positive_thickness(dataset: FileDataset, number: int) -> None:
    dataset.SliceThickness = SPACING_MM


if __name__ == "__main__":
    unittest.main()
