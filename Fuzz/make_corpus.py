#!/usr/bin/env python3
"""Writes the seeds from which Fuzz/Corpus is made: objects, association requests, frames and configurations, sound and
hostile ones. `Fuzz/run --merge` keeps those that reach code which no other reaches."""

from __future__ import annotations

import argparse
import json
import random
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Tests" / "Tools"))
import transcode  # noqa: E402

CT = "1.2.840.10008.5.1.4.1.1.2"
UNDEFINED = 0xFFFFFFFF
MOST_BYTES = 8 << 10  # of one file


# --- Data sets, byte by byte --------------------------------------------------------------------------------------


class Writer:
    """Elements in one of the three plain encodings."""

    def __init__(self, explicit: bool = True, big: bool = False):
        self.explicit, self.order, self.bytes = explicit, ">" if big else "<", b""

    def header(self, group: int, element: int, vr: str, length: int) -> Writer:
        self.bytes += struct.pack(self.order + "HH", group, element)
        if not self.explicit or group == 0xFFFE:
            self.bytes += struct.pack(self.order + "I", length)
        elif vr in ("OB", "OW", "SQ", "UN", "UT"):
            self.bytes += vr.encode() + b"\0\0" + struct.pack(self.order + "I", length)
        else:
            self.bytes += vr.encode() + struct.pack(self.order + "H", length & 0xFFFF)
        return self

    def element(self, group: int, element: int, vr: str, value: bytes | str) -> Writer:
        value = value.encode() if isinstance(value, str) else value
        if len(value) % 2:
            value += b"\0" if vr == "UI" else b" "
        self.header(group, element, vr, len(value)).bytes += value
        return self

    def short(self, group: int, element: int, value: int) -> Writer:
        return self.element(group, element, "US", struct.pack(self.order + "H", value))

    def raw(self, value: bytes) -> Writer:
        self.bytes += value
        return self


def ct(explicit: bool = True, big: bool = False, inserted: bytes = b"", pixels: bool = True) -> bytes:
    w = Writer(explicit, big)
    w.element(8, 5, "CS", "ISO_IR 100").element(8, 8, "CS", "ORIGINAL\\PRIMARY\\AXIAL")
    w.element(8, 0x16, "UI", CT).element(8, 0x18, "UI", "1.2.3.4").element(8, 0x60, "CS", "CT")
    w.element(0x10, 0x10, "PN", b"F\xfcZZ^TEST").element(0x18, 0x50, "DS", "2,5").raw(inserted)
    w.element(0x20, 0xD, "UI", "1.2.3").element(0x20, 0xE, "UI", "1.2.3.1").element(0x20, 0x13, "IS", "+7")
    w.element(0x20, 0x32, "DS", "-125\\-1.25e2\\ 7.5").element(0x20, 0x37, "DS", "1\\0\\0\\0\\1\\0")
    w.short(0x28, 0x10, 2).short(0x28, 0x11, 2)
    if pixels:
        w.element(0x7FE0, 0x10, "OW", b"\0" * 8)
    return w.bytes


def nested(depth: int, explicit: bool = True, big: bool = False, defined: bool = False) -> bytes:
    inner = b""
    for _ in range(depth):
        w = Writer(explicit, big)
        w.header(0x40, 0xA730, "SQ", len(inner) + 8 if defined else UNDEFINED)
        w.header(0xFFFE, 0xE000, "", len(inner) if defined else UNDEFINED).raw(inner)
        if not defined:
            w.header(0xFFFE, 0xE00D, "", 0).header(0xFFFE, 0xE0DD, "", 0)
        inner = w.bytes
    return inner


