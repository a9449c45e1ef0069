"""Validators written by others. Each function takes a file and returns lines of complaint; none means no complaint.

Exit statuses are not to be relied on: dciodvfy's says nothing, dcmqi's reader ends with 0 after an error."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import highdicom
import pydicom
from highdicom import _standard_utils as standard

from structured_report import PROBABILITY, measurement_groups, numeric_value, tracking_identifier

PIXELMED_JAR = "/usr/share/java/pixelmed.jar"
# Java 17 limits XPath far below what the template rules need.
JAVA_OPTIONS = [
    "-Djdk.xml.xpathTotalOpLimit=0",
    "-Djdk.xml.xpathExprOpLimit=0",
    "-Djdk.xml.xpathExprGrpLimit=0",
    "-Djava.awt.headless=true",
    "-XX:+UseSerialGC",
]
PIXELMED_SECONDS = 300
TEMPLATE_FOUND = {"SR": "Found Root Template TID_1500", "KO": "Found Root Template TID_2010"}


def tool(name: str) -> str | None:
    """A program of Debian's; .venv has programs of the same names that are other implementations."""
    folders = [p for p in os.environ.get("PATH", "").split(os.pathsep) if p and not p.startswith(sys.prefix)]
    return shutil.which(name, path=os.pathsep.join([*folders, "/usr/bin"]))


def missing_tools() -> list[str]:
    missing = [name for name in ("dciodvfy", "dsrdump", "dcmj2pnm", "java") if tool(name) is None]
    missing += [] if Path(PIXELMED_JAR).exists() else [PIXELMED_JAR]
    missing += [] if (Path(sys.prefix) / "bin" / "tid1500reader").exists() else ["tid1500reader"]
    return missing


def _environment() -> dict[str, str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    environment.pop("JAVA_TOOL_OPTIONS", None)
    return environment


def _run(command: list[str], timeout: float = 120) -> tuple[int, str]:
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        env=_environment(),
    )
    return result.returncode, result.stdout.decode("utf-8", "replace")


def dciodvfy(path: Path, kind: str) -> list[str]:
    """dicom3tools: attributes against the IOD; no templates."""
    _, output = _run([tool("dciodvfy"), str(path)])
    lines = output.splitlines()
    complaints = [line for line in lines if line.startswith(("Error", "Warning"))]
    if not complaints and len(lines) != 1:
        return [f"unexpected output: {output.strip()[:200] or 'none'}"]
    return complaints


def dsrdump(path: Path, kind: str) -> list[str]:
    """DCMTK: value types and relationships of the SR IOD."""
    status, output = _run([tool("dsrdump"), str(path)])
    complaints = [line for line in output.splitlines() if line.startswith(("E:", "W:", "F:"))]
    return complaints or ([f"exit status {status}"] if status else [])


def dcmtk_image(path: Path, kind: str) -> list[str]:
    """DCMTK renders the image."""
    with tempfile.TemporaryDirectory() as folder:
        status, output = _run([tool("dcmj2pnm"), "--write-16-bit-png", str(path), f"{folder}/image.png"])
    complaints = [line for line in output.splitlines() if line.startswith(("E:", "W:", "F:"))]
    return complaints or ([f"exit status {status}"] if status else [])


