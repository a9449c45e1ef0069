"""Runs every validator over result objects: reports (SR), secondary captures (SC), key object selections (KO)."""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

import external
import own
from findings import AllowList, Finding

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "1.2.840.10008.5.1.4.1.1.88.11": "SR",
    "1.2.840.10008.5.1.4.1.1.88.22": "SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "SR",
    "1.2.840.10008.5.1.4.1.1.7": "SC",
    "1.2.840.10008.5.1.4.1.1.7.4": "SC",
    "1.2.840.10008.5.1.4.1.1.88.59": "KO",
}
# CT, Enhanced CT and Legacy Converted Enhanced CT Image Storage.
CT_STORAGE = {f"1.2.840.10008.5.1.4.1.1.2{suffix}" for suffix in ("", ".1", ".2")}
EXTERNAL = {
    "dciodvfy": (external.dciodvfy, {"SR", "SC", "KO"}),
    "dsrdump": (external.dsrdump, {"SR", "KO"}),
    "dcmj2pnm": (external.dcmtk_image, {"SC"}),
    "pixelmed": (external.pixelmed, {"SR", "KO"}),
    "highdicom": (external.highdicom_content, {"SR", "KO"}),
    "tables": (external.highdicom_tables, {"SR", "SC", "KO"}),
    "dcmqi": (external.dcmqi, {"SR"}),
}
OWN = ["codes", "content", "labels", "identity"]


@dataclass
class Subject:
    path: Path
    kind: str
    dataset: pydicom.Dataset
    # Per check: its findings, or None when it has nothing to say about this kind of object.
    results: dict[str, list[Finding] | None] = field(default_factory=dict)


def collect(paths: list[Path]) -> tuple[list[Subject], list[pydicom.Dataset], list[str]]:
    """Objects to validate, CT slices that serve as sources, and what could not be used."""
    subjects, sources, problems = [], [], []
    files = [f for p in paths for f in (sorted(q for q in p.rglob("*") if q.is_file()) if p.is_dir() else [p])]
    named = set(paths)
    for path in files:
        try:
            ds = pydicom.dcmread(path)
        except (InvalidDicomError, OSError) as error:
            if path in named:  # within a folder, PNG and text files are passed over
                problems.append(f"{path}: {error}")
            continue
        if ds.get("SOPClassUID") in CT_STORAGE:
            sources.append(ds)
        elif kind := KINDS.get(str(ds.get("SOPClassUID"))):
            subjects.append(Subject(path, kind, ds))
        else:
            problems.append(f"{path}: SOP class {ds.get('SOPClassUID')} is none that the node makes")
    return subjects, sources, problems


def source_of(ds: pydicom.Dataset, sources: list[pydicom.Dataset]) -> pydicom.Dataset | None:
    """The first image that the object names if it is there, else any of the study. Scanners give the series of a study
    different Study Times, so that any will not always do."""
    same_study = {each.SOPInstanceUID: each for each in sources if each.StudyInstanceUID == ds.get("StudyInstanceUID")}
    named = [str(item.get("ReferencedSOPInstanceUID")) for item in ds.get("SourceImageSequence") or []]
    named += [uid for _, uid, _ in own.images(ds)]
    return next((same_study[uid] for uid in [*named, *same_study] if uid in same_study), None)


def run_own_checks(
    subject: Subject, subjects: list[Subject], sources: list[pydicom.Dataset], explicit: bool, allow: AllowList
) -> None:
    ds, kind = subject.dataset, subject.kind
    source = source_of(ds, sources)
    content = {"SR": own.check_report, "KO": own.check_key_objects, "SC": own.check_capture}[kind]
    beside = [s.dataset for s in subjects if s is not subject and s.dataset.StudyInstanceUID == ds.StudyInstanceUID]
    complaints = {
        "codes": own.check_codes(ds, allow),
        "content": content(ds, sources),
        "labels": own.check_labels(ds, beside),
    }
    if source is not None:
        complaints["identity"] = own.check_identity(ds, source)
    elif explicit:
        complaints["identity"] = ["no CT slice given as source is of the same study"]
    for name in OWN:
        found = complaints.get(name)
        subject.results[name] = None if found is None else [allow.judge(name, kind, text) for text in found]


def run_all(subjects: list[Subject], sources, explicit: bool, skipped: set[str], allow: AllowList) -> None:
    run_external(subjects, skipped, allow)
    for subject in subjects:
        run_own_checks(subject, subjects, sources, explicit, allow)