def insertions(explicit: bool, big: bool) -> dict[str, bytes]:
    """What is put into the header of an otherwise sound CT."""

    def w() -> Writer:
        return Writer(explicit, big)

    cases = {"plain": b""}
    for depth in (1, 4, 5, 10, 32, 33, 300):
        cases[f"nested-{depth}"] = nested(depth, explicit, big)
        cases[f"nested-{depth}-defined"] = nested(depth, explicit, big, defined=True)
    item, end_item, end = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
    cases["sequence-empty"] = w().header(0x40, 0xA730, "SQ", 0).bytes
    cases["sequence-of-empty-items"] = (
        w().header(0x40, 0xA730, "SQ", UNDEFINED).bytes
        + (w().header(*item, "", UNDEFINED).header(*end_item, "", 0).bytes) * 40
        + w().header(*end, "", 0).bytes
    )
    cases["item-beyond-sequence"] = w().header(0x40, 0xA730, "SQ", 16).header(*item, "", 400).bytes
    cases["sequence-without-item"] = w().header(0x40, 0xA730, "SQ", 16).raw(b"\1" * 16).bytes
    cases["sequence-beyond-limit"] = w().header(0x40, 0xA730, "SQ", 0x7FFFFFFF).header(*item, "", 0).bytes
    cases["delimiter-alone"] = w().header(*end_item, "", 0).bytes
    cases["element-beyond-limit"] = w().header(9, 0x1001, "OB", 0xFFFFFFF0).bytes
    cases["element-beyond-data"] = w().header(9, 0x1001, "OB", 1 << 20).bytes
    cases["private"] = w().element(9, 0x10, "LO", "MAKER").element(9, 0x1001, "UN", bytes(range(60))).bytes
    cases["long-text"] = w().element(8, 0x1030, "LO", b"x" * 5000).bytes
    cases["unknown-vr"] = w().element(9, 0x1001, "ZZ", b"abcd").bytes
    cases["twice"] = w().element(0x20, 0xD, "UI", "9.9").element(0x20, 0xD, "UI", "9.8").bytes
    cases["uid-is-path"] = w().element(0x20, 0xD, "UI", "../../x").bytes
    cases["uid-65"] = w().element(0x20, 0xD, "UI", "1" * 65).bytes
    cases["like-an-item"] = w().element(0x19, 0x1001, "UN", b"\xfe\xff\0\xe0" + b"\xab" * 42).bytes
    cases["like-two-items"] = w().element(0x19, 0x1001, "UN", b"\xfe\xff\0\xe0\x08\0\0\0" + b"\x05" * 8).bytes
    fragment = b"\xfe\xff\0\xe0" + b"\xff" * 4 + b"\xe0\x7f\x10\0" + b"\xff" * 4
    fragment += b"\xfe\xff\0\xe0" + b"\xee" * 20
    cases["like-a-fragment"] = w().element(0x19, 0x1001, "UN", fragment).bytes
    cases["like-an-item-long"] = w().element(0x19, 0x1001, "UN", b"\xfe\xff\0\xe0" + b"\xab" * 100).bytes
    cases["at-limit"] = w().element(9, 0x1001, "OB", b"\1" * 96).bytes
    cases["over-limit"] = w().element(9, 0x1001, "OB", b"\1" * 98).bytes
    fragments = w().header(0x88, 0x200, "SQ", UNDEFINED).header(*item, "", UNDEFINED)
    fragments.header(0x7FE0, 0x10, "OB", UNDEFINED).header(*item, "", 0).header(*item, "", 3).raw(b"abc")
    cases["icon"] = fragments.header(*end, "", 0).header(*end_item, "", 0).header(*end, "", 0).bytes
    inner = Writer(False).element(0x20, 0xD, "UI", "9.9.9").bytes
    unknown = w().header(0x19, 0x1001, "UN", UNDEFINED).raw(Writer(False).header(*item, "", len(inner)).bytes)
    cases["unknown-sequence"] = unknown.raw(inner + Writer(False).header(*end, "", 0).bytes).bytes
    return cases


