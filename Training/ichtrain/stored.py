"""Studies whose arrays stay on disk until they are looked at: for data sets that do not fit in memory.

A folder of the cache for each study: `inputs.npy`, `canvas.npy`, `distance.npy` as `study.Study` describes them, and
`study.json`. A study of 35 slabs takes about 9 MB, so 25,000 take 240 GB. The folder's name changes with the files of
the study, so what another process reads is never written over; folders of earlier files may be deleted by hand.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from . import preprocess
from .dicom import ImageError, read_hounsfield
from .header_index import IndexedFile
from .series import Choice, spacing_mm
from .study import CACHE_VERSION, LABELS, UNKNOWN, Study, complete_labels, files_digest, prepare, slab_labels

ARRAYS = ("inputs", "canvas", "distance")
READER_VERSION = 1
OPEN_ARRAYS = 256
WINDOW = 64
MOST_TOLD = 20


@functools.lru_cache(maxsize=OPEN_ARRAYS)
def mapped(path: Path) -> np.ndarray:
    """A memory map, read only. Maps hold a file descriptor each, so only the last `OPEN_ARRAYS` stay open."""
    return np.load(path, mmap_mode="r")


class StoredStudy(Study):
    """A Study whose arrays are read-only memory maps of files, opened when asked for.

    Sent to another process it travels as a path, where an open memory map would travel as all its pixels.
    """

    def __init__(
        self, identifier: str, patient: str, stratum: int, labels: np.ndarray, study_labels: np.ndarray, folder: Path,
        sha256: str,
    ) -> None:
        self.identifier, self.patient, self.stratum, self.sha256 = identifier, patient, stratum, sha256
        self.labels, self.study_labels, self.folder = labels, study_labels, folder

    inputs = property(lambda self: mapped(self.folder / "inputs.npy"))
    canvas = property(lambda self: mapped(self.folder / "canvas.npy"))
    distance = property(lambda self: mapped(self.folder / "distance.npy"))

    def __repr__(self) -> str:
        return f"StoredStudy({self.identifier!r}, {len(self.labels)} slabs)"


@dataclass(frozen=True)
class Volume:
    """planes: [slice][row][column] HU int16 in [-1024, 3071]; positions_mm: [slice] along the normal; both feet to
    head. spacing_mm: the median; None for a single slice. sha256: over all files. unreadable: (SOP Instance UID, why)
    of slices that are missing for that reason."""

    patient_id: str
    study_uid: str
    planes: np.ndarray
    positions_mm: np.ndarray
    spacing_mm: float | None
    sop_instance_uids: tuple[str, ...]
    sha256: str
    unreadable: tuple[tuple[str, str], ...] = ()

    @property
    def slab_indices(self) -> np.ndarray | None:
        """The slab of every slice; None where every slice is its own."""
        return None if self.spacing_mm is None else preprocess.slab_indices(self.positions_mm, self.spacing_mm)

    @property
    def slabs(self) -> np.ndarray:
        """[slab][row][column] HU float32."""
        if self.spacing_mm is None:
            return self.planes.astype(np.float32)
        return preprocess.average_slabs(self.planes, self.positions_mm, self.spacing_mm)


def read_volume(root: Path, files: list[IndexedFile], choice: Choice, tolerates_unreadable: bool = False) -> Volume:
    """The pixels of what was chosen. files: of the chosen slices, in their order.

    Raises ImageError for an image that cannot be read, unless such slices may be left out; MissingDecoder.
    """
    planes: list[np.ndarray] = []
    kept: list[int] = []
    unreadable: list[tuple[str, str]] = []
    for number, file in enumerate(files):
        try:
            plane = read_hounsfield(root / file.path)
            if plane.shape != (file.header.rows, file.header.columns):
                raise ImageError("the compressed image has another size than its header")
        except ImageError as error:
            unreadable.append((file.header.sop_instance_uid, str(error)))
            if not tolerates_unreadable:
                raise ImageError(f"{file.path}: {error}") from None
        else:
            planes.append(plane)
            kept.append(number)
    if not planes:
        raise ImageError(f"none of its images can be read; the first: {unreadable[0][1]}")
    positions = choice.positions_mm[kept]
    header = files[0].header
    return Volume(
        header.patient_id, header.study_uid, np.stack(planes), positions, spacing_mm(positions),
        tuple(files[number].header.sop_instance_uid for number in kept),
        files_digest(sorted(root / file.path for file in files)), tuple(unreadable),
    )


@dataclass(frozen=True)
class StoredPixels:
    """What `study.json` says. slab_of_slice: [slice] index of the slab, from 0."""

    sha256: str
    sop_instance_uids: tuple[str, ...]
    positions_mm: tuple[float, ...]
    spacing_mm: float | None
    slab_of_slice: tuple[int, ...]
    unreadable: tuple[tuple[str, str], ...]

    @property
    def slabs(self) -> int:
        return max(self.slab_of_slice) + 1

    def slab_labels(self, labels_of: Callable[[str], np.ndarray | None]) -> np.ndarray:
        """Labels of slabs [slab][L] from those of slices by SOP Instance UID, None where nobody labelled one."""
        unknown = np.full(len(LABELS), UNKNOWN, np.float32)
        rows = [labels_of(uid) for uid in self.sop_instance_uids]
        labels = np.stack([unknown if row is None else row for row in rows]).astype(np.float32)
        return slab_labels(labels, np.array(self.slab_of_slice)).astype(np.float32)


@dataclass(frozen=True)
class Job:
    """One study to prepare. files: of the chosen slices, in the order of `choice`."""

    study_uid: str
    root: Path
    cache: Path
    files: tuple[IndexedFile, ...]
    choice: Choice
    tolerates_unreadable: bool = False

    @property
    def folder(self) -> Path:
        """Named for the study, its chosen files, and the code that prepares them."""
        files = [(file.path, file.header.sop_instance_uid, file.size, file.changed) for file in self.files]
        versions = [READER_VERSION, CACHE_VERSION, self.tolerates_unreadable]
        text = json.dumps([versions, self.study_uid, files, self.choice.positions_mm.tolist()])
        return self.cache / f"study-{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    @staticmethod
    def of(uid: str, root: Path, cache: Path, files: list[IndexedFile], choice: Choice, **options) -> Job:
        by_header = {id(file.header): file for file in files}
        return Job(uid, root, cache, tuple(by_header[id(s.header)] for s in choice.slices), choice, **options)


def prepared(job: Job) -> StoredPixels:
    """The study in the cache, prepared now unless it is there already. Raises ImageError, MissingDecoder."""
    stored = stored_pixels(job.folder)
    if stored is not None:
        return stored
    volume = read_volume(job.root, list(job.files), job.choice, job.tolerates_unreadable)
    indices = volume.slab_indices
    slab_of_slice = np.arange(len(volume.planes)) if indices is None else np.unique(indices, return_inverse=True)[1]
    pixels = StoredPixels(
        volume.sha256, volume.sop_instance_uids, tuple(volume.positions_mm.tolist()),
        volume.spacing_mm, tuple(slab_of_slice.tolist()), volume.unreadable,
    )
    write_folder(job.folder, prepare(volume.slabs), pixels)
    return pixels


def stored_pixels(folder: Path) -> StoredPixels | None:
    """What is stored of a study; None where nothing is."""
    try:
        values = json.loads((folder / "study.json").read_text())
    except FileNotFoundError:
        return None
    return StoredPixels(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def write_folder(folder: Path, arrays: dict[str, np.ndarray], pixels: StoredPixels) -> None:
    """Writes beside the final name first, so that an interrupted write leaves nothing half."""
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        for name in ARRAYS:
            np.save(temporary / f"{name}.npy", arrays[name])
        (temporary / "study.json").write_text(json.dumps(asdict(pixels)) + "\n")
        try:
            temporary.rename(folder)
        except OSError:  # another process was faster with the same
            if not (folder / "study.json").exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def attempt(job: Job) -> StoredPixels | str:
    """`prepared`, or why an image cannot be read; what has to be installed first is still raised."""
    try:
        return prepared(job)
    except ImageError as error:
        return str(error)


def prepare_all(
    jobs: Iterable[Job], processes: int = 1, announce=print
) -> Iterator[tuple[Job, StoredPixels | str]]:
    """Prepares studies one by one, or several at a time, in order; a cut-off run goes on where it was."""
    jobs = iter(jobs)
    done = 0
    pool = None
    if processes > 1:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, context, initializer=torch.set_num_threads, initargs=(1,))
    try:
        while window := list(islice(jobs, WINDOW)):
            for job, outcome in zip(window, pool.map(attempt, window) if pool else map(attempt, window)):
                yield job, outcome
                done += 1
                if done % 100 == 0:
                    announce(f"{done} studies prepared")
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def stored_study(
    job: Job, pixels: StoredPixels, patient: str, stratum: int, slabs: np.ndarray, study: np.ndarray | None
) -> StoredStudy:
    """The Study of labels and stored arrays. Raises ValueError where the labels contradict each other."""
    labels, study_labels = complete_labels(slabs, study, pixels.slabs)
    return StoredStudy(job.study_uid, patient, stratum, labels, study_labels, job.folder, pixels.sha256)


@dataclass
class Reading:
    """What a reader made of a data set: nothing is left out without a word.

    left_out: (study, image or row; why and what to do). warnings: what was read and looks odd.
    """

    studies: list[Study] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def tell(self, cache: Path, announce=print) -> None:
        """Says how much was read, and writes what was left out to CACHE/left-out.csv."""
        positive = sum(study.is_positive for study in self.studies)
        announce(f"{len(self.studies)} studies read, {positive} with haemorrhage")
        for name, reason in self.left_out[:MOST_TOLD]:
            announce(f"left out: {name}: {reason}")
        for warning in self.warnings[:MOST_TOLD]:
            announce(f"warning: {warning}")
        path = cache / "left-out.csv"
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with open(temporary, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["what", "name", "reason"])
            rows.writerows(["left out", name, reason] for name, reason in self.left_out)
            rows.writerows(["warning", "", warning] for warning in self.warnings)
        temporary.replace(path)
        if self.left_out or self.warnings:
            announce(f"{len(self.left_out)} left out, {len(self.warnings)} warnings: all of them are in {path.name}")
