"""Tables of what result objects hold, from objects that the built node makes of generated studies: one with every
attribute that may be carried over, one with as few as there may be, one without a finding, one that is not analysed."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

import numpy as np
import pydicom
from pydicom.datadict import dictionary_description

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "Tools"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import make_ct_series  # noqa: E402
from code_tables import markdown  # noqa: E402

# By Series Number.
KINDS = {9001: "report", 9003: "heatmap", 9004: "summary", 9002: "key objects"}
OUTCOMES = ("positive", "negative", "undetermined")
# Trees have tables of their own.
NOT_LISTED = {"ContentSequence"}
# What differs between installations, versions or analyses, in words.
MADE = {
    "ContentDate": "start of the analysis",
    "ContentTime": "start of the analysis",
    "DateOfSecondaryCapture": "start of the analysis",
    "TimeOfSecondaryCapture": "start of the analysis",
    "SeriesDate": "start of the analysis",
    "SeriesTime": "start of the analysis",
    "TimezoneOffsetFromUTC": "time zone of the machine",
    "DeviceSerialNumber": "names the installation",
    "DeviceUID": "of the installation",
    "InstanceCreatorUID": "of the installation",
    "StationName": "name of the machine",
    "SoftwareVersions": "version of ICHNode",
    "SecondaryCaptureDeviceSoftwareVersions": "version of ICHNode",
    "ImageComments": "probability, threshold, model, in words",
    "InstanceNumber": "counts within the series; of a heatmap that of its slice",
    "Rows": "size of the picture",
    "Columns": "size of the picture",
    "PixelData": "the picture",
    "LossyImageCompression": "01 where an image beneath has it, else 00",
    "SOPInstanceUID": "2.25 and a UUID",
    "SeriesInstanceUID": "2.25 and a UUID",
}
# Within sequences.
REFERENCED = {
    keyword: "of an image or, in key objects, a heatmap"
    for keyword in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
}


# MARK: The studies


@dataclass
class Study:
    outcome: str
    options: list[str]
    # Values of every image, in place of those that are generated; None: absent.
    attributes: dict[str, object] = field(default_factory=dict)


FULL = Study(
    "positive",
    ["--bleed", "left", "--patient-name", "FULL^PATIENT", "--patient-id", "F1", "--issuer", "HOSPITAL"],
    {
        "TypeOfPatientID": "TEXT",
        "PatientSex": "F",
        "PatientBirthTime": "120000",
        "OtherPatientNames": "OTHER^NAME",
        "PatientAge": "075Y",
        "PatientSize": "1.7",
        "PatientWeight": "70",
        "ReferringPhysicianName": "REFERRER^NAME",
        "StudyID": "S1",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "OF A TEST",
        "TimezoneOffsetFromUTC": "+0545",
        "PositionReferenceIndicator": "OM",
        "PatientOrientation": ["L", "P"],
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "10",
        "LossyImageCompressionMethod": "ISO_10918_1",
    },
)
BARE = Study(
    "positive",
    ["--bleed", "left", "--signed", "--body-part", "BRAIN", "--hours-old", "100", "--charset", "ISO_IR 192"],
    {
        "PatientName": "",
        "PatientID": "",
        "PatientBirthDate": None,
        "PatientSex": None,
        "StudyDate": None,
        "StudyTime": None,
        "FrameOfReferenceUID": None,
        "AccessionNumber": None,
        "StudyDescription": None,
        "StudyID": None,
        "ReferringPhysicianName": None,
        "SliceLocation": None,
        "LossyImageCompression": None,
        "PositionReferenceIndicator": None,
    },
)
CLEAN = Study("negative", ["--patient-name", "CLEAN^PATIENT", "--hours-old", "50"], {"StudyID": "S2"})
NO_HEAD = Study("undetermined", ["--uniform", "120", "--patient-name", "NO^HEAD"], {"StudyID": "S3"})


@dataclass
class Result:
    """An object and what it was made of."""

    kind: str
    outcome: str
    dataset: pydicom.Dataset
    source: pydicom.Dataset


def write(study: Study, folder: Path) -> dict[str, pydicom.Dataset]:
    """By SOP Instance UID."""
    common = ["--size", "128", "--slices", "20", "--accession", folder.name]
    make_ct_series.make(make_ct_series.arguments_from([str(folder), *common, *study.options]))
    images = {}
    for path in sorted(folder.iterdir()):
        ds = pydicom.dcmread(path)
        for keyword, value in study.attributes.items():
            if value is None:
                ds.pop(keyword, None)
            else:
                setattr(ds, keyword, value)
        ds.save_as(path, enforce_file_format=True)
        images[ds.SOPInstanceUID] = ds
    return images


def results(ichnode: Path, folder: Path) -> list[Result]:
    images: dict[str, pydicom.Dataset] = {}
    outcomes: dict[str, str] = {}
    for number, study in enumerate((FULL, BARE, CLEAN, NO_HEAD)):
        written = write(study, folder / "studies" / f"A{number}")
        images |= written
        outcomes[next(iter(written.values())).StudyInstanceUID] = study.outcome
    (model,) = (path.parent for path in (ROOT / "Models").glob("*/model.json"))
    options = ["--output", folder / "results", "--model", model, "--key-objects"]
    analysis = subprocess.run(
        [ichnode, "analyze", folder / "studies", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert analysis.returncode == 0, analysis.stdout
    made = []
    for path in sorted((folder / "results").rglob("*.dcm")):
        ds = pydicom.dcmread(path)
        of_study = [image for image in images.values() if image.StudyInstanceUID == ds.StudyInstanceUID]
        below = ds.get("SourceImageSequence")
        source = images[below[0].ReferencedSOPInstanceUID] if below else of_study[0]
        made.append(Result(KINDS[int(ds.SeriesNumber)], outcomes[ds.StudyInstanceUID], ds, source))
    found = {(result.kind, result.outcome) for result in made}
    wanted = {(kind, "positive") for kind in KINDS.values()} | {("report", outcome) for outcome in OUTCOMES}
    assert found == wanted, f"{found}\n{analysis.stdout}"
    # The one that has all comes first, and gives the order of content items.
    studies = list(outcomes)
    return sorted(made, key=lambda each: (studies.index(each.dataset.StudyInstanceUID), each.dataset.SeriesNumber))


# MARK: Attributes


@dataclass
class Attribute:
    tag: pydicom.tag.BaseTag
    vr: str
    is_nested: bool
    # By kind: how many data sets, or items of its sequence, could have it; do; with a value.
    possible: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    present: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    valued: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # By kind: texts of its values.
    values: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    # By kind: (value of the source, value), where either has one.
    pairs: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))

    @property
    def keyword(self) -> str:
        return pydicom.datadict.keyword_for_tag(self.tag)

    def presence(self, kind: str) -> str:
        """Presence of Value, as PS3.2 has it."""
        if not self.present[kind]:
            return "–"
        if self.present[kind] < self.possible[kind]:
            return "ANAP"
        if not self.valued[kind]:
            return "EMPTY"
        return "ALWAYS" if self.valued[kind] == self.possible[kind] else "VNAP"

    @property
    def is_copied(self) -> bool:
        pairs = [pair for kind, pairs in self.pairs.items() if self.valued[kind] for pair in pairs]
        return bool(pairs) and all(source == value for source, value in pairs)

    def source(self) -> tuple[str, str]:
        """Source, and the value in words."""
        if self.vr == "SQ":
            return "", ""
        if not any(self.valued.values()):
            return "", ""
        if self.is_copied:
            return "COPY", ""
        made = REFERENCED if self.is_nested and self.keyword in REFERENCED else MADE
        if self.keyword in made:
            return "AUTO", made[self.keyword]
        kinds: dict[str, list[str]] = defaultdict(list)
        for kind in KINDS.values():
            values = self.values[kind]
            assert len(values) <= 6, f"{self.keyword} is neither copied, nor fixed, nor among those made: {values}"
            if values:
                kinds[", ".join(sorted(values))].append(kind)
        if len(kinds) == 1:
            return "FIXED", next(iter(kinds))
        return "FIXED", "; ".join(f"{value} ({', '.join(those)})" for value, those in kinds.items())


Path_ = tuple[pydicom.tag.BaseTag, ...]


def tag_text(tag: pydicom.tag.BaseTag) -> str:
    return f"({tag.group:04X},{tag.element:04X})"


def text_of(element: pydicom.DataElement | None) -> str:
    if element is None or element.value is None or element.is_empty:
        return ""
    if element.VR == "SQ":
        return "items"
    if element.keyword.endswith("ClassUID"):
        return element.value.name
    if element.VM > 1 and not isinstance(element.value, (str, bytes)):
        return "\\".join(str(each) for each in element.value)
    return str(element.value)


def collect(results: list[Result]) -> dict[Path_, Attribute]:
    found: dict[Path_, Attribute] = {}
    parents: dict[str, dict[Path_, int]] = defaultdict(lambda: defaultdict(int))

    def visit(item: pydicom.Dataset, path: Path_, result: Result) -> None:
        parents[result.kind][path] += 1
        for element in item:
            if element.keyword in NOT_LISTED:
                continue
            here = (*path, element.tag)
            attribute = found.setdefault(here, Attribute(element.tag, element.VR, bool(path)))
            attribute.present[result.kind] += 1
            if element.VR == "SQ":
                attribute.valued[result.kind] += bool(element.value)
                for child in element.value:
                    visit(child, here, result)
                continue
            text = text_of(element)
            if text:
                attribute.valued[result.kind] += 1
                attribute.values[result.kind].add(text)
            source = text_of(result.source.get(element.tag)) if not path else ""
            if source or text:
                attribute.pairs[result.kind].add((source, text))

    for result in results:
        visit(result.dataset, (), result)
    for path, attribute in found.items():
        for kind, counts in parents.items():
            attribute.possible[kind] = counts[path[:-1]]
    return found


def attribute_table(results: list[Result]) -> str:
    found = collect(results)
    kinds = list(KINDS.values())
    rows = []
    for path in sorted(found):
        attribute = found[path]
        source, value = attribute.source()
        rows.append(
            [
                ">" * (len(path) - 1) + dictionary_description(attribute.tag),
                tag_text(attribute.tag),
                attribute.vr,
                *(attribute.presence(kind) for kind in kinds),
                source,
                value,
            ]
        )
    return markdown(f"attribute | tag | VR | {' | '.join(kinds)} | source | value", rows)


def carried_table(results: list[Result]) -> str:
    """What results have of the images."""
    found = collect(results)
    rows = []
    for path in sorted(found):
        attribute = found[path]
        if len(path) == 1 and attribute.is_copied:
            to = ", ".join(kind for kind in KINDS.values() if attribute.valued[kind])
            rows.append([dictionary_description(attribute.tag), tag_text(attribute.tag), to])
    return markdown("attribute of the image | tag | goes unchanged into", rows)


# MARK: Content trees

# The tree has two kinds of one container; the identifier says which.
MEASUREMENT_GROUP = "125007"
STUDY_GROUP = "ICH study"


def code_of(item: pydicom.Dataset, keyword: str) -> str:
    sequence = item.get(keyword)
    if not sequence:
        return ""
    code = sequence[0]
    return f"({code.CodeValue}, {code.CodingSchemeDesignator}, {code.CodeMeaning})"


def identity(item: pydicom.Dataset) -> tuple[str, ...]:
    name = code_of(item, "ConceptNameCodeSequence")
    kind = ""
    if MEASUREMENT_GROUP in name:
        kind = "of the study" if STUDY_GROUP in tracking_identifiers(item) else "of a slice"
    return (item.get("RelationshipType", ""), item.ValueType, name, kind)


def tracking_identifiers(item: pydicom.Dataset) -> list[str]:
    return [child.TextValue for child in item.get("ContentSequence", []) if child.ValueType == "TEXT"]


def value_of(item: pydicom.Dataset) -> str:
    match item.ValueType:
        case "CODE":
            return code_of(item, "ConceptCodeSequence")
        case "TEXT":
            return item.TextValue
        case "UIDREF":
            return item.UID
        case "DATE":
            return item.Date
        case "NUM":
            return f"number, {code_of(item.MeasuredValueSequence[0], 'MeasurementUnitsCodeSequence')}"
        case "CONTAINER":
            template = item.get("ContentTemplateSequence")
            return f"TID {template[0].TemplateIdentifier}" if template else ""
        case _:
            return ""


# Texts that differ between installations, versions or analyses.
MADE_CONTENT = {
    "121012": "UID of the installation",
    "121013": "name of the machine",
    "121016": "names the installation",
    "111001": "name of the model",
    "111003": "version of the model",
    "111002": "threshold, or what the number is",
    "121106": "the finding in words",
    "113012": "the finding in words",
    "112040": "2.25 and a UUID",
    "112227": "that of the images",
    "111060": "that of the images",
}


@dataclass
class Node:
    # In how many items above it could be, and is, by outcome.
    possible: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    present: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    most: int = 0
    values: set[str] = field(default_factory=set)
    children: dict[tuple[str, ...], "Node"] = field(default_factory=dict)


def add(node: Node, item: pydicom.Dataset, outcome: str) -> None:
    node.values.add(value_of(item))
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for child in item.get("ContentSequence", []):
        key = identity(child)
        counts[key] += 1
        add(node.children.setdefault(key, Node()), child, outcome)
    for key, count in counts.items():
        node.children[key].present[outcome] += 1
        node.children[key].most = max(node.children[key].most, count)
    node.possible[outcome] += 1


def rows_of(node: Node, depth: int = 1) -> Iterator[list[str]]:
    for (relationship, kind, name, note), child in node.children.items():
        code = name.removeprefix("(").split(",")[0]
        values = child.values - {""}
        value = MADE_CONTENT.get(code) or ", ".join(sorted(values))
        if kind in ("TEXT", "UIDREF") and code not in MADE_CONTENT and len(values) > 1:
            value = ", ".join(sorted({text.rstrip("0123456789 ") + " n" for text in values}))
        if kind == "IMAGE":
            value = "reference"
        # Of the items above it that there are in reports of an outcome.
        there = [each for each in OUTCOMES if node.possible[each]]
        always = all(child.present[each] == node.possible[each] for each in there)
        when = "always" if always else ", ".join(each for each in there if child.present[each])
        yield [
            ">" * depth + (name or "–") + (f", {note}" if note else ""),
            relationship,
            kind,
            value,
            when,
            "1-n" if child.most > 1 else "1",
        ]
        yield from rows_of(child, depth + 1)


def content_table(results: list[Result], kind: str) -> str:
    root = Node()
    for result in results:
        if result.kind == kind:
            add(root, result.dataset, result.outcome)
    first = next(result.dataset for result in results if result.kind == kind)
    top = [code_of(first, "ConceptNameCodeSequence"), "", "CONTAINER", ", ".join(root.values), "always", "1"]
    return markdown("concept name | relationship | value type | value | when | how many", [top, *rows_of(root)])


# MARK: Codes

USES = {
    "ConceptNameCodeSequence": "concept name",
    "ConceptCodeSequence": "value",
    "MeasurementUnitsCodeSequence": "unit",
}


def code_table(results: list[Result]) -> str:
    uses: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for result in results:
        for element in result.dataset.iterall():
            if element.VR == "SQ" and element.keyword.endswith("CodeSequence"):
                for item in element.value:
                    key = (item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)
                    uses[key].add(USES.get(element.keyword, dictionary_description(element.tag)))
    return markdown(
        "code value | scheme | code meaning | used as",
        ([*key, ", ".join(sorted(used))] for key, used in sorted(uses.items(), key=lambda each: (each[0][1], each[0]))),
    )


def scheme_table(results: list[Result]) -> str:
    schemes = {
        (str(item.CodingSchemeDesignator), str(item.CodingSchemeUID), str(item.CodingSchemeName))
        for result in results
        for item in result.dataset.get("CodingSchemeIdentificationSequence", [])
    }
    return markdown("scheme | UID | name", map(list, sorted(schemes)))


def content_items_table(results: list[Result]) -> str:
    """PS3.4 §O.4 asks for these."""
    types: dict[str, tuple[set[str], set[str]]] = {}
    for result in results:
        for item in [result.dataset, *(e for e in walk(result.dataset))]:
            if "ValueType" not in item:
                continue
            kinds, relationships = types.setdefault(result.kind, (set(), set()))
            kinds.add(item.ValueType)
            relationships |= {item.RelationshipType} if "RelationshipType" in item else set()
    return markdown(
        "document | value types | relationship types",
        [[kind, ", ".join(sorted(types[kind][0])), ", ".join(sorted(types[kind][1]))] for kind in types],
    )


def walk(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from walk(child)


def object_tables(ichnode: Path, folder: Path) -> dict[str, str]:
    made = results(ichnode, folder)
    return {
        "attributes": attribute_table(made),
        "attributes carried over": carried_table(made),
        "report content": content_table(made, "report"),
        "key object content": content_table(made, "key objects"),
        "content items": content_items_table(made),
        "codes": code_table(made),
        "coding schemes": scheme_table(made),
    }