def enhanced(explicit: bool = True, big: bool = False) -> dict[str, bytes]:
    """Enhanced CT objects of two frames (PS3.3 A.38.1), sound and otherwise."""

    def w() -> Writer:
        return Writer(explicit, big)

    def sequence(group: int, element: int, *items: bytes, defined: bool = True) -> bytes:
        inner = b"".join(w().header(0xFFFE, 0xE000, "", len(each)).raw(each).bytes for each in items)
        if defined:
            return w().header(group, element, "SQ", len(inner)).raw(inner).bytes
        return w().header(group, element, "SQ", UNDEFINED).raw(inner).header(0xFFFE, 0xE0DD, "", 0).bytes

    measures = sequence(0x28, 0x9110, w().element(0x18, 0x50, "DS", "5").element(0x28, 0x30, "DS", "0.5\\0.5").bytes)
    orientation = sequence(0x20, 0x9116, w().element(0x20, 0x37, "DS", "1\\0\\0\\0\\1\\0").bytes)
    kind = sequence(0x18, 0x9329, w().element(8, 0x9007, "CS", "ORIGINAL\\PRIMARY\\VOLUME").bytes)
    kernel = sequence(0x18, 0x9314, w().element(0x18, 0x1210, "SH", "H30s").bytes)
    head = w().element(8, 0x104, "LO", "Head").bytes
    anatomy = sequence(0x20, 0x9071, sequence(8, 0x2218, head, defined=False))
    shared = kind + kernel + anatomy + orientation + measures
    frames = []
    for z in range(2):
        content = w().short(0x20, 0x9156, 1).element(0x20, 0x9056, "SH", "1").bytes
        place = w().element(0x20, 0x32, "DS", f"-125\\-125\\{5 * z}").bytes
        contrast = w().element(0x18, 0x9342, "CS", "YES" if z else "NO").bytes
        contrast = sequence(0x18, 0x9341, contrast, contrast)
        frames.append(contrast + sequence(0x20, 0x9111, content) + sequence(0x20, 0x9113, place))

    def image(per_frame: bytes, shared: bytes = sequence(0x5200, 0x9229, shared), more: bytes = b"") -> bytes:
        start = w().element(8, 0x16, "UI", CT + ".1").element(8, 0x18, "UI", "1.2.3.4").element(8, 0x60, "CS", "CT")
        agent = sequence(0x18, 0x12, w().element(8, 0x104, "LO", "Iodine").bytes)
        start.raw(agent).element(0x20, 0xD, "UI", "1.2.3").element(0x20, 0xE, "UI", "1.2.3.1").raw(more)
        start.element(0x28, 8, "IS", "2").short(0x28, 0x10, 2).short(0x28, 0x11, 2)
        return start.raw(shared + per_frame).element(0x7FE0, 0x10, "OW", b"\0" * 16).bytes

    part = w().element(0x20, 0x9161, "UI", "1.2.9").short(0x20, 0x9162, 1).short(0x20, 0x9163, 2).bytes
    long = sequence(0x18, 0x9329, w().element(8, 0x9007, "CS", "A" * 300).bytes)
    no_item = b"\xfe\xff\0\xe0" + b"\xab" * 42
    return {
        "sound": image(sequence(0x5200, 0x9230, *frames)),
        "undefined": image(sequence(0x5200, 0x9230, *frames, defined=False)),
        "both": image(sequence(0x5200, 0x9230, *(measures + orientation + each for each in frames))),
        "part": image(sequence(0x5200, 0x9230, *frames), more=part),
        "one-frame-short": image(sequence(0x5200, 0x9230, frames[0])),
        "twice": image(sequence(0x5200, 0x9230, *frames) * 2),
        "no-shared": image(sequence(0x5200, 0x9230, *frames), b""),
        "long": image(sequence(0x5200, 0x9230, *(long + each for each in frames))),
        "nested": image(sequence(0x5200, 0x9230, *(nested(6, explicit, big) + each for each in frames))),
        "no-sequence": image(w().element(0x5200, 0x9230, "UN", no_item).bytes),
        "no-macro": image(sequence(0x5200, 0x9230, *(w().element(0x20, 0x9113, "UN", no_item).bytes,) * 2)),
        "like-an-item": image(
            sequence(0x5200, 0x9230, *(sequence(0x20, 0x9113, w().element(0x20, 0x32, "DS", no_item).bytes),) * 2)
        ),
    }


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


def header_seeds() -> dict[str, bytes]:
    seeds = {}
    plain = {0: (False, False, "implicit"), 1: (True, False, "explicit"), 2: (True, True, "big")}
    pieces = [b"\0", b"\1\7", b"\3\1\0\7", b"\2\x40\3"]
    for option, (explicit, big, name) in plain.items():
        for index, (case, inserted) in enumerate(insertions(explicit, big).items()):
            for small in (0, 4):
                data = ct(explicit, big, inserted)
                seeds[f"{name}-{case}-{small}"] = bytes([option | small]) + pieces[index % 4] + data
        whole = ct(explicit, big)
        for cut in (1, 7, 9, 40, len(whole) - 20):
            seeds[f"{name}-cut-{cut}"] = bytes([option, 0]) + whole[:cut]
        for index, (case, data) in enumerate(enhanced(explicit, big).items()):
            seeds[f"{name}-enhanced-{case}"] = bytes([option]) + pieces[index % 4] + data
        seeds[f"{name}-no-pixels"] = bytes([option, 0]) + ct(explicit, big, pixels=False) + b"\0\0\0"
    for case, inserted in insertions(True, False).items():
        data = ct(True, False, inserted)
        seeds[f"deflated-{case}"] = b"\3\1\x0b" + deflate(data)
        seeds[f"deflated-here-{case}"] = b"\x0f\2\x1d\0" + data
    stream = deflate(ct())
    seeds["deflated-corrupt"] = b"\3\1\x20" + stream[:60] + bytes([stream[60] ^ 0xFF]) + stream[61:]
    seeds["deflated-cut"] = b"\3\1\x20" + stream[:90]
    seeds["deflated-more"] = b"\3\0" + stream + b"more"
    bomb = Writer().element(9, 0x1001, "OB", b"\0" * (5 << 20)).bytes
    seeds["deflated-bomb"] = b"\3\1\0" + deflate(bomb + ct())
    seeds["deflated-bomb-small-limits"] = b"\7\1\0" + deflate(bomb + ct())
    return seeds


# --- Association requests -----------------------------------------------------------------------------------------


def item(kind: int, value: bytes) -> bytes:
    return bytes([kind, 0]) + struct.pack(">H", len(value)) + value


