"""The same studies through PyTorch and through the node: probabilities within 1e-3, logits within 1e-2.

`reference/parity.json` holds what PyTorch said. The node is the program named by ICHNODE (`make test-training` names
the one it built); without it these tests are skipped.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

TRAINING = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TRAINING))

from ichtrain import ctdicom, parity  # noqa: E402
from ichtrain.__main__ import HEAD  # noqa: E402

ICHNODE = os.environ.get("ICHNODE")
CTICH = Path(os.environ.get("ICH_DATA", TRAINING.parents[1] / "shared" / "data")) / "ct-ich"
REFERENCE = json.loads((TRAINING / "reference" / "parity.json").read_text())
PACKAGE = TRAINING.parent / "Models" / REFERENCE["package"]["name"]
PIXEL_MM = 0.9


@unittest.skipUnless(ICHNODE, "ICHNODE names no program: build the node and use `make test-training`")
class Parity(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        root = Path(cls.folder.name)
        cls.names = []
        for name, planes, positions, spacing_mm in parity.cases(HEAD, CTICH if CTICH.exists() else None):
            ctdicom.write_series(
                root / "studies" / name, planes, positions, (PIXEL_MM, PIXEL_MM, spacing_mm), name, "CT head", name
            )
            cls.names.append(name)
        with open(root / "labels.csv", "w", newline="") as file:
            csv.writer(file).writerows([["study", "any"], *([name, int("painted" in name)] for name in cls.names)])
        command = [ICHNODE, "evaluate", "--studies", root / "studies", "--labels", root / "labels.csv"]
        result = subprocess.run(
            [*command, "--model", PACKAGE, "--output", root / "out"], capture_output=True, text=True
        )
        if result.returncode != 0:
            raise AssertionError(f"ichnode evaluate failed: {result.stdout[-2000:]}{result.stderr[-2000:]}")
        with open(root / "out" / "predictions.csv", newline="") as file:
            cls.studies = {row["study"]: row for row in csv.DictReader(file)}
        with open(root / "out" / "slices.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        cls.slabs = {
            name: {int(row["slab"]): row for row in rows if row["study_instance_uid"] == study["study_instance_uid"]}
            for name, study in cls.studies.items()
        }

    def test_reference_is_of_this_package(self) -> None:
        description = json.loads((PACKAGE / "model.json").read_text())
        for part in ("encoder", "head"):
            self.assertEqual(REFERENCE[f"{part}_sha256"], description[part]["sha256"], "write the reference again")

    def test_all_studies_are_compared(self) -> None:
        known = {case["name"] for case in REFERENCE["cases"]}
        self.assertLessEqual(set(self.names), known)
        self.assertGreaterEqual(len(self.names), 3)
        self.assertEqual(set(self.studies), set(self.names))

    def test_studies_agree(self) -> None:
        calibration = json.loads((PACKAGE / "model.json").read_text())["calibration"]["study"]
        for case in self.cases():
            probability = float(self.studies[case["name"]]["probability"])
            self.assertAlmostEqual(probability, case["study_probability"], delta=1e-3, msg=case["name"])
            self.assertTrue(0.001 < probability < 0.9999, "else the digits given do not carry the logit")
            logit = (np.log(probability / (1 - probability)) - calibration["b"]) / calibration["a"]
            self.assertAlmostEqual(logit, case["study_logits"][0], delta=1e-2, msg=case["name"])

    def test_slices_agree(self) -> None:
        for case in self.cases():
            slabs = self.slabs[case["name"]]
            self.assertEqual(len(slabs), len(case["slice_logits"]), case["name"])
            for column, expected, tolerance in (
                ("logit", "slice_logits", 1e-2),
                ("probability", "slice_probabilities", 1e-3),
                ("attention", "attention", 1e-3),
            ):
                found = [float(slabs[number][column]) for number in sorted(slabs)]
                np.testing.assert_allclose(found, case[expected], atol=tolerance, rtol=0, err_msg=case["name"])

    def cases(self) -> list[dict]:
        return [case for case in REFERENCE["cases"] if case["name"] in self.names]


if __name__ == "__main__":
    unittest.main()
