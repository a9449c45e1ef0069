"""A Storage SCP that answers, and misbehaves, as a test tells it, at every step of an association. What it has stored
outlives its restarts. Commits to it on request (PS3.4 Annex J)."""

from __future__ import annotations

import dataclasses
import enum
import io
import itertools
import socket
import struct
import threading
import time
from typing import Callable, Iterator

import pydicom
from processes import LOOPBACK, free_ports
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import decode, encode
from raw_dicom import (
    ABORT,
    APPLICATION_CONTEXT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    C_STORE_RQ,
    EXPLICIT,
    IMPLICIT,
    NO_DATA_SET,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    RESPONSE,
    Peer,
    abort_pdu,
    command_elements,
    command_set,
    context,
    data_pdu,
    data_set_pdus,
    even,
    item,
    pdu,
)

COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
N_EVENT_REPORT_RQ, N_ACTION_RQ = 0x0100, 0x0130
# So small that every object has several fragments.
MOST_PDU_BYTES = 16384
DUPLICATE, NO_SUCH_INSTANCE = 0x0111, 0x0112


class Step(enum.Enum):
    """Of a delivery, as its receiver sees it."""

    CONNECTED = "connection open, before the request"
    REQUESTED = "association requested, before the answer"
    COMMANDED = "command read, before the object"
    BEGUN = "within an object"
    READ = "object read, before it is stored"
    STORED = "object stored, before the response"
    RESPONDED = "response sent"
    RELEASING = "release requested"
    ASKED = "commitment asked for, before the response"
    PROMISED = "commitment promised, before the report"
    REPORTED = "commitment reported"


@dataclasses.dataclass(frozen=True)
class Arrival:
    """An object that was offered, with the status of the answer."""

    association: int
    sop_class: str
    sop_uid: str
    data_set: bytes = dataclasses.field(default=b"", repr=False)
    transfer_syntax: str = EXPLICIT
    status: int | None = None

    @property
    def is_kept(self) -> bool:
        """Success, warnings (PS3.4 Table B.2-1, PS3.7 Annex C), or there already."""
        return self.status in (0x0000, 0x0107, 0x0116, DUPLICATE) or self.status >> 12 == 0xB

    @property
    def dataset(self) -> Dataset:
        return pydicom.dcmread(io.BytesIO(with_meta(self)))


def with_meta(arrival: Arrival) -> bytes:
    """As a file (PS3.10 §7.1) with as little meta information as pydicom needs."""
    syntax = even(arrival.transfer_syntax.encode())
    return bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax + arrival.data_set


class Ended(Exception):
    """The association was ended in a way of its own."""


def at(step: Step, nth: int, act: Callable[[Association], None]) -> Callable[[Step, Association], None]:
    """Conduct that does something once, when a step comes for the n-th time."""
    arrived = itertools.count(1)

    def conduct(now: Step, association: Association) -> None:
        if now == step and next(arrived) == nth:
            act(association)

    return conduct


