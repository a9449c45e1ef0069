"""A Storage SCU in a few lines: unlike a real library it has no threads, no timers and no second thoughts, and it says
at once when the other side is gone. Sends data sets as bytes; nothing is encoded again."""

from __future__ import annotations

import dataclasses
import hashlib
from random import Random

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from raw_dicom import (
    ASSOCIATE_AC,
    C_STORE_RQ,
    EXPLICIT,
    Peer,
    associate_request,
    context,
    data_pdu,
    release_pdu,
    request,
)


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
    """An association with one presentation context for each SOP class, all in one transfer syntax."""

    def __init__(
        self,
        port: int,
        sop_classes: list[str],
        calling: str = "DEMOPACS",
        timeout: float = 30,
        source: str = "127.0.0.1",
        transfer_syntax: str = EXPLICIT,
    ):
        self._contexts = {uid: 2 * index + 1 for index, uid in enumerate(sop_classes)}
        self._peer = Peer(port, source, timeout)
        try:
            contexts = [context(number, uid, transfer_syntax) for uid, number in self._contexts.items()]
            self._peer.send(associate_request(*contexts, calling=calling.encode()))
            kind, _ = self._peer.receive() or (None, b"")
            if kind != ASSOCIATE_AC:
                raise SenderFailure(f"PDU of type {kind} instead of A-ASSOCIATE-AC")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PlainSender:
        return self

    def __exit__(self, kind, *_) -> None:
        self.release() if kind is None else self.close()

    def close(self) -> None:
        self._peer.socket.close()

    def release(self) -> None:
        try:
            self._peer.send(release_pdu())
            self._peer.receive()
        finally:
            self.close()

    def cut_off_within(self, instance: Instance) -> None:
        """Sends the half of an object and no more."""
        half = instance.data_set[: len(instance.data_set) // 2]
        context_id = self._contexts[instance.sop_class_uid]
        command = request(C_STORE_RQ, instance.sop_class_uid, instance.sop_uid, message_id=1000)
        self._peer.send(
            data_pdu(context_id, command, command=True), data_pdu(context_id, half, command=False, last=False)
        )
        self.close()

    def store(self, instance: Instance) -> int:
        """Status of the C-STORE response.

        Raises OSError where none came.
        """
        response = self._peer.store(
            instance.sop_uid,
            instance.data_set,
            sop_class=instance.sop_class_uid,
            context_id=self._contexts[instance.sop_class_uid],
        )
        if response is None:
            raise SenderFailure("the association ended instead of a response")
        return response.status
