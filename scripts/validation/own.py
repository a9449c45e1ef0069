"""Checks that no validator makes: codes are what they say, every group can be tracked, language, observer and procedure
are given, values and references are what they should be, an object is labelled as research and as what it is, and it
belongs to the patient and study of its source. The faults that only these find are in
Tests/Tools/test_validation_mutations.py."""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path

import pydicom
from pydicom.sr._concepts_dict import concepts

from findings import AllowList
from structured_report import (
    COMMENT,
    HAEMORRHAGE,
    MEASUREMENT_GROUP,
    SLICE_GROUP,
    STUDY_GROUP,
    TRACKING_IDENTIFIER,
    TRACKING_UID,
    children,
    code,
    measurement_groups,
    read_triage_report,
    tracking_identifier,
    walk,
)

DCMTK_CODES = Path("/usr/include/dcmtk/dcmsr")
LANGUAGE = ("121049", "DCM")
PROCEDURE_REPORTED = ("121058", "DCM")
IMAGE_LIBRARY = ("111028", "DCM")
FINDING = ("121071", "DCM")
FINDING_SITE = ("363698007", "SCT")
OBSERVER_TYPE = ("121005", "DCM")
DEVICE = ("121007", "DCM")
DEVICE_UID = ("121012", "DCM")
# What an item is to its parent, where TID 1500, 1501, 1204, 1004 and 4019 say other than CONTAINS.
MODIFIERS = {LANGUAGE, PROCEDURE_REPORTED, FINDING_SITE, *((value, "DCM") for value in ("111001", "111002", "111003"))}
CONTEXT = {*((f"1210{n:02}", "DCM") for n in (5, *range(12, 17))), TRACKING_IDENTIFIER, TRACKING_UID}
RELATIONSHIPS = {
    **dict.fromkeys(MODIFIERS, "HAS CONCEPT MOD"),
    **dict.fromkeys(CONTEXT, "HAS OBS CONTEXT"),
}
NO_UNITS = ("1", "UCUM")
# The reader is the radiologist. Archives act on other titles: those that reject images.
OF_INTEREST = ("113000", "DCM")
KEY_OBJECT_DESCRIPTION = ("113012", "DCM")
CLASS_ACTIVATION = ("130402", "DCM")
PROCESSING_EQUIPMENT = ("109102", "DCM")
NOT_DIAGNOSTIC = "Not for diagnostic use"
# Kind to modality, Series Number, and Series Description of a first result.
SERIES = {
    "SR": ("SR", 9001, "AI ICH triage SR"),
    "KO": ("KO", 9002, "AI ICH key objects"),
    "HEATMAP": ("OT", 9003, "AI ICH heatmap"),
    "SUMMARY": ("OT", 9004, "AI ICH summary"),
}
SUMMARY_SLICES = 9
SUMMARY_SIDE = 1024
IDENTITY = [
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
]
IMAGE_PLANE = [
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
]


# --- Codes ------------------------------------------------------------------------------------------------------------


@functools.cache
def known_codes() -> dict[tuple[str, str], set[str]]:
    """(value, scheme) to the meanings that pydicom's concepts (from PS3.16) and DCMTK's headers give it."""
    known: dict[tuple[str, str], set[str]] = {}
    for scheme, names in concepts.items():
        for values in names.values():
            for value, entry in values.items():
                known.setdefault((value, scheme), set()).add(entry[0])
    entry = re.compile(r'DSR(?:Basic)?CodedEntry(?:Value)?\("((?:[^"\\]|\\.)*)",\s*"([^"]*)",\s*"((?:[^"\\]|\\.)*)"\)')
    for header in sorted(DCMTK_CODES.glob("codes/*.h")) if DCMTK_CODES.is_dir() else []:
        for value, scheme, meaning in entry.findall(header.read_text(errors="replace")):
            known.setdefault((value, scheme), set()).add(meaning)
    return known


def _wordings(meaning: str) -> set[str]:
    """SNOMED's fully specified names end with their kind, as in "Source (attribute)"; the preferred term is without."""
    return {meaning, re.sub(r" \([a-z /]+\)$", "", meaning)}


def code_items(ds: pydicom.Dataset):
    """Every item of every code sequence, at any depth."""
    for element in ds:
        if element.VR == "SQ":
            for item in element.value or []:
                if element.keyword.endswith("CodeSequence") and any(
                    k in item for k in ("CodeValue", "LongCodeValue", "URNCodeValue")
                ):
                    yield item
                yield from code_items(item)


