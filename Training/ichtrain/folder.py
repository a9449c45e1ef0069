"""Reader of a hospital's own studies: a folder of DICOM files, a table of study labels, a table of slice labels.

Study labels, CSV with a header line, one row a study:

- `study`: Study Instance UID, accession number, or the study's folder relative to the data folder
- `any`: 0 or 1
- `epidural`, `intraparenchymal`, `intraventricular`, `subarachnoid`, `subdural`, `fracture` (optional): 0, 1 or empty
- `patient` (optional): whose it is, where the Patient ID in the headers does not tell
- `stratum` (optional): a number or word, such as the year or the scanner; folds hold equal shares of each

Slice labels (optional), CSV: `sop_instance_uid`, `any`, and the same optional columns. Slices that are not listed count
as unknown, not as negative; list every slice of a study whose slices are labelled.

The same two files serve `ichnode evaluate`.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from .header_index import HeaderIndex, IndexedFile
from .series import choose
from .stored import Job, Reading, StoredPixels, prepare_all, stored_study
from .study import LABELS, UNKNOWN, Study

MOST_PROBLEMS = 20


class LabelError(ValueError):
    """A table of labels that cannot be used; the text lists what to correct."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        more = len(problems) - MOST_PROBLEMS
        listed = problems[:MOST_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
        super().__init__(f"{path.name} cannot be used:\n" + "\n".join(f"  {problem}" for problem in listed))


@dataclass(frozen=True)
class LabelRow:
    """line: in its file. key: of the study or slice. labels: [`LABELS`] 1, 0, NaN."""

    line: int
    key: str
    labels: np.ndarray
    patient: str = ""
    stratum: str = ""

    def says_the_same(self, other: LabelRow) -> bool:
        same = np.array_equal(self.labels, other.labels, equal_nan=True)
        return same and (self.patient, self.stratum) == (other.patient, other.stratum)


def read_table(path: Path, key: str, optional: tuple[str, ...] = ()) -> tuple[list[LabelRow], list[str]]:
    """(rows, warnings) of a table of labels. Raises LabelError, with all that is wrong with it."""
    rows: list[LabelRow] = []
    problems: list[str] = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        columns = [column.strip() for column in table.fieldnames or []]
        table.fieldnames = columns
        missing = [name for name in (key, "any") if name not in columns]
        if missing:
            raise LabelError(path, [f"no column {name}: the first line has to name the columns" for name in missing])
        twice = [name for name, count in Counter(columns).items() if count > 1]
        if twice:
            raise LabelError(path, [f"column {name} is there twice: remove one" for name in twice])
        for record in table:
            if None in record or None in record.values():
                problems.append(f"line {table.line_num}: has another number of fields than the first line")
                continue
            try:
                rows.append(row_of(table.line_num, record, key, optional))
            except ValueError as error:
                problems.append(f"line {table.line_num}: {error}")
    if problems:
        raise LabelError(path, problems)
    unread = [column for column in columns if column not in (key, *LABELS, *optional)]
    warnings = [f"{path.name}: columns that nothing reads: {', '.join(unread)}; misspelt?"] if unread else []
    return rows, warnings


def row_of(line: int, record: dict[str, str], key: str, optional: tuple[str, ...]) -> LabelRow:
    name = record[key].strip()
    if not name:
        raise ValueError(f"{key} is empty")
    labels = np.full(len(LABELS), UNKNOWN, np.float32)
    for column, label in enumerate(LABELS):
        text = record.get(label, "").strip()
        if text not in ("", "0", "1"):
            raise ValueError(f'{label} is "{text}": write 0, 1, or nothing where it is not known')
        if text:
            labels[column] = int(text)
    found = [label for label, value in zip(LABELS[1:-1], labels[1:-1]) if value == 1]
    if labels[0] == 0 and found:
        raise ValueError(f"any is 0 and {' and '.join(found)} is 1: correct one of them")
    return LabelRow(line, name, labels, **{column: record.get(column, "").strip() for column in optional})


def read_study_rows(path: Path) -> tuple[list[LabelRow], list[str]]:
    return read_table(path, "study", ("patient", "stratum"))


def read_slice_labels(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """(labels by SOP Instance UID, warnings). A slice may be listed again where both rows say the same."""
    rows, warnings = read_table(path, "sop_instance_uid")
    found: dict[str, LabelRow] = {}
    problems = []
    for row in rows:
        first = found.setdefault(row.key, row)
        if not row.says_the_same(first):
            problems.append(f"lines {first.line} and {row.line} contradict each other: correct one of them")
    if problems:
        raise LabelError(path, problems)
    return {uid: row.labels for uid, row in found.items()}, warnings


class StudyNames:
    """Every name that a row may give a study: its UID, its accession number, a folder that holds it alone."""

    def __init__(self, index: HeaderIndex) -> None:
        self.studies: dict[str, set[str]] = defaultdict(set)
        self.uids: list[str] = []
        for uid, files in index.studies():
            self.uids.append(uid)
            names = {uid} | {file.header.accession_number for file in files}
            for folder in {file.path.rpartition("/")[0] for file in files}:
                while folder:
                    names.add(folder)
                    folder = folder.rpartition("/")[0]
            for name in names - {""}:
                self.studies[name].add(uid)

    def of(self, key: str) -> set[str]:
        name = key if key in self.studies else key.replace("\\", "/").removeprefix("./").rstrip("/")
        return self.studies.get(name, set())


def match_rows(path: Path, rows: list[LabelRow], names: StudyNames, reading: Reading) -> dict[str, LabelRow]:
    """Study Instance UID -> its row. What has no partner goes to `reading.left_out`.

    Raises LabelError where a row fits several studies, or two rows contradict each other about one.
    """
    found: dict[str, LabelRow] = {}
    problems = []
    for row in rows:
        uids = names.of(row.key)
        if len(uids) > 1:
            problems.append(f"line {row.line}: {row.key} fits {len(uids)} studies: give the Study Instance UID")
        elif not uids:
            reason = f"line {row.line} of {path.name}: no DICOM file of this study is there; correct or add it"
            reading.left_out.append((row.key, reason))
        else:
            first = found.setdefault(next(iter(uids)), row)
            if not row.says_the_same(first):
                problems.append(f"lines {first.line} and {row.line} contradict each other about one study")
    if problems:
        raise LabelError(path, problems)
    for uid in names.uids:
        if uid not in found:
            reading.left_out.append((uid, f"no row in {path.name}: add one to train on it"))
    for uid, row in list(found.items()):
        if np.isnan(row.labels[0]):
            reading.left_out.append((uid, f"line {row.line} of {path.name}: any is empty; write 0 or 1"))
            del found[uid]
    return found


def read(
    data: Path,
    cache: Path,
    labels: Path,
    slice_labels: Path | None = None,
    limit: int | None = None,
    processes: int = 1,
    announce=print,
) -> Reading:
    """All labelled studies below `data`, the first `limit` by UID; what is left out, and why.

    Raises LabelError for tables that have to be corrected first, MissingDecoder where a package has to be installed.
    """
    reading = Reading()
    rows, warnings = read_study_rows(labels)
    of_slices: dict[str, np.ndarray] = {}
    if slice_labels is not None:
        of_slices, more = read_slice_labels(slice_labels)
        warnings += more
    reading.warnings += warnings
    index = HeaderIndex.of(data, cache, announce)
    try:
        tables = {table.resolve() for table in (labels, slice_labels) if table is not None}
        report_files(index, tables, reading)
        matched = match_rows(labels, rows, StudyNames(index), reading)
        strata = stratum_numbers(matched)
        used: set[str] = set()
        jobs = jobs_of(index, sorted(matched), cache, reading)
        for job, outcome in prepare_all(islice(jobs, limit), processes, announce):
            row = matched[job.study_uid]
            if isinstance(outcome, str):
                reading.left_out.append((job.study_uid, f"{outcome}; fetch the study again"))
                continue
            used.update(outcome.sop_instance_uids)
            try:
                study = labelled(job, outcome, row, strata[row.stratum], of_slices)
            except ValueError as error:
                reading.left_out.append((job.study_uid, str(error)))
                continue
            reading.studies.append(study)
    finally:
        index.close()
    unused = [uid for uid in of_slices if uid not in used]
    if unused and limit is None:
        text = f"{len(unused)} labelled slices are in no volume that is used, {unused[0]} for one"
        reading.warnings.append(f"{text}: label the slices of the chosen series")
    reading.warnings += patient_warnings(reading.studies)
    return reading


def labelled(
    job: Job, pixels: StoredPixels, row: LabelRow, stratum: int, of_slices: dict[str, np.ndarray]
) -> Study:
    patient = row.patient or job.files[0].header.patient_id or job.study_uid
    return stored_study(job, pixels, patient, stratum, pixels.slab_labels(of_slices.get), row.labels)


def jobs_of(index: HeaderIndex, uids: list[str], cache: Path, reading: Reading) -> Iterator[Job]:
    """The studies that have a series to analyse, in this order; the others go to `reading.left_out`."""
    for uid in uids:
        files = without_repetitions(uid, index.files_of(uid), reading)
        choice = choose(file.header for file in files)
        if not choice.slices:
            reading.left_out.append((uid, f"no series to analyse: {choice.reason}"))
            continue
        reading.warnings += [f"{uid}: {warning}" for warning in choice.warnings]
        yield Job.of(uid, index.root, cache, files, choice)


def without_repetitions(uid: str, files: list[IndexedFile], reading: Reading) -> list[IndexedFile]:
    """Of files with one SOP Instance UID the first by path."""
    first: dict[str, IndexedFile] = {}
    for file in files:
        first.setdefault(file.header.sop_instance_uid, file)
    if len(first) < len(files):
        reading.warnings.append(f"{uid}: {len(files) - len(first)} files repeat an image; the first by name counts")
    return list(first.values())


def report_files(index: HeaderIndex, tables: set[Path], reading: Reading) -> None:
    """Files that no study can be made of."""
    others = [path for path in index.not_dicom if (index.root / path).resolve() not in tables]
    if others:
        reading.warnings.append(f"{len(others)} files are no DICOM images, {others[0]} for one")
    reading.left_out += [(path, problem) for path, problem in index.broken]


def stratum_numbers(matched: dict[str, LabelRow]) -> dict[str, int]:
    """Text of the column -> number: itself where all are numbers, else its place among all; 0 without the column."""
    texts = sorted({row.stratum for row in matched.values()})
    if all(text == "" or text.isdecimal() for text in texts):
        return {text: int(text or 0) for text in texts}
    return {text: place for place, text in enumerate(texts)}


def patient_warnings(studies: list[Study]) -> list[str]:
    """Anonymisers that give everybody one Patient ID would put all studies into one fold."""
    counts = Counter(study.patient for study in studies)
    most = max(counts.values(), default=0)
    if most > 5 and most > len(studies) / 4:
        return [f"one patient has {most} of {len(studies)} studies: if anonymised so, fill the column patient"]
    return []
