"""What `ichnode model` and `ichnode evaluate` say of packages and of labelled studies."""

import csv
import json
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np
from make_ct_series import arguments_from, make
from node_fixture import ICHNODE, MODELS, ROOT
from PIL import Image

BUILT = ICHNODE.exists() and (ICHNODE.parent / "ichnode-dicom").exists() and len(MODELS) == 1
needs_build = unittest.skipUnless(BUILT, "ichnode is not built, or Models/ does not hold one package")


def ichnode(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [ICHNODE, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )


def write_csv(path: Path, rows: list[list]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ichnode-evaluate-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


@needs_build
class ModelCommands(Folder):
    def package(self, change=lambda manifest: None) -> Path:
        copy = self.folder / "model"
        shutil.copytree(MODELS[0], copy)
        manifest = json.loads((copy / "model.json").read_text())
        change(manifest)
        (copy / "model.json").write_text(json.dumps(manifest))
        return copy

    def assert_bad(self, package: Path, *sentences: str) -> None:
        result = ichnode("model", "verify", "--model", package)
        self.assertEqual(result.returncode, 78, result.stdout + result.stderr)
        bad = [line for line in result.stdout.splitlines() if line.startswith("BAD ")]
        self.assertEqual(len(bad), len(sentences), result.stdout)
        for line, sentence in zip(bad, sentences):
            self.assertIn(sentence, line)

    def test_the_shipped_package_holds(self):
        result = ichnode("model", "verify", "--model", MODELS[0])
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual([line[:4] for line in result.stdout.splitlines()], ["good"] * 3)

    def test_info_names_what_the_package_says(self):
        manifest = json.loads((MODELS[0] / "model.json").read_text())
        text = ichnode("model", "info", "--model", MODELS[0])
        self.assertEqual(text.returncode, 0, text.stderr)
        self.assertIn(f"{manifest['name']} {manifest['version']}", text.stdout)
        for name in manifest["thresholds"]:
            self.assertIn(name, text.stdout)
        found = json.loads(ichnode("model", "info", "--json", "--model", MODELS[0]).stdout)
        self.assertEqual(found["figures"], manifest["figures"])
        self.assertEqual(found["training"], manifest["training"])
        self.assertEqual({each["name"]: each["value"] for each in found["thresholds"]}, manifest["thresholds"])
        self.assertRegex(found["digest"], "^[0-9a-f]{64}$")

    def test_benchmark_gives_times_and_memory(self):
        result = ichnode("model", "benchmark", "--model", MODELS[0], "--slices", "9", "--repeats", "3", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        found = json.loads(result.stdout)
        self.assertEqual((found["slices"], found["repeats"]), (9, 3))
        self.assertTrue(0 < found["median_seconds"] <= found["p95_seconds"] < 60)
        self.assertGreater(found["peak_resident_mebibytes"], 20)
        self.assertEqual(ichnode("model", "benchmark", "--model", MODELS[0], "--slices", "0").returncode, 64)

    def test_changed_and_missing_files_are_named(self):
        package = self.package()
        with (package / "encoder.onnx").open("ab") as file:
            file.write(b"x")
        (package / "head.onnx").unlink()
        self.assert_bad(package, "encoder.onnx is not the file that model.json names", "cannot read")
        self.assertEqual(ichnode("model", "info", "--model", package).returncode, 78)

    def test_an_unknown_format_and_no_package_are_said(self):
        def newer(manifest):
            manifest["format"] = 9

        self.assert_bad(self.package(newer), "format 9 where this node reads 1")
        self.assert_bad(self.folder / "nothing", "model.json: install a model package in that folder")

    def test_shapes_that_model_json_does_not_have_are_named(self):
        def narrow(manifest):
            manifest["embedding_size"] = 7

        package = self.package(narrow)
        result = ichnode("model", "verify", "--model", package)
        self.assertEqual(result.returncode, 78)
        self.assertRegex(result.stdout, r"BAD   networks: .*encoder\.onnx: embedding is \[-1, \d+\].*says \[-1, 7\]")
        self.assertRegex(result.stdout, r"head\.onnx: embedding is \[1, -1, \d+\].*says \[1, -1, 7\]")

    def self_test(self) -> dict:
        """What the training side says of the phantom."""
        manifest = json.loads((MODELS[0] / "model.json").read_text())
        if "self_test" in manifest:
            return manifest["self_test"]
        path = ROOT / "Training" / "reference" / "phantom.json"
        reference = json.loads(path.read_text()) if path.exists() else {}
        if reference.get("encoder_sha256") != manifest["encoder"]["sha256"]:
            self.skipTest("no answers of the training side for this package")
        keys = ("formula", "study_logits", "slice_logits", "study_probability", "slice_probabilities")
        return {key: reference[key] for key in keys}

    def test_answers_as_the_training_side_said(self):
        answers = self.self_test()
        package = self.package(lambda manifest: manifest.update(self_test=answers))
        result = ichnode("model", "verify", "--model", package)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("good  self-test: answers as where it was made", result.stdout)

    def test_other_answers_are_said_with_their_difference(self):
        answers = self.self_test()
        answers = answers | {"study_logits": [logit + 0.5 for logit in answers["study_logits"]]}
        package = self.package(lambda manifest: manifest.update(self_test=answers))
        result = ichnode("model", "verify", "--model", package)
        self.assertEqual(result.returncode, 78)
        (difference,) = re.findall(r"BAD   self-test differs by ([0-9.]+) in study logits", result.stdout)
        self.assertAlmostEqual(float(difference), 0.5, delta=0.01)

    def test_a_package_without_self_test_holds_and_says_so(self):
        package = self.package(lambda manifest: manifest.pop("self_test", None))
        result = ichnode("model", "verify", "--model", package)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("self-test: none in this package", result.stdout)


def area_under_curve(scores, truths) -> float:
    scores, truths = np.asarray(scores, float), np.asarray(truths, bool)
    pairs = np.sign(scores[truths][:, None] - scores[~truths][None])
    return float((pairs + 1).mean() / 2)


@needs_build
class Evaluate(unittest.TestCase):
    """Six generated studies: four heads, one of thin slices, and one that is no head."""

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory(prefix="ichnode-evaluate-")
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = Path(temporary.name)
        cls.studies = cls.folder / "studies"
        options = {
            "clean": ["--bleed", "none"],
            "clean-2": ["--bleed", "none", "--seed", "2"],
            "left": ["--bleed", "left"],
            "thin": ["--bleed", "right", "--seed", "3", "--slices", "48", "--spacing", "2.5"],
            "plastic": ["--uniform", "120"],
            "unlabelled": ["--seed", "4"],
        }
        cls.uids, slices = {}, [["sop_instance_uid", "any"]]
        for name, each in options.items():
            identity = ["--uid-name", name, "--patient-id", f"PAT-{name}", "--accession", f"{name[:5]}A"]
            size = ["--slices", "20", "--size", "128", "--spacing", "6"]
            made = make(arguments_from([str(cls.studies / "north" / name), *size, *identity, *each]))
            cls.uids[name] = made["study_instance_uid"]
            with_blood = set(made["instance_numbers_with_blood"])
            slices += [[i["sop_instance_uid"], int(i["instance_number"] in with_blood)] for i in made["instances"]]
        cls.slices = write_csv(cls.folder / "slices.csv", slices)
        cls.labels = [
            ["study", "any", "subdural", "intraparenchymal", "second"],
            [cls.uids["clean"], 0, 0, 0, 0],
            ["PAT-clean-2", 0, 0, 0, 1],
            ["leftA", 1, 0, 1, 1],
            ["north/thin", 1, 0, 1, 0],
            ["north/plastic/", 0, "", "", 0],
            ["nowhere", 1, 1, 0, 1],
        ]

    def evaluate(self, labels: list[list], *options: object) -> subprocess.CompletedProcess:
        path = write_csv(self.folder / f"{self.id()}.csv", labels)
        return ichnode("evaluate", "--studies", self.studies, "--labels", path, "--model", MODELS[0], *options)

    def test_figures_tables_and_charts(self):
        output = self.folder / "out"
        result = self.evaluate(
            self.labels, "--slice-labels", self.slices, "--reader", "second", "--prevalence", 0.06, 0.2,
            "--threshold", "balanced", 0.5, "--output", output,
        )  # fmt: skip
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads((output / "evaluation.json").read_text())
        with (output / "predictions.csv").open(newline="") as file:
            predictions = list(csv.DictReader(file))
        with (output / "slices.csv").open(newline="") as file:
            slices = list(csv.DictReader(file))

        # Nothing is dropped silently.
        self.assertEqual((report["labelled_studies"], report["analysed_studies"]), (5, 4))
        (missing,) = report["not_analysed"]
        self.assertEqual((missing["line"], missing["study"]), (6, self.uids["plastic"]))
        self.assertIn("brain", missing["reason"])
        self.assertIn("analysed 4 of 5", result.stdout)
        self.assertIn("(lines 7)", report["warnings"][0])
        self.assertIn(self.uids["unlabelled"], report["warnings"][1])
        self.assertEqual(len(predictions), 5)

        # The figures are those of the tables.
        scored = [row for row in predictions if row["probability"]]
        self.assertEqual(len(scored), 4)
        truths = [row["any"] == "1" for row in scored]
        area = area_under_curve([row["probability"] for row in scored], truths)
        self.assertAlmostEqual(report["study_area"]["estimate"]["value"], area, places=6)
        slice_area = area_under_curve([row["logit"] for row in slices], [row["any"] == "1" for row in slices])
        self.assertAlmostEqual(report["slices"]["area"]["estimate"]["value"], slice_area, places=6)
        self.assertEqual(report["slices"]["area"]["count"], 3 * 20 + 48)
        # Those of the study that was not analysed and of the one without a label.
        self.assertEqual(report["slices"]["labels_not_analysed"], 40)
        self.assertEqual(report["slices"]["analysed_without_label"], 0)
        balanced, half = report["operating_points"]
        self.assertEqual([balanced["threshold"]["name"], half["threshold"]["name"]], ["balanced", "0.5"])
        flagged = sum(row["flagged_0.5"] == "1" and row["any"] == "1" for row in predictions)
        self.assertEqual(half["analysed"]["sensitivity"], half["analysed"]["sensitivity"] | {"count": flagged, "of": 2})
        self.assertEqual(half["analysed"]["specificity"]["of"], 2)
        self.assertEqual(half["all"]["specificity"]["of"], 3)
        self.assertEqual([each["prevalence"] for each in half["at_prevalence"]], [0.06, 0.2])
        self.assertEqual(half["readers"][0]["all"]["studies"], 4)
        self.assertEqual(half["readers"][0]["reader_decisions"]["sensitivity"]["count"], 1)
        self.assertEqual(report["subtype_areas"]["intraparenchymal"]["positives"], 2)
        self.assertEqual(sum(each["observed"]["of"] for each in report["calibration"]["bins"]), 4)
        self.assertGreater(report["seconds_per_study"]["median"], 0)

        # Two images of 2.5 mm make a slab: both have its score.
        thin = [row for row in slices if row["study_instance_uid"] == self.uids["thin"]]
        self.assertEqual(len(thin), 48)
        self.assertEqual(len({row["slab"] for row in thin}), 24)
        for slab in {row["slab"] for row in thin}:
            self.assertEqual(len({row["logit"] for row in thin if row["slab"] == slab}), 1)

        for name in ("roc.png", "reliability.png"):
            with Image.open(output / name) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self.assertGreater(min(pixels.shape[:2]), 600)
            blue = (pixels[..., 2].astype(int) - pixels[..., 0]) > 80
            self.assertGreater(int(blue.sum()), 200, f"{name} shows no curve")

    def test_all_thresholds_of_the_package_without_a_choice(self):
        output = self.folder / "one kind"
        output.mkdir()
        (output / "roc.png").write_bytes(b"of an earlier evaluation")
        result = self.evaluate([["study", "any"], [self.uids["clean"], 0]], "--output", output)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertFalse((output / "roc.png").exists())
        manifest = json.loads((MODELS[0] / "model.json").read_text())
        for name, value in manifest["thresholds"].items():
            self.assertIn(f"Threshold {name} ({value:.4f})", result.stdout)
        self.assertIn("cannot be computed: needs both kinds", result.stdout)

    def test_labels_that_cannot_be_used_are_refused_with_their_line(self):
        clean = self.uids["clean"]
        cases = {
            "no column": ([["study", "positive"], [clean, 0]], 'has no column "any"'),
            "no number": ([["study", "any"], [clean, "yes"]], ':2: "any" is neither 0 nor 1'),
            "contradiction": ([["study", "any", "epidural"], [clean, 0, 1]], ':2: "any" is 0 and "epidural" is 1'),
            "fields": ([["study", "any"], [clean, 0, 1]], ":2: 3 fields where the header has 2"),
            "twice": ([["study", "any"], [clean, 0], ["PAT-clean", 0]], "lines 2 and 3 mean the same study"),
            "ambiguous": ([["study", "any"], ["cleanA", 0]], ":2: 2 studies have this Accession Number"),
            "folder of many": ([["study", "any"], ["north", 0]], ":2: 6 studies have this folder"),
            "no match": ([["study", "any"], ["nowhere", 0]], "matches a study of the folder"),
        }
        for name, (labels, sentence) in cases.items():
            with self.subTest(name):
                result = self.evaluate(labels)
                self.assertEqual(result.returncode, 78, result.stdout + result.stderr)
                self.assertIn(sentence, result.stderr)
                self.assertEqual(result.stdout, "")

    def test_options_that_cannot_be_used_are_refused(self):
        labels = [["study", "any"], [self.uids["clean"], 0]]
        cases = [
            (["--reader", "second"], 78, 'has no column "second"'),
            (["--prevalence", "6"], 64, "a prevalence is above 0 and below 1"),
            (["--threshold", "best"], 64, 'has no threshold "best"'),
            (["--slice-labels", self.folder / "none.csv"], 78, "cannot read"),
        ]
        for options, code, sentence in cases:
            with self.subTest(options=options):
                result = self.evaluate(labels, *options)
                self.assertEqual(result.returncode, code, result.stderr)
                self.assertIn(sentence, result.stderr)


if __name__ == "__main__":
    unittest.main()
