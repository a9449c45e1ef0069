"""Turns a series of single-frame CT images into multi-frame objects: Enhanced CT Image Storage, attribute by attribute
after PS3.3 A.38.1, or Legacy Converted Enhanced CT with highdicom."""

from __future__ import annotations

import copy
import subprocess
import warnings
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, EnhancedCTImageStorage, ExplicitVRLittleEndian

from ct_series import IMPLEMENTATION_CLASS_UID, new_uid
from transcode import TARGETS, tool

# Carried over as they stand: patient, study, series, frame of reference, equipment, and the image's description.
CARRIED = """
    SpecificCharacterSet PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate
    StudyTime ReferringPhysicianName StudyID AccessionNumber StudyDescription Modality SeriesInstanceUID SeriesNumber
    SeriesDate SeriesTime SeriesDescription ProtocolName BodyPartExamined PatientPosition FrameOfReferenceUID
    PositionReferenceIndicator Manufacturer ManufacturerModelName InstitutionName StationName DeviceSerialNumber
    SoftwareVersions ContentDate ContentTime SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated
    BitsStored HighBit PixelRepresentation PixelPaddingValue LossyImageCompression
""".split()


def item(**attributes) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def code(value: str, scheme: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def groups_of(slice_: Dataset, dimension: int, contrast: str | None) -> dict[str, Dataset]:
    """Functional groups macros of one frame by keyword of their sequence (PS3.3 Table A.38-2)."""
    date_time = f"{slice_.AcquisitionDate}{slice_.AcquisitionTime}"
    frame_type = item(
        FrameType=[*slice_.ImageType[:2], "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
    groups = {
        "PixelMeasuresSequence": item(PixelSpacing=slice_.PixelSpacing, SliceThickness=slice_.SliceThickness),
        "FrameContentSequence": item(
            FrameAcquisitionNumber=int(slice_.AcquisitionNumber),
            FrameReferenceDateTime=date_time,
            FrameAcquisitionDateTime=date_time,
            FrameAcquisitionDuration=1000.0,
            StackID="1",
            InStackPositionNumber=dimension,
            DimensionIndexValues=[1, dimension],
        ),
        "PlanePositionSequence": item(ImagePositionPatient=slice_.ImagePositionPatient),
        "PlaneOrientationSequence": item(ImageOrientationPatient=slice_.ImageOrientationPatient),
        "FrameAnatomySequence": item(
            FrameLaterality="U", AnatomicRegionSequence=[code("69536005", "SCT", "Head")]
        ),
        "PixelValueTransformationSequence": item(
            RescaleIntercept=slice_.RescaleIntercept, RescaleSlope=slice_.RescaleSlope, RescaleType="HU"
        ),
        "FrameVOILUTSequence": item(WindowCenter=40, WindowWidth=80),
        "CTImageFrameTypeSequence": frame_type,
        "CTReconstructionSequence": item(
            ReconstructionAlgorithm="FILTER_BACK_PROJ",
            ConvolutionKernel=slice_.ConvolutionKernel,
            ConvolutionKernelGroup="BRAIN",
            ReconstructionDiameter=float(slice_.PixelSpacing[0]) * slice_.Rows,
            ReconstructionPixelSpacing=[float(each) for each in slice_.PixelSpacing],
            ReconstructionAngle=360.0,
            ImageFilter="0",
        ),
        "CTAcquisitionTypeSequence": item(AcquisitionType="SEQUENCED", ConstantVolumeFlag="NO", FluoroscopyFlag="NO"),
        "CTAcquisitionDetailsSequence": item(
            RotationDirection="CW",
            RevolutionTime=1.0,
            SingleCollimationWidth=float(slice_.SliceThickness),
            TotalCollimationWidth=float(slice_.SliceThickness),
            TableHeight=0.0,
            GantryDetectorTilt=float(slice_.GantryDetectorTilt),
            DataCollectionDiameter=500.0,
        ),
        "CTTableDynamicsSequence": item(TableSpeed=6.0, TableFeedPerRotation=6.0),
        "CTPositionSequence": item(
            TablePosition=0.0,
            DataCollectionCenterPatient=[0.0, 0.0, 0.0],
            ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
        ),
        "CTGeometrySequence": item(DistanceSourceToDetector=1000.0, DistanceSourceToDataCollectionCenter=500.0),
        "CTExposureSequence": item(
            ExposureTimeInms=float(slice_.ExposureTime),
            XRayTubeCurrentInmA=float(slice_.XRayTubeCurrent),
            ExposureInmAs=300.0,
            ExposureModulationType="NONE",
        ),
        "CTXRayDetailsSequence": item(KVP=slice_.KVP, FocalSpots=[1.0], FilterType="WEDGE", FilterMaterial="TEFLON"),
        "IrradiationEventIdentificationSequence": item(IrradiationEventUID=f"{slice_.SeriesInstanceUID}.1"[-64:]),
    }
    if contrast:
        groups["ContrastBolusUsageSequence"] = item(
            ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered=contrast, ContrastBolusAgentDetected=contrast
        )
    return groups


def enhanced_ct(
    slices: list[Dataset],
    *,
    per_frame: tuple[str, ...] = ("FrameContentSequence", "PlanePositionSequence"),
    contrast: str | None = None,
    sop_uid: str | None = None,
    part: tuple[int, int, int, str] | None = None,
) -> FileDataset:
    """One Enhanced CT object whose frames are the slices, in that order.

    `per_frame` names the macros that every frame has its own of. `part` is of a concatenation: number, total, frames
    before this part, UID.
    """
    first = slices[0]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    meta.MediaStorageSOPInstanceUID = sop_uid or new_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in CARRIED:
        if keyword in first:
            ds[keyword] = copy.deepcopy(first[keyword])
    ds.SOPClassUID = EnhancedCTImageStorage
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.InstanceNumber = part[0] if part else 1
    ds.NumberOfFrames = len(slices)
    # Enhanced CT Image, PS3.3 C.8.15.2
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.PixelPresentation = "MONOCHROME"
    ds.VolumetricProperties = "VOLUME"
    ds.VolumeBasedCalculationTechnique = "NONE"
    ds.AcquisitionDateTime = f"{first.AcquisitionDate}{first.AcquisitionTime}"
    ds.AcquisitionDuration = 1000.0
    ds.ContentQualification = "RESEARCH"
    ds.BurnedInAnnotation = "NO"
    ds.PresentationLUTShape = "IDENTITY"
    ds.AcquisitionContextSequence = []
    ds.MultienergyCTAcquisition = "NO"
    if contrast:
        agent = code("109220", "DCM", "Iodine")
        agent.ContrastBolusAgentNumber = 1
        agent.ContrastBolusIngredientCodeSequence = []
        ds.ContrastBolusAgentSequence = [agent]
    # Multi-frame Dimension, PS3.3 C.7.6.17
    organization = new_uid()
    ds.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
    ds.DimensionIndexSequence = [
        item(DimensionOrganizationUID=organization, DimensionIndexPointer=pointer, FunctionalGroupPointer=0x00209111)
        for pointer in (0x00209056, 0x00209057)
    ]
    if part:
        ds.InConcatenationNumber, ds.InConcatenationTotalNumber, ds.ConcatenationFrameOffsetNumber = part[:3]
        ds.ConcatenationUID = part[3]
        ds.SOPInstanceUIDOfConcatenationSource = f"{part[3]}.1"
    offset = part[2] if part else 0
    shared, frames = Dataset(), []
    for index, slice_ in enumerate(slices):
        frame = Dataset()
        for keyword, macro in groups_of(slice_, offset + index + 1, contrast).items():
            setattr(frame if keyword in per_frame else shared, keyword, [macro])
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.PixelData = b"".join(slice_.PixelData for slice_ in slices)
    ds["PixelData"].VR = "OW"
    return ds


def legacy_converted_ct(slices: list[Dataset]) -> FileDataset:
    """One Legacy Converted Enhanced CT object, with what highdicom makes of the slices."""
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LegacyConvertedEnhancedCTImage(
            slices, series_instance_uid=new_uid(), series_number=3, sop_instance_uid=new_uid(), instance_number=1
        )


def write(ds: Dataset, path: Path, syntax: str = "explicit-little") -> Path:
    """Saves it, with `syntax` of `transcode.TARGETS` (one that DCMTK writes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    if syntax != "explicit-little":
        (target,) = (each for each in TARGETS if each.name == syntax)
        plain = path.rename(path.with_suffix(".plain"))
        program, *options = target.command
        subprocess.run([tool(program), *options, plain, path], check=True, capture_output=True)
        plain.unlink()
        assert UID(pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID) == target.uid
    return path


def read_slices(files: list[Path]) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in files]


