"""A Storage SCU in a few lines: unlike a real library it has no threads, no timers and no second thoughts, and it says
at once when the other side is gone. Sends data sets as bytes; nothing is encoded again."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import struct
from random import Random

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS = "1.2.826.0.1.3680043.8.498.1"
MOST_PDU_BYTES = 16384
ASSOCIATE_RQ, ASSOCIATE_AC, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 1, 2, 4, 5, 6, 7


class SenderFailure(ConnectionError):
    """The association is not there, or no longer."""


# --- Objects ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Instance:
    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_uid: str
    data_set: bytes = dataclasses.field(repr=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data_set).hexdigest()


def new_uid(random: Random) -> str:
    """From a UUID (PS3.5 §B.2); always 44 characters, so that one can take the place of another."""
    return f"2.25.{random.randrange(10**38, 1 << 128)}"


class Template:
    """An encoded data set in which only the UIDs change."""

    def __init__(self, dataset: Dataset):
        source = Random("of no other use")
        self.sop_class_uid = str(dataset.SOPClassUID)
        self._study, self._series, self._sop = (new_uid(source) for _ in range(3))
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = self._study, self._series
        dataset.SOPInstanceUID = self._sop
        encoded = DicomBytesIO()
        encoded.is_little_endian, encoded.is_implicit_VR = True, False
        write_dataset(encoded, Dataset({element.tag: element for element in dataset if element.tag.group != 2}))
        self._bytes = encoded.getvalue()

    def instance(self, study_uid: str, series_uid: str, sop_uid: str, mark: bytes = b"") -> Instance:
        """`mark` takes the place of the last bytes, which are pixels."""
        content = self._bytes
        for old, new in ((self._study, study_uid), (self._series, series_uid), (self._sop, sop_uid)):
            assert len(old) == len(new)
            content = content.replace(old.encode(), new.encode())
        content = content[: len(content) - len(mark)] + mark
        return Instance(study_uid, series_uid, self.sop_class_uid, sop_uid, content)


def small_image() -> Template:
    """One of 16 × 16 pixels that is no CT: nothing is analysed."""
    ds = Dataset()
    ds.SOPClassUID = MRImageStorage
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20260102", "101500", "1"
    ds.Modality, ds.PatientName, ds.PatientID = "MR", "CRASH^TEST", "CRASH"
    ds.PatientBirthDate, ds.PatientSex, ds.StudyID = "", "", "1"
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = 16
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = np.arange(256, dtype=np.uint16).tobytes()
    return Template(ds)


def image_of(path) -> Template:
    """A stored image in explicit little endian."""
    ds = pydicom.dcmread(path)
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    return Template(ds)


# --- The association --------------------------------------------------------------------------------------------------


class PlainSender:
    """An association with one presentation context for each SOP class, in explicit little endian."""

    def __init__(
        self,
        address: tuple[str, int],
        sop_classes: list[str],
        calling: str = "DEMOPACS",
        timeout: float = 30,
        source: str = "127.0.0.1",
    ):
        self._contexts = {uid: 2 * index + 1 for index, uid in enumerate(sop_classes)}
        self._messages = 0
        self._buffer = b""
        self._socket = socket.create_connection(address, timeout=timeout, source_address=(source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.sendall(self._request(calling))
            kind, _ = self._read()
            if kind != ASSOCIATE_AC:
                raise SenderFailure(f"PDU of type {kind} instead of A-ASSOCIATE-AC")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> PlainSender:
        return self

    def __exit__(self, kind, *_) -> None:
        self.release() if kind is None else self.close()

    def close(self) -> None:
        self._socket.close()

    def release(self) -> None:
        try:
            self._socket.sendall(_pdu(RELEASE_RQ, bytes(4)))
            self._read()
        finally:
            self._socket.close()

    def store(self, instance: Instance) -> int:
        """Status of the C-STORE response.

        Raises OSError where none came.
        """
        self._messages += 1
        command = _command(
            [
                (0x0002, instance.sop_class_uid),
                (0x0100, 0x0001),
                (0x0110, self._messages & 0xFFFF),
                (0x0700, 0),
                (0x0800, 0x0001),
                (0x1000, instance.sop_uid),
            ]
        )
        context = self._contexts[instance.sop_class_uid]
        pieces = [_pdu(P_DATA, _pdv(context, 3, command))]
        step = MOST_PDU_BYTES - 6
        for start in range(0, len(instance.data_set), step):
            is_last = start + step >= len(instance.data_set)
            pieces.append(_pdu(P_DATA, _pdv(context, 2 * is_last, instance.data_set[start : start + step])))
        self._socket.sendall(b"".join(pieces))
        return self._status()

    def _status(self) -> int:
        command = b""
        while True:
            kind, body = self._read()
            if kind != P_DATA:
                raise SenderFailure(f"PDU of type {kind} instead of a response")
            while body:
                (length,) = struct.unpack_from(">I", body)
                control, piece, body = body[5], body[6 : 4 + length], body[4 + length :]
                command += piece
                if control & 2:
                    return _status_of(command)

    def _read(self) -> tuple[int, bytes]:
        kind, _, length = struct.unpack(">BBI", self._read_exactly(6))
        return kind, self._read_exactly(length)

    def _read_exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            more = self._socket.recv(65536)
            if not more:
                raise SenderFailure("the connection ended")
            self._buffer += more
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _request(self, calling: str) -> bytes:
        """PS3.8 §9.3.2."""
        body = struct.pack(">HH", 1, 0) + b"ICHNODE".ljust(16) + calling.encode().ljust(16) + bytes(32)
        body += _item(0x10, APPLICATION_CONTEXT.encode())
        for uid, number in self._contexts.items():
            syntaxes = _item(0x30, uid.encode()) + _item(0x40, ExplicitVRLittleEndian.encode())
            body += _item(0x20, bytes([number, 0, 0, 0]) + syntaxes)
        user = _item(0x51, struct.pack(">I", MOST_PDU_BYTES)) + _item(0x52, IMPLEMENTATION_CLASS.encode())
        return _pdu(ASSOCIATE_RQ, body + _item(0x50, user))


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _pdv(context: int, control: int, piece: bytes) -> bytes:
    return struct.pack(">IBB", len(piece) + 2, context, control) + piece


def _command(elements: list[tuple[int, int | str]]) -> bytes:
    """Group 0000 in implicit little endian (PS3.7 §6.3.1)."""
    body = b""
    for number, value in elements:
        encoded = struct.pack("<H", value) if isinstance(value, int) else value.encode() + b"\0" * (len(value) % 2)
        body += struct.pack("<HHI", 0, number, len(encoded)) + encoded
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _status_of(command: bytes) -> int:
    """(0000,0900)."""
    at = 0
    while at + 8 <= len(command):
        group, number, length = struct.unpack_from("<HHI", command, at)
        if (group, number) == (0, 0x0900):
            return struct.unpack_from("<H", command, at + 8)[0]
        at += 8 + length
    raise SenderFailure("a response without status")