class ResidentPixelMed:
    """One Java process for all files: to start it and read the rules takes longer than most files. One at a time."""

    END = "--- end of file ---"

    def __init__(self):
        source = Path(__file__).with_name("ResidentPixelMed.java")
        # It ends with its input, and so with this process, however that ends.
        self._process = subprocess.Popen(
            [tool("java"), *JAVA_OPTIONS, "-cp", PIXELMED_JAR, str(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
        )

    @classmethod
    @functools.cache
    def shared(cls) -> ResidentPixelMed:
        resident = cls()
        atexit.register(resident._close)
        return resident

    def lines(self, path: Path) -> list[str]:
        """What it says of a file; cut short where it takes too long or has died."""
        deadline = threading.Timer(PIXELMED_SECONDS, self._process.kill)
        deadline.start()
        lines = []
        try:
            self._process.stdin.write(f"{path.resolve()}\n".encode())
            self._process.stdin.flush()
            for line in self._process.stdout:
                text = line.decode("utf-8", "replace").rstrip("\n")
                if text == self.END:
                    break
                lines.append(text)
        finally:
            deadline.cancel()
        return lines

    def _close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def pixelmed(path: Path, kind: str) -> list[str]:
    """PixelMed: content against the templates. From one thread only."""
    lines = ResidentPixelMed.shared().lines(path)
    complaints = [line for line in lines if line.startswith(("Error", "Warning"))]
    if not any(line.startswith(TEMPLATE_FOUND[kind]) for line in lines):
        complaints.append(f"no '{TEMPLATE_FOUND[kind]}' in its output: {' '.join(lines)[-200:]}")
    if "IOD validation complete" not in lines:
        complaints.append(f"did not finish: {' '.join(lines)[-200:]}")
    return complaints


def highdicom_content(path: Path, kind: str) -> list[str]:
    """highdicom parses the object and finds what plain walking of the content tree finds."""
    try:
        ds = pydicom.dcmread(path)
        if kind == "KO":
            document = highdicom.ko.KeyObjectSelectionDocument.from_dataset(ds)
            return [] if document.content.get_references() else ["no referenced image"]
        report = highdicom.sr.srread(path)
        groups = report.content.get_image_measurement_groups() + report.content.get_planar_roi_measurement_groups()
        expected = sorted((tracking_identifier(g), numeric_value(g, PROBABILITY)) for g in measurement_groups(ds))
        found = sorted(
            (
                group.tracking_identifier,
                next(
                    (
                        m.value
                        for m in group.get_measurements()
                        if (m.name.value, m.name.scheme_designator) == PROBABILITY
                    ),
                    None,
                ),
            )
            for group in groups
        )
    except Exception as error:  # whatever the library raises is its finding
        return [f"{type(error).__name__}: {error}"]
    return [] if found == expected else [f"groups read {found}, expected {expected}"]


def highdicom_tables(path: Path, kind: str) -> list[str]:
    """Required attributes of the IOD's mandatory modules, by the tables of PS3.3 that highdicom carries."""
    ds = pydicom.dcmread(path)
    iod = standard.get_sop_class_iod_map().get(ds.SOPClassUID)
    if iod is None:
        return [f"no IOD known for SOP class {ds.SOPClassUID}"]
    attributes_of = standard.get_module_attribute_map()
    complaints = []
    for module in standard.get_iod_module_map()[iod]:
        # The content tree is nested without limit; the tables are not.
        if module["usage"] != "M" or module["key"] == "sr-document-content":
            continue
        for attribute in attributes_of[module["key"]]:
            if attribute["type"] in ("1", "2"):
                for where in _holders(ds, attribute["path"]):
                    complaints += _check(where, attribute, module["key"])
    return sorted(set(complaints))


def _holders(ds: pydicom.Dataset, path: list[str]) -> list[pydicom.Dataset]:
    """The data sets in which an attribute of a module belongs: items of the sequences on its path that are there."""
    holders = [ds]
    for keyword in path:
        holders = [item for holder in holders for item in (holder.get(keyword) or [])]
    return holders


def _check(holder: pydicom.Dataset, attribute: dict, module: str) -> list[str]:
    keyword = attribute["keyword"]
    place = ".".join([*attribute["path"], keyword])
    if keyword not in holder:
        return [f"{place} (type {attribute['type']}, module {module}) is missing"]
    if attribute["type"] == "1" and holder[keyword].is_empty:
        return [f"{place} (type 1, module {module}) is empty"]
    return []


def dcmqi(path: Path, kind: str) -> list[str]:
    """dcmqi's TID 1500 reader finds the same groups and probabilities."""
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder) / "report.json"
        reader = Path(sys.prefix) / "bin" / "tid1500reader"
        status, output = _run([str(reader), "--inputDICOM", str(path), "--outputMetadata", str(metadata)])
        complaints = [
            line for line in output.splitlines() if line.lower().startswith(("e:", "w:", "f:", "error", "warning"))
        ]
        if status or not metadata.exists():
            return complaints or [f"exit status {status}: {output.strip()[-200:]}"]
        content = json.loads(metadata.read_text())
    probability = {"CodeValue": PROBABILITY[0], "CodingSchemeDesignator": PROBABILITY[1]}
    found = sorted(
        (
            group.get("TrackingIdentifier"),
            next(
                (
                    float(item["value"])
                    for item in group.get("measurementItems", [])
                    if probability.items() <= item["quantity"].items()
                ),
                None,
            ),
        )
        for group in content.get("Measurements", [])
    )
    expected = sorted(
        (tracking_identifier(g), numeric_value(g, PROBABILITY)) for g in measurement_groups(pydicom.dcmread(path))
    )
    return complaints + ([] if found == expected else [f"groups read {found}, expected {expected}"])