def run_external(subjects: list[Subject], skipped: set[str], allow: AllowList) -> None:
    def work(job: tuple[Subject, str]) -> tuple[Subject, str, list[Finding]]:
        subject, name = job
        try:
            complaints = EXTERNAL[name][0](subject.path, subject.kind)
        except Exception as error:  # a validator that cannot run has not passed
            complaints = [f"could not run: {type(error).__name__}: {error}"]
        return subject, name, [allow.judge(name, subject.kind, text) for text in complaints]

    jobs = []
    for subject in subjects:
        for name, (_, kinds) in EXTERNAL.items():
            subject.results[name] = None
            if subject.kind in kinds and name not in skipped:
                jobs.append((subject, name))
    # PixelMed is slow, and does one file after another.
    with (
        concurrent.futures.ThreadPoolExecutor(max_workers=1) as one,
        concurrent.futures.ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as several,
    ):
        for done in [(one if job[1] == "pixelmed" else several).submit(work, job) for job in jobs]:
            subject, name, found = done.result()
            subject.results[name] = found


def cell(findings: list[Finding] | None) -> str:
    if findings is None:
        return "-"
    refused = sum(finding.allowed_because is None for finding in findings)
    if refused:
        return f"FAIL {refused}"
    return "ok" if not findings else "ok*"


def print_table(subjects: list[Subject]) -> None:
    checks = [*EXTERNAL, *OWN]
    base = Path(os.path.commonpath([str(s.path.resolve().parent) for s in subjects]))
    names = [str(s.path.resolve().relative_to(base)) for s in subjects]
    width = max(len("object"), *(len(name) for name in names))
    print(f"{'object':<{width}}  kind  " + "  ".join(f"{check:<9}" for check in checks).rstrip())
    for name, subject in zip(names, subjects):
        row = "  ".join(f"{cell(subject.results[check]):<9}" for check in checks).rstrip()
        print(f"{name:<{width}}  {subject.kind:<4}  {row}")


def print_findings(subjects: list[Subject]) -> int:
    """Allowed ones once each with their reason, then every other. Returns how many others there are."""
    allowed, refused = Counter(), []
    for subject in subjects:
        for findings in subject.results.values():
            for finding in findings or []:
                if finding.allowed_because:
                    allowed[finding.validator, finding.allowed_because] += 1
                else:
                    refused.append(f"  {subject.path}\n    {finding.validator}: {finding.text}")
    if allowed:
        print("\n* allowed (scripts/validation/allowed.toml):")
        for (validator, reason), count in sorted(allowed.items()):
            print(f"  {count:>3} x {validator}: {reason}")
    if refused:
        print(f"\n{len(refused)} findings:")
        print("\n".join(refused))
    return len(refused)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/validate", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="DICOM files or folders (default: demo-output)")
    parser.add_argument(
        "--source",
        type=Path,
        action="append",
        default=[],
        help="CT slice, or folder of them, that the objects were made from; their identity must be equal",
    )
    parser.add_argument("--skip", action="append", default=[], choices=sorted(EXTERNAL), help="leave out a validator")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="pydicom")

    default = ROOT / "demo-output"
    paths = arguments.paths or [default]
    if missing := [str(p) for p in [*paths, *arguments.source] if not p.exists() and p != default]:
        print(f"validate: no such file or folder: {', '.join(missing)}", file=sys.stderr)
        return 2
    if missing := external.missing_tools():
        print(f"validate: missing: {', '.join(missing)}; run scripts/setup validate", file=sys.stderr)
        return 2
    subjects, beside, problems = collect([p for p in paths if p.exists()])
    _, given, _ = collect(arguments.source)
    for problem in problems:
        print(f"validate: {problem}", file=sys.stderr)
    if not subjects:
        hint = "run 'make demo' first, or name files" if not arguments.paths else "no SR, SC or KO among these"
        print(f"validate: nothing to validate: {hint}", file=sys.stderr)
        return 2

    allow = AllowList(Path(__file__).with_name("allowed.toml"))
    run_all(subjects, given + beside, bool(arguments.source), set(arguments.skip), allow)
    print_table(subjects)
    refused = print_findings(subjects)
    kinds = Counter(subject.kind for subject in subjects)
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    if refused or problems:
        print(f"\nvalidate: {counted}: FAILED")
        return 1
    print(f"\nvalidate: {counted}: all passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
