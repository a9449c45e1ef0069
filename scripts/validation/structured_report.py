"""Reads the node's TID 1500 report without any toolkit for reports: plain walking of the content tree with pydicom, so
that the reader shares nothing with the writer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterator

import pydicom

MEASUREMENT_GROUP = ("125007", "DCM")
TRACKING_IDENTIFIER = ("112039", "DCM")
TRACKING_UID = ("112040", "DCM")
PROBABILITY = ("122157", "DCM")
HAEMORRHAGE = ("1386000", "SCT")
COMMENT = ("121106", "DCM")
OUTCOMES = {"52101004": "Present", "272519000": "Absent", "373068000": "Undetermined"}  # CID 240
STUDY_GROUP = "ICH study"
SLICE_GROUP = "ICH slice "


@dataclass
class FlaggedSlice:
    instance_number: int
    probability: float | None
    sop_instance_uid: str | None


@dataclass
class TriageReport:
    study_uid: str
    outcomes: set[str]  # what the qualitative evaluations say: one value, unless the report contradicts itself
    probability: float | None
    flagged: list[FlaggedSlice] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        return next(iter(self.outcomes)) if len(self.outcomes) == 1 else f"unclear: {sorted(self.outcomes)}"


def code(item: pydicom.Dataset) -> tuple[str, str] | None:
    """(value, scheme) of an item's concept name."""
    names = item.get("ConceptNameCodeSequence")
    return (names[0].get("CodeValue", ""), names[0].get("CodingSchemeDesignator", "")) if names else None


def children(item: pydicom.Dataset, *concepts: tuple[str, str]) -> list[pydicom.Dataset]:
    content = item.get("ContentSequence") or []
    return [child for child in content if not concepts or code(child) in concepts]


def walk(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """Every content item below, depth first."""
    for child in children(item):
        yield child
        yield from walk(child)


def measurement_groups(report: pydicom.Dataset) -> list[pydicom.Dataset]:
    return [item for item in walk(report) if code(item) == MEASUREMENT_GROUP]


def tracking_identifier(group: pydicom.Dataset) -> str:
    found = children(group, TRACKING_IDENTIFIER)
    return str(found[0].get("TextValue", "")) if found else ""


def numeric_value(group: pydicom.Dataset, concept: tuple[str, str]) -> float | None:
    for item in children(group, concept):
        values = item.get("MeasuredValueSequence")
        if values:
            return float(values[0].NumericValue)
    return None


def referenced_image(group: pydicom.Dataset) -> str | None:
    for item in walk(group):
        if item.get("ValueType") == "IMAGE":
            return str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    return None


def read_triage_report(report: pydicom.Dataset) -> TriageReport:
    outcomes = set()
    for item in walk(report):
        if item.get("ValueType") == "CODE" and code(item) == HAEMORRHAGE:
            value = item.ConceptCodeSequence[0]
            outcomes.add(OUTCOMES.get(value.CodeValue, f"{value.CodeValue} ({value.CodeMeaning})"))
    result = TriageReport(study_uid=report.StudyInstanceUID, outcomes=outcomes, probability=None)
    for group in measurement_groups(report):
        identifier = tracking_identifier(group)
        if identifier == STUDY_GROUP:
            result.probability = numeric_value(group, PROBABILITY)
        elif identifier.startswith(SLICE_GROUP):
            number = identifier.removeprefix(SLICE_GROUP).split()[0]
            result.flagged.append(FlaggedSlice(int(number), numeric_value(group, PROBABILITY), referenced_image(group)))
    result.comments = [str(item.TextValue) for item in walk(report) if code(item) == COMMENT and "TextValue" in item]
    return result
