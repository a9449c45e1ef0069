"""The validators find what is wrong: a correct report passes, and each single fault in it is reported."""

import sys
import tempfile
import unittest
import warnings
from copy import deepcopy
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom import sr
from pydicom.sr.codedict import codes

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts" / "validation")]
import own  # noqa: E402
import validate  # noqa: E402
from ct_series import CTHeader, CTVolume, write_series  # noqa: E402
from findings import AllowList  # noqa: E402
from structured_report import (  # noqa: E402
    COMMENT,
    PROBABILITY,
    TRACKING_UID,
    children,
    code,
    measurement_groups,
    read_triage_report,
    walk,
)

ALLOW = AllowList(Path(validate.__file__).with_name("allowed.toml"))
HAEMORRHAGE = sr.CodedConcept("1386000", "SCT", "Intracranial hemorrhage")


def source_slices(folder: Path) -> list[pydicom.Dataset]:
    volume = CTVolume(np.full((3, 32, 32), 30.0), 1.0, 1.0, [0.0, 5.0, 10.0], 5.0)
    header = CTHeader(patient_name="MÜLLER^JÖRG", issuer_of_patient_id="HOSPITAL")
    return [pydicom.dcmread(folder / each["file"]) for each in write_series(volume, header, folder)]


def triage_report(slices: list[pydicom.Dataset]) -> pydicom.Dataset:
    """A positive report with one flagged slice, built by a library that the node does not use."""

    present = sr.CodedConcept("52101004", "SCT", "Present")
    presence = sr.QualitativeEvaluation(name=HAEMORRHAGE, value=present)

    def group(identifier: str, probability: float, image: pydicom.Dataset | None):
        algorithm = sr.AlgorithmIdentification("detector", "1", ["operating point = 0.50"])
        images = [sr.SourceImageForMeasurement.from_source_image(image)] if image else None
        probability_item = sr.Measurement(
            name=sr.CodedConcept(*PROBABILITY, "Probability"),
            value=probability,
            unit=sr.CodedConcept("1", "UCUM", "no units"),
            algorithm_id=algorithm,
            referenced_images=images,
        )
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(identifier=identifier, uid=highdicom.UID()),
            finding_type=HAEMORRHAGE,
            finding_sites=[sr.FindingSite(sr.CodedConcept("1101003", "SCT", "Intracranial"))],
            measurements=[probability_item],
            qualitative_evaluations=None if image else [presence],
            source_images=[sr.SourceImageForMeasurementGroup.from_source_image(image)] if image else None,
        )

    device = sr.DeviceObserverIdentifyingAttributes(uid=highdicom.UID(), name="NODE")
    observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=sr.CodedConcept("25045-6", "LN", "CT unspecified body region"),
        imaging_measurements=[group("ICH study", 0.9, None), group("ICH slice 2", 0.8, slices[1])],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=slices,
    )
    report = sr.EnhancedSR(
        evidence=slices,
        content=content[0],
        series_number=9001,
        series_description="AI ICH triage SR",
        series_instance_uid=highdicom.UID(),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="Example",
        is_complete=True,
    )
    contains = sr.RelationshipTypeValues.CONTAINS
    comment = sr.CodedConcept(*COMMENT, "Comment")
    evaluations = sr.ContainerContentItem(
        sr.CodedConcept("C0034375", "UMLS", "Qualitative Evaluations"), relationship_type=contains
    )
    evaluations.ContentSequence = [
        sr.CodeContentItem(HAEMORRHAGE, present, contains),
        sr.TextContentItem(comment, "Not for diagnostic use.", contains),
    ]
    report.ContentSequence.append(evaluations)
    equipment = pydicom.Dataset()
    equipment.PurposeOfReferenceCodeSequence = [sr.CodedConcept("109102", "DCM", "Processing Equipment")]
    equipment.Manufacturer = "Example"
    report.ContributingEquipmentSequence = [equipment]
    report.ContentQualification = "RESEARCH"
    report.StudyDescription = slices[0].StudyDescription
    report.IssuerOfPatientID = slices[0].IssuerOfPatientID
    return report


