"""A head CT as one multi-frame object is analysed like the same head as single-frame images, and its results name
frames."""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
import unittest
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from enhanced_ct import enhanced_ct, groups_of, item, legacy_converted_ct, read_slices, write
from make_ct_series import arguments_from, make
from node_fixture import ICHNODE, MODELS, ROOT, needs_node
from structured_report import TriageReport, code, read_triage_report, walk

SLICES = 20
LIBRARY_GROUP = ("126200", "DCM")
EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"


@dataclass
class Results:
    said: str
    report: pydicom.Dataset
    triage: TriageReport
    captures: list[pydicom.Dataset]
    summary: pydicom.Dataset | None
    key_objects: pydicom.Dataset | None

    @property
    def library(self) -> list[pydicom.Dataset]:
        """References of the image library."""
        groups = [each for each in walk(self.report) if code(each) == LIBRARY_GROUP]
        return [
            image.ReferencedSOPSequence[0]
            for group in groups
            for image in group.ContentSequence
            if image.ValueType == "IMAGE"
        ]

    @property
    def evidence(self) -> list[str]:
        (study,) = self.report[EVIDENCE].value
        return [
            str(each.ReferencedSOPInstanceUID)
            for series in study.ReferencedSeriesSequence
            for each in series.ReferencedSOPSequence
        ]

    @property
    def flagged_frames(self) -> list[int]:
        """Of the source images of the measurement groups."""
        found = set()
        for each in walk(self.report):
            if each.get("ValueType") == "IMAGE" and code(each) == ("260753009", "SCT"):
                found.add(int(each.ReferencedSOPSequence[0].ReferencedFrameNumber))
        return sorted(found)


