"""The helpers that make DICOM files make what they say."""

import functools
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import pydicom

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts" / "validation"), str(HERE.parents[1] / "scripts" / "demo")]
import external  # noqa: E402
from ct_series import read_series, write_series  # noqa: E402
from invesalius_head import EXAMPLE, demo_header, load_head  # noqa: E402
from paint_haemorrhage import intracranial_mask, paint  # noqa: E402


def run_tool(name: str, *arguments: str) -> dict | list:
    result = subprocess.run([sys.executable, str(HERE / name), *arguments], capture_output=True, text=True)
    if result.returncode != 0:
        raise AssertionError(f"{name}: {result.stderr}")
    return json.loads(result.stdout)


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class MakeCTSeries(Folder):
    def test_slices_pass_the_iod_check_and_carry_hounsfield_units(self):
        run_tool("make_ct_series.py", str(self.folder), "--slices", "6", "--size", "64", "--localizer")
        for path in self.folder.iterdir():
            self.assertEqual(external.dciodvfy(path, "CT"), [], path.name)
        volume, slices = read_series(self.folder)
        self.assertEqual(volume.hounsfield.shape, (6, 64, 64))
        middle = volume.hounsfield[2, 20:44, 20:44]
        self.assertTrue(20 < np.median(middle) < 45)

    def test_mixed_spacing_tilt_and_numbering_do_not_disturb_the_order(self):
        written = run_tool(
            "make_ct_series.py",
            str(self.folder),
            "--slices",
            "5",
            "--size",
            "32",
            "--spacing",
            "2.5x2,7x2",
            "--tilt",
            "18.5",
            "--shuffle",
        )
        volume, slices = read_series(self.folder)
        np.testing.assert_allclose(np.diff(volume.slice_positions_mm), [2.5, 2.5, 7, 7], atol=1e-4)
        self.assertEqual(
            [ds.SOPInstanceUID for ds in slices], [each["sop_instance_uid"] for each in written["instances"]]
        )

    def test_bleed_left_out_slices_and_odd_uids(self):
        written = run_tool(
            "make_ct_series.py", str(self.folder), "--size", "64", "--bleed", "left", "--leave-out", "3,4", "--odd-uids"
        )
        self.assertEqual(len(written["instances"]), 26)
        self.assertTrue(written["instance_numbers_with_blood"])
        self.assertTrue(all(len(each["sop_instance_uid"]) % 2 for each in written["instances"]))

    def test_a_named_series_is_the_same_on_every_run(self):
        first, second = (
            run_tool("make_ct_series.py", str(self.folder / name), "--slices", "2", "--size", "32", "--uid-name", "n")
            for name in ("a", "b")
        )
        self.assertEqual(first, second)


class Transcode(Folder):
    def test_every_transfer_syntax_is_written_and_lossless_ones_keep_the_pixels(self):
        run_tool("make_ct_series.py", str(self.folder / "series"), "--slices", "1", "--size", "64")
        written = run_tool("transcode.py", str(self.folder / "series" / "CT0001.dcm"), str(self.folder / "out"))
        self.assertEqual(len({each["transfer_syntax"] for each in written}), 15)
        original = pydicom.dcmread(self.folder / "series" / "CT0001.dcm").pixel_array
        for each in written:
            path = self.folder / "out" / each["file"]
            if (
                each["transfer_syntax"].startswith("1.2.840.10008.1.2.4.")
                and int(each["transfer_syntax"].split(".")[-1]) <= 70
            ):
                plain = self.folder / "plain.dcm"
                subprocess.run([external.tool("dcmdjpeg"), str(path), str(plain)], check=True)
                path = plain
            pixels = pydicom.dcmread(path).pixel_array
            self.assertEqual(pixels.shape, original.shape)
            if each["lossless"]:
                np.testing.assert_array_equal(pixels, original, each["file"])


@unittest.skipUnless(EXAMPLE.exists(), "Debian's invesalius-examples is not installed")
class Painter(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.head = load_head()
        cls.paint = staticmethod(functools.cache(functools.partial(paint, cls.head)))

    def test_paints_blood_of_realistic_density_inside_the_skull_only(self):
        for seed in (3, 5):  # intraparenchymal, subdural
            with self.subTest(seed=seed):
                painted, what = self.paint(seed)
                changed = painted != np.rint(self.head.hounsfield).astype(np.int16)
                spacing = np.array([self.head.slice_spacing_mm, self.head.row_spacing_mm, self.head.column_spacing_mm])
                self.assertFalse((changed & ~intracranial_mask(self.head.hounsfield, spacing)).any())
                self.assertTrue(55 <= what.mean_hounsfield <= 80)
                self.assertTrue(what.slices == list(range(what.slices[0], what.slices[-1] + 1)))
                self.assertTrue(1 < what.volume_ml < 120)

    def test_the_same_seed_paints_the_same(self):
        np.testing.assert_array_equal(self.paint(3)[0], paint(self.head, 3)[0])

    def test_the_command_line_paints_a_folder_of_files(self):
        with tempfile.TemporaryDirectory() as name:
            clean, painted = Path(name) / "clean", Path(name) / "painted"
            write_series(self.head, demo_header("CLEAN", "1"), clean)
            what = run_tool("../../scripts/demo/paint_haemorrhage.py", str(clean), str(painted), "--seed", "3")
            self.assertEqual(len(list(painted.iterdir())), len(self.head.hounsfield))
            middle = what["instances"][len(what["instances"]) // 2]
            path = painted / f"CT{middle['instance_number']:04d}.dcm"
            self.assertEqual(pydicom.dcmread(path).SOPInstanceUID, middle["sop_instance_uid"])
            self.assertEqual(external.dciodvfy(path, "CT"), [])

    def test_each_demo_patient_has_its_own_uids(self):
        first, second = demo_header("CLEAN", "1"), demo_header("CLEAN", "1")
        self.assertNotEqual(first.study_uid, second.study_uid)


if __name__ == "__main__":
    unittest.main()
