"""A node whose clock a scenario sets, a PACS that counts what it gets, and a modality that sends over any
association."""

from __future__ import annotations

import dataclasses
import json
import mmap
import struct
import subprocess
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Callable, Iterable

import numpy as np
from ct_series import CTHeader, CTVolume, new_uid, slice_dataset
from make_ct_series import head_phantom, slice_positions
from node_fixture import HERE, LOOPBACK, RestartableNode, free_ports, wait_for
from plain_sender import Instance, PlainSender
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

GRACE, QUIET, DEADLINE = 2, 60, 600
SIZE = 128


class Clock:
    """The node's time of day: the machine's, what has passed since that nobody waited for, and what it was set ahead
    by. Only ever goes forward."""

    def __init__(self, folder: Path):
        self.library = folder / "clock.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O2", "-o", str(self.library), str(HERE / "clock.c"), "-ldl"], check=True
        )
        self.path = folder / "clock"
        self.path.write_bytes(bytes(16))
        with self.path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 16)
        self._ahead = self._passed = 0.0

    def now(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Time goes on."""
        self._passed += seconds
        self.set_ahead(seconds)

    def set_ahead(self, seconds: float) -> None:
        """Somebody sets the clock."""
        assert seconds >= 0, seconds
        self._ahead += seconds
        self._page[:] = struct.pack("<qq", int(self._ahead * 1e9), int(self._passed * 1e9))

    def advance_to(self, moment: float) -> None:
        self.advance(max(0.0, moment - self.now()))


def advance_past_retention(clock: Clock, node: RestartableNode, seconds: float) -> None:
    """So far that retention doubts the clock: it waits then for ten minutes of it, which do not go on in one step with
    what it doubts."""
    said = "the clock was set ahead; retention waits"
    before = node.log_text().count(said)
    clock.set_ahead(seconds)
    wait_for(lambda: node.log_text().count(said) > before, "retention doubts the clock", 25, node.log_tail)
    clock.advance(610)


class CountingPacs:
    """A Storage SCP that remembers the results it got, and holds what it is told to for C-FIND and C-MOVE."""

    def __init__(self, node_port: int):
        (self.port,) = free_ports(1)
        self.results: list[Dataset] = []
        # Of every C-STORE response.
        self.status = 0
        # Images by series; for C-FIND the number may be another.
        self.held: dict[str, list[Dataset]] = {}
        self.counts: Callable[[str], int] | None = None
        self._node_port = node_port

    def start(self) -> None:
        entity = AE(ae_title="PACS")
        entity.supported_contexts = StoragePresentationContexts
        # Of the associations that a C-MOVE opens.
        entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        handlers = [
            (evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find), (evt.EVT_C_MOVE, self._move)
        ]  # fmt: skip
        self._server = entity.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        self._server.shutdown()

    def reports(self, study: str) -> list[Dataset]:
        return [each for each in self.results if each.StudyInstanceUID == study and each.Modality == "SR"]

    def _store(self, event) -> int:
        if self.status != 0:
            return self.status
        self.results.append(event.dataset)
        return 0

    def _find(self, event):
        for series, images in self.held.items():
            if images[0].StudyInstanceUID != event.identifier.StudyInstanceUID:
                continue
            answer = Dataset()
            answer.QueryRetrieveLevel = "SERIES"
            answer.StudyInstanceUID = event.identifier.StudyInstanceUID
            answer.SeriesInstanceUID = series
            answer.NumberOfSeriesRelatedInstances = self.counts(series) if self.counts else len(images)
            yield 0xFF00, answer

    def _move(self, event):
        yield LOOPBACK, self._node_port
        images = self.held.get(event.identifier.SeriesInstanceUID, [])
        yield len(images)
        for each in images:
            yield 0xFF00, each


# --- Images -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _volume(slices: int, spacing: str, tilt: float, bleed: str) -> CTVolume:
    positions = slice_positions(spacing, slices)
    pixels, _ = head_phantom(slices, SIZE, 240 / SIZE, positions, seed=1, noise_hu=4.0, bleed=bleed)
    return CTVolume(pixels, 240 / SIZE, 240 / SIZE, positions, float(np.median(np.diff(positions))), tilt)


@dataclasses.dataclass
class Patient:
    """One study of one patient: what its images have in common."""

    study_uid: str = dataclasses.field(default_factory=new_uid)
    frame_uid: str = dataclasses.field(default_factory=new_uid)
    header: dict = dataclasses.field(default_factory=dict)

    def head(
        self,
        number: int = 2,
        *,
        slices: int = 20,
        spacing: str = "6",
        thickness: float | None = None,
        tilt: float = 0,
        bleed: str = "none",
        fill: float | None = None,
        change: Callable[[Dataset, int], None] = lambda ds, index: None,
        **header,
    ) -> list[Dataset]:
        """A series, feet to head. `header` are fields of CTHeader; `change` may alter each image."""
        volume = dataclasses.replace(_volume(slices, spacing, tilt, bleed))
        volume.slice_thickness_mm = thickness or volume.slice_thickness_mm
        if fill is not None:
            volume.hounsfield = np.full_like(volume.hounsfield, fill)
        fields = {"series_description": "HEAD 6.0 H30s", **self.header, **header}
        information = CTHeader(
            study_uid=self.study_uid, frame_of_reference_uid=self.frame_uid, series_number=number, **fields
        )
        images = []
        for index in range(slices):
            image = slice_dataset(volume, information, index, index + 1, new_uid())
            change(image, index)
            images.append(image)
        return images

    def scout(self, number: int = 1) -> list[Dataset]:
        return self.head(
            number, slices=2, spacing="6", series_description="Topogram 0.6 T20s", kernel="T20s",
            image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), change=_sagittal,
        )  # fmt: skip

    def bone(self, number: int = 3, **options) -> list[Dataset]:
        return self.head(number, kernel="H70h", series_description="HEAD BONE 6.0 H70h", **options)

    def secondary_capture(self, number: int = 99) -> list[Dataset]:
        (image,) = self.head(number, slices=2, series_description="Dose Report")[:1]
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        image.ConversionType, image.ImageType = "WSD", ["DERIVED", "SECONDARY"]
        return [image]


def _sagittal(image: Dataset, index: int) -> None:
    image.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def encoded(image: Dataset) -> Instance:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, image)
    return Instance(
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPClassUID, image.SOPInstanceUID, buffer.getvalue()
    )


# --- A scene ----------------------------------------------------------------------------------------------------------


class Site:
    """Node and PACS, shared by all scenes."""

    def __init__(self, **sections: dict):
        self._temporary = tempfile.TemporaryDirectory(prefix="ichnode-scenarios-")
        folder = Path(self._temporary.name)
        self.clock = Clock(folder)
        (pacs_port,) = free_ports(1)
        route = {"destinations": ["pacs"]}
        self.node = RestartableNode(
            folder / "node",
            pacs_port,
            completion={"grace_seconds": GRACE, "quiet_seconds": QUIET, "deadline_seconds": DEADLINE},
            retention={"keep_days": 2},
            **sections,
        )
        self.pacs = CountingPacs(self.node.dicom_port)
        self._configure(
            peers=[{"name": "pacs", "ae_title": "PACS", "host": LOOPBACK, "port": self.pacs.port}],
            routes=[
                {"name": "asking", "calling_ae_titles": ["ASKING"], "counts_from": "pacs", **route},
                {"name": "fetching", "calling_ae_titles": ["FETCHING"], "retrieve_from": "pacs", **route},
                {"name": "default", **route},
            ],
        )
        preload = [f"LD_PRELOAD={self.clock.library}", f"ICHNODE_CLOCK={self.clock.path}"]
        self.node.command_line = ["/usr/bin/env", *preload, *self.node.command_line]

    def _configure(self, **sections) -> None:
        configuration = json.loads(self.node.configuration.read_text())
        self.node.configuration.write_text(json.dumps(configuration | sections, indent=2))

    def __enter__(self) -> Site:
        self.pacs.start()
        self.node.start()
        return self

    def __exit__(self, *_) -> None:
        self.node.stop()
        self.pacs.stop()
        self._temporary.cleanup()


class Scene:
    """One delivery, from an address of its own: the node learns peers' pauses by address."""

    _scenes = 0

    def __init__(self, site: Site):
        Scene._scenes += 1
        self.site, self.clock, self.node, self.pacs = site, site.clock, site.node, site.pacs
        self.source = f"127.1.{Scene._scenes // 250}.{1 + Scene._scenes % 250}"
        self.patient = Patient()
        self.calling = "CT1"
        self.decisions: list[str] = []
        self._sent: dict[str, set[tuple[str, bytes]]] = {}
        # When the node last heard of this delivery.
        self.moment = self.clock.now()

    # What the modality does

    def associate(self) -> PlainSender:
        classes = [CTImageStorage, EnhancedCTImageStorage, SecondaryCaptureImageStorage]
        return PlainSender(self.node.dicom_port, classes, calling=self.calling, source=self.source)

    def store(self, association: PlainSender, images: Iterable[Dataset]) -> None:
        for image in images:
            instance = encoded(image)
            status = association.store(instance)
            assert status == 0, f"status {status:04X}"
            self._sent.setdefault(instance.study_uid, set()).add((instance.sop_uid, instance.data_set))
        self.moment = self.clock.now()

    def send(self, images: Iterable[Dataset]) -> None:
        """Over one association, released afterwards."""
        association = self.associate()
        self.store(association, images)
        association.release()
        self.moment = self.clock.now()

    def wait(self, seconds: float) -> None:
        """Time goes on. What was sent has been taken up before."""
        self.settle()
        self.clock.advance(seconds)
        time.sleep(0.15)

    # What the node knows

    def settle(self) -> None:
        """Everything that was sent is in the node's ledger, and so are the ends of associations."""
        for study, sent in self._sent.items():
            wait_for(
                lambda: (self.study(study) or {"study": {"instanceCount": 0}})["study"]["instanceCount"] >= len(sent),
                f"{len(sent)} instances of {study} are known",
                detail=self.node.log_tail,
            )
        time.sleep(0.2)

    def study(self, uid: str | None = None) -> dict | None:
        return self.node.study(uid or self.patient.study_uid)

    def analyses(self, uid: str | None = None) -> list[dict]:
        known = self.study(uid)
        return known["analyses"] if known else []

    def conclusions(self, uid: str | None = None) -> int:
        """How often the study was put together and judged, whether that gave a new analysis or not."""
        known = self.study(uid)
        return sum(event["kind"] in ("concluded", "unchanged") for event in known["events"]) if known else 0

    # What is expected

    def decided(
        self, completion: str, outcome: str, after: float, *, reason: str = "", series: int | None = 2,
        study: str | None = None,
    ) -> dict:  # fmt: skip
        """The study is analysed so many seconds after the last that the node heard of it, and no sooner."""
        self.settle()
        before = self.conclusions(study)
        moment = self.moment
        self.clock.advance_to(moment + after - 0.6)
        time.sleep(0.25)
        assert self.conclusions(study) == before, f"decided before {after} s have passed: {self._show(study)}"
        self.clock.advance_to(moment + after + 0.1)
        wait_for(lambda: self.conclusions(study) > before, "a conclusion", 40, lambda: self._show(study))
        known = self.study(study)
        analysis = known["analyses"][-1]
        found = (analysis["completion"], analysis["outcome"], analysis["reason"], self._chosen(known))
        assert found == (completion, outcome, reason, series), f"{found}\n{self._show(study)}"
        self.decisions.append(f"{completion}: {outcome}" + (f", {reason}" if reason else ""))
        return analysis

    def unchanged(self, after: float, because: str = "what is there changes nothing that was analysed") -> None:
        """The study is looked at again, and there is nothing to say."""
        self.settle()
        before, analyses = self.conclusions(), len(self.analyses())
        self.clock.advance_to(self.moment + after + 0.1)
        wait_for(lambda: self.conclusions() > before, "a conclusion", 40, self._show)
        assert len(self.analyses()) == analyses, self._show()
        events = self.study()["events"]
        assert events[-1]["text"] == because, events[-1]
        self.decisions.append("nothing to say")

    def undecided(self) -> None:
        self.settle()
        assert not self.analyses(), self._show()

    def reports(self, count: int, study: str | None = None) -> list[Dataset]:
        """So many reports reached the PACS, and no more will."""
        uid = study or self.patient.study_uid
        wait_for(lambda: self.study(uid)["study"]["pendingDeliveries"] == 0, "all is delivered", 40, self._show)
        before = len(self.analyses(uid))
        self.clock.advance(QUIET + 5)
        time.sleep(0.3)
        assert len(self.analyses(uid)) == before, f"analysed again: {self._show(study)}"
        found = self.pacs.reports(uid)
        assert len(found) == count, f"{len(found)} reports instead of {count}: {self._show(study)}"
        return found

    def _chosen(self, known: dict) -> int | None:
        return next((each["number"] for each in known["series"] if each["verdict"] == "chosen"), None)

    def _show(self, study: str | None = None) -> str:
        return self.node.command("study", "show", study or self.patient.study_uid) + "\n" + self.node.log_tail(8)
