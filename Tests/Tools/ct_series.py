"""Writes a volume of Hounsfield units as a CT series of single-frame CT Image Storage files, headers as a scanner fills
them. Used by make_ct_series.py (generated phantoms) and by the demo (a real head CT)."""

from __future__ import annotations

import datetime
import math
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

# UIDs made of a UUID need no registration (PS3.5 §B.2).
IMPLEMENTATION_CLASS_UID = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, 'ICHNode test series').int}"


def new_uid() -> str:
    return f"2.25.{uuid.uuid4().int}"


def uid_source(name: str | None) -> Callable[[str], str]:
    """A function from role to UID: fresh ones, or the same ones on each run when a name is given."""
    if name is None:
        return lambda role: new_uid()
    return lambda role: f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{name}/{role}').int}"


@dataclass
class CTVolume:
    """Hounsfield units [slice][row][column], slices ordered feet to head, rows front to back, columns from the
    patient's right to left: an axial head-first supine scan in LPS."""

    hounsfield: np.ndarray
    row_spacing_mm: float
    column_spacing_mm: float
    slice_positions_mm: list[float]  # along the normal, feet to head
    slice_thickness_mm: float
    tilt_degrees: float = 0.0  # of the gantry, about the patient's left-right axis

    @property
    def slice_spacing_mm(self) -> float:
        gaps = np.diff(self.slice_positions_mm)
        return float(np.median(gaps)) if len(gaps) else self.slice_thickness_mm

    @property
    def orientation(self) -> list[float]:
        angle = math.radians(self.tilt_degrees)
        return [1.0, 0.0, 0.0, 0.0, round(math.cos(angle), 8), round(math.sin(angle), 8)]

    def position(self, index: int) -> list[float]:
        """ImagePositionPatient of a slice. A tilted gantry still moves along the table: z, not the normal."""
        _, rows, columns = self.hounsfield.shape
        angle = math.radians(self.tilt_degrees)
        z = self.slice_positions_mm[index] / math.cos(angle)
        half_height = (rows - 1) / 2 * self.row_spacing_mm
        return [
            round(-(columns - 1) / 2 * self.column_spacing_mm, 6),
            round(-half_height * math.cos(angle), 6),
            round(z - half_height * math.sin(angle), 6),
        ]


@dataclass
class CTHeader:
    """What identifies a series. Names are synthetic; UIDs fresh unless given."""

    patient_name: str = "PHANTOM^HEAD"
    patient_id: str = "PHANTOM-1"
    patient_sex: str = "O"
    patient_birth_date: str = "19500101"
    issuer_of_patient_id: str = ""
    accession_number: str = "A0001"
    study_description: str = "CT HEAD WITHOUT CONTRAST"
    series_description: str = "HEAD 1.5 H30s"
    protocol_name: str = "HeadRoutine"
    body_part: str = "HEAD"
    series_number: int = 2
    kernel: str = "H30s"
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    contrast_agent: str = ""
    institution: str = "EXAMPLE HOSPITAL"
    manufacturer: str = "Synthetic"
    model: str = "Phantom CT"
    station: str = "CT1"
    character_set: str = "ISO_IR 100"
    study_uid: str = field(default_factory=new_uid)
    series_uid: str = field(default_factory=new_uid)
    frame_of_reference_uid: str = field(default_factory=new_uid)
    acquired: datetime.datetime = field(default_factory=datetime.datetime.now)
    images_in_acquisition: int | None = None
    padding_value: int | None = None  # HU of what lies outside the reconstruction circle
    signed: bool = False  # 16-bit signed with intercept 0 instead of 12-bit unsigned with intercept -1024
    transfer_syntax: str = ExplicitVRLittleEndian