class Validation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        warnings.filterwarnings("ignore", module="pydicom|highdicom")
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.slices = source_slices(cls.folder / "source")
        cls.report = triage_report(cls.slices)

    def complaints(self, report: pydicom.Dataset) -> dict[str, list[str]]:
        """What each check says of a report, allowed findings left out; those that say nothing are absent."""
        path = self.folder / "report.dcm"
        report.save_as(path, enforce_file_format=True)
        (subject,) = validate.collect([path])[0]
        # PixelMed takes ten seconds a file: `make validate` runs it.
        validate.run_all([subject], self.slices, True, {"pixelmed"}, ALLOW)
        refused = {
            name: [each.text for each in findings if not each.allowed_because]
            for name, findings in subject.results.items()
            if findings
        }
        return {name: texts for name, texts in refused.items() if texts}

    def altered(self) -> pydicom.Dataset:
        return deepcopy(self.report)

    def test_a_correct_report_passes_and_is_read_rightly(self):
        self.assertEqual(self.complaints(self.altered()), {})
        report = read_triage_report(self.report)
        self.assertEqual((report.outcome, report.probability), ("Present", 0.9))
        self.assertEqual([(f.instance_number, f.probability) for f in report.flagged], [(2, 0.8)])
        self.assertEqual(report.flagged[0].sop_instance_uid, self.slices[1].SOPInstanceUID)

    def test_missing_template_is_found(self):
        report = self.altered()
        del report.ContentTemplateSequence
        self.assertTrue({"highdicom", "content"} <= self.complaints(report).keys())

    def test_missing_tracking_uid_is_found(self):
        report = self.altered()
        group = measurement_groups(report)[1]
        group.ContentSequence.remove(children(group, TRACKING_UID)[0])
        self.assertIn("content", self.complaints(report))

    def test_missing_language_and_procedure_are_found(self):
        for concept in (own.LANGUAGE, own.PROCEDURE_REPORTED):
            report = self.altered()
            report.ContentSequence.remove(children(report, concept)[0])
            self.assertIn("content", self.complaints(report))

    def test_probability_of_cancer_labelled_probability_is_found(self):
        report = self.altered()
        for group in measurement_groups(report):
            children(group, PROBABILITY)[0].ConceptNameCodeSequence[0].CodeValue = "111047"
        self.assertIn("codes", self.complaints(report))

    def test_unknown_code_and_wrong_meaning_are_found(self):
        report = self.altered()
        children(report, own.LANGUAGE)[0].ConceptCodeSequence[0].CodeValue = "xx-XX"
        self.assertIn("codes", self.complaints(report))
        report = self.altered()
        children(report, own.PROCEDURE_REPORTED)[0].ConceptNameCodeSequence[0].CodeMeaning = "Procedure"
        self.assertIn("codes", self.complaints(report))

    def test_missing_evidence_is_found(self):
        report = self.altered()
        del report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        self.assertTrue({"dciodvfy", "content"} <= self.complaints(report).keys())

    def test_missing_unit_is_found(self):
        report = self.altered()
        del (
            children(measurement_groups(report)[0], PROBABILITY)[0]
            .MeasuredValueSequence[0]
            .MeasurementUnitsCodeSequence
        )
        self.assertTrue({"dciodvfy", "dsrdump"} <= self.complaints(report).keys())

    def test_missing_required_attribute_is_found(self):
        report = self.altered()
        del report.PatientID
        self.assertTrue({"dciodvfy", "tables", "identity"} <= self.complaints(report).keys())

    def test_a_name_that_lost_its_characters_is_found(self):
        report = self.altered()
        report.PatientName = "M?LLER^J?RG"
        self.assertEqual(self.complaints(report).keys(), {"identity"})

    def test_negative_outcome_with_flagged_slices_is_found(self):
        report = self.altered()
        for item in (each for each in walk(report) if code(each) == ("1386000", "SCT")):
            item.ConceptCodeSequence[0].CodeValue, item.ConceptCodeSequence[0].CodeMeaning = "272519000", "Absent"
        self.assertEqual(self.complaints(report).keys(), {"content"})

    def test_allowed_findings_are_whole_lines_only(self):
        line = 'Warning: 1.1: /CODE (1386000,SCT,"Intracranial hemorrhage"): Content Item not in template'
        self.assertIsNotNone(ALLOW.judge("pixelmed", "SR", line).allowed_because)
        self.assertIsNone(ALLOW.judge("pixelmed", "SR", line.replace("Warning", "Error")).allowed_because)
        self.assertIsNone(ALLOW.judge("dciodvfy", "SR", line).allowed_because)


if __name__ == "__main__":
    unittest.main()