class Pacs:
    def __init__(self, ae_title: str = "PACS", node_port: int | None = None):
        """`node_port`: where reports of commitment go that find no association left."""
        self.ae_title, self.node_port = ae_title, node_port
        (self.port,) = free_ports(1)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.associations = 0
        self.arrivals: list[Arrival] = []
        # The first of each SOP Instance UID.
        self._offered: dict[str, Arrival] = {}
        # What is stored, by SOP Instance UID.
        self.held: dict[str, Arrival] = {}
        # What a test has to look at: other bytes under a known UID, broken DICOM.
        self.complaints: list[str] = []
        self.commitments = 0
        self.behave()

    def behave(self) -> None:
        """As a PACS should, from now on."""
        # At a step of an association: may end it, or wait.
        self.conduct: Callable[[Step, Association], None] = lambda step, association: None
        # Status of the response, of an object that is not there yet and of one that is.
        self.judge: Callable[[Arrival], int] = lambda arrival: 0x0000
        self.judge_again: Callable[[Arrival], int] = lambda arrival: DUPLICATE
        self.refused_classes: set[str] = set()
        self.reports_on_the_same_association = True

    # Life

    def start(self) -> Pacs:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, self.port))
        listener.listen(32)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Connections end at once, whatever is under way on them."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections = list(self._connections)
        if listener:
            # Wakes up who accepts; closing alone does not.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for each in connections:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @property
    def is_up(self) -> bool:
        return self._listener is not None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                if self._listener is not listener:
                    connection.close()
                    return
                self._connections.add(connection)
                self.associations += 1
                association = Association(self, Peer.accepted(connection), self.associations)
            threading.Thread(target=self._serve, args=(association, connection), daemon=True).start()

    def _serve(self, association: Association, connection: socket.socket) -> None:
        try:
            association.serve()
        except (Ended, OSError):
            pass
        except Exception as error:
            self.complaints.append(f"association {association.number}: {type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    # What is stored

    def take(self, arrival: Arrival) -> Arrival:
        """With its status."""
        with self._lock:
            known = arrival.sop_uid in self.held
            status = self.judge_again(arrival) if known else self.judge(arrival)
            arrival = dataclasses.replace(arrival, status=status)
            first = self._offered.setdefault(arrival.sop_uid, arrival)
            if (first.data_set, first.sop_class) != (arrival.data_set, arrival.sop_class):
                self.complaints.append(f"{arrival.sop_uid}: other bytes than before")
            self.arrivals.append(arrival)
            if arrival.is_kept and not known:
                self.held[arrival.sop_uid] = arrival
            return arrival

    def arrived(self, study_uid: str) -> list[Arrival]:
        with self._lock:
            return [each for each in self.arrivals if study_uid.encode() in each.data_set]

    def held_of(self, study_uid: str) -> dict[str, Arrival]:
        return {uid: each for uid, each in list(self.held.items()) if study_uid.encode() in each.data_set}

    # Reports of commitment

    def report_on_own_association(self, report: bytes, event_type: int) -> None:
        """Until the node takes it, or knows nothing of it."""
        while self.is_up:
            try:
                with Peer(self.node_port, timeout=10) as peer:
                    peer.associate(context(1, COMMITMENT, IMPLICIT), calling=self.ae_title.encode())
                    peer.send(*report_pdus(1, report, event_type))
                    response = peer.response()
                    peer.release()
                    if response and response.status in (0x0000, 0x0110):
                        return
            except (OSError, AssertionError):
                pass
            time.sleep(0.2)


def report_pdus(context_id: int, report: bytes, event_type: int) -> list[bytes]:
    """N-EVENT-REPORT-RQ, PS3.7 §10.3.1."""
    command = command_set(
        {
            0x0002: even(COMMITMENT.encode()),
            0x0100: struct.pack("<H", N_EVENT_REPORT_RQ),
            0x0110: struct.pack("<H", 1),
            0x0800: bytes(2),
            0x1000: even(COMMITMENT_INSTANCE.encode()),
            0x1002: struct.pack("<H", event_type),
        }
    )
    return [data_pdu(context_id, command, command=True), *data_set_pdus(context_id, report, MOST_PDU_BYTES - 6)]


class Association:
    """One that the node has opened."""

    def __init__(self, pacs: Pacs, peer: Peer, number: int):
        self.pacs, self.peer, self.number = pacs, peer, number
        # Abstract and transfer syntax by context.
        self.contexts: dict[int, tuple[str, str]] = {}
        # The object under way.
        self.arrival: Arrival | None = None

    # Ends, and none

    def reject(self, result: int, source: int, reason: int) -> None:
        """PS3.8 Table 9-21."""
        self.peer.send(pdu(ASSOCIATE_RJ, bytes([0, result, source, reason])))
        self._wait_for_end()

    def abort(self, source: int = 0, reason: int = 0) -> None:
        self.peer.send(abort_pdu(source, reason))
        self._wait_for_end()

    def answer(self, content: bytes) -> None:
        """With whatever it is."""
        self.peer.send(content)
        self._wait_for_end()

    def drop(self) -> None:
        raise Ended

    def reset(self) -> None:
        self.peer.reset()
        raise Ended

    def hang(self) -> None:
        """Says nothing more, and reads nothing more."""
        while self.pacs.is_up:
            time.sleep(0.05)
        raise Ended

    def _wait_for_end(self) -> None:
        self.peer.socket.settimeout(5)
        while self.peer.socket.recv(65536):
            pass
        raise Ended

    # Service

    def serve(self) -> None:
        self._at(Step.CONNECTED)
        kind, body = self.peer.receive() or (None, b"")
        if kind is None:
            return
        self._at(Step.REQUESTED)
        self.peer.send(self._acceptance(body))
        command, data_set, elements = b"", b"", {}
        for context_id, is_command, is_last, fragment in self._values():
            if is_command:
                command += fragment
                if not is_last:
                    continue
                elements, command, data_set = command_elements(command), b"", b""
                if elements[0x0100] == struct.pack("<H", C_STORE_RQ):
                    self.arrival = Arrival(self.number, text(elements[0x0002]), text(elements[0x1000]))
                    self._at(Step.COMMANDED)
                if elements[0x0800] == struct.pack("<H", NO_DATA_SET):
                    self._handle(context_id, elements, b"")
                continue
            is_first, data_set = not data_set, data_set + fragment
            if is_last:
                self._handle(context_id, elements, data_set)
            elif is_first and self.arrival:
                self._at(Step.BEGUN)

    def _at(self, step: Step) -> None:
        self.pacs.conduct(step, self)

    def _acceptance(self, request: bytes) -> bytes:
        answers = b""
        for kind, content in items(request[68:]):
            if kind != 0x20:
                continue
            inner = list(items(content[4:]))
            abstract = next(text(value) for kind, value in inner if kind == 0x30)
            proposed = [text(value) for kind, value in inner if kind == 0x40]
            syntax = next((each for each in (EXPLICIT, IMPLICIT) if each in proposed), None)
            # Abstract syntax not supported, transfer syntaxes not supported (PS3.8 Table 9-18).
            result = 3 if abstract in self.pacs.refused_classes else 4 if syntax is None else 0
            if result == 0:
                self.contexts[content[0]] = (abstract, syntax)
            answers += item(0x21, bytes([content[0], 0, result, 0]) + item(0x40, (syntax or IMPLICIT).encode()))
        information = item(0x51, struct.pack(">I", MOST_PDU_BYTES)) + item(0x52, b"1.2.3.98")
        body = request[:68] + item(0x10, APPLICATION_CONTEXT.encode()) + answers + item(0x50, information)
        return pdu(ASSOCIATE_AC, body)

    def _values(self) -> Iterator[tuple[int, bool, bool, bytes]]:
        """Presentation data values until the release: context, whether of a command, whether the last, fragment."""
        while received := self.peer.receive():
            kind, body = received
            if kind == RELEASE_RQ:
                self._at(Step.RELEASING)
                self.peer.send(pdu(RELEASE_RP, bytes(4)))
                return
            if kind == ABORT:
                return
            assert kind == P_DATA, f"PDU of type {kind}"
            while body:
                length, context_id, control = struct.unpack(">IBB", body[:6])
                yield context_id, bool(control & 1), bool(control & 2), body[6 : 4 + length]
                body = body[4 + length :]

    def _handle(self, context_id: int, elements: dict[int, bytes], data_set: bytes) -> None:
        command_field = int.from_bytes(elements[0x0100], "little")
        if command_field == C_STORE_RQ:
            self._store(context_id, elements, data_set)
        elif command_field == N_ACTION_RQ:
            self._commit(context_id, elements, data_set)
        else:
            assert command_field == N_EVENT_REPORT_RQ | RESPONSE, f"command {command_field:04X}"

    def _store(self, context_id: int, elements: dict[int, bytes], data_set: bytes) -> None:
        abstract, syntax = self.contexts[context_id]
        assert abstract == self.arrival.sop_class, "an object of another SOP class than its context"
        self.arrival = Arrival(self.number, abstract, self.arrival.sop_uid, data_set, syntax)
        self._at(Step.READ)
        self.arrival = self.pacs.take(self.arrival)
        self._at(Step.STORED)
        self.peer.send(self.response(context_id, elements, self.arrival.status))
        self._at(Step.RESPONDED)

    def response(self, context_id: int, elements: dict[int, bytes], status: int) -> bytes:
        """PS3.7 §9.3.1.2, §10.3.3.2."""
        command_field = int.from_bytes(elements[0x0100], "little") | RESPONSE
        answer = {
            0x0002: elements.get(0x0002) or elements[0x0003],
            0x0100: struct.pack("<H", command_field),
            0x0120: elements[0x0110],
            0x0800: struct.pack("<H", NO_DATA_SET),
            0x0900: struct.pack("<H", status),
            0x1000: elements.get(0x1000) or elements[0x1001],
        }
        return data_pdu(context_id, command_set(answer), command=True)

    def _commit(self, context_id: int, elements: dict[int, bytes], data_set: bytes) -> None:
        self._at(Step.ASKED)
        request = decode(io.BytesIO(data_set), self.contexts[context_id][1] == IMPLICIT, True)
        self.pacs.commitments += 1
        self.peer.send(self.response(context_id, elements, 0x0000))
        report, event_type = self._report(request)
        try:
            self._at(Step.PROMISED)
            if not self.pacs.reports_on_the_same_association:
                raise Ended
            self.peer.send(*report_pdus(context_id, encoded(report, self.contexts[context_id][1]), event_type))
            self._at(Step.REPORTED)
            answer = self.peer.response()
            if not (answer and answer.status == 0x0000):
                raise Ended
        except (OSError, Ended):
            threading.Thread(
                target=self.pacs.report_on_own_association,
                args=(encoded(report, IMPLICIT), event_type),
                daemon=True,
            ).start()
            raise

    def _report(self, request: Dataset) -> tuple[Dataset, int]:
        """Event Information and Event Type ID, PS3.4 Table J.3-2."""
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        failed = [each for each in request.ReferencedSOPSequence if each.ReferencedSOPInstanceUID not in self.pacs.held]
        report.ReferencedSOPSequence = [each for each in request.ReferencedSOPSequence if each not in failed]
        if not failed:
            return report, 1
        for each in failed:
            each.FailureReason = NO_SUCH_INSTANCE
        report.FailedSOPSequence = failed
        return report, 2


def items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each item of an association PDU."""
    while encoded:
        kind, length = encoded[0], int.from_bytes(encoded[2:4], "big")
        yield kind, encoded[4 : 4 + length]
        encoded = encoded[4 + length :]


def text(encoded: bytes) -> str:
    return encoded.decode("ascii").rstrip("\0 ")


def encoded(dataset: Dataset, syntax: str) -> bytes:
    return encode(dataset, syntax != ExplicitVRLittleEndian, True)
