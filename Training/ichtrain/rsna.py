"""Reader of the RSNA 2019 Intracranial Haemorrhage Detection set: `stage_2_train.csv` and `stage_2_train/ID_*.dcm`.

The table has a row for each image and class, `ID_xxxxxxxxx_epidural,0`; some rows are there twice. Which images make a
study, and whose it is, only the headers say: a first run reads all of them. The set has no series descriptions, often
no slice thickness, a few files that cannot be read, and images of 12 bits whose HU are wrapped.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from .dicom import CT_IMAGE_STORAGE
from .folder import LabelError
from .header_index import HeaderIndex, IndexedFile
from .series import choose
from .stored import Job, Reading, prepare_all, stored_study
from .study import CLASSES, LABELS, UNKNOWN

TABLE = "stage_2_train.csv"
IMAGES = "stage_2_train"
KNOWN_SHIFT = len(CLASSES)


def read_labels(path: Path) -> dict[str, int]:
    """Image ID -> bits: bit c where the class `CLASSES[c]` is present, bit 6 + c where it is labelled.

    Raises LabelError for rows that are none, and where two rows contradict each other.
    """
    bit = {name: column for column, name in enumerate(CLASSES)}
    found: dict[str, int] = {}
    problems: list[str] = []
    with open(path, newline="") as file:
        rows = csv.reader(file)
        if next(rows, None) != ["ID", "Label"]:
            raise LabelError(path, ["the first line is not ID,Label: is this the table of stage 2?"])
        for row in rows:
            image, _, name = row[0].rpartition("_") if len(row) == 2 else ("", "", "")
            if name not in bit or row[1] not in ("0", "1"):
                problems.append(f"line {rows.line_num}: not an ID with a class, and 0 or 1")
                continue
            bits = found.get(image, 0)
            column = bit[name]
            value = int(row[1])
            if bits >> (KNOWN_SHIFT + column) & 1 and bits >> column & 1 != value:
                problems.append(f"line {rows.line_num}: contradicts an earlier row about {row[0]}")
            found[image] = bits | value << column | 1 << (KNOWN_SHIFT + column)
    if problems:
        raise LabelError(path, problems)
    return found


def labels_of(bits: int) -> np.ndarray:
    """[`LABELS`] 1, 0, NaN of the bits of one image; fractures are not labelled."""
    labels = np.full(len(LABELS), UNKNOWN, np.float32)
    for column in range(len(CLASSES)):
        if bits >> (KNOWN_SHIFT + column) & 1:
            labels[column] = bits >> column & 1
    return labels


def read(
    data: Path, cache: Path, limit: int | None = None, processes: int = 1, announce=print
) -> Reading:
    """The studies of the training set, the first `limit` by UID; what is left out, and why.

    data: the folder with the table and the folder of images. Raises LabelError, FileNotFoundError, MissingDecoder.
    """
    table, images = data / TABLE, data / IMAGES
    for path in (table, images):
        if not path.exists():
            raise FileNotFoundError(f"{path.name} is not in the data folder: name the folder that has it")
    reading = Reading()
    bits = read_labels(table)
    announce(f"{len(bits)} labelled images")
    index = HeaderIndex.of(images, cache, announce)
    try:
        report_images(index, bits, reading, limit)
        jobs = jobs_of(index, bits, cache, reading)
        for job, outcome in prepare_all(islice(jobs, limit), processes, announce):
            if isinstance(outcome, str):
                reading.left_out.append((job.study_uid, outcome))
                continue
            reading.left_out += [(uid, f"image: {reason}") for uid, reason in outcome.unreadable]
            by_image = {file.header.sop_instance_uid: bits[stem(file)] for file in job.files}
            if any(by_image[uid] & 1 for uid, _ in outcome.unreadable):
                reading.left_out.append((job.study_uid, "an image with haemorrhage cannot be read"))
                continue
            slabs = outcome.slab_labels(lambda uid: labels_of(by_image[uid]))
            patient = job.files[0].header.patient_id or job.study_uid
            try:
                reading.studies.append(stored_study(job, outcome, patient, 0, slabs, None))
            except ValueError as error:
                reading.left_out.append((job.study_uid, str(error)))
    finally:
        index.close()
    return reading


def stem(file: IndexedFile) -> str:
    """The image ID, by which the table names the image."""
    return Path(file.path).stem


def jobs_of(index: HeaderIndex, bits: dict[str, int], cache: Path, reading: Reading) -> Iterator[Job]:
    """The studies that make a labelled volume; the others go to `reading.left_out`."""
    for uid, files in index.studies():
        files = [with_class(file) for file in files]
        choice = choose(file.header for file in files)
        if not choice.slices:
            reading.left_out.append((uid, f"no series to analyse: {choice.reason}"))
            continue
        job = Job.of(uid, index.root, cache, files, choice, tolerates_unreadable=True)
        every = (1 << len(CLASSES)) - 1
        unlabelled = sum(bits.get(stem(file), 0) >> KNOWN_SHIFT != every for file in job.files)
        if unlabelled:
            reading.left_out.append((uid, f"{unlabelled} of its images lack labels in {TABLE}"))
            continue
        if positive(bits, files) and not positive(bits, job.files):
            reading.left_out.append((uid, "haemorrhage only on images beside the volume to analyse"))
            continue
        reading.warnings += [f"{uid}: {warning}" for warning in choice.warnings]
        yield job


def positive(bits: dict[str, int], files: Iterable[IndexedFile]) -> bool:
    return any(bits.get(stem(file), 0) & 1 for file in files)


def with_class(file: IndexedFile) -> IndexedFile:
    """The set's headers lack the SOP Class UID; that it is CT, Modality says."""
    if file.header.sop_class or file.header.modality != "CT":
        return file
    return dataclasses.replace(file, header=dataclasses.replace(file.header, sop_class=CT_IMAGE_STORAGE))


def report_images(index: HeaderIndex, bits: dict[str, int], reading: Reading, limit: int | None) -> None:
    """Files that cannot be read, and labels without a file."""
    reading.left_out += [(path, f"image: {problem}") for path, problem in index.broken]
    reading.left_out += [(path, "image: no DICOM file; unpack the set again") for path in index.not_dicom]
    if limit is not None:
        return
    there = {Path(path).stem for (path,) in index.database.execute("SELECT path FROM file")}
    missing = [image for image in bits if image not in there]
    if missing:
        text = f"{len(missing)} labelled images have no file in {IMAGES}, {missing[0]} for one"
        reading.warnings.append(f"{text}: unpack the set again if it should be whole")
