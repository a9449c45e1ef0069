"""The DICOM upper layer byte by byte (PS3.8 §9.3), for peers that break it on purpose: nothing here corrects what a
test wants to be wrong. Needs nothing but the standard library."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"

# PDU types, PS3.8 §9.3.1.
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

# Command fields, PS3.7 Annex E.1.
C_STORE_RQ, C_FIND_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0020, 0x0030, 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET = 0x0101

UNDEFINED = 0xFFFFFFFF
FRAGMENT_BYTES = 16000


# --- PDUs -------------------------------------------------------------------------------------------------------------


def item(kind: int, value: bytes, length: int | None = None) -> bytes:
    """An item or sub-item of an association PDU; `length` where it is to lie."""
    return struct.pack(">BBH", kind, 0, len(value) if length is None else length) + value


def pdu(kind: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBI", kind, 0, len(value) if length is None else length) + value


def abort_pdu(source: int = 0, reason: int = 0) -> bytes:
    return pdu(ABORT, bytes([0, 0, source, reason]))


def release_pdu() -> bytes:
    return pdu(RELEASE_RQ, bytes(4))


def context(number: int, abstract_syntax: str, *transfer_syntaxes: str) -> bytes:
    """A proposed presentation context, PS3.8 §9.3.2.2."""
    syntaxes = b"".join(item(0x40, syntax.encode()) for syntax in transfer_syntaxes)
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract_syntax.encode()) + syntaxes)


DEFAULT_CONTEXTS = (context(1, CT, EXPLICIT), context(3, VERIFICATION, IMPLICIT))


def associate_request(
    *contexts: bytes,
    called: bytes = b"ICHNODE",
    calling: bytes = b"ATTACKER",
    user_items: bytes = b"",
    version: int = 1,
    application_context: str = APPLICATION_CONTEXT,
    user_information: bytes | None = None,
) -> bytes:
    """An A-ASSOCIATE-RQ, PS3.8 §9.3.2. `user_items` follow maximum length and implementation class UID."""
    body = struct.pack(">HH", version, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    body += item(0x10, application_context.encode()) + b"".join(contexts or DEFAULT_CONTEXTS)
    if user_information is None:
        user_information = item(
            0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.99") + user_items
        )
    return pdu(ASSOCIATE_RQ, body + user_information)


def value(context_id: int, fragment: bytes, *, command: bool, last: bool, length: int | None = None) -> bytes:
    """A presentation data value item, PS3.8 §9.3.5.1 and Annex E.2."""
    length = len(fragment) + 2 if length is None else length
    return struct.pack(">IBB", length, context_id, command | last << 1) + fragment


def data_pdu(context_id: int, fragment: bytes, *, command: bool, last: bool = True) -> bytes:
    return pdu(P_DATA, value(context_id, fragment, command=command, last=last))


def data_set_pdus(context_id: int, data_set: bytes, fragment_bytes: int = FRAGMENT_BYTES) -> list[bytes]:
    starts = range(0, max(len(data_set), 1), fragment_bytes)
    fragments = [data_set[at : at + fragment_bytes] for at in starts]
    lasts = [False] * (len(fragments) - 1) + [True]
    return [data_pdu(context_id, each, command=False, last=last) for each, last in zip(fragments, lasts)]


# --- Commands, PS3.7 §6.3.1: implicit VR little endian ----------------------------------------------------------------


def command_element(number: int, content: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(content)) + content


def command_set(elements: dict[int, bytes]) -> bytes:
    body = b"".join(command_element(number, elements[number]) for number in sorted(elements))
    return command_element(0, struct.pack("<I", len(body))) + body


def command_elements(encoded: bytes) -> dict[int, bytes]:
    elements, rest = {}, encoded
    while rest:
        group, number, count = struct.unpack("<HHI", rest[:8])
        assert group == 0 and len(rest) >= 8 + count, rest[:8].hex()
        elements[number], rest = rest[8 : 8 + count], rest[8 + count :]
    assert int.from_bytes(elements[0], "little") == len(encoded) - 12
    return elements


def even(text: bytes, padding: bytes = b"\0") -> bytes:
    return text if len(text) % 2 == 0 else text + padding


def request(
    command_field: int,
    sop_class: str | bytes,
    sop_instance: str | bytes | None = None,
    *,
    message_id: int = 1,
    data_set: bool = True,
) -> bytes:
    """A request's command set. UIDs as bytes go out as they are."""
    as_sent = lambda uid: uid if isinstance(uid, bytes) else even(uid.encode())  # noqa: E731
    elements = {
        0x0002: as_sent(sop_class),
        0x0100: struct.pack("<H", command_field),
        0x0110: struct.pack("<H", message_id),
        0x0700: bytes(2),
        0x0800: struct.pack("<H", 0 if data_set else NO_DATA_SET),
    }
    if sop_instance is not None:
        elements[0x1000] = as_sent(sop_instance)
    return command_set(elements)


