"""Every kind of object that the built node makes passes every validator."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import pydicom

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "scripts" / "validation"), str(ROOT / "scripts" / "demo")]
from ct_series import CTVolume, write_series  # noqa: E402
from invesalius_head import EXAMPLE, demo_header, load_head  # noqa: E402
from paint_haemorrhage import paint  # noqa: E402
from structured_report import read_triage_report  # noqa: E402

ICHNODE = Path(os.environ.get("ICHNODE", ROOT / ".build" / "debug" / "ichnode"))
MODELS = sorted(path.parent for path in (ROOT / "Models").glob("*/model.json"))
SEED = 8


@unittest.skipUnless(ICHNODE.exists(), f"{ICHNODE.name} is not built: run make build")
@unittest.skipUnless(len(MODELS) == 1, "Models/ does not hold one model package")
@unittest.skipUnless(EXAMPLE.exists(), "Debian's invesalius-examples is not installed")
class ResultObjects(unittest.TestCase):
    def test_report_and_heatmaps_of_a_painted_head_pass_every_validator(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            head = load_head()
            pixels, _ = paint(head, SEED)
            volume = CTVolume(**{**head.__dict__, "hounsfield": pixels})
            write_series(volume, demo_header("PAINTED", "T"), folder / "study")
            analysis = subprocess.run(
                [
                    str(ICHNODE),
                    "analyze",
                    str(folder / "study"),
                    "--output",
                    str(folder / "results"),
                    "--model",
                    str(MODELS[0]),
                    "--key-objects",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.assertEqual(analysis.returncode, 0, analysis.stdout)

            # One file of each kind.
            chosen: dict[int, Path] = {}
            for path in sorted(p for p in (folder / "results").rglob("*") if p.is_file()):
                if pydicom.misc.is_dicom(path):
                    chosen.setdefault(int(pydicom.dcmread(path, stop_before_pixels=True).SeriesNumber), path)
            self.assertEqual(sorted(chosen), [9001, 9002, 9003, 9004], analysis.stdout)
            self.assertEqual(read_triage_report(pydicom.dcmread(chosen[9001])).outcome, "Present")
            validation = subprocess.run(
                [
                    sys.executable,
                    str(ROOT / "scripts" / "validation" / "validate.py"),
                    "--source",
                    str(folder / "study"),
                    *map(str, chosen.values()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.assertEqual(validation.returncode, 0, validation.stdout)


if __name__ == "__main__":
    unittest.main()