def check_codes(ds: pydicom.Dataset, allow: AllowList) -> list[str]:
    complaints = []
    for item in code_items(ds):
        value = str(item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue"))
        scheme, meaning = str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeMeaning", ""))
        shown = f'({value}, {scheme}, "{meaning}")'
        if (value, scheme) in allow.forbidden_codes:
            complaints.append(f"{shown}: {allow.forbidden_codes[value, scheme]}")
            continue
        meanings = known_codes().get((value, scheme), set()) | {allow.codes.get((value, scheme), None)} - {None}
        if not meanings:
            complaints.append(f"{shown} is in no dictionary")
        elif meaning.casefold() not in {each.casefold() for known in meanings for each in _wordings(known)}:
            complaints.append(f"{shown} means {sorted(meanings)}")
    return sorted(set(complaints))


# --- Structured reports and key objects -------------------------------------------------------------------------------


def evidence(ds: pydicom.Dataset) -> set[tuple[str, str]]:
    """(SOP class, SOP instance) of each."""
    return {
        (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
        for study in ds.get("CurrentRequestedProcedureEvidenceSequence") or []
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def image_reference(item: pydicom.Dataset) -> tuple[str, str, str]:
    """(SOP class, SOP instance, frame numbers) of an IMAGE item."""
    reference = item.ReferencedSOPSequence[0]
    frames = reference.get("ReferencedFrameNumber", "")
    return str(reference.ReferencedSOPClassUID), str(reference.ReferencedSOPInstanceUID), str(frames)


def images(item: pydicom.Dataset) -> list[tuple[str, str, str]]:
    return [image_reference(each) for each in walk(item) if each.get("ValueType") == "IMAGE"]


def check_references(ds: pydicom.Dataset) -> list[str]:
    named = {reference[:2] for reference in images(ds)}
    listed = evidence(ds)
    complaints = []
    if named - listed:
        complaints.append(f"{len(named - listed)} images named in the tree are not in the evidence sequence")
    if listed - named:
        complaints.append(f"{len(listed - named)} images of the evidence sequence are not named in the tree")
    for study in ds.get("CurrentRequestedProcedureEvidenceSequence") or []:
        if study.StudyInstanceUID != ds.get("StudyInstanceUID"):
            complaints.append(f"evidence of another study, {study.StudyInstanceUID}")
    return complaints


def check_frames(single: list[tuple[str, str, str]], sources: list[pydicom.Dataset]) -> list[str]:
    """What is on one slice names one frame of a multi-frame image."""
    counts = {str(each.SOPInstanceUID): int(each.get("NumberOfFrames") or 1) for each in sources}
    return [
        f"a slice of {instance} has frame numbers {frames or 'none'} of {counts[instance]} frames"
        for _, instance, frames in single
        if counts.get(instance, 1) > 1 and not (frames.isdigit() and 1 <= int(frames) <= counts[instance])
    ]


def check_relationships(item: pydicom.Dataset) -> list[str]:
    """Below an item; descriptors of an image library have concepts without number and are left out."""
    complaints = []
    for child in children(item):
        expected = RELATIONSHIPS.get(code(child), "CONTAINS")
        if (item.get("ValueType"), child.get("ValueType")) == ("NUM", "IMAGE"):
            expected = "INFERRED FROM"  # TID 320
        if child.get("RelationshipType") != expected:
            complaints.append(f"{code(child)} {child.get('RelationshipType')}, expected {expected}")
        complaints += check_relationships(child) if code(child) != IMAGE_LIBRARY else []
    return complaints


def check_observer(ds: pydicom.Dataset) -> list[str]:
    """TID 1002, 1004."""
    types = [item.ConceptCodeSequence[0] for item in children(ds, OBSERVER_TYPE)]
    complaints = []
    if [(each.CodeValue, each.CodingSchemeDesignator) for each in types] != [DEVICE]:
        complaints.append(f"the observer is no device: no one {OBSERVER_TYPE} is {DEVICE}")
    if [bool(item.get("UID")) for item in children(ds, DEVICE_UID)] != [True]:
        complaints.append(f"no Device Observer UID {DEVICE_UID}")
    return complaints


def check_document(ds: pydicom.Dataset, template: str) -> list[str]:
    """What reports and key objects have in common."""
    complaints = check_references(ds) + check_relationships(ds) + check_observer(ds)
    declared = (ds.get("ContentTemplateSequence") or [pydicom.Dataset()])[0]
    if (declared.get("MappingResource"), declared.get("TemplateIdentifier")) != ("DCMR", template):
        complaints.append(f"the root is not declared as template DCMR {template}")
    if not children(ds, LANGUAGE):
        complaints.append(f"no Language of Content Item {LANGUAGE} below the root")
    return complaints


def check_report(ds: pydicom.Dataset, sources: list[pydicom.Dataset]) -> list[str]:
    complaints = check_document(ds, "1500")
    for concept, name in ((PROCEDURE_REPORTED, "Procedure reported"), (IMAGE_LIBRARY, "Image Library")):
        if not children(ds, concept):
            complaints.append(f"no {name} {concept} below the root")
    if ds.get("CompletionFlag") != "COMPLETE" or ds.get("VerificationFlag") != "UNVERIFIED":
        complaints.append("a device's report is COMPLETE and UNVERIFIED")

    groups, uids = measurement_groups(ds), []
    if not groups:
        complaints.append(f"no measurement group {MEASUREMENT_GROUP}")
    for position, group in enumerate(groups, start=1):
        if not tracking_identifier(group):
            complaints.append(f"group {position} has no Tracking Identifier {TRACKING_IDENTIFIER}")
        found = children(group, TRACKING_UID)
        if len(found) != 1 or not found[0].get("UID"):
            complaints.append(f"group {position} has no Tracking Unique Identifier {TRACKING_UID}")
        uids += [str(item.get("UID")) for item in found]
        for concept, name in ((FINDING, "Finding"), (FINDING_SITE, "Finding Site")):
            if len(children(group, concept)) != 1:
                complaints.append(f"group {position} has no {name} {concept}")
        if len(set(images(group))) > 1:
            complaints.append(f"group {position} names more than one image")
        complaints += check_frames(images(group)[:1], sources)
        # A viewer in wide use fails on a measurement without children of its own.
        for item in children(group):
            if item.get("ValueType") == "NUM" and not any(c.get("ValueType") == "TEXT" for c in children(item)):
                complaints.append(f"group {position}: {code(item)} has no algorithm identification")
            if item.get("ValueType") == "NUM":
                complaints += [f"group {position}: {code(item)} {text}" for text in _check_number(item)]
    if len(set(uids)) != len(uids):
        complaints.append("two groups share a Tracking Unique Identifier")
    return complaints + _check_triage(ds)


def _check_number(item: pydicom.Dataset) -> list[str]:
    """A share, from 0 to 1."""
    for measured in item.get("MeasuredValueSequence") or []:
        units = [(u.CodeValue, u.CodingSchemeDesignator) for u in measured.get("MeasurementUnitsCodeSequence") or []]
        complaints = [] if units == [NO_UNITS] else [f"has units {units}"]
        try:
            value = float(measured.NumericValue)
        except (ValueError, AttributeError, TypeError):
            value = math.nan
        return complaints if 0 <= value <= 1 else [*complaints, f"is {value}: outside 0…1"]
    return ["has no value"]


def _check_triage(ds: pydicom.Dataset) -> list[str]:
    complaints = []
    names = [tracking_identifier(group) for group in measurement_groups(ds)]
    if names.count(STUDY_GROUP) != 1:
        complaints.append(f'{names.count(STUDY_GROUP)} groups are tracked as "{STUDY_GROUP}", expected one')
    try:
        report = read_triage_report(ds)
    except (ValueError, AttributeError, IndexError) as error:
        return [*complaints, f"cannot be read as a triage report: {error}"]
    if len(report.outcomes) != 1 or not report.outcomes <= {"Present", "Absent", "Undetermined"}:
        complaints.append(f"outcome {report.outcome}: one of Present, Absent, Undetermined (CID 240) expected")
    if report.probability is None and report.outcome != "Undetermined":
        complaints.append(f"no study probability with outcome {report.outcome}")
    if report.flagged and report.outcome != "Present":
        complaints.append(f'"{SLICE_GROUP}…" groups with outcome {report.outcome}')
    for each in report.flagged:
        if not each.sop_instance_uid:
            complaints.append(f'"{SLICE_GROUP}{each.instance_number}" names no source image')
        if each.probability is None:
            complaints.append(f'"{SLICE_GROUP}{each.instance_number}" has no probability')
    said = [code(item) for item in walk(ds) if item.get("ValueType") == "CODE"]
    if said.count(HAEMORRHAGE) != 2:
        complaints.append("the presence is not said twice, in the study's group and the qualitative evaluations")
    if not any(NOT_DIAGNOSTIC in each for each in report.comments):
        complaints.append(f'no Comment {COMMENT} says "{NOT_DIAGNOSTIC}"')
    return complaints


def check_key_objects(ds: pydicom.Dataset, sources: list[pydicom.Dataset]) -> list[str]:
    complaints = check_document(ds, "2010")
    if code(ds) != OF_INTEREST:
        complaints.append(f"title {code(ds)}, expected {OF_INTEREST}")
    said = [str(item.get("TextValue", "")) for item in children(ds, KEY_OBJECT_DESCRIPTION)]
    if len(said) != 1 or NOT_DIAGNOSTIC not in said[0]:
        complaints.append(f'Key Object Description {said} does not say "{NOT_DIAGNOSTIC}"')
    if not images(ds):
        complaints.append("no image is named")
    if len(set(images(ds))) != len(images(ds)):
        complaints.append("an image is named twice")
    return complaints + check_frames(images(ds), sources)


# --- Secondary captures -----------------------------------------------------------------------------------------------


def check_capture(ds: pydicom.Dataset, sources: list[pydicom.Dataset]) -> list[str]:
    expected = {
        "ConversionType": "WSD",
        "PhotometricInterpretation": "RGB",
        "SamplesPerPixel": 3,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "PlanarConfiguration": 0,
        "BurnedInAnnotation": "NO",
        "RecognizableVisualFeatures": "NO",
    }
    complaints = [
        f"{keyword} is {ds.get(keyword)}, expected {value}"
        for keyword, value in expected.items()
        if ds.get(keyword) != value
    ]
    kind = kind_of(ds)
    if list(ds.get("ImageType", [])) != ["DERIVED", "SECONDARY", "OTHER", kind]:
        complaints.append(f"ImageType is {ds.get('ImageType')}, expected DERIVED\\SECONDARY\\OTHER\\{kind}")
    derivation = [(c.CodeValue, c.CodingSchemeDesignator) for c in ds.get("DerivationCodeSequence") or []]
    if derivation != [CLASS_ACTIVATION] or NOT_DIAGNOSTIC not in ds.get("DerivationDescription", ""):
        complaints.append(f'derivation {derivation}: expected {CLASS_ACTIVATION} and "{NOT_DIAGNOSTIC}"')
    try:
        pixels = ds.pixel_array
        if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
            complaints.append("no pixel has a colour: there is no overlay")
    except Exception as error:  # whatever the decoder raises is the finding
        complaints.append(f"pixels: {error}")
    return complaints + _check_capture_sources(ds, kind, sources)


def _check_capture_sources(ds: pydicom.Dataset, kind: str, sources: list[pydicom.Dataset]) -> list[str]:
    items = ds.get("SourceImageSequence") or []
    most = 1 if kind == "HEATMAP" else SUMMARY_SLICES
    if not 1 <= len(items) <= most:
        return [f"{len(items)} items in Source Image Sequence, expected 1 to {most}"]
    named = [
        (str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID), str(i.get("ReferencedFrameNumber", "")))
        for i in items
    ]
    complaints = check_frames(named, sources)
    beneath = [each for name in named for each in sources if name[:2] == (each.SOPClassUID, each.SOPInstanceUID)]
    if not beneath:
        return complaints
    lossy = "01" if any(each.get("LossyImageCompression") == "01" for each in beneath) else "00"
    if ds.get("LossyImageCompression") != lossy:
        complaints.append(f"LossyImageCompression is {ds.get('LossyImageCompression')}, by its sources {lossy}")
    if kind == "SUMMARY":
        return complaints + _check_summary(ds, items)
    if complaints:
        return complaints
    plane = {keyword: plane_attribute(beneath[0], int(named[0][2] or 1), keyword) for keyword in IMAGE_PLANE}
    if items[0].get("SpatialLocationsPreserved") != "YES":
        complaints.append("SpatialLocationsPreserved is not YES")
    return complaints + [
        f"{keyword} {ds.get(keyword)} differs from the source's {value}"
        for keyword, value in plane.items()
        if ds.get(keyword) != value
    ]


def _check_summary(ds: pydicom.Dataset, items: list[pydicom.Dataset]) -> list[str]:
    """Its pixels lie nowhere in the patient."""
    complaints = [f"a summary has {keyword}" for keyword in IMAGE_PLANE[:4] if keyword in ds]
    if any(each.get("SpatialLocationsPreserved") != "NO" for each in items):
        complaints.append("SpatialLocationsPreserved is not NO")
    if max(ds.Rows, ds.Columns) > SUMMARY_SIDE:
        complaints.append(f"{ds.Rows} × {ds.Columns} pixels, expected at most {SUMMARY_SIDE}")
    return complaints


def plane_attribute(image: pydicom.Dataset, frame: int, keyword: str):
    """Of a frame, from 1: of its functional groups, else the shared ones, else the image's own (PS3.3 C.7.6.16)."""
    groups = [*image.get("PerFrameFunctionalGroupsSequence", [])][frame - 1 : frame]
    for group in [*groups, *image.get("SharedFunctionalGroupsSequence", [])]:
        for macro in (element.value[0] for element in group if element.VR == "SQ" and element.value):
            if keyword in macro:
                return macro.get(keyword)
    return image.get(keyword)


# --- Labels -----------------------------------------------------------------------------------------------------------


def kind_of(ds: pydicom.Dataset) -> str:
    """A key of `SERIES`; which capture it is says the Image Type."""
    if "PixelData" in ds:
        return "SUMMARY" if "SUMMARY" in ds.get("ImageType", []) else "HEATMAP"
    return "KO" if ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.59" else "SR"


def check_labels(ds: pydicom.Dataset, others: list[pydicom.Dataset]) -> list[str]:
    """By which a worklist's rules and a reader tell what it is. `others`: result objects of the same study."""
    modality, number, description = SERIES[kind_of(ds)]
    complaints = []
    if (ds.get("Modality"), ds.get("SeriesNumber")) != (modality, number):
        complaints.append(
            f"modality {ds.get('Modality')}, series {ds.get('SeriesNumber')}: expected {modality}, {number}"
        )
    said = re.fullmatch(rf"{description}( \(revised ([2-9]|[1-9]\d+)\))?", str(ds.get("SeriesDescription", "")))
    if not said:
        complaints.append(f'SeriesDescription "{ds.get("SeriesDescription")}", expected "{description}"')
    elif modality == "SR" and bool(said[1]) != bool(ds.get("PredecessorDocumentsSequence")):
        complaints.append("a report is labelled as revised, or supersedes another, but not both")
    if ds.get("ContentQualification") != "RESEARCH":
        complaints.append(f"ContentQualification is {ds.get('ContentQualification')}, expected RESEARCH")
    equipment = [
        (purpose.CodeValue, purpose.CodingSchemeDesignator)
        for item in ds.get("ContributingEquipmentSequence") or []
        for purpose in item.get("PurposeOfReferenceCodeSequence") or []
    ]
    if PROCESSING_EQUIPMENT not in equipment:
        complaints.append(f"no Contributing Equipment is {PROCESSING_EQUIPMENT}")
    for other in others:
        if other.get("SOPInstanceUID") == ds.get("SOPInstanceUID"):
            complaints.append("two objects have its SOP Instance UID")
        if other.get("SeriesInstanceUID") == ds.get("SeriesInstanceUID") and kind_of(other) != kind_of(ds):
            complaints.append(f"it is in the series of a {kind_of(other)}")
    return complaints


# --- Identity ---------------------------------------------------------------------------------------------------------


def check_identity(ds: pydicom.Dataset, source: pydicom.Dataset) -> list[str]:
    """Compares decoded text: the character sets may differ, the names may not."""
    complaints = []
    if ds.get("SeriesInstanceUID") == source.SeriesInstanceUID:
        complaints.append("it is in the series of its source")
    for keyword in IDENTITY:
        ours, theirs = (str(each.get(keyword) or "").strip() for each in (ds, source))
        if ours.rstrip("^") != theirs.rstrip("^"):
            complaints.append(f"{keyword} is {ours!r}, the source's is {theirs!r}")
    return complaints