def analyse(folder: Path) -> Results:
    output = folder.with_name(f"{folder.name}-results")
    command = [ICHNODE, "analyze", folder, "--output", output, "--model", MODELS[0], "--key-objects"]
    done = subprocess.run(
        [*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    objects = [pydicom.dcmread(path) for path in output.rglob("*.dcm")]
    (report,) = (each for each in objects if each.Modality == "SR")
    captures = sorted((each for each in objects if each.SeriesNumber == 9003), key=lambda each: each.InstanceNumber)
    summary = next((each for each in objects if each.SeriesNumber == 9004), None)
    key_objects = next((each for each in objects if each.Modality == "KO"), None)
    return Results(done.stdout, report, read_triage_report(report), captures, summary, key_objects)


@needs_node
class EnhancedHead(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = Path(temporary.name)
        options = ["--slices", str(SLICES), "--size", "128", "--spacing", "6", "--bleed", "left", "--tilt", "10"]
        written = make(arguments_from([str(cls.folder / "single"), *options]))
        # Feet to head, as instance numbers go: frame n is what image n is.
        cls.slices = read_slices([cls.folder / "single" / each["file"] for each in written["instances"]])
        cls.single = analyse(cls.folder / "single")
        assert cls.single.triage.outcome == "Present" and 1 < len(cls.single.captures) < SLICES, cls.single.said

    def frames(self, name: str, *objects: pydicom.Dataset, syntax: str = "explicit-little") -> Results:
        for index, each in enumerate(objects):
            write(each, self.folder / name / f"{index}.dcm", syntax)
        return analyse(self.folder / name)

    def assert_same_as_single(self, result: Results, numbers: list[int] | None = None):
        """`numbers`: of the frame that each slice is."""
        numbers = numbers or list(range(1, SLICES + 1))
        self.assertEqual(result.triage.outcome, "Present", result.said)
        self.assertEqual(result.triage.probability, self.single.triage.probability)
        expected = {numbers[each.instance_number - 1]: each.probability for each in self.single.triage.flagged}
        self.assertEqual({each.instance_number: each.probability for each in result.triage.flagged}, expected)
        self.assertEqual(len(result.captures), len(self.single.captures))
        by_position = {tuple(each.ImagePositionPatient): each for each in self.single.captures}
        for capture in result.captures:
            same = by_position[tuple(capture.ImagePositionPatient)]
            for keyword in ("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "FrameOfReferenceUID"):
                self.assertEqual(capture[keyword].value, same[keyword].value)
            # The image's number is written into the picture, above the head.
            self.assertTrue((capture.pixel_array[30:] == same.pixel_array[30:]).all())

    def test_shared_and_per_frame_groups_give_the_same_finding(self):
        head = enhanced_ct(self.slices)
        result = self.frames("shared", head)
        self.assert_same_as_single(result)
        flagged = sorted(each.instance_number for each in self.single.triage.flagged)
        self.assertEqual(result.flagged_frames, flagged)
        self.assertEqual([each.SourceImageSequence[0].ReferencedFrameNumber for each in result.captures], flagged)
        self.assertEqual({each.SourceImageSequence[0].ReferencedSOPInstanceUID for each in result.captures},
                         {head.SOPInstanceUID})
        self.assertIn(f"Flagged frames: {', '.join(map(str, flagged))}.", result.triage.comments[0])
        shown = [int(each.ReferencedFrameNumber) for each in result.summary.SourceImageSequence]
        self.assertEqual(shown, sorted(shown))
        self.assertLessEqual(set(shown), set(flagged))
        named = [each.ReferencedSOPSequence[0] for each in walk(result.key_objects) if each.ValueType == "IMAGE"]
        frames = [each.get("ReferencedFrameNumber") for each in named]
        self.assertEqual(frames, [*flagged, *[None] * len(result.captures)])
        self.assertEqual({each.ReferencedSOPInstanceUID for each in named},
                         {head.SOPInstanceUID, *(each.SOPInstanceUID for each in result.captures)})
        # Analysed as a whole: listed without frame numbers, and once.
        (library,) = result.library
        self.assertEqual(library.ReferencedSOPInstanceUID, head.SOPInstanceUID)
        self.assertNotIn("ReferencedFrameNumber", library)
        self.assertEqual(result.evidence, [head.SOPInstanceUID])

    def test_every_macro_per_frame_and_frames_from_head_to_feet_give_the_same_finding(self):
        every_macro = tuple(groups_of(self.slices[0], 1, None))
        head = enhanced_ct(self.slices[::-1], per_frame=every_macro)
        self.assert_same_as_single(self.frames("per-frame", head), numbers=list(range(SLICES, 0, -1)))

    def test_every_frame_has_its_own_rescale(self):
        slices = copy.deepcopy(self.slices)
        for index, each in enumerate(slices):
            # 12 bits hold what is added, and the intercept takes it away again.
            stored = np.frombuffer(each.PixelData, "<u2") + 10 * index
            self.assertLess(stored.max(), 4096)
            each.PixelData, each.RescaleIntercept = stored.astype("<u2").tobytes(), each.RescaleIntercept - 10 * index
        per_frame = ("FrameContentSequence", "PlanePositionSequence", "PixelValueTransformationSequence")
        self.assert_same_as_single(self.frames("rescale", enhanced_ct(slices, per_frame=per_frame)))

    def test_compressed_frames_give_the_same_finding(self):
        for syntax in ("jpeg-lossless-sv1", "jpeg-ls-lossless", "rle", "implicit-little", "deflated"):
            with self.subTest(syntax):
                self.assert_same_as_single(self.frames(syntax, enhanced_ct(self.slices), syntax=syntax))

    def test_legacy_converted_object_gives_the_same_finding(self):
        legacy = legacy_converted_ct(self.slices)
        groups = legacy.PerFrameFunctionalGroupsSequence
        places = [tuple(each.PlanePositionSequence[0].ImagePositionPatient) for each in groups]
        numbers = [places.index(tuple(each.ImagePositionPatient)) + 1 for each in self.slices]
        self.assert_same_as_single(self.frames("legacy", legacy), numbers)

    def test_parts_of_a_concatenation_are_one_series(self):
        concatenation = f"{self.slices[0].SeriesInstanceUID[:60]}.9"
        parts = [
            enhanced_ct(self.slices[start:end], part=(number, 2, start, concatenation))
            for number, start, end in ((1, 0, 4), (2, 4, SLICES))
        ]
        result = self.frames("parts", *parts)
        self.assert_same_as_single(result)
        self.assertEqual({each.ReferencedSOPInstanceUID for each in result.library},
                         {each.SOPInstanceUID for each in parts})
        self.assertEqual(len(result.library), 2)
        # Of one part alone, nothing is missing between its slices.
        part = self.frames("part", parts[1])
        self.assertIn("1 of 2 parts of a concatenation", part.said)
        self.assertNotIn("negative", part.said)

    def test_objects_of_one_frame_each_are_one_series(self):
        heads = [enhanced_ct([each]) for each in self.slices]
        for each, slice_ in zip(heads, self.slices):
            each.InstanceNumber = slice_.InstanceNumber
        result = self.frames("one each", *heads)
        self.assert_same_as_single(result)
        self.assertEqual([each.ReferencedSOPInstanceUID for each in result.library],
                         [each.SOPInstanceUID for each in heads])
        # The only frame is all of the image (PS3.3 Table 10-3).
        self.assertFalse([each for each in result.library if "ReferencedFrameNumber" in each])

    def test_frames_that_are_not_analysed_are_not_in_the_image_library(self):
        head = enhanced_ct(self.slices, per_frame=("FrameContentSequence", "PlanePositionSequence",
                                                   "CTImageFrameTypeSequence"))
        # PS3.3 C.8.16.1.3
        head.PerFrameFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0].FrameType[2] = "LOCALIZER"
        result = self.frames("localizer", head)
        (library,) = result.library
        self.assertEqual(list(library.ReferencedFrameNumber), list(range(2, SLICES + 1)))
        self.assertEqual(result.triage.outcome, "Present")

    def test_frames_with_contrast_agent_are_refused(self):
        result = self.frames("contrast", enhanced_ct(self.slices, contrast="YES"))
        self.assertEqual(result.triage.outcome, "Undetermined")
        self.assertIn("contrast agent given", result.said)
        self.assert_same_as_single(self.frames("before contrast", enhanced_ct(self.slices, contrast="NO")))

    def test_bone_kernel_within_the_groups_is_refused(self):
        head = enhanced_ct(self.slices)
        head.SharedFunctionalGroupsSequence[0].CTReconstructionSequence[0].ConvolutionKernel = "H70h"
        self.assertIn("bone kernel", self.frames("bone", head).said)

    def test_object_with_unreadable_groups_is_refused_with_the_reason(self):
        head = enhanced_ct(self.slices)
        head.PerFrameFunctionalGroupsSequence.pop()
        result = self.frames("one short", head)
        self.assertEqual(result.triage.outcome, "Undetermined")
        self.assertIn("another number of frames than of their functional groups", result.said)
        head = enhanced_ct(self.slices)
        head.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence.append(item(FrameType=["A" * 16] * 20))
        self.assertIn("functional groups over the limit", self.frames("long", head).said)

    def test_results_pass_every_validator(self):
        head = enhanced_ct(self.slices)
        self.frames("valid", head)
        results = self.folder / "valid-results"
        reports = [p for p in results.rglob("*.dcm") if pydicom.dcmread(p, stop_before_pixels=True).Modality == "SR"]
        captures = sorted(set(results.rglob("*.dcm")) - set(reports))[:1]
        validator = ROOT / "scripts" / "validation" / "validate.py"
        command = [sys.executable, validator, "--source", self.folder / "valid", "--", *reports, *captures]
        done = subprocess.run(
            [*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main()
