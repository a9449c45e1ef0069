"""Everything that the running node sends passes every validator: what is found and what is not, in each SR class, as it
lies in the PACS. Prints how many objects of each kind there were.

ICHNODE_OBJECTS=all (make validate-all) takes every study in every class, else each kind of outcome once."""

from __future__ import annotations

import io
import json
import os
import tempfile
import unittest
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import pydicom
from ct_series import new_uid
from enhanced_ct import enhanced_ct, read_slices, write
from node_fixture import (
    BLEED_SEED,
    EXAMPLE,
    SHARED_DATA,
    Site,
    Study,
    example_head,
    needs_node,
    phantom,
    storescu,
    wait_for,
)
from processes import http
from pydicom.filereader import read_file_meta_info

import external  # noqa: E402  (node_fixture has the folders on the path)
import own  # noqa: E402
import validate  # noqa: E402
from findings import AllowList  # noqa: E402
from structured_report import read_triage_report  # noqa: E402

CLASSES = {
    "enhanced": "1.2.840.10008.5.1.4.1.1.88.22",
    "comprehensive": "1.2.840.10008.5.1.4.1.1.88.33",
    "comprehensive3d": "1.2.840.10008.5.1.4.1.1.88.34",
}
ALL = os.environ.get("ICHNODE_OBJECTS") == "all"
LATE_SLICE = 9
# After the last image of a study with a gap.
DEADLINE_SECONDS = 5


@dataclass
class Case:
    """A study, and what its reports may say, in order."""

    make: Callable[[Path], Study]
    outcomes: list[set[str]]
    # Whether one slice comes after the report on the rest.
    late: bool = False
    # The class that the short form takes; none: the long form only.
    short: str | None = None
    needs: Path | None = None


PRESENT, ABSENT, UNDETERMINED = {"Present"}, {"Absent"}, {"Undetermined"}


def generated(*options: str) -> Callable[[Path], Study]:
    return lambda folder: phantom(folder, *options)


def enhanced(folder: Path) -> Study:
    head = enhanced_ct(read_slices(phantom(folder / "single", "--bleed", "left").files))
    for path in (folder / "single").iterdir():
        path.unlink()
    return Study(head.StudyInstanceUID, [write(head, folder / "head.dcm")])


def real(name: str) -> Callable[[Path], Study]:
    """A folder of shared/data/dicom under UIDs of its own, so that it can be sent more than once."""

    def make(folder: Path) -> Study:
        folder.mkdir(parents=True)
        uids: dict[str, str] = {}
        files = []
        for path in sorted(each for each in (SHARED_DATA / "dicom" / name).rglob("*") if each.is_file()):
            if not pydicom.misc.is_dicom(path):
                continue
            ds = pydicom.dcmread(path)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                setattr(ds, keyword, uids.setdefault(ds.get(keyword), new_uid()))
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            files.append(folder / f"{len(files)}.dcm")
            ds.save_as(files[-1], enforce_file_format=True)
        return Study(ds.StudyInstanceUID, files)

    return make


def real_case(name: str, outcome: set[str]) -> Case:
    return Case(real(name), [outcome], needs=SHARED_DATA / "dicom" / name)


GAP = ("--leave-out", str(LATE_SLICE))
CASES = {
    "positive": Case(generated("--bleed", "left"), [PRESENT], short="comprehensive3d"),
    "negative": Case(generated(), [ABSENT], short="enhanced"),
    "not analysed": Case(generated("--uniform", "120"), [UNDETERMINED], short="comprehensive"),
    "incomplete": Case(generated(*GAP), [UNDETERMINED], short="comprehensive3d"),
    "incomplete and positive": Case(generated("--bleed", "left", *GAP), [PRESENT]),
    "revised": Case(generated("--bleed", "left"), [PRESENT, PRESENT], late=True, short="comprehensive"),
    "negative after incomplete": Case(generated(), [UNDETERMINED, ABSENT], late=True),
    "Enhanced CT": Case(enhanced, [PRESENT]),
    "painted head": Case(lambda folder: example_head(folder, "ALL", BLEED_SEED), [PRESENT], needs=EXAMPLE),
    "clean head": Case(lambda folder: example_head(folder, "ALL"), [ABSENT], needs=EXAMPLE),
    "real head, tilted": real_case("ge-head-tilt", PRESENT | ABSENT),
    "plastic phantom, trauma": real_case("philips-phantom-trauma", UNDETERMINED),
    "plastic phantom, stereotaxis": real_case("philips-phantom-stereotaxis", UNDETERMINED),
}


@dataclass
class Sent:
    name: str
    report_class: str
    case: Case
    study: Study
    folder: Path


