"""Single faults in otherwise valid result objects of the built node: each is found by a link of the chain of validators.
Prints which.

PixelMed takes many seconds of processor time a file: it looks at the unaltered objects alone."""

from __future__ import annotations

import subprocess
import tempfile
import unittest
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Callable

import pydicom
from make_ct_series import arguments_from, make
from node_fixture import ICHNODE, MODELS, needs_node
from pydicom import Dataset

import external  # noqa: E402  (node_fixture has the folders on the path)
import own  # noqa: E402
import validate  # noqa: E402
from findings import AllowList  # noqa: E402
from structured_report import (  # noqa: E402
    COMMENT,
    HAEMORRHAGE,
    PROBABILITY,
    TRACKING_IDENTIFIER,
    TRACKING_UID,
    children,
    code,
    measurement_groups,
    walk,
)

ALLOW = AllowList(Path(validate.__file__).with_name("allowed.toml"))
OTHER_UID = "2.25.4711"
EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"

Fault = Callable[[Dataset], None]
FAULTS: dict[tuple[str, str], Fault] = {}


def fault(name: str, *kinds: str) -> Callable[[Fault], Fault]:
    """Of objects of these kinds (`own.SERIES`); of all without one."""

    def add(function: Fault) -> Fault:
        for kind in kinds or own.SERIES:
            assert (kind, name) not in FAULTS, name
            FAULTS[kind, name] = function
        return function

    return add


def setting(name: str, *kinds: str, **attributes) -> None:
    """A fault: these values at the top level, None for no such attribute."""

    def alter(ds: Dataset) -> None:
        for keyword, value in attributes.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)

    fault(name, *kinds)(alter)


def without(name: str, concept: tuple[str, str], *kinds: str) -> None:
    """A fault: the content items of this name below the root are not there."""

    @fault(name, *kinds)
    def alter(ds: Dataset) -> None:
        remove(ds, concept)


def remove(parent: Dataset, concept: tuple[str, str]) -> None:
    found = children(parent, concept)
    assert found, concept
    for item in found:
        parent.ContentSequence.remove(item)


def slice_group(ds: Dataset) -> Dataset:
    return measurement_groups(ds)[1]


def probability(group: Dataset) -> Dataset:
    return children(group, PROBABILITY)[0]


def presences(ds: Dataset) -> list[Dataset]:
    return [item for item in walk(ds) if item.get("ValueType") == "CODE" and code(item) == HAEMORRHAGE]


def image_items(ds: Dataset) -> list[Dataset]:
    return [item for item in walk(ds) if item.get("ValueType") == "IMAGE"]


def item(**attributes) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


# --- All kinds --------------------------------------------------------------------------------------------------------

setting("wrong study UID", StudyInstanceUID=OTHER_UID)
setting("other patient's name", PatientName="OTHER^PATIENT")
setting("name that lost its characters", PatientName="M?LLER^J?RG")
setting(
    "name in a character set that is not declared",
    SpecificCharacterSet="ISO_IR 100",
    PatientName="MÜLLER^JÖRG".encode().decode("latin-1"),
)
setting("no patient ID", PatientID=None)
setting("other issuer of the patient ID", IssuerOfPatientID="ELSEWHERE")
setting("no accession number", AccessionNumber="")
setting("other date of birth", PatientBirthDate="19010101")
setting("no Content Qualification", ContentQualification=None)
setting("Content Qualification of a product", ContentQualification="PRODUCT")
setting("wrong modality", Modality="CT")
setting("series number of another kind", SeriesNumber=9000)
setting("unknown series description", SeriesDescription="AI")
setting("UID with a leading zero", SOPInstanceUID="1.2.03")
setting("no manufacturer", Manufacturer=None)
setting("no Contributing Equipment", ContributingEquipmentSequence=None)


@fault("wrong coding scheme of the equipment's purpose")
def _(ds):
    ds.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodingSchemeDesignator = "SCT"


# --- Report -----------------------------------------------------------------------------------------------------------

setting("VERIFIED without a verifier", "SR", VerificationFlag="VERIFIED")
setting("PARTIAL", "SR", CompletionFlag="PARTIAL")
setting("no template", "SR", "KO", ContentTemplateSequence=None)
setting("revised without a predecessor", "SR", SeriesDescription="AI ICH triage SR (revised 2)")
without("no language", own.LANGUAGE, "SR", "KO")
without("no procedure reported", own.PROCEDURE_REPORTED, "SR")
without("no image library", own.IMAGE_LIBRARY, "SR")
without("no observer type", own.OBSERVER_TYPE, "SR", "KO")
without("no device UID", own.DEVICE_UID, "SR", "KO")