def echo_request(message_id: int = 1) -> bytes:
    return request(C_ECHO_RQ, VERIFICATION, message_id=message_id, data_set=False)


@dataclass
class Response:
    context_id: int
    elements: dict[int, bytes]

    def number(self, element: int) -> int | None:
        content = self.elements.get(element)
        return None if content is None else int.from_bytes(content, "little")

    @property
    def status(self) -> int | None:
        return self.number(0x0900)

    @property
    def comment(self) -> str:
        return self.elements.get(0x0902, b"").decode("ascii").rstrip()

    @classmethod
    def parse(cls, body: bytes) -> Response:
        """Of a P-DATA-TF with one whole command in one value, as the node sends it."""
        length, context_id, control = struct.unpack(">IBB", body[:6])
        assert control == 3 and length == len(body) - 4, body[:6].hex()
        return cls(context_id, command_elements(body[6:]))


# --- Data sets --------------------------------------------------------------------------------------------------------

LONG_LENGTH = {"OB", "OW", "OF", "SQ", "UN", "UT"}


@dataclass
class Encoding:
    """How elements are written: PS3.5 §7.1."""

    explicit: bool = True
    big_endian: bool = False

    @property
    def order(self) -> str:
        return ">" if self.big_endian else "<"

    def header(self, tag: int, vr: str, length: int) -> bytes:
        start = struct.pack(self.order + "HH", tag >> 16, tag & 0xFFFF)
        if not self.explicit:
            return start + struct.pack(self.order + "I", length)
        if vr in LONG_LENGTH:
            return start + vr.encode() + bytes(2) + struct.pack(self.order + "I", length)
        return start + vr.encode() + struct.pack(self.order + "H", length)

    def element(self, tag: int, vr: str, content: bytes | str, length: int | None = None) -> bytes:
        """Text is padded to an even length, bytes are not; `length` where it is to lie."""
        if isinstance(content, str):
            content = even(content.encode(), b"\0" if vr == "UI" else b" ")
        return self.header(tag, vr, len(content) if length is None else length) + content

    def short(self, tag: int, number: int) -> bytes:
        return self.element(tag, "US", struct.pack(self.order + "H", number))

    def item(self, length: int) -> bytes:
        return struct.pack(self.order + "HHI", 0xFFFE, 0xE000, length)

    def nested(self, depth: int, tag: int = 0x00189346, vr: str = "SQ", *, defined: bool = False) -> bytes:
        """Sequences within sequences, each with one item; with undefined or defined lengths."""
        if not defined:
            opening = self.header(tag, vr, UNDEFINED) + self.item(UNDEFINED)
            closing = struct.pack(self.order + "HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
            return opening * depth + closing * depth
        step = len(self.header(tag, vr, 0)) + 8
        return b"".join(
            self.header(tag, vr, 8 + step * (depth - level)) + self.item(step * (depth - level))
            for level in range(1, depth + 1)
        )


EXPLICIT_LITTLE = Encoding()
IMPLICIT_LITTLE = Encoding(explicit=False)
EXPLICIT_BIG = Encoding(big_endian=True)


@dataclass
class Image:
    """A small CT image of the abdomen: what the node stores and then sets aside as no head CT."""

    instance: str | bytes
    study: str | bytes
    series: str | bytes = ""
    sop_class: str | bytes = CT
    patient_id: str = "CONTROL"
    # Encoded elements after (0010,0020) and before (0020,000D), and after Pixel Data.
    insertion: bytes = b""
    trailer: bytes = b""
    pixels: bytes = field(default=bytes(range(256)) * 2)
    pixel_length: int | None = None
    has_pixels: bool = True

    def __post_init__(self):
        if self.series == "" and isinstance(self.study, str):
            self.series = f"{self.study}.1"

    def encoded(self, encoding: Encoding = EXPLICIT_LITTLE) -> bytes:
        pixels = (
            encoding.short(0x00280002, 1)
            + encoding.element(0x00280004, "CS", "MONOCHROME2")
            + encoding.short(0x00280010, 16)
            + encoding.short(0x00280011, 16)
            + encoding.short(0x00280100, 16)
            + encoding.short(0x00280101, 16)
            + encoding.element(0x7FE00010, "OW", self.pixels, self.pixel_length)
        )
        return (
            encoding.element(0x00080016, "UI", self.sop_class)
            + encoding.element(0x00080018, "UI", self.instance)
            + encoding.element(0x00080060, "CS", "CT")
            + encoding.element(0x00100020, "LO", self.patient_id)
            + self.insertion
            + encoding.element(0x0020000D, "UI", self.study)
            + encoding.element(0x0020000E, "UI", self.series)
            + (pixels if self.has_pixels else b"")
            + self.trailer
        )


# --- The peer ---------------------------------------------------------------------------------------------------------


class CutOff(ConnectionError):
    """The other side went away within a PDU."""


class Peer:
    """A TCP connection from a loopback address of its own, within TLS where a context is given. Sends what it is told,
    reads whole PDUs."""

    def __init__(
        self, port: int, address: str = "127.0.0.1", timeout: float = 30, tls: ssl.SSLContext | None = None
    ):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout, source_address=(address, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket)
        self.messages = 0

    @classmethod
    def accepted(cls, connection: socket.socket) -> Peer:
        """The other side opened the connection."""
        peer = cls.__new__(cls)
        peer.socket, peer.messages = connection, 0
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return peer

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def receive(self) -> tuple[int, bytes] | None:
        """Type and body of the next PDU; None at the end of the stream. A reset, which could have swallowed an answer,
        is an error."""
        header = self._read(6)
        if not header:
            return None
        if len(header) < 6:
            raise CutOff(f"the stream ends within a PDU header: {header.hex()}")
        kind, reserved, length = struct.unpack(">BBI", header)
        assert reserved == 0 and length <= 1 << 20, header.hex()
        body = self._read(length)
        if len(body) < length:
            raise CutOff(f"the stream ends within a PDU of type {kind}")
        return kind, body

    def _read(self, count: int) -> bytes:
        parts = []
        while count > 0:
            part = self.socket.recv(count)
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def finish_sending(self) -> None:
        # Of TCP: SSLSocket's own shutdown() would read no further either.
        socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # Associations

    def associate(self, *contexts: bytes, **fields) -> dict[int, tuple[int, str]]:
        """Result and transfer syntax of each context by its number, PS3.8 §9.3.3.2. The node has to accept."""
        self.send(associate_request(*contexts, **fields))
        answer = self.receive()
        assert answer and answer[0] == ASSOCIATE_AC, answer
        return dict(results(answer[1]))

    def release(self) -> None:
        self.send(release_pdu())
        answer = self.receive()
        assert answer == (RELEASE_RP, bytes(4)), answer
        assert self.receive() is None

    # DIMSE

    def response(self) -> Response | None:
        """None where the association is ended instead."""
        answer = self.receive()
        return Response.parse(answer[1]) if answer and answer[0] == P_DATA else None

    def echo(self, context_id: int = 3) -> int | None:
        self.messages += 1
        self.send(data_pdu(context_id, echo_request(self.messages), command=True))
        response = self.response()
        return response and response.status

    def send_store(
        self,
        sop_instance: str | bytes,
        data_set: bytes,
        *,
        sop_class: str | bytes = CT,
        context_id: int = 1,
        fragment_bytes: int = FRAGMENT_BYTES,
    ) -> None:
        self.messages += 1
        command = request(C_STORE_RQ, sop_class, sop_instance, message_id=self.messages)
        # In one call: otherwise thousands of small ones would make the sender the slow side.
        pdus = [data_pdu(context_id, command, command=True), *data_set_pdus(context_id, data_set, fragment_bytes)]
        self.send(b"".join(pdus))

    def store(self, sop_instance: str | bytes, data_set: bytes, **options) -> Response | None:
        self.send_store(sop_instance, data_set, **options)
        return self.response()


def results(body: bytes) -> list[tuple[int, tuple[int, str]]]:
    """Context number, result and transfer syntax of each answer in an A-ASSOCIATE-AC, as they stand there."""
    found, at = [], 68
    while at < len(body):
        kind, length = body[at], int.from_bytes(body[at + 2 : at + 4], "big")
        content = body[at + 4 : at + 4 + length]
        assert len(content) == length, "an item reaches beyond the PDU"
        if kind == 0x21:
            assert content[4] == 0x40, content.hex()
            found.append((content[0], (content[2], content[8:].decode("ascii").rstrip("\0"))))
        at += 4 + length
    return found


# --- The peer that is not to be disturbed -----------------------------------------------------------------------------


MOST_SECONDS_OF_ASSOCIATION = 5


@dataclass
class Operation:
    name: str
    seconds: float
    failure: str | None = None


def operate(port: int, address: str, root: str, stop) -> list[Operation]:
    """Until `stop()`: C-ECHO on an association of its own, and C-STORE on one that stays open, in turn."""
    found: list[Operation] = []

    @contextmanager
    def timed(name: str):
        started, failure = time.monotonic(), None
        try:
            yield
        except (AssertionError, OSError) as error:
            failure = f"{type(error).__name__}: {error}"
        found.append(Operation(name, time.monotonic() - started, failure))

    def goes_on() -> bool:
        # Two of each at the least, however quick the attack is.
        return len(found) < 4 or not stop()

    def echo() -> None:
        with timed("C-ECHO"), Peer(port, address, timeout=10) as peer:
            peer.associate(context(3, VERIFICATION, IMPLICIT), calling=b"CONTROL")
            assert peer.echo() == 0
            peer.release()

    def store(lasting: Peer) -> None:
        with timed("C-STORE"):
            uid = f"{root}.{len(found)}"
            response = lasting.store(uid, Image(uid, root).encoded())
            assert response and response.status == 0, response

    def work() -> None:
        with Peer(port, address, timeout=10) as lasting:
            lasting.associate(calling=b"CONTROL")
            # An association has a deadline, and everybody's ends there.
            deadline = time.monotonic() + MOST_SECONDS_OF_ASSOCIATION
            while goes_on() and time.monotonic() < deadline:
                echo()
                store(lasting)
                time.sleep(0.02)
            with timed("release"):
                lasting.release()

    while goes_on():
        try:
            work()
        except (AssertionError, OSError) as error:
            found.append(Operation("association", 0, f"{type(error).__name__}: {error}"))
            time.sleep(0.1)
    return found


def serve_control() -> None:
    """Run as a program: `raw_dicom.py PORT ADDRESS`. A line with a UID starts a round, the next line ends it; then
    comes a line of JSON. In a process of its own, so that a test's work in Python is not taken for the node's."""
    import json
    import select
    import sys

    port, address = int(sys.argv[1]), sys.argv[2]
    # Unbuffered: select(2) does not see what a buffer has taken.
    orders = open(0, "rb", buffering=0)
    while root := orders.readline().decode().strip():
        found = operate(port, address, root, lambda: bool(select.select([orders], [], [], 0)[0]))
        orders.readline()
        print(json.dumps([vars(each) for each in found]), flush=True)


if __name__ == "__main__":
    serve_control()
