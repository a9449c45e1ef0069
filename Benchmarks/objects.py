"""What is sent: CT images of 512 x 512 x 16 bit in explicit VR little endian, 526 KB each, and small ones. Made from a
few generated images by patching UIDs in their bytes, so that every object of a data set has UIDs of its own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pydicom
from surroundings import BenchmarkFailure, arguments_from, make

# Of one study. A head of 25 slices of 5 mm is one that the node analyses.
STUDY_IMAGES = 25
# At least, so that each of 16 associations has a study.
LEAST_STUDIES = 16
WARM_UP_IMAGES = 4
# The node concludes "not a head CT" from the header alone: nothing is decoded, nothing inferred.
ABDOMEN = (
    "--body-part", "ABDOMEN", "--study-description", "CT ABDOMEN", "--series-description", "ABDOMEN 5.0 B30f",
    "--kernel", "B30f",
)  # fmt: skip
# Digits at the end of a UID that number the copies.
SERIAL_DIGITS = 12


@dataclass(frozen=True)
class StoredObject:
    """A file with the number of its study, from 0."""

    study: int
    path: Path


class Template:
    """One file and where its UIDs are."""

    def __init__(self, path: Path):
        self.content = path.read_bytes()
        header = pydicom.dcmread(path, stop_before_pixels=True)
        self._places = {
            role: (uid := getattr(header, keyword), _places(self.content, uid))
            for role, keyword in (
                ("study", "StudyInstanceUID"),
                ("series", "SeriesInstanceUID"),
                ("instance", "SOPInstanceUID"),
            )
        }
        self.study_uid = header.StudyInstanceUID

    def copy(self, serials: dict[str, int]) -> bytearray:
        """The file with other UIDs of the same lengths."""
        content = bytearray(self.content)
        for role, (uid, places) in self._places.items():
            replacement = renumbered(uid, serials[role]).encode()
            for place in places:
                content[place : place + len(replacement)] = replacement
        return content


def renumbered(uid: str, serial: int) -> str:
    return f"{uid[:-SERIAL_DIGITS]}{serial:0{SERIAL_DIGITS}d}"


def _places(content: bytes, uid: str) -> list[int]:
    found, place = [], content.find(uid.encode())
    while place >= 0:
        found.append(place)
        place = content.find(uid.encode(), place + 1)
    if not found or len(uid) < SERIAL_DIGITS + 10:
        raise BenchmarkFailure(f"a template's UID cannot be renumbered: {uid}")
    return found


class Series:
    """Templates of one kind of study, and numbers for their copies that never come again in this process."""

    def __init__(self, folder: Path, *options: str, slices: int = STUDY_IMAGES, size: int = 512):
        common = ("--slices", str(slices), "--size", str(size), "--spacing", "5")
        written = make(arguments_from([str(folder), *common, *options]))
        self.templates = [Template(folder / each["file"]) for each in written["instances"]]
        self._serials = itertools.count(1)

    @property
    def object_bytes(self) -> int:
        return len(self.templates[0].content)

    def write(self, folder: Path, images: int, studies: int, first_study: int = 0) -> list[StoredObject]:
        """`images` files in so many studies of one series each, in the order of sending."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for study in range(studies):
            serials = {"study": next(self._serials), "series": next(self._serials)}
            for index in range(images * study // studies, images * (study + 1) // studies):
                # A longer study than there are templates repeats positions: only where nothing is analysed.
                template = self.templates[(index - images * study // studies) % len(self.templates)]
                path = folder / f"{first_study + study}-{index}.dcm"
                path.write_bytes(template.copy({**serials, "instance": next(self._serials)}))
                written.append(StoredObject(first_study + study, path))
        return written


def write_list(objects: list[StoredObject], path: Path) -> Path:
    """As the fast sender reads it."""
    path.write_text("".join(f"{each.study} {each.path}\n" for each in objects))
    return path


@dataclass
class DataSet:
    """What one receiver gets, with objects for the warm-up before. All receivers of a repeat get the same."""

    warm_up: list[StoredObject]
    objects: list[StoredObject]

    def first(self, count: int) -> DataSet:
        return DataSet(self.warm_up, self.objects[:count])


def studies_for(images: int) -> int:
    return max(LEAST_STUDIES, -(-images // STUDY_IMAGES))


def write_data_set(series: Series, folder: Path, images: int, warm_up: int = WARM_UP_IMAGES) -> DataSet:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    studies = studies_for(images)
    objects = series.write(folder, images, studies)
    return DataSet(series.write(folder, warm_up, 1, first_study=studies), objects)