@fault("predecessor without revision", "SR")
def _(ds):
    instance = item(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=OTHER_UID)
    series = item(SeriesInstanceUID=f"{OTHER_UID}.1", ReferencedSOPSequence=[instance])
    study = item(StudyInstanceUID=ds.StudyInstanceUID, ReferencedSeriesSequence=[series])
    ds.PredecessorDocumentsSequence = [study]


@fault("wrong template ID", "SR", "KO")
def _(ds):
    ds.ContentTemplateSequence[0].TemplateIdentifier = "1410"


@fault("wrong code meaning", "SR")
def _(ds):
    presences(ds)[0].ConceptNameCodeSequence[0].CodeMeaning = "Cerebral hemorrhage"


@fault("wrong coding scheme", "SR")
def _(ds):
    presences(ds)[0].ConceptCodeSequence[0].CodingSchemeDesignator = "DCM"


@fault("Absent by a code outside CID 240", "SR")
def _(ds):
    for each in presences(ds):
        each.ConceptCodeSequence[0].CodeValue, each.ConceptCodeSequence[0].CodeMeaning = "2667000", "Absent"


@fault("Probability by the code of Probability of cancer", "SR")
def _(ds):
    probability(slice_group(ds)).ConceptNameCodeSequence[0].CodeValue = "111047"


@fault("group contradicts the evaluation", "SR")
def _(ds):
    value = presences(ds)[0].ConceptCodeSequence[0]
    value.CodeValue, value.CodeMeaning = "272519000", "Absent"


@fault("presence said once", "SR")
def _(ds):
    remove(measurement_groups(ds)[0], HAEMORRHAGE)


@fault("no finding", "SR")
def _(ds):
    remove(slice_group(ds), own.FINDING)


@fault("no finding site", "SR")
def _(ds):
    remove(slice_group(ds), own.FINDING_SITE)


@fault("no tracking identifier", "SR")
def _(ds):
    remove(slice_group(ds), TRACKING_IDENTIFIER)


@fault("no tracking UID", "SR")
def _(ds):
    remove(slice_group(ds), TRACKING_UID)


@fault("two groups share a tracking UID", "SR")
def _(ds):
    study, flagged = measurement_groups(ds)[:2]
    children(flagged, TRACKING_UID)[0].UID = children(study, TRACKING_UID)[0].UID


@fault("negative probability of a slice", "SR")
def _(ds):
    probability(slice_group(ds)).MeasuredValueSequence[0].NumericValue = -0.5


@fault("probability in percent", "SR")
def _(ds):
    probability(measurement_groups(ds)[0]).MeasuredValueSequence[0].NumericValue = 93.4


@fault("wrong units", "SR")
def _(ds):
    units = probability(slice_group(ds)).MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    units.CodeValue, units.CodeMeaning = "%", "Percent"


@fault("no units", "SR")
def _(ds):
    del probability(slice_group(ds)).MeasuredValueSequence[0].MeasurementUnitsCodeSequence


@fault("no value of the study's probability", "SR")
def _(ds):
    probability(measurement_groups(ds)[0]).MeasuredValueSequence = []


@fault("slice without probability", "SR")
def _(ds):
    remove(slice_group(ds), PROBABILITY)


@fault("no algorithm identification", "SR")
def _(ds):
    number = probability(slice_group(ds))
    number.ContentSequence = [each for each in children(number) if each.ValueType != "TEXT"]


@fault("probability by another relationship than the template's", "SR")
def _(ds):
    probability(slice_group(ds)).RelationshipType = "HAS ACQ CONTEXT"


@fault("finding site by another relationship than the template's", "SR")
def _(ds):
    children(slice_group(ds), own.FINDING_SITE)[0].RelationshipType = "HAS OBS CONTEXT"


@fault("slice contained in its probability", "SR")
def _(ds):
    (source,) = (each for each in children(probability(slice_group(ds))) if each.ValueType == "IMAGE")
    source.RelationshipType = "CONTAINS"