@needs_node
class NodeObjects(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        warnings.filterwarnings("ignore", module="pydicom|highdicom")
        if missing := external.missing_tools():
            raise unittest.SkipTest(f"missing: {', '.join(missing)}")
        # It reads its rules while the node works.
        external.ResidentPixelMed.shared()
        folder = tempfile.TemporaryDirectory(prefix="ichnode-objects-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.site = Site(
            completion={"grace_seconds": 1, "quiet_seconds": 2, "deadline_seconds": DEADLINE_SECONDS},
            routes=[
                {"name": name, "calling_ae_titles": [name.upper()], "sr_class": name, "key_objects": True,
                 "destinations": ["pacs"]}
                for name in CLASSES
            ],
        )  # fmt: skip
        cls.addClassCleanup(cls.site.stop)
        cls.site.start()

    def send(self) -> list[Sent]:
        """Every study to be had, in every class that is asked for."""
        sent = []
        for name, case in CASES.items():
            if case.needs is not None and not case.needs.exists():
                continue
            for report_class in CLASSES if ALL else [case.short] if case.short else []:
                folder = self.folder / "sources" / str(len(sent))
                one = Sent(name, report_class, case, case.make(folder), folder)
                late = [one.study.files[LATE_SLICE]] if case.late else []
                on_time = [each for each in one.study.files if each not in late]
                storescu(self.site.node, *on_time, calling=report_class.upper())
                sent.append(one)
        for one in (each for each in sent if each.case.late):
            wait_for(lambda: self.site.pacs.reports(one.study.uid), f"{one.name}: a report without the late slice")
            self.site.node.wait_until_settled(one.study.uid)
            storescu(self.site.node, one.study.files[LATE_SLICE], calling=one.report_class.upper())
        return sent

    def stored(self, one: Sent) -> list[Path]:
        """What the PACS holds of the study: nothing but what the node has kept as sent."""
        self.site.node.wait_until_settled(one.study.uid, 300)
        pacs, folder = self.site.pacs, self.folder / "objects" / f"{one.name}, {one.report_class}"
        folder.mkdir(parents=True)
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": one.study.uid}}
        for identifier in json.loads(http(f"{pacs.url}/tools/find", query)):
            content = pacs.download(identifier)
            uid = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True).SOPInstanceUID
            (folder / f"{uid}.dcm").write_bytes(content)
        # Beside it lie the reports in the other SR classes, for a PACS that refuses this one.
        others = set(CLASSES.values()) - {CLASSES[one.report_class]}
        kept = {
            path.name
            for path in (self.site.node.folder / "data" / "results" / one.study.uid).rglob("*.dcm")
            if read_file_meta_info(path).MediaStorageSOPClassUID not in others
        }
        self.assertEqual({path.name for path in folder.iterdir()}, kept, one.name)
        return sorted(folder.iterdir())

    def assert_is_what_was_asked_for(self, one: Sent, objects: list[pydicom.Dataset]) -> None:
        reports = [ds for ds in objects if own.kind_of(ds) == "SR"]
        reports.sort(key=lambda ds: "PredecessorDocumentsSequence" in ds)
        read = [read_triage_report(ds) for ds in reports]
        shown = self.site.node.command("study", "show", one.study.uid)
        self.assertEqual(len(reports), len(one.case.outcomes), f"{one.name}\n{shown}")
        for report, outcomes in zip(read, one.case.outcomes):
            self.assertIn(report.outcome, outcomes, one.name)
        self.assertEqual({ds.SOPClassUID for ds in reports}, {CLASSES[one.report_class]}, one.name)
        for earlier, later in zip(reports, reports[1:]):
            (instance,) = later.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
            self.assertEqual(instance.ReferencedSOPInstanceUID, earlier.SOPInstanceUID, one.name)
        positive = [report for report in read if report.outcome == "Present"]
        expected = {
            "SR": len(reports), "KO": len(positive), "SUMMARY": len(positive),
            "HEATMAP": sum(len(report.flagged) for report in positive),
        }  # fmt: skip
        self.assertEqual({kind: [*map(own.kind_of, objects)].count(kind) for kind in expected}, expected, one.name)

    def test_what_lies_in_the_pacs_passes_every_validator(self):
        counts = Counter()
        subjects, sources = [], []
        for one in self.send():
            found, _, problems = validate.collect(self.stored(one))
            self.assertEqual(problems, [])
            self.assert_is_what_was_asked_for(one, [each.dataset for each in found])
            counts.update((own.kind_of(each.dataset), one.report_class) for each in found)
            subjects += found
            sources += validate.collect([one.folder])[1]
        validate.run_all(subjects, sources, True, set(), AllowList(Path(validate.__file__).with_name("allowed.toml")))
        print()
        for kind in own.SERIES:
            shown = ", ".join(f"{counts[kind, name]} {name}" for name in CLASSES)
            print(f"    {kind:<7}  {shown}", flush=True)
        runs = sum(found is not None for each in subjects for found in each.results.values())
        print(f"    {len(subjects)} objects, {runs} runs of validators", flush=True)
        refused = [
            f"{each.path.parent.name}: {own.kind_of(each.dataset)}: {finding.validator}: {finding.text}"
            for each in subjects
            for found in each.results.values()
            for finding in found or []
            if not finding.allowed_because
        ]
        self.assertEqual(refused, [])
        self.assertTrue(all(counts[kind, name] for kind in own.SERIES for name in CLASSES) or not ALL, counts)


if __name__ == "__main__":
    unittest.main()
