"""The whole of `Training/` on generated phantoms, command by command: from DICOM files to a package.

The networks learn for a few steps only, so what they say is worth nothing; that every command does its work is what
counts here.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

TRAINING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TRAINING)]
sys.path += [str(TRAINING.parent / "Tests" / "Tools")]

import ichtrain.__main__ as command_line  # noqa: E402
import make_ct_series  # noqa: E402
from ichtrain import readers  # noqa: E402
from ichtrain.package import Package  # noqa: E402
from ichtrain.phantom import SPACING_MM, phantom  # noqa: E402

STUDIES = 6


def write_phantoms(data: Path, labelled_slices: bool) -> None:
    """Six studies of 12 slices, every other one with blood, and their tables of labels."""
    studies, slices = [], []
    for number in range(STUDIES):
        bleed = ["none", "left", "none", "right", "none", "left"][number]
        command = [data / f"study-{number}", "--slices", "12", "--size", "128", "--bleed", bleed, "--spacing", "10"]
        command += ["--thickness", "10", "--seed", number, "--patient-id", f"P{number}", "--accession", f"A{number}"]
        written = make_ct_series.make(make_ct_series.arguments_from([str(word) for word in command]))
        bleeding = set(written["instance_numbers_with_blood"])
        studies.append({"study": written["study_instance_uid"], "any": int(bleed != "none")})
        for instance in written["instances"]:
            blood = int(instance["instance_number"] in bleeding)
            slices.append({"sop_instance_uid": instance["sop_instance_uid"], "any": blood})
    tables = {"labels.csv": studies, **({"slice-labels.csv": slices} if labelled_slices else {})}
    for name, rows in tables.items():
        with open(data / name, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


class WholeTraining(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.root = Path(cls.folder.name)
        cls.data, cls.cache, cls.work = cls.root / "data", cls.root / "cache", cls.root / "work"
        cls.package = cls.root / "ich-phantom"
        cls.data.mkdir()
        write_phantoms(cls.data, labelled_slices=True)

    def ichtrain(self, *words) -> str:
        """Runs one command; its output."""
        printed = io.StringIO()
        with mock.patch.object(sys, "argv", ["ichtrain", *map(str, words)]), contextlib.redirect_stdout(printed):
            command_line.main()
        return printed.getvalue()

    def in_processes(self, *words) -> str:
        """Runs one command as a shell would, with processes of its own; its output."""
        command = [sys.executable, "-m", "ichtrain", *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": str(TRAINING)}
        result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.root)
        self.assertEqual(result.returncode, 0, f"{words[0]}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
        return result.stdout

    def data_options(self) -> list:
        options = ["--layout", "folder", "--data", self.data, "--cache", self.cache]
        return [*options, "--labels", self.data / "labels.csv", "--slice-labels", self.data / "slice-labels.csv"]

    def test_from_files_to_package(self) -> None:
        schedule = [*self.data_options(), "--work", self.work, "--steps", 2, "--seeds", 1, 2]
        printed = self.in_processes("crossvalidate", *schedule, "--folds", 2, "--jobs", 2)
        self.assertIn("all: 6 studies, 3 positive, 72 slices", printed)
        self.assertIn("min left", printed)
        again = self.ichtrain("crossvalidate", *schedule, "--folds", 2)
        self.assertEqual(again.count("done before"), 4, "a second run has nothing left to do")
        self.ichtrain("train", *schedule)

        output = self.root / "figures"
        self.ichtrain("evaluate", "--work", self.work, "--output", output)
        figures = json.loads((output / "figures.json").read_text())["figures"]
        self.assertEqual(set(figures["all"]["seeds"]), {"seed 1", "seed 2"})
        for picture in ("roc.png", "reliability.png"):
            self.assertGreater((output / picture).stat().st_size, 5000)

        self.ichtrain("export", *self.data_options(), "--work", self.work, "--output", self.package)
        self.check_package()

        self.ichtrain("challenge", *self.data_options(), "--work", self.work, "--lesions", 1)
        challenged = json.loads((self.work / "challenge.json").read_text())
        self.assertGreater(challenged["all"]["lesions"], 0)
        self.assertGreater(challenged["other_slices_flagged"]["n"], 0)

    def check_package(self) -> None:
        description = json.loads((self.package / "model.json").read_text())
        self.assertEqual(description["training"]["studies"], STUDIES)
        manifest = json.loads((self.package / "training-manifest.json").read_text())
        self.assertEqual(len(manifest["datasets"][0]["studies"]), STUDIES)
        self.assertNotIn(str(self.root), json.dumps(manifest), "a manifest names no place")
        planes, positions = phantom()
        outcome = Package(self.package).run(planes, positions, SPACING_MM)
        expected = description["self_test"]
        np.testing.assert_allclose(outcome.study_logits, expected["study_logits"], atol=1e-3)
        np.testing.assert_allclose(outcome.slice_logits, expected["slice_logits"], atol=1e-3)

    def test_study_labels_alone(self) -> None:
        options = ["--layout", "folder", "--data", self.data, "--cache", self.root / "cache-studies-only"]
        options += ["--labels", self.data / "labels.csv"]
        studies = readers.load("folder", self.data, self.root / "cache-studies-only", self.data / "labels.csv")
        self.assertEqual(sum(study.is_positive for study in studies), 3)
        self.assertFalse(any(study.knows_slices for study in studies if study.is_positive))
        work = self.root / "work-studies-only"
        self.ichtrain("train", *options, "--work", work, "--steps", 1, "--seeds", 1)
        self.assertTrue((work / "seed-1" / "all" / "head.pt").exists())


if __name__ == "__main__":
    unittest.main()
