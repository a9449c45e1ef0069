"""Writes HU planes as DICOM CT series, so that the node and the reader `folder` can be tried on them.

What is written is marked as synthetic: CT-ICH has lost its headers and its pixel spacing, painted studies are not real.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from . import ctich
from .dicom import CT_IMAGE_STORAGE
from .preprocess import AIR_HU, clip_planes
from .study import LABELS, complete_labels

INVENTED_PIXEL_SPACING_MM = 0.4
CTICH_SLICE_SPACING_MM = 5.0
DATE, TIME = "20180101", "120000"
CTICH_REMARK = (
    "Put together from 8-bit window images of PhysioNet CT-ICH v1.0.0. Pixel spacing, positions, date and "
    "identifiers are invented."
)
PAINTED_REMARK = "Painted on a real study: not a patient."


def derived_uid(*parts: object) -> str:
    """A UID below 2.25 (PS3.5 Annex B.2) that depends on nothing but `parts`."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def write_series(
    folder: Path,
    planes: np.ndarray,
    positions_mm: np.ndarray,
    spacing_xyz: tuple[float, float, float],
    patient_id: str,
    study_description: str,
    uid_seed: str,
    remark: str = PAINTED_REMARK,
) -> tuple[str, list[str]]:
    """Writes one study of one axial series; returns (Study Instance UID, SOP Instance UIDs feet to head).

    planes: [slice][row][column] HU. positions_mm: [slice] ascending, feet to head. spacing_xyz: mm between columns,
    between rows, and slice thickness. Equal arguments give equal files. remark: what is synthetic about it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study_uid, series_uid = derived_uid(uid_seed, "study"), derived_uid(uid_seed, "series")
    uids = [derived_uid(uid_seed, "image", number) for number in range(len(planes))]
    for number, (plane, position) in enumerate(zip(clip_planes(planes), positions_mm)):
        dataset = new_dataset(uids[number])
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.FrameOfReferenceUID = derived_uid(uid_seed, "frame")
        dataset.PatientID, dataset.PatientName = patient_id, f"Synthetic^{patient_id}"
        dataset.PatientBirthDate, dataset.PatientSex = "", ""
        dataset.StudyID, dataset.AccessionNumber = "1", derived_uid(uid_seed, "accession")[-12:]
        dataset.StudyDescription, dataset.SeriesDescription = study_description, "Head, synthetic series"
        dataset.DerivationDescription = dataset.ImageComments = remark
        dataset.InstanceNumber = number + 1
        place(dataset, plane.shape, float(position), spacing_xyz)
        set_pixels(dataset, plane)
        dataset.save_as(folder / f"{number + 1:04d}.dcm", enforce_file_format=True)
    return study_uid, uids


def new_dataset(sop_instance_uid: str) -> FileDataset:
    """A CT image without patient, geometry and pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT_IMAGE_STORAGE, sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = derived_uid("ichtrain", "implementation")
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT_IMAGE_STORAGE, sop_instance_uid
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    dataset.Modality, dataset.Manufacturer, dataset.BodyPartExamined = "CT", "ICHNode training", "HEAD"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = DATE
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = TIME
    dataset.ReferringPhysicianName, dataset.PositionReferenceIndicator = "", ""
    dataset.SeriesNumber, dataset.AcquisitionNumber, dataset.KVP = 1, 1, None
    dataset.PatientPosition = "HFS"
    return dataset


def place(dataset: FileDataset, shape: tuple[int, int], position_mm: float, spacing_xyz: tuple) -> None:
    """Geometry of an axial slice whose middle lies on the body axis."""
    x, y, z = (float(spacing) for spacing in spacing_xyz)
    rows, columns = shape
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    corner = (-(columns - 1) / 2 * x, -(rows - 1) / 2 * y, position_mm)
    dataset.ImagePositionPatient = [f"{value:.6g}" for value in corner]
    dataset.PixelSpacing, dataset.SliceThickness = [y, x], z


def set_pixels(dataset: FileDataset, plane: np.ndarray) -> None:
    """HU [row][column] as scanners store them: unsigned 16 bits, intercept -1024."""
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = AIR_HU, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 80
    dataset.PixelData = (plane.astype(np.int32) - AIR_HU).astype("<u2").tobytes()


def convert_ctich(data: Path, output: Path, patients: Iterable[int] | None = None) -> None:
    """Writes CT-ICH studies to OUTPUT/patient-NNN/, and `labels.csv` and `slice-labels.csv` for the reader `folder`.

    patients: their numbers; None for all. The strata are those of the reader `ctich`.
    """
    rows = ctich.read_labels(data)
    unknown = set(patients or ()) - set(rows)
    if unknown:
        raise ValueError(f"no patient {', '.join(map(str, sorted(unknown)))} in labels.csv")
    wanted = sorted(rows if patients is None else set(patients))
    output.mkdir(parents=True, exist_ok=True)
    with (
        open(output / "labels.csv", "w", newline="") as study_file,
        open(output / "slice-labels.csv", "w", newline="") as slice_file,
    ):
        studies, slices = csv.writer(study_file), csv.writer(slice_file)
        studies.writerow(["study", *LABELS, "patient", "stratum"])
        slices.writerow(["sop_instance_uid", *LABELS])
        for patient in wanted:
            source = data / f"patient-{patient:03d}"
            planes = np.stack([ctich.read_hounsfield(source, number) for number in rows[patient]])
            positions = np.arange(len(planes)) * CTICH_SLICE_SPACING_MM
            spacing = (INVENTED_PIXEL_SPACING_MM, INVENTED_PIXEL_SPACING_MM, CTICH_SLICE_SPACING_MM)
            study_uid, uids = write_series(
                output / source.name, planes, positions, spacing, f"CTICH-{patient:03d}",
                "CT-ICH head without contrast", f"ct-ich {patient}", CTICH_REMARK,
            )
            labels = np.array(list(rows[patient].values()), np.float32)
            study_labels = complete_labels(labels, None, len(labels))[1]
            stratum = int(patient < ctich.FIRST_NEGATIVE_ONLY_PATIENT)
            studies.writerow([study_uid, *(int(value) for value in study_labels), patient, stratum])
            slices.writerows([uid, *(int(value) for value in row)] for uid, row in zip(uids, labels))