def request(items: bytes, called: bytes = b"ICHNODE", calling: bytes = b"CT1", version: int = 1) -> bytes:
    fixed = struct.pack(">HH", version, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    return b"\1\0" + struct.pack(">I", len(fixed + items)) + fixed + items


def context(number: int, syntaxes: list[bytes], abstract: bytes = CT.encode()) -> bytes:
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract) + b"".join(item(0x40, s) for s in syntaxes))


APPLICATION = item(0x10, b"1.2.840.10008.3.1.1.1")
IMPLICIT, EXPLICIT = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1"
# What DCMTK, pynetdicom, Orthanc and dcm4che say of themselves.
SENDERS = {
    b"STORESCU": (b"1.2.276.0.7230010.3.0.3.6.7", b"OFFIS_DCMTK_367"),
    b"PYNETDICOM": (b"1.2.826.0.1.3680043.9.3811.3.0.4", b"PYNETDICOM_304"),
    b"ORTHANC": (b"1.2.276.0.7230010.3.0.3.6.6", b"OFFIS_DCMTK_366"),
    b"CT1": (b"1.2.40.0.13.1.3", b"dcm4che-5"),
}


def user(sender: bytes = b"CT1", *more: bytes) -> bytes:
    uid, version = SENDERS[sender]
    return item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, uid) + item(0x55, version) + b"".join(more))


def pynetdicom_request(identity: bool) -> bytes:
    """As pynetdicom itself encodes it."""
    from pynetdicom.pdu_primitives import A_ASSOCIATE

    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "PYNETDICOM", "ICHNODE"
    contexts = [build_context(CT), build_context("1.2.840.10008.1.1")]
    for index, each in enumerate(contexts):
        each.context_id = 2 * index + 1
    primitive.presentation_context_definition_list = contexts
    length, uid, version = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = 16382
    uid.implementation_class_uid = "1.2.826.0.1.3680043.9.3811.3.0.4"
    version.implementation_version_name = "PYNETDICOM_304"
    window, role, extended = (
        AsynchronousOperationsWindowNegotiation(),
        SCP_SCU_RoleSelectionNegotiation(),
        SOPClassExtendedNegotiation(),
    )
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    role.sop_class_uid, role.scu_role, role.scp_role = CT, True, False
    extended.sop_class_uid, extended.service_class_application_information = CT, b"\2\0\0\0\0\0"
    primitive.user_information = [length, uid, version, window, role, extended]
    if identity:
        who = UserIdentityNegotiation()
        who.user_identity_type, who.primary_field, who.secondary_field = 2, b"user", b"word"
        who.positive_response_requested = True
        primitive.user_information.append(who)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def association_seeds() -> dict[str, bytes]:
    seeds = {"pynetdicom": pynetdicom_request(False), "pynetdicom-identity": pynetdicom_request(True)}
    one = context(1, [IMPLICIT, EXPLICIT])
    for sender in SENDERS:
        contexts = b"".join(context(2 * i + 1, [s]) for i, s in enumerate([EXPLICIT, IMPLICIT]))
        seeds[sender.decode().lower()] = request(APPLICATION + contexts + user(sender), calling=sender)
    sound = request(APPLICATION + one + user())
    seeds["sound"] = sound
    seeds["more-behind"] = sound + b"\4\0\0\0\0\4" + bytes(4)
    for cut in (0, 1, 5, 6, 73, 74, 80, len(sound) - 1):
        seeds[f"cut-{cut}"] = sound[:cut]
    seeds["second-title"] = request(APPLICATION + one + user(), called=b"NODE 2")
    for name, titles in {
        "called-other": (b"OTHER", b"CT1"), "calling-other": (b"ICHNODE", b"MR7"), "called-empty": (b"", b"CT1"),
        "called-leading": (b"  ICHNODE", b" CT1"), "called-nul": (b"ICHNODE\0\0", b"CT1\0"),
        "called-nul-within": (b"ICH\0NODE", b"CT1"), "called-backslash": (b"ICH\\NODE", b"CT1"),
        "called-utf8": ("ÄÖ".encode(), b"CT1"), "called-16": (b"SIXTEEN_LETTERS_", b"CT1"),
        "calling-control": (b"ICHNODE", b"CT1\n\x1b[2J"),
    }.items():  # fmt: skip
        seeds[name] = request(APPLICATION + one + user(), *titles)
    seeds["version-2"] = request(APPLICATION + one + user(), version=2)
    seeds["version-3"] = request(APPLICATION + one + user(), version=3)
    who = item(0x58, b"\2\1\0\4user\0\4word")
    seeds["identity-twice"] = request(APPLICATION + one + user(b"CT1", who, who))
    seeds["identity-wrong-length"] = request(APPLICATION + one + user(b"CT1", item(0x58, b"\2\1\xff\xffuser")))
    seeds["extended-malformed"] = request(APPLICATION + one + user(b"CT1", item(0x56, b"\xff\xff" + CT.encode())))
    seeds["extended-short"] = request(APPLICATION + one + user(b"CT1", item(0x56, b"\0")))
    seeds["no-syntax"] = request(APPLICATION + context(1, []) + user())
    seeds["no-syntax-40"] = request(APPLICATION + b"".join(context(2 * i + 1, []) for i in range(40)) + user())
    seeds["contexts-128"] = request(APPLICATION + b"".join(context(2 * i + 1, [IMPLICIT]) for i in range(128)) + user())
    seeds["context-even"] = request(APPLICATION + context(2, [IMPLICIT]) + user())
    seeds["context-same-id"] = request(APPLICATION + one + one + user())
    seeds["context-beyond"] = request(APPLICATION + b"\x20\0\xff\xff\1\0\0\0" + user())
    echo = context(1, [IMPLICIT], b"1.2.840.10008.1.1")
    seeds["echo"] = request(APPLICATION + echo + user())
    seeds["echo-padded"] = request(APPLICATION + context(1, [IMPLICIT], b"1.2.840.10008.1.1\0") + user())
    seeds["commitment"] = request(APPLICATION + echo + context(3, [IMPLICIT], b"1.2.840.10008.1.20.1") + user())
    seeds["echo-and-storage"] = request(APPLICATION + echo + context(3, [EXPLICIT]) + user())
    seeds["echo-cut"] = request(APPLICATION + echo[:-1] + user())
    seeds["no-items"] = request(b"")
    seeds["no-application"] = request(one + user())
    seeds["no-user"] = request(APPLICATION + one)
    for length in (0, 67, 68, 0xFFFA, 0xFFFB, 0xFFFFFFF0):
        seeds[f"length-{length}"] = b"\1\0" + struct.pack(">I", length) + sound[6:]
    seeds["http"] = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"
    seeds["tls-length"] = b"\x16\3\1\x40\1\1"
    seeds["tls-version"] = b"\x16\2\1\0\5\1"
    seeds["tls"] = b"\x16\3\1\0\xc8\1\0\0\xc4\3\3" + bytes(32)
    seeds["release"] = b"\5\0\0\0\0\4\0\0\0\0"
    seeds["accept"] = b"\2" + sound[1:]
    return seeds


