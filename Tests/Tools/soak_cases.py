"""What a hospital's day brings: kinds of studies and of misuse, how they arrive, and what has to become of each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Callable

import pydicom
from enhanced_ct import enhanced_ct
from node_fixture import BLEED_SEED, EXAMPLE, data_set_bytes, example_head
from plain_sender import Instance, PlainSender, SenderFailure, Template, new_uid, small_image
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, MRImageStorage
from raw_dicom import (
    CT, EXPLICIT, EXPLICIT_LITTLE, IMPLICIT, VERIFICATION, Image, Peer, associate_request, context, data_pdu,
    echo_request, pdu, request,
)  # fmt: skip
from scenario_site import Patient
from transcode import TARGETS, transcode

if TYPE_CHECKING:
    from soak import Soak

PATIENT = b"SOAK000000"
ACCESSION = b"ACC000000"
SLICES = 20
OPERATOR_TOKEN = "ichnode_operator-of-the-soak"
# Senders that were cut off come again after this.
RETRY_SECONDS = 1


@dataclasses.dataclass(frozen=True)
class Scanner:
    """Who sends, and where the results of its studies go."""

    ae_title: str
    address: str
    destinations: tuple[str, ...]


# The node learns peers' pauses by address: whoever pauses within a study has an address of its own.
SCANNERS = [
    Scanner("CT1", "127.0.0.11", ("orthanc",)),
    Scanner("CT2", "127.0.0.12", ("pacs",)),
    Scanner("CT3", "127.0.0.13", ("orthanc", "pacs")),
]
PAUSING = Scanner("CT4", "127.0.0.14", ("pacs",))
SINGLE = Scanner("CT5", "127.0.0.15", ("pacs",))
ATTACKER = "127.0.0.66"


# --- Images -----------------------------------------------------------------------------------------------------------


class Forms:
    """Encoded heads and other objects in which only UIDs, patient and accession number change. By name: transfer syntax
    and images, feet to head."""

    def __init__(self, with_whole_heads: bool):
        self.by_name: dict[str, tuple[str, list[Template]]] = {"mr": (EXPLICIT, [small_image()])}
        identity = {"patient_id": PATIENT.decode(), "accession_number": ACCESSION.decode(), "patient_name": "SOAK^DAY"}
        chest = {"body_part": "CHEST", "series_description": "Thorax 5.0", "study_description": "CT CHEST"}
        self._add("scout", Patient(header=identity).scout())
        self._add("bone", Patient(header=identity).bone(slices=SLICES))
        self._add("chest", Patient(header=identity | chest).head(slices=SLICES))
        with tempfile.TemporaryDirectory(prefix="ichnode-forms-") as folder:
            for suffix, bleed in (("", "none"), ("+", "left")):
                head = Patient(header=identity).head(slices=SLICES, bleed=bleed)
                self._add("plain" + suffix, head)
                self._add("enhanced" + suffix, [enhanced_ct(head)])
                for name in ("jpeg-lossless-sv1", "jpeg-2000-lossless"):
                    self._add(name + suffix, self._transcoded(head, name, Path(folder)))
                if with_whole_heads and EXAMPLE.exists():
                    study = example_head(Path(folder) / f"whole{suffix}", "SOAK", BLEED_SEED if suffix else None)
                    self._add("whole" + suffix, [pydicom.dcmread(path) for path in study.files])

    def _add(self, name: str, images: list[Dataset]) -> None:
        self.by_name[name] = (str(images[0].file_meta.TransferSyntaxUID), [Template(image) for image in images])

    @staticmethod
    def _transcoded(images: list[Dataset], syntax: str, folder: Path) -> list[Dataset]:
        (target,) = (each for each in TARGETS if each.name == syntax)
        source, result = folder / "source.dcm", folder / "result.dcm"
        found = []
        for image in images:
            image.save_as(source, enforce_file_format=True)
            transcode(source, target, result)
            found.append(pydicom.dcmread(result))
        return found


# --- A case -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class SentStudy:
    """What was acknowledged of a study, and what has to become of it."""

    uid: str
    outcome: str
    # Reports that are composed in all, and alerts that each receiver gets.
    reports: int
    alerts: int
    # Digests by SOP Instance UID.
    acknowledged: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    first_sent: float = 0
    last_acknowledged: float = 0


class Failed(Exception):
    """The node did otherwise than it has to."""


class Case:
    """One study, or several that come together."""

    def __init__(self, soak: Soak, number: int, kind: Kind):
        self.soak, self.number, self.kind = soak, number, kind
        self.random = Random(f"{soak.seed}/{number}")
        self.scanner = kind.scanner or self.random.choice(SCANNERS)
        self.positive = kind.is_either and self.random.random() < 0.35
        self.syntax = EXPLICIT
        # Objects a second; None: as fast as it goes.
        self.pace = self.random.choice((None, None, 10, 40))
        self.losses = 0
        self.studies: list[SentStudy] = []
        self.study = self.add_study()

    def add_study(self) -> SentStudy:
        self.study = SentStudy(
            new_uid(self.random),
            self.kind.outcome or ("positive" if self.positive else "negative"),
            self.kind.reports,
            int(self.positive) if self.kind.alerts is None else self.kind.alerts,
        )
        self.studies.append(self.study)
        return self.study

    def series(self, form: str, positive: bool | None = None) -> list[Instance]:
        """A series of the latest study."""
        positive = self.positive if positive is None else positive
        with_bleed = f"{form}+" if positive and f"{form}+" in self.soak.forms.by_name else form
        self.syntax, templates = self.soak.forms.by_name[with_bleed]
        series = new_uid(self.random)
        return [
            self._own(template.instance(self.study.uid, series, new_uid(self.random))) for template in templates
        ]

    def _own(self, instance: Instance) -> Instance:
        number = f"{self.number:06}".encode()
        content = instance.data_set.replace(PATIENT, b"SOAK" + number).replace(ACCESSION, b"ACC" + number)
        return dataclasses.replace(instance, data_set=content)

    # Sending

    def associate(self) -> PlainSender:
        return PlainSender(
            self.soak.node.dicom_port,
            [CTImageStorage, EnhancedCTImageStorage, MRImageStorage],
            calling=self.scanner.ae_title,
            source=self.scanner.address,
            transfer_syntax=self.syntax,
        )

    def store(self, association: PlainSender, instance: Instance) -> None:
        study = self._study_of(instance)
        study.first_sent = study.first_sent or time.time()
        status = association.store(instance)
        if status == 0xA700:
            raise SenderFailure("out of resources")
        if status != 0:
            raise Failed(f"a sound object got status {status:04X}")
        study.acknowledged.setdefault(instance.sop_uid, set()).add(instance.digest)
        study.last_acknowledged = time.time()
        self.soak.counts["instances"] += 1

    def _study_of(self, instance: Instance) -> SentStudy:
        return next(study for study in self.studies if study.uid == instance.study_uid)

    def persist(self, act: Callable[[], None]) -> None:
        """As modalities do: what got no answer is sent again, until it has one."""
        deadline = time.monotonic() + self.soak.patience_seconds
        while True:
            try:
                return act()
            except OSError as loss:
                self.losses += 1
                if time.monotonic() > deadline:
                    raise Failed(f"no association for {self.soak.patience_seconds} s: {loss}") from loss
                time.sleep(RETRY_SECONDS)

    def send(self, instances: list[Instance]) -> None:
        """Over one association, as long as it lasts."""
        waiting = list(instances)

        def act():
            with self.associate() as association:
                while waiting:
                    self.store(association, waiting[0])
                    waiting.pop(0)
                    if self.pace:
                        time.sleep(1 / self.pace)

        self.persist(act)

    # The node

    def api(self, path: str, method: str = "GET") -> dict | None:
        """None where nothing of that name is known."""
        return self.soak.api(path, method)

    def detail(self, study: SentStudy | None = None) -> dict:
        return self.api(f"/studies/{(study or self.study).uid}") or {"study": {}, "analyses": [], "deliveries": []}

    def wait(self, condition: Callable[[], object], what: str):
        deadline, pause = time.monotonic() + self.soak.patience_seconds, 0.5
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise Failed(f"not in {self.soak.patience_seconds} s: {what}")
            time.sleep(pause)
            pause = min(pause * 1.3, 4)
        return found

    def wait_concluded(self, analyses: int = 1) -> None:
        """With so many analyses."""

        def is_so():
            found = self.detail()
            return found["study"].get("state") == "concluded" and len(found["analyses"]) >= analyses

        self.wait(is_so, f"{analyses} analyses of {self.study.uid}")

    def wait_settled(self, study: SentStudy) -> dict:
        """As has to be in the end, with nothing owed to anybody."""

        def is_so():
            found = self.detail(study)
            header = found["study"]
            at_rest = header.get("state") == "concluded" and header["pendingDeliveries"] == 0
            dead = any(each["state"] == "dead" for each in found["deliveries"])
            seen = header.get("instanceCount", 0) >= sum(map(len, study.acknowledged.values()))
            reports = sum("reportSOPInstanceUID" in each for each in found["analyses"])
            is_right = header.get("outcome") == study.outcome and reports >= study.reports
            return found if at_rest and seen and is_right and not dead else None

        return self.wait(is_so, f"{study.uid} is {study.outcome} with {study.reports} reports and nothing owed")

    # The whole

    def run(self) -> None:
        complaints: list[str] = []
        try:
            self.kind.play(self)
        except Failed as failure:
            complaints.append(str(failure))
        except Exception as failure:
            complaints.append(f"{type(failure).__name__}: {failure}")
        if self.kind.outcome == "nothing":
            entry = {"case": self.number, "kind": self.kind.name, "at": time.time(), "complaints": complaints}
            return self.soak.record("attacks", entry)
        for study in self.studies:
            self.soak.record("studies", self._judged(study, list(complaints)))

    def _judged(self, study: SentStudy, complaints: list[str]) -> dict:
        found: dict = {}
        try:
            found = self.wait_settled(study)
            complaints += self._missing(study, found)
        except Exception as failure:
            complaints.append(f"{type(failure).__name__}: {failure}")
            try:
                found = self.detail(study)
            except Failed:
                complaints.append("and what it says of the study is not known")
        header = found.get("study", {})
        return {
            "case": self.number, "kind": self.kind.name, "study": study.uid, "scanner": self.scanner.ae_title,
            "destinations": self.scanner.destinations, "instances": sum(map(len, study.acknowledged.values())),
            "expected": study.outcome, "outcome": header.get("outcome"), "reason": header.get("reason", ""),
            "expected_reports": study.reports, "alerts": study.alerts, "losses": self.losses,
            "reports": [
                each["reportSOPInstanceUID"] for each in found.get("analyses", []) if "reportSOPInstanceUID" in each
            ],
            "completion": [each["completion"] for each in found.get("analyses", [])],
            "first_sent": study.first_sent, "last_acknowledged": study.last_acknowledged,
            "flagged": header.get("flaggedAt"), "settled": time.time(), "is_prompt": self.kind.is_prompt,
            "complaints": complaints,
        }  # fmt: skip

    def _missing(self, study: SentStudy, found: dict) -> list[str]:
        """Of what was acknowledged: byte for byte in the spool, and known."""
        header, complaints = found["study"], []
        count = sum(map(len, study.acknowledged.values()))
        if header["instanceCount"] != count:
            complaints.append(f"{header['instanceCount']} instances are known, {count} were acknowledged")
        if header["purgedCount"] == header["instanceCount"]:
            # It took so long that retention was here before.
            return complaints
        folder = self.soak.node.folder / "data" / "spool" / "studies" / study.uid
        stored = {
            (path.name.removesuffix(".dcm").split(".v")[0], hashlib.sha256(data_set_bytes(path)).hexdigest())
            for path in folder.glob("*.dcm")
        }
        sent = {(uid, digest) for uid, digests in study.acknowledged.items() for digest in digests}
        complaints += [f"{uid} was acknowledged and is not in the spool as sent" for uid, _ in sent - stored]
        return complaints + [f"{uid} in the spool was never acknowledged" for uid, _ in stored - sent]


# --- Kinds ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Kind:
    name: str
    # How often, beside the others.
    weight: float
    play: Callable[[Case], None]
    # None: positive or negative, as the heads are. "nothing": no study comes of it.
    outcome: str | None
    reports: int
    # Of each receiver; None: one where the study is positive.
    alerts: int | None
    # Whether its time to flag is the node's alone.
    is_prompt: bool
    scanner: Scanner | None

    @property
    def is_either(self) -> bool:
        return self.outcome is None


KINDS: list[Kind] = []


def kind(
    weight: float,
    outcome: str | None = None,
    *,
    reports: int = 1,
    alerts: int | None = None,
    prompt: bool = False,
    scanner: Scanner | None = None,
):
    def add(play):
        KINDS.append(
            Kind(play.__name__.replace("_", " "), weight, play, outcome, reports, alerts, prompt, scanner)
        )
        return play

    return add


@kind(20, prompt=True)
def a_head(c: Case):
    c.send(c.series("plain"))


@kind(8, prompt=True)
def a_head_in_JPEG_lossless(c: Case):
    c.send(c.series("jpeg-lossless-sv1"))


@kind(6, prompt=True)
def a_head_in_JPEG_2000(c: Case):
    c.send(c.series("jpeg-2000-lossless"))


@kind(6, prompt=True)
def an_enhanced_CT(c: Case):
    c.send(c.series("enhanced"))


@kind(3, prompt=True)
def a_whole_head(c: Case):
    c.send(c.series("whole" if "whole" in c.soak.forms.by_name else "plain"))


@kind(6, prompt=True)
def scout_head_and_bone(c: Case):
    c.send(c.series("scout") + c.series("plain") + c.series("bone"))


@kind(5, scanner=SINGLE)
def an_association_for_each_image(c: Case):
    for instance in c.series("plain"):
        c.send([instance])


@kind(4, prompt=True)
def two_associations_at_once(c: Case):
    halves = c.series("plain")
    halves = [halves[::2], halves[1::2]]

    def act():
        with c.associate() as first, c.associate() as second:
            while halves[0] or halves[1]:
                for association, half in zip((first, second), halves):
                    if half:
                        c.store(association, half[0])
                        half.pop(0)

    c.persist(act)


@kind(2, prompt=True)
def three_studies_on_one_association(c: Case):
    heads = [c.series("plain")]
    for _ in range(2):
        c.add_study()
        heads.append(c.series("plain"))
    c.send([instance for instances in zip(*heads) for instance in instances])


@kind(2)
def an_association_that_stays_open(c: Case):
    waiting = c.series("plain")

    def act():
        with c.associate() as association:
            while waiting:
                c.store(association, waiting[0])
                waiting.pop(0)
            c.wait_concluded()

    c.persist(act)


@kind(4)
def a_study_that_comes_again(c: Case):
    images = c.series("plain")
    c.send(images)
    c.wait_concluded()
    c.send(images)


@kind(1)
def every_image_twice(c: Case):
    c.send([image for image in c.series("plain") for _ in range(2)])


@kind(3, scanner=PAUSING)
def a_slice_that_comes_late(c: Case):
    images = c.series("plain", positive=False)
    c.positive, c.study.outcome, c.study.alerts = False, "negative", 0
    late = images.pop(c.random.randrange(5, 15))
    c.send(images)
    time.sleep(c.soak.deadline_seconds / 3)
    c.send([late])


@kind(3, "undetermined", scanner=PAUSING)
def a_slice_that_never_comes(c: Case):
    images = c.series("plain")
    images.pop(c.random.randrange(5, 15))
    c.send(images)


@kind(2, "negative", reports=2, scanner=PAUSING)
def a_slice_that_comes_after_the_report(c: Case):
    images = c.series("plain")
    late = images.pop(c.random.randrange(5, 15))
    c.send(images)
    c.wait_concluded()
    c.send([late])


@kind(2, "positive", reports=2, alerts=1)
def slices_replaced_by_others_with_a_bleed(c: Case):
    images = c.series("plain", positive=False)
    c.send(images)
    c.wait_concluded()
    templates = c.soak.forms.by_name["plain+"][1]
    c.send(
        [
            c._own(templates[index].instance(images[index].study_uid, images[index].series_uid, images[index].sop_uid))
            for index in range(6, 14)
        ]
    )


def _two_patients(c: Case) -> None:
    images = c.series("plain")
    own = f"SOAK{c.number:06}".encode()
    c.send(
        images[:10]
        + [dataclasses.replace(each, data_set=each.data_set.replace(own, b"OTHER" + own[5:])) for each in images[10:]]
    )


@kind(2, "undetermined", reports=0)
def two_patients_in_one_study(c: Case):
    _two_patients(c)


@kind(1, "negative")
def two_patients_and_released(c: Case):
    _two_patients(c)
    c.wait_concluded()
    c.api(f"/studies/{c.study.uid}/release", "POST")


@kind(7, "notHeadCT", reports=0)
def a_chest(c: Case):
    c.send(c.series("chest"))


@kind(8, "notHeadCT", reports=0)
def an_MR_image(c: Case):
    c.send(c.series("mr"))


@kind(4)
def aborted_in_the_middle_and_sent_again(c: Case):
    images = c.series("plain")

    def act():
        association = c.associate()
        for image in images[: c.random.randrange(3, 17)]:
            c.store(association, image)
        association.close()

    c.persist(act)
    time.sleep(0.2)
    c.send(images)


@kind(2)
def cut_off_within_an_image_and_sent_again(c: Case):
    images = c.series("plain")

    def act():
        association = c.associate()
        for image in images[:-1]:
            c.store(association, image)
        association.cut_off_within(images[-1])

    c.persist(act)
    time.sleep(0.2)
    c.send(images[-1:])


@kind(2, "undetermined", scanner=PAUSING)
def aborted_in_the_middle_for_good(c: Case):
    images = c.series("plain")

    def act():
        association = c.associate()
        for image in images[:14]:
            c.store(association, image)
        association.close()

    c.persist(act)


@kind(2)
def an_image_that_is_refused_at_first(c: Case):
    images = c.series("plain")
    c.send(images[:-1])

    def act():
        with c.associate() as association:
            status = association.store(dataclasses.replace(images[-1], sop_uid=new_uid(c.random)))
            if status == 0:
                raise Failed("an object under another SOP Instance UID than its own was accepted")

    c.persist(act)
    c.send(images[-1:])


@kind(2)
def results_sent_once_more_by_an_operator(c: Case):
    c.send(c.series("plain"))
    c.wait_settled(c.study)
    c.api(f"/studies/{c.study.uid}/resend", "POST")


# --- Misuse -----------------------------------------------------------------------------------------------------------


@kind(3, "nothing", reports=0, alerts=0)
def objects_that_are_broken(c: Case):
    def image(**fields) -> tuple[str, bytes]:
        study = new_uid(c.random)
        return study[:-2] + ".1", Image(study[:-2] + ".1", study, **fields).encoded()

    def act():
        nested = EXPLICIT_LITTLE.nested(c.random.choice((33, 400, 6000)))
        objects = [
            image(insertion=nested),
            image(insertion=EXPLICIT_LITTLE.element(0x00101010, "AS", "040Y", length=60000)),
            (new_uid(c.random), c.random.randbytes(2000)),
            (image()[0], b""),
        ]
        with Peer(c.soak.node.dicom_port, ATTACKER) as peer:
            peer.associate(context(1, CT, EXPLICIT), context(3, VERIFICATION, IMPLICIT))
            for uid, content in objects:
                response = peer.store(uid, content)
                if response is None:
                    raise SenderFailure("the association ended instead of a response")
                if response.status == 0:
                    raise Failed(f"a broken object of {len(content)} bytes was accepted")
            if peer.echo() != 0:
                raise Failed("no echo after broken objects")

    c.persist(act)


@kind(4, "nothing", reports=0, alerts=0)
def requests_that_are_hostile(c: Case):
    """Each on a connection of its own; afterwards the node answers an echo."""
    sent = [
        associate_request(called=b"OTHER"),
        associate_request(calling=b"A\x1b[31m\n"),
        associate_request(version=2),
        associate_request()[:-7],
        b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        bytes.fromhex("16030100c8010000c40303") + bytes(194),
        pdu(1, b"", 0xFFFFFFF0),
        pdu(1, bytes(10)),
        c.random.randbytes(300),
        b"",
        associate_request() + data_pdu(1, request(1, CT, "1.2.3"), command=True) + b"\x04\x00\x00",
        associate_request() + data_pdu(99, echo_request(), command=True),
        associate_request() + c.random.randbytes(200),
    ]
    c.random.shuffle(sent)
    for attack in sent[:6]:
        try:
            with Peer(c.soak.node.dicom_port, ATTACKER, timeout=3) as peer:
                peer.send(attack)
                if c.random.random() < 0.3:
                    peer.reset()
                else:
                    peer.socket.recv(1000)
        except OSError:
            pass

    def act():
        with Peer(c.soak.node.dicom_port, ATTACKER) as peer:
            peer.associate()
            if peer.echo() != 0:
                raise Failed("no echo after hostile requests")
            peer.release()

    c.persist(act)


def call_api(url: str, path: str, method: str = "GET") -> dict | None:
    """Raises OSError where the node does not answer."""
    message = urllib.request.Request(
        f"{url}/api/v1{path}", method=method, headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"}
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(message, timeout=10) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise OSError(f"{method} {path}: {error.code} {error.read()[:300]!r}") from error