@fault("slice's group names two images", "SR")
def _(ds):
    one, other = (image_items(group)[-1] for group in measurement_groups(ds)[1:3])
    one.ReferencedSOPSequence = deepcopy(other.ReferencedSOPSequence)


@fault("image of another SOP class", "SR", "KO")
def _(ds):
    image_items(ds)[-1].ReferencedSOPSequence[0].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


@fault("report does not say that it is not for diagnostic use", "SR")
def _(ds):
    (said,) = (each for each in walk(ds) if code(each) == COMMENT)
    said.TextValue = "Intracranial hemorrhage suspected."


# --- Evidence ---------------------------------------------------------------------------------------------------------

setting("no evidence", "SR", "KO", **{EVIDENCE: None})


@fault("an image is missing in the evidence", "SR", "KO")
def _(ds):
    del ds[EVIDENCE].value[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]


@fault("evidence that nothing names", "SR", "KO")
def _(ds):
    instances = ds[EVIDENCE].value[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    instances.append(deepcopy(instances[0]))
    instances[-1].ReferencedSOPInstanceUID = OTHER_UID


@fault("evidence of another study", "SR", "KO")
def _(ds):
    ds[EVIDENCE].value[0].StudyInstanceUID = OTHER_UID


# --- Key objects ------------------------------------------------------------------------------------------------------

without("no description", own.KEY_OBJECT_DESCRIPTION, "KO")


@fault("title that rejects images", "KO")
def _(ds):
    title = ds.ConceptNameCodeSequence[0]
    title.CodeValue, title.CodeMeaning = "113001", "Rejected for Quality Reasons"


@fault("title for another reader", "KO")
def _(ds):
    title = ds.ConceptNameCodeSequence[0]
    title.CodeValue, title.CodeMeaning = "113002", "For Referring Provider"


@fault("no image", "KO")
def _(ds):
    for each in image_items(ds):
        ds.ContentSequence.remove(each)


@fault("an image twice", "KO")
def _(ds):
    ds.ContentSequence.append(deepcopy(image_items(ds)[0]))


# --- Captures ---------------------------------------------------------------------------------------------------------

setting("identity burned in", "HEATMAP", "SUMMARY", BurnedInAnnotation="YES")
setting("features may be recognizable", "HEATMAP", "SUMMARY", RecognizableVisualFeatures=None)
setting("no Conversion Type", "HEATMAP", "SUMMARY", ConversionType=None)
setting("ORIGINAL", "HEATMAP", "SUMMARY", ImageType=["ORIGINAL", "PRIMARY"])
setting("no source image", "HEATMAP", "SUMMARY", SourceImageSequence=None)
setting("derived without saying how", "HEATMAP", "SUMMARY", DerivationDescription="Heatmap")
setting("lossy by its own account", "HEATMAP", "SUMMARY", LossyImageCompression="01")
setting("pixels of another kind", "HEATMAP", "SUMMARY", PhotometricInterpretation="YBR_FULL")
setting("plane without frame of reference", "HEATMAP", FrameOfReferenceUID=None)
setting("other position", "HEATMAP", ImagePositionPatient=[0, 0, 4711])
setting("other pixel spacing", "HEATMAP", PixelSpacing=[1, 1])
setting("no position", "HEATMAP", ImagePositionPatient=None)
setting("summary in a frame of reference", "SUMMARY", FrameOfReferenceUID=OTHER_UID)


@fault("cut pixels", "HEATMAP", "SUMMARY")
def _(ds):
    ds.PixelData = ds.PixelData[:-1000]


@fault("no colour", "HEATMAP", "SUMMARY")
def _(ds):
    ds.PixelData = bytes(len(ds.PixelData))


@fault("another method", "HEATMAP", "SUMMARY")
def _(ds):
    method = ds.DerivationCodeSequence[0]
    method.CodeValue, method.CodeMeaning = "130403", "Gradient-weighted class activation"


@fault("wrong meaning of the source's purpose", "HEATMAP", "SUMMARY")
def _(ds):
    ds.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeMeaning = "Source"


@fault("locations of the source by its own account", "SUMMARY")
def _(ds):
    ds.SourceImageSequence[0].SpatialLocationsPreserved = "YES"


@fault("locations not preserved", "HEATMAP")
def _(ds):
    ds.SourceImageSequence[0].SpatialLocationsPreserved = "NO"


@fault("two sources", "HEATMAP")
def _(ds):
    ds.SourceImageSequence.append(deepcopy(ds.SourceImageSequence[0]))


@fault("larger than a summary", "SUMMARY")
def _(ds):
    ds.PixelData = ds.PixelData * 2
    ds.Rows *= 2


# --- The test ---------------------------------------------------------------------------------------------------------


@needs_node
class Mutations(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        warnings.filterwarnings("ignore", module="pydicom|highdicom")
        if missing := external.missing_tools():
            raise unittest.SkipTest(f"missing: {', '.join(missing)}")
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        options = ["--slices", "20", "--size", "128", "--spacing", "6", "--bleed", "left"]
        identity = ["--patient-name", "MÜLLER^JÖRG", "--issuer", "HOSPITAL"]
        make(arguments_from([str(cls.folder / "source"), *options, *identity]))
        command = [ICHNODE, "analyze", cls.folder / "source", "--output", cls.folder / "results", "--key-objects"]
        done = subprocess.run(
            [*map(str, command), "--model", str(MODELS[0])], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        subjects, _, problems = validate.collect([cls.folder / "results"])
        assert not problems, problems
        # One of each kind: the faults are looked for one by one.
        cls.valid = {own.kind_of(subject.dataset): subject.dataset for subject in subjects}
        assert cls.valid.keys() == own.SERIES.keys(), done.stdout
        assert len(measurement_groups(cls.valid["SR"])) > 2, done.stdout
        cls.sources = validate.collect([cls.folder / "source"])[1]

    def findings(self, objects: dict[str, Dataset], skipped: set[str]) -> dict[str, dict[str, list[str]]]:
        """By name, what each link says of an object, allowed findings left out; links that say nothing are absent."""
        subjects = {}
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for number, (name, ds) in enumerate(objects.items()):
            path = folder / f"{number}.dcm"
            ds.save_as(path, enforce_file_format=True)
            ((subjects[name],), _, _) = validate.collect([path])
        validate.run_external(list(subjects.values()), skipped, ALLOW)
        for subject in subjects.values():
            validate.run_own_checks(subject, [], self.sources, True, ALLOW)
        refused = {
            name: {
                link: [each.text for each in found if not each.allowed_because]
                for link, found in subject.results.items()
                if found
            }
            for name, subject in subjects.items()
        }
        return {name: {link: said for link, said in of.items() if said} for name, of in refused.items()}

    def test_the_unaltered_objects_pass_every_link(self):
        self.assertEqual(self.findings(self.valid, set()), {kind: {} for kind in own.SERIES})

    def test_every_fault_is_found_by_a_link(self):
        self.assertGreaterEqual(len(FAULTS), 20)
        objects = {}
        for (kind, name), alter in FAULTS.items():
            ds = deepcopy(self.valid[kind])
            alter(ds)
            objects[f"{kind:<7} {name}"] = ds
        found = self.findings(objects, {"pixelmed"})
        width = max(map(len, objects))
        print()
        for name, said in found.items():
            print(f"    {name:<{width}}  {', '.join(said) or 'NOT FOUND'}", flush=True)
        for name, said in found.items():
            with self.subTest(name):
                self.assertTrue(said, "no link of the chain finds it")

    def test_objects_of_two_kinds_in_one_series_are_found(self):
        for kind in own.SERIES:
            other = next(each for each in own.SERIES if each != kind)
            ds = deepcopy(self.valid[kind])
            ds.SeriesInstanceUID = self.valid[other].SeriesInstanceUID
            self.assertIn(f"it is in the series of a {other}", own.check_labels(ds, [self.valid[other]]))
            ds.SeriesInstanceUID = self.sources[0].SeriesInstanceUID
            self.assertIn("it is in the series of its source", own.check_identity(ds, self.sources[0]))

    def test_frames_of_multi_frame_sources_that_are_not_named_are_found(self):
        enhanced = deepcopy(self.sources)
        for each in enhanced:
            each.NumberOfFrames = 20
        checks = {"SR": own.check_report, "KO": own.check_key_objects}
        for kind, check in {**checks, "HEATMAP": own.check_capture, "SUMMARY": own.check_capture}.items():
            self.assertEqual(check(self.valid[kind], self.sources), [])
            self.assertIn("has frame numbers none of 20 frames", "\n".join(check(self.valid[kind], enhanced)))


if __name__ == "__main__":
    unittest.main()