# --- Frames and messages ------------------------------------------------------------------------------------------


def frame(kind: int, payload: bytes, length: int | None = None) -> bytes:
    return struct.pack(">I", len(payload) + 1 if length is None else length) + bytes([kind]) + payload


RECORD = {
    "sopClassUID": CT, "sopInstanceUID": "1.2.3.4", "studyInstanceUID": "1.2.3", "seriesInstanceUID": "1.2.3.1",
    "transferSyntaxUID": "1.2.840.10008.1.2.1", "callingAETitle": "CT1", "calledAETitle": "ICHNODE",
    "fileSize": 526000, "version": 1, "patient": {"name": "TEST^A", "id": "1"},
    "study": {"date": "20240101", "time": "120000.5"}, "series": {"modality": "CT", "number": 2},
    "image": {
        "imageType": ["ORIGINAL"], "hasPixelData": True, "position": [-125.5, 1e-300, 0], "rows": 512,
        "pixelSpacing": [0.5, 0.5], "instanceNumber": -1,
    },
}  # fmt: skip
OWN = {
    "sopInstanceUID": "1.2.3.4", "fileSize": 526000, "version": 1, "instanceNumber": -1, "acquisitionNumber": 1,
    "acquisitionDateTime": "20240101120000.5", "position": [-125.5, 1e-300, 0],
}  # fmt: skip
COMMON = {name: value for name, value in RECORD.items() if name not in OWN} | {
    "image": {name: value for name, value in RECORD["image"].items() if name not in OWN}
}
LIMITS = {
    "sequenceDepth": 32, "elementBytes": 64 << 20, "headerBytes": 128 << 20, "objectBytes": 2 << 30,
    "deflateRatio": 1032,
}  # fmt: skip
JOB = {
    "associationID": "a1", "peerAddress": "10.0.0.1", "calledAETitles": ["ICHNODE"], "extraSOPClasses": [CT],
    "maxPDUBytes": 131072, "idleTimeoutSeconds": 60, "deadlineSeconds": 3600, "limits": LIMITS, "leastFreeBytes": 1,
    "tls": {"rules": {"calledAETitles": ["ICHNODE"], "callingAETitles": []}, "hasRoom": True, "requestSeconds": 10},
}  # fmt: skip
PEER = {"aeTitle": "PACS", "host": "10.0.0.2", "port": 104}
OBJECT = {"path": "/r/1.dcm", "sopClassUID": CT, "sopInstanceUID": "2.25.1"}
# Types in the order of `FramesCheck.messages`.
MESSAGES: list[tuple[int, object]] = [
    (0, {"serve": {"_0": JOB}}), (0, {"verdict": {"_0": {"keepAs": {"path": "/s/1.v2.dcm", "version": 2}}}}),
    (0, {"verdict": {"_0": {"identical": {}}}}), (0, {"verdict": {"_0": {"refuse": {"reason": "x"}}}}),
    (0, {"stop": {}}),
    (1, {"common": {"_0": COMMON}}), (1, {"stored": {"_0": OWN}}), (1, {"echoed": {}}),
    (1, {"accepted": {"_0": {"callingAETitle": "CT1", "calledAETitle": "ICHNODE", "acceptedContexts": 1,
                             "proposedContexts": 128, "implementation": "X"}}}),
    (1, {"collision": {"_0": {"record": RECORD, "temporaryPath": "/i/1", "existingPath": "/s/1"}}}),
    (1, {"refused": {"_0": {"status": 42752, "reason": "full", "sopInstanceUID": "1.2"}}}),
    (1, {"ended": {"_0": {"how": "released", "reason": "", "storedInstances": 9223372036854775807}}}),
    (2, {"decode": {"paths": ["/s/1.dcm"]}}), (2, {"describe": {"paths": []}}),
    (3, {"plane": {"_0": {"path": "/s", "frame": 0, "frameCount": 1, "rows": 512, "columns": 512}}}), (3, {"done": {}}),
    (3, {"described": {"path": "/s", "_1": RECORD}}), (3, {"failed": {"path": "/s", "reason": "no"}}),
    (5, {"composed": {"_0": [OBJECT]}}), (5, {"failed": {"code": "system", "reason": "no"}}),
    (6, {"echo": {"_0": {"peer": PEER, "callingAETitle": "ICHNODE", "timeoutSeconds": 10.5}}}),
    (6, {"store": {"_0": {"peer": PEER, "callingAETitle": "ICHNODE", "objects": [OBJECT],
                          "connectTimeoutSeconds": 10, "responseTimeoutSeconds": 1e308}}}),
    (7, {"response": {"sopInstanceUID": "1.2", "status": 0, "comment": "ok"}}), (7, {"done": {}}),
    (7, {"failed": {"_0": {"kind": "timeout", "reason": "x"}}}), (7, {"echoed": {"status": 0, "milliseconds": 0.1}}),
    (8, {"load": {"modelDirectory": "/m", "threads": 2}}), (8, {"encode": {"count": 8, "size": 256}}),
    (9, {"scored": {"_0": {"studyLogits": [3.4e38, -1e-45], "attention": [1], "sliceLogits": []}}}),
    (9, {"loaded": {"embeddingSize": 1, "classCount": 6, "mapSize": 8, "modelDigest": "0a"}}),
    (10, {"protocolVersion": 1, "verb": "receive", "processID": 7,
          "confinement": {"landlockVersion": 1, "seccomp": True, "missing": ["x"]}}),
    (11, {"findings": [{"level": "warning", "text": "x"}], "expires": 1800000000}),
    (12, {"fork": {}}), (13, {"forked": {"processID": 7}}), (13, {"failed": {"reason": "x"}}),
]  # fmt: skip


