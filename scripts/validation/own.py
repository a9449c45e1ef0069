"""Checks that no validator makes: codes are what they say, every group can be tracked, language and procedure are
given, and the object belongs to the patient and study of its source."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pydicom
from pydicom.sr._concepts_dict import concepts

from findings import AllowList
from structured_report import (
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
# Archives act on these titles of key object selections: they reject images.
REJECTION_TITLES = {"113001", "113037", "113038", "113039"}
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


def evidence(ds: pydicom.Dataset) -> set[str]:
    return {
        str(item.ReferencedSOPInstanceUID)
        for study in ds.get("CurrentRequestedProcedureEvidenceSequence") or []
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def check_references(ds: pydicom.Dataset) -> list[str]:
    named = {
        str(reference.ReferencedSOPInstanceUID)
        for item in walk(ds)
        if item.get("ValueType") == "IMAGE"
        for reference in item.ReferencedSOPSequence
    }
    listed = evidence(ds)
    complaints = []
    if named - listed:
        complaints.append(f"{len(named - listed)} images named in the tree are not in the evidence sequence")
    if listed - named:
        complaints.append(f"{len(listed - named)} images of the evidence sequence are not named in the tree")
    return complaints


def check_report(ds: pydicom.Dataset) -> list[str]:
    complaints = check_references(ds)
    template = (ds.get("ContentTemplateSequence") or [pydicom.Dataset()])[0]
    if (template.get("MappingResource"), template.get("TemplateIdentifier")) != ("DCMR", "1500"):
        complaints.append("the root is not declared as template DCMR 1500")
    for concept, name in (
        (LANGUAGE, "Language of Content Item"),
        (PROCEDURE_REPORTED, "Procedure reported"),
        (IMAGE_LIBRARY, "Image Library"),
    ):
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
        # A viewer in wide use fails on a measurement without children of its own.
        for item in children(group):
            if item.get("ValueType") == "NUM" and not any(c.get("ValueType") == "TEXT" for c in children(item)):
                complaints.append(f"group {position}: {code(item)} has no algorithm identification")
    if len(set(uids)) != len(uids):
        complaints.append("two groups share a Tracking Unique Identifier")
    return complaints + _check_triage(ds)


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
    if report.probability is not None and not 0 <= report.probability <= 1:
        complaints.append(f"study probability {report.probability} is outside 0…1")
    if report.probability is None and report.outcome != "Undetermined":
        complaints.append(f"no study probability with outcome {report.outcome}")
    if report.flagged and report.outcome != "Present":
        complaints.append(f'"{SLICE_GROUP}…" groups with outcome {report.outcome}')
    complaints += [
        f'"{SLICE_GROUP}{each.instance_number}" names no source image'
        for each in report.flagged
        if not each.sop_instance_uid
    ]
    return complaints


def check_key_objects(ds: pydicom.Dataset) -> list[str]:
    complaints = check_references(ds)
    title = code(ds)
    if title is None or title[0] in REJECTION_TITLES:
        complaints.append(f"title {title} makes archives hide images")
    if ds.get("Modality") != "KO":
        complaints.append(f"modality {ds.get('Modality')}, expected KO")
    return complaints


# --- Secondary captures -----------------------------------------------------------------------------------------------


def check_capture(ds: pydicom.Dataset, source: pydicom.Dataset | None) -> list[str]:
    expected = {
        "ConversionType": "WSD",
        "PhotometricInterpretation": "RGB",
        "SamplesPerPixel": 3,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "PlanarConfiguration": 0,
        "BurnedInAnnotation": "NO",
    }
    complaints = [
        f"{keyword} is {ds.get(keyword)}, expected {value}"
        for keyword, value in expected.items()
        if ds.get(keyword) != value
    ]
    if list(ds.get("ImageType", []))[:2] != ["DERIVED", "SECONDARY"]:
        complaints.append(f"ImageType is {ds.get('ImageType')}, expected DERIVED\\SECONDARY")
    if ds.get("Modality") == "CT" and ds.get("SeriesInstanceUID") == (source.SeriesInstanceUID if source else None):
        complaints.append("it is in the series of its source")
    sources = ds.get("SourceImageSequence") or []
    if len(sources) != 1:
        complaints.append(f"{len(sources)} items in Source Image Sequence, expected one")
    try:
        pixels = ds.pixel_array
        if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
            complaints.append("no pixel has a colour: there is no overlay")
    except Exception as error:  # whatever the decoder raises is the finding
        complaints.append(f"pixels: {error}")
    if source is not None and sources and sources[0].get("ReferencedSOPInstanceUID") == source.SOPInstanceUID:
        number = sources[0].get("ReferencedFrameNumber")
        if source.get("NumberOfFrames", 1) > 1 and number is None:
            return [*complaints, "Source Image Sequence names no frame of a multi-frame image"]
        plane = {keyword: plane_attribute(source, int(number or 1), keyword) for keyword in IMAGE_PLANE}
        complaints += [
            f"{keyword} {ds.get(keyword)} differs from the source's {value}"
            for keyword, value in plane.items()
            if ds.get(keyword) != value
        ]
    return complaints


def plane_attribute(image: pydicom.Dataset, frame: int, keyword: str):
    """Of a frame, from 1: of its functional groups, else the shared ones, else the image's own (PS3.3 C.7.6.16)."""
    groups = [*image.get("PerFrameFunctionalGroupsSequence", [])][frame - 1 : frame]
    for group in [*groups, *image.get("SharedFunctionalGroupsSequence", [])]:
        for macro in (element.value[0] for element in group if element.VR == "SQ" and element.value):
            if keyword in macro:
                return macro.get(keyword)
    return image.get(keyword)


# --- Identity ---------------------------------------------------------------------------------------------------------


def check_identity(ds: pydicom.Dataset, source: pydicom.Dataset) -> list[str]:
    """Compares decoded text: the character sets may differ, the names may not."""
    complaints = []
    for keyword in IDENTITY:
        ours, theirs = (str(each.get(keyword) or "").strip() for each in (ds, source))
        if ours.rstrip("^") != theirs.rstrip("^"):
            complaints.append(f"{keyword} is {ours!r}, the source's is {theirs!r}")
    return complaints