def slice_dataset(volume: CTVolume, header: CTHeader, index: int, instance_number: int, sop_uid: str) -> FileDataset:
    """One slice as a data set that is ready to be saved."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = sop_uid
    meta.TransferSyntaxUID = header.transfer_syntax
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID

    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    date = header.acquired.strftime("%Y%m%d")
    time = header.acquired.strftime("%H%M%S.%f")
    slice_time = (header.acquired + datetime.timedelta(milliseconds=50 * index)).strftime("%H%M%S.%f")

    # Patient, General Study
    ds.SpecificCharacterSet = header.character_set
    ds.PatientName = header.patient_name
    ds.PatientID = header.patient_id
    if header.issuer_of_patient_id:
        ds.IssuerOfPatientID = header.issuer_of_patient_id
    ds.PatientBirthDate = header.patient_birth_date
    ds.PatientSex = header.patient_sex
    ds.StudyInstanceUID = header.study_uid
    ds.StudyDate = date
    ds.StudyTime = time
    ds.ReferringPhysicianName = ""
    ds.StudyID = "1"
    ds.AccessionNumber = header.accession_number
    ds.StudyDescription = header.study_description

    # General Series, Frame of Reference, General Equipment
    ds.Modality = "CT"
    ds.SeriesInstanceUID = header.series_uid
    ds.SeriesNumber = header.series_number
    ds.SeriesDate = date
    ds.SeriesTime = time
    ds.SeriesDescription = header.series_description
    ds.ProtocolName = header.protocol_name
    ds.BodyPartExamined = header.body_part
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID = header.frame_of_reference_uid
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer = header.manufacturer
    ds.ManufacturerModelName = header.model
    ds.InstitutionName = header.institution
    ds.StationName = header.station
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = "1.0"

    # General Image, Image Plane, CT Image
    ds.ImageType = list(header.image_type)
    ds.InstanceNumber = instance_number
    ds.AcquisitionNumber = 1
    ds.AcquisitionDate = date
    ds.AcquisitionTime = slice_time
    ds.ContentDate = date
    ds.ContentTime = slice_time
    if header.images_in_acquisition is not None:
        ds.ImagesInAcquisition = header.images_in_acquisition
    if header.contrast_agent:
        ds.ContrastBolusAgent = header.contrast_agent
        ds.ContrastBolusRoute = "IV"
    ds.ImagePositionPatient = volume.position(index)
    ds.ImageOrientationPatient = volume.orientation
    ds.SliceThickness = volume.slice_thickness_mm
    ds.SliceLocation = round(volume.slice_positions_mm[index], 6)
    ds.PixelSpacing = [volume.row_spacing_mm, volume.column_spacing_mm]
    ds.KVP = 120
    ds.XRayTubeCurrent = 300
    ds.ExposureTime = 1000
    ds.GantryDetectorTilt = volume.tilt_degrees
    ds.ConvolutionKernel = header.kernel
    ds.FilterType = "0"

    _set_pixels(ds, volume.hounsfield[index], header)
    ds.WindowCenter = 40
    ds.WindowWidth = 80
    ds.LossyImageCompression = "00"

    # SOP Common
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = sop_uid
    ds.InstanceCreationDate = date
    ds.InstanceCreationTime = time
    return ds


def _set_pixels(ds: pydicom.Dataset, hounsfield: np.ndarray, header: CTHeader) -> None:
    rows, columns = hounsfield.shape
    intercept = 0 if header.signed else -1024
    stored = np.rint(hounsfield).astype(np.int32) - intercept
    if header.signed:
        stored, bits, dtype = np.clip(stored, -32768, 32767), 16, "<i2"
    else:
        stored, bits, dtype = np.clip(stored, 0, 4095), 12, "<u2"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = rows
    ds.Columns = columns
    ds.BitsAllocated = 16
    ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = 1 if header.signed else 0
    if header.padding_value is not None:
        ds.PixelPaddingValue = header.padding_value - intercept
    ds.RescaleIntercept = intercept
    ds.RescaleSlope = 1
    if "LOCALIZER" not in header.image_type:
        ds.RescaleType = "HU"
    ds.PixelData = stored.astype(dtype).tobytes()
    ds["PixelData"].VR = "OW"


def write_series(
    volume: CTVolume,
    header: CTHeader,
    folder: Path,
    *,
    instance_numbers: list[int] | None = None,
    sop_uids: list[str] | None = None,
    leave_out: frozenset[int] = frozenset(),
    prefix: str = "CT",
) -> list[dict]:
    """Writes one file per slice. Returns, per file, its name, slice index (feet to head), instance number and UID."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for index in range(len(volume.hounsfield)):
        if index in leave_out:
            continue
        number = instance_numbers[index] if instance_numbers else index + 1
        uid = sop_uids[index] if sop_uids else new_uid()
        path = folder / f"{prefix}{number:04d}.dcm"
        slice_dataset(volume, header, index, number, uid).save_as(path, enforce_file_format=True)
        written.append({"file": path.name, "slice": index, "instance_number": number, "sop_instance_uid": uid})
    return written


def read_series(folder: Path) -> tuple[CTVolume, list[FileDataset]]:
    """The one axial CT series of a folder as a volume, slices ordered feet to head, and its data sets in that order."""
    by_series: dict[str, list[FileDataset]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        ds = pydicom.dcmread(path, force=False)
        if ds.get("SOPClassUID") == CTImageStorage and "LOCALIZER" not in ds.ImageType:
            by_series.setdefault(ds.SeriesInstanceUID, []).append(ds)
    if not by_series:
        raise ValueError(f"{folder}: no CT images here")
    slices = max(by_series.values(), key=len)
    row, column = (np.array(slices[0].ImageOrientationPatient[i : i + 3], float) for i in (0, 3))
    normal = np.cross(row, column)
    slices.sort(key=lambda ds: float(np.dot(normal, ds.ImagePositionPatient)))
    first = slices[0]
    hounsfield = np.stack(
        [ds.pixel_array.astype(np.float32) * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices]
    )
    volume = CTVolume(
        hounsfield=hounsfield,
        row_spacing_mm=float(first.PixelSpacing[0]),
        column_spacing_mm=float(first.PixelSpacing[1]),
        slice_positions_mm=[float(np.dot(normal, ds.ImagePositionPatient)) for ds in slices],
        slice_thickness_mm=float(first.SliceThickness),
        tilt_degrees=math.degrees(math.asin(max(-1.0, min(1.0, float(column[2]))))),
    )
    return volume, slices