def frames_seeds() -> dict[str, bytes]:
    seeds = {}
    for index, (kind, message) in enumerate(MESSAGES):
        text = json.dumps(message).encode()
        seeds[f"message-{index}"] = b"m" + bytes([kind]) + text
        seeds[f"message-cut-{index}"] = b"m" + bytes([kind]) + text[: len(text) // 2]
    hostile = {
        "deep": b"[" * 3000, "deep-object": b'{"a":' * 600, "huge": b'{"load":{"modelDirectory":"","threads":1e400}}',
        "big-int": b'{"encode":{"count":92233720368547758070,"size":1.5}}', "nul": b'"\\u0000\\ud800"',
        "two-cases": b'{"load":{"modelDirectory":"/m","threads":2},"score":{"count":1}}', "empty": b"",
        "float": b'{"scored":{"_0":{"studyLogits":[1e300],"attention":[],"sliceLogits":[]}}}',
        "path": b'{"showStudy":{"_0":"../x"}}', "twice": b'{"encode":{"count":1,"count":2,"size":1}}',
        "utf8": b'{"load":{"modelDirectory":"\xff\xfe","threads":2}}', "bom": b"\xef\xbb\xbf{}",
        "utf16": b"\xff\xfe{\0}\0",
    }  # fmt: skip
    for name, text in hostile.items():
        for kind in (8, 9):
            seeds[f"hostile-{name}-{kind}"] = b"m" + bytes([kind]) + text
    wires = {
        "two": frame(1, b"{}") + frame(2, b"abc"), "empty": b"", "bulk-empty": frame(2, b""), "kind": frame(9, b"x"),
        "zero": frame(1, b"", 0), "huge": frame(1, b"x", 0xFFFFFFFF), "cut": frame(1, b"xyz")[:-1], "header": b"\0\0\0",
        "at-limit": frame(1, b"x" * 64), "over-limit": frame(1, b"x" * 65), "bulk-limit": frame(2, b"x" * 128),
        "bulk-over": frame(2, b"x" * 129), "message": frame(1, json.dumps(MESSAGES[6][1]).encode()),
    }  # fmt: skip
    for name, wire in wires.items():
        for limits in range(3):
            seeds[f"wire-{name}-{limits}"] = b"w" + bytes([limits]) + wire
    generator = random.Random(20240817)
    for kind in range(12):
        for size in (0, 40, 400):
            seeds[f"generated-{kind}-{size}"] = b"g" + bytes([kind]) + generator.randbytes(size)
    return seeds


def control_seeds() -> dict[str, bytes]:
    requests = [{"listStudies": {"limit": 10}}, {"showStudy": {"_0": "1.2.3"}}, {"completeStudy": {"_0": "1.2.3"}}]
    responses = [{"done": {"_0": "x"}}, {"failed": {"_0": "no"}}, {"studies": {"_0": []}}]
    seeds = {f"request-{i}": b"q" + json.dumps(m).encode() for i, m in enumerate(requests)}
    seeds |= {f"response-{i}": b"r" + json.dumps(m).encode() for i, m in enumerate(responses)}
    seeds |= {"path": b'q{"showStudy":{"_0":"../../x"}}', "min": b'q{"listStudies":{"limit":-9223372036854775808}}'}
    seeds |= {"deep": b"q" + b"[" * 2000, "empty": b"q", "two": b'q{"listStudies":{"limit":1},"showStudy":{"_0":"1"}}'}
    return seeds


# --- Configurations -----------------------------------------------------------------------------------------------

ROUTES = "peers: [{name: pacs, ae_title: PACS, host: 10.0.0.1, port: 104}]\nroutes: [{name: a, destinations: [pacs]}]\n"


def configuration_seeds() -> dict[str, bytes]:
    example = (ROOT / "etc" / "ichnode.yaml").read_text()
    bare = "".join(line + "\n" for line in example.splitlines() if line.strip() and not line.strip().startswith("#"))
    seeds = {"example": bare, "routes": ROUTES, "empty": "", "document": "---\n" + ROUTES + "...\n"}
    wrong = {
        "unknown-key": "node: {ae_tilte: X}", "port": "dicom:\n  port: 70000", "text-port": "dicom: {port: x}",
        "network": 'dicom: {allowed_networks: ["10.0.0.0/99", "::/0", "a/8"]}', "title": "node: {ae_title: A\\B}",
        "grace": "completion: {grace_seconds: 90}", "console": "console: {host: 0.0.0.0}", "list": "node: [1, 2]",
        "cut": "node: [1, 2", "surprise": "surprise: 1", "level": "node: {log_level: loud}", "tab": "node:\n\tx: 1",
        "everyone": 'dicom: {allowed_networks: ["0.0.0.0/0"]}', "null": "node: ~\ndicom: null", "nan": "completion:"
        " {grace_seconds: .nan, quiet_seconds: .inf, deadline_seconds: -.inf}", "octal": "dicom: {port: 0o17}",
        "sexagesimal": "completion: {quiet_seconds: 1:30}", "big": "dicom: {port: 99999999999999999999}",
        "twice": "node: {a: 1}\nnode: {b: 2}", "twice-nested": "node:\n  model: a\n  model: b",
        "anchor": "a: &x [1]\nb: *x", "alias-unknown": "a: *x", "alias-self": "a: &x [*x]", "merge": "a: &x {p: 1}\n"
        "node: {<<: *x}", "key-list": "? [1, 2]\n: 3", "key-map": "? {a: b}\n: 3", "tag": "node: !!set {a, b}",
        "tag-own": "node: !own {ae_title: !!int X}", "binary": "node: {model: !!binary AAA=}", "two-documents":
        "a: 1\n---\nb: 2", "directive": "%YAML 9.9\n---\na: 1", "literal": "node: {model: 'it''s'}\nconsole:\n  host: |"
        "\n    127.0.0.1\n", "folded": "node:\n  model: >-\n    a\n    b\n",
        "escape": 'node: {model: "\\x41\\u263a\\U00'
        '01f600\\0"}', "escape-bad": 'node: {model: "\\ud800"}', "crlf": "node:\r\n  model: x\r\n", "complex":
        "? |\n  block key\n: - one\n  - two", "flow-deep": "a: " + "[" * 60, "flow-deep-closed": "a: " + "[" * 60 +
        "]" * 60, "block-deep": "- " * 60 + "x", "map-deep": "a: " + "{b: " * 60, "laughs": "a: &a [x, x]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)),
        "laughs-key": "a: &a [x, x]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(12)) + "? *m\n: 1",
        "peers": "peers: [{name: a}, {name: a, ae_title: X, host: h, port: 0}, 3]\nroutes: [{}, x, {name: r, "
        "destinations: [nobody, ''], sr_class: y, threshold: 2, calling_ae_titles: ['*', \"A\\\\B\"]}]",
        "tls": "tls: {port: 2762, certificate: /c, key: /k, client_certificates: none}\ndicom: {port: none}",
        "tls-empty": "tls:\ndicom: {port: none}", "no-port": "dicom: {port: none}",
        "self": "peers: [{name: p, ae_title: ICHNODE, host: 127.0.0.1, port: 11112}]",
    }  # fmt: skip
    for name, text in wrong.items():
        seeds[name] = text + "\n"
        seeds[name + "-routes"] = text + "\n" + ROUTES
    raw = {"latin1": b"node: {model: \xfc}", "bom": b"\xef\xbb\xbf" + ROUTES.encode(), "nul": b"node: \0 {}",
           "utf16": ROUTES.encode("utf-16"), "controls": b"node: \x01\x7f\xc2\x85\xe2\x80\xa8x"}  # fmt: skip
    return {name: text.encode() for name, text in seeds.items()} | raw


# --- Images -------------------------------------------------------------------------------------------------------


def image(rows: int = 12, columns: int = 10, frames: int = 1, bits: int = 16, signed: bool = True) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CT
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3", "1.2.3.1", "CT"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    ds.BitsAllocated = 8 if bits <= 8 else 16
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, int(signed)
    ds.RescaleSlope, ds.RescaleIntercept = "1", "0" if signed else "-1024"
    if frames > 1:
        ds.NumberOfFrames = frames
    generator = np.random.default_rng(7)
    low, high = (-1000, 1500) if signed else (0, (1 << bits) - 1)
    values = generator.integers(low, high, (frames, rows, columns))
    values[:, : rows // 2] = low
    kind = ("i" if signed else "u") + str(ds.BitsAllocated // 8)
    ds.PixelData = values.astype("<" + kind).tobytes()
    return ds


def saved(ds: Dataset, folder: Path) -> Path:
    path = folder / "source.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def pixels_seeds() -> dict[str, bytes]:
    seeds = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for target in transcode.TARGETS:
            frames = 3 if target.command else 1
            bits = 8 if "near" in target.name else min(target.bits or 16, 16)
            # OpenJPEG's program wants 32 pixels for its six resolutions.
            size = (12, 10) if target.command else (32, 32)
            source = saved(image(*size, frames, bits, signed=bits == 16), folder)
            output = folder / "output.dcm"
            try:
                transcode.transcode(source, target, output)
            except (RuntimeError, subprocess.SubprocessError) as error:
                raise SystemExit(f"make_corpus: {target.name}: {error}") from error
            seeds[target.name] = output.read_bytes()

        def add(case: str, **changes: object) -> None:
            ds = image(frames=2 if case.startswith("frames") else 1)
            for keyword, value in changes.items():
                setattr(ds, keyword, value)
            seeds[case] = saved(ds, folder).read_bytes()

        add("padding", PixelPaddingValue=-1000)
        add("padding-range", PixelPaddingValue=-1000, PixelPaddingRangeLimit=-900)
        add("monochrome1", PhotometricInterpretation="MONOCHROME1")
        add("rgb", PhotometricInterpretation="RGB", SamplesPerPixel=3)
        add("palette", PhotometricInterpretation="PALETTE COLOR")
        add("rows-0", Rows=0)
        add("rows-many", Rows=4097)
        add("frames-many", NumberOfFrames=4097)
        add("frames-negative", NumberOfFrames=-1)
        add("frames-too-few", NumberOfFrames=3)
        add("bits-stored", BitsStored=17)
        add("high-bit", HighBit=3)
        add("slope-0", RescaleSlope="0")
        add("slope-huge", RescaleSlope="1e308", RescaleIntercept="-1e308")
        add("pixels-short", PixelData=b"\0\0")
        wrapped = image(bits=12, signed=False)
        wrapped.RescaleIntercept = "0"
        seeds["wrapped"] = saved(wrapped, folder).read_bytes()
        groups = image(frames=2)
        transformation, item_ = Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = "2", "-5"
        item_.PixelValueTransformationSequence = [transformation]
        groups.SharedFunctionalGroupsSequence = [item_]
        seeds["functional-groups"] = saved(groups, folder).read_bytes()
    return seeds


SEEDS = {
    "header": header_seeds, "association": association_seeds, "frames": frames_seeds, "control": control_seeds,
    "configuration": configuration_seeds, "pixels": pixels_seeds,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="gets a folder for each target")
    arguments = parser.parse_args()
    for target, seeds in SEEDS.items():
        folder = arguments.output / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds().items():
            if len(data) <= MOST_BYTES:
                (folder / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
