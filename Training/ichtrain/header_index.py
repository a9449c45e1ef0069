"""Headers of all DICOM files below a folder, kept in a SQLite file, so that a second look costs no second reading.

The file holds identifiers of patients and studies as the headers have them: keep it where the studies may be kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .dicom import ImageError, ImageHeader, NotDicom, read_header

VERSION = 1
COMMIT_EVERY = 2000
SCHEMA = """
CREATE TABLE IF NOT EXISTS file (path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, study TEXT, header TEXT,
  problem TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS file_study ON file (study);
"""


@dataclass(frozen=True)
class IndexedFile:
    """path: relative to the data folder, with slashes. size: bytes. changed: modification time in nanoseconds."""

    path: str
    size: int
    changed: int
    header: ImageHeader


@dataclass
class HeaderIndex:
    """Of the files below `root`. not_dicom: relative paths of other files. broken: (relative path, problem)."""

    root: Path
    database: sqlite3.Connection
    not_dicom: list[str] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)

    @staticmethod
    def of(root: Path, cache: Path, announce=print) -> HeaderIndex:
        """Reads what is new or changed below `root`; forgets what is gone. An interrupted run goes on where it was."""
        if not root.is_dir():
            raise FileNotFoundError(f"{root} is no folder: name the folder that holds the DICOM files")
        cache.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]
        database = sqlite3.connect(cache / f"headers-{name}-v{VERSION}.sqlite", timeout=600)
        database.executescript(SCHEMA)
        index = HeaderIndex(root, database)
        index._update(announce)
        query = "SELECT path, problem FROM file WHERE study IS NULL ORDER BY path"
        for path, problem in database.execute(query):
            if problem:
                index.broken.append((path, problem))
            else:
                index.not_dicom.append(path)
        return index

    def close(self) -> None:
        self.database.close()

    def _update(self, announce) -> None:
        known = {path: (size, changed) for path, size, changed in self.database.execute(
            "SELECT path, size, changed FROM file")}
        new = 0
        for path, size, changed in files_below(self.root):
            if known.pop(path, None) == (size, changed):
                continue
            row = (path, size, changed, *read_row(self.root / path))
            self.database.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?)", row)
            new += 1
            if new % COMMIT_EVERY == 0:
                self.database.commit()
                announce(f"{new} headers read")
        self.database.executemany("DELETE FROM file WHERE path = ?", [(path,) for path in known])
        self.database.commit()

    def studies(self) -> Iterator[tuple[str, list[IndexedFile]]]:
        """(Study Instance UID, its files by path), ascending."""
        uids = [uid for (uid,) in self.database.execute(
            "SELECT DISTINCT study FROM file WHERE study IS NOT NULL ORDER BY study")]
        for uid in uids:
            yield uid, self.files_of(uid)

    def files_of(self, study_uid: str) -> list[IndexedFile]:
        query = "SELECT path, size, changed, header FROM file WHERE study = ? ORDER BY path"
        return [
            IndexedFile(path, size, changed, ImageHeader.from_dict(json.loads(header)))
            for path, size, changed, header in self.database.execute(query, (study_uid,))
        ]


def read_row(path: Path) -> tuple[str | None, str | None, str | None]:
    """(study, header as JSON, problem); all None for what is no DICOM file."""
    try:
        header = read_header(path)
    except NotDicom:
        return None, None, None
    except (ImageError, OSError) as error:
        return None, None, str(error)
    return header.study_uid, json.dumps(header.as_dict(), separators=(",", ":")), None


def files_below(folder: Path, prefix: str = "", above: frozenset[str] = frozenset()) -> Iterator[tuple[str, int, int]]:
    """(relative path, bytes, modification time in ns) of all files, by name; hidden ones left out.

    above: the real folders that contain this one; a link back to one of them is not followed.
    """
    above |= {os.path.realpath(folder)}
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir():
            if os.path.realpath(entry.path) not in above:
                yield from files_below(folder / entry.name, f"{prefix}{entry.name}/", above)
        elif entry.is_file():
            status = entry.stat()
            yield prefix + entry.name, status.st_size, status.st_mtime_ns
