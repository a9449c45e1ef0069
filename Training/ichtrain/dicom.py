"""DICOM CT images as the node reads them: headers as bytes with few conversions, pixels as HU.

`read_hounsfield` repeats the node's decoder (Sources/CDCMTK/image.cpp) rule by rule: bits stored, padding, the wrap of
12-bit pixels, rescale, clipping to [-1024, 3071] HU.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from .preprocess import AIR_HU, clip_planes

TAGS = {
    "sop_class": 0x00080016,
    "sop_instance_uid": 0x00080018,
    "image_type": 0x00080008,
    "accession_number": 0x00080050,
    "modality": 0x00080060,
    "manufacturer": 0x00080070,
    "study_description": 0x00081030,
    "series_description": 0x0008103E,
    "patient_id": 0x00100020,
    "contrast_agent": 0x00180010,
    "body_part": 0x00180015,
    "protocol_name": 0x00181030,
    "slice_thickness": 0x00180050,
    "kernel": 0x00181210,
    "study_uid": 0x0020000D,
    "series_uid": 0x0020000E,
    "series_number": 0x00200011,
    "acquisition_number": 0x00200012,
    "instance_number": 0x00200013,
    "position": 0x00200032,
    "orientation": 0x00200037,
    "samples_per_pixel": 0x00280002,
    "photometric": 0x00280004,
    "frames": 0x00280008,
    "rows": 0x00280010,
    "columns": 0x00280011,
    "pixel_spacing": 0x00280030,
    "bits_allocated": 0x00280100,
    "bits_stored": 0x00280101,
    "high_bit": 0x00280102,
    "pixel_representation": 0x00280103,
    "padding": 0x00280120,
    "padding_limit": 0x00280121,
    "intercept": 0x00281052,
    "slope": 0x00281053,
    "modality_table": 0x00283000,
    "pixels": 0x7FE00010,
}
PIXEL_TAGS = {"pixels", "modality_table"}
MOST_SIDE = 4096
WRAP_START, TWELVE_BITS = 3072, 4096
CONVERT = "convert the files, with dcmdjpeg for example"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


class NotDicom(Exception):
    """The file is no DICOM object of a study: another kind of file, a DICOMDIR."""


class ImageError(Exception):
    """An image that cannot be read; the text says why."""


class MissingDecoder(ValueError):
    """Nothing that is installed decodes a transfer syntax; the text says what to install."""


@dataclass(frozen=True)
class ImageHeader:
    """What selection needs of one image. Lengths in millimetres, LPS; absent numbers are None, absent texts empty."""

    sop_class: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    patient_id: str = ""
    accession_number: str = ""
    study_description: str = ""
    modality: str = ""
    manufacturer: str = ""
    series_description: str = ""
    series_number: int | None = None
    protocol_name: str = ""
    body_part: str = ""
    kernel: str = ""
    contrast_agent: str = ""
    image_type: tuple[str, ...] = ()
    acquisition_number: int | None = None
    instance_number: int | None = None
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    pixel_spacing: tuple[float, ...] | None = None
    slice_thickness: float | None = None
    rows: int | None = None
    columns: int | None = None
    samples_per_pixel: int | None = None
    photometric: str = ""
    frames: int | None = None

    def as_dict(self) -> dict:
        """Without what has its default; `ImageHeader.from_dict` restores it, from JSON too."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    @staticmethod
    def from_dict(values: dict) -> ImageHeader:
        return ImageHeader(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


class HeaderValues:
    """Top-level attributes of a data set as bytes, converted as the node does it (PS3.5 §6.2)."""

    def __init__(self, dataset: FileDataset) -> None:
        self.dataset = dataset
        self.is_big_endian = dataset.original_encoding[1] is False
        character_set = dataset.get("SpecificCharacterSet", "")
        first = character_set if isinstance(character_set, str) else next(iter(character_set or []), "")
        self.is_latin1 = first in ("ISO_IR 100", "ISO 2022 IR 100")
        # All at once: pydicom's decoders replace bytes by values of their own.
        elements = {name: dataset.get_item(tag) for name, tag in TAGS.items() if tag in dataset}
        self.values = {name: element.value for name, element in elements.items() if isinstance(element, RawDataElement)}

    def bytes(self, name: str) -> bytes | None:
        value = self.values.get(name)
        return value if isinstance(value, bytes) else None

    def text(self, name: str) -> str:
        return (self.bytes(name) or b"").strip(b" \0").decode("latin-1" if self.is_latin1 else "utf-8", "replace")

    def codes(self, name: str) -> tuple[str, ...]:
        value = (self.bytes(name) or b"").strip(b" \0")
        return tuple(part.strip(b" \0").decode("latin-1") for part in value.split(b"\\")) if value else ()

    def integer(self, name: str) -> int | None:
        try:
            return int(self.codes(name)[0])
        except (IndexError, ValueError):
            return None

    def decimals(self, name: str, count: int) -> tuple[float, ...] | None:
        numbers = tuple(decimal(code) for code in self.codes(name))
        return numbers if len(numbers) == count and None not in numbers else None

    def decimal(self, name: str) -> float | None:
        codes = self.codes(name)
        return decimal(codes[0]) if codes else None

    def short(self, name: str) -> int | None:
        """The 16 bits of a US or SS value, unsigned."""
        value = self.bytes(name)
        if value is None or len(value) < 2:
            return None
        return int.from_bytes(value[:2], "big" if self.is_big_endian else "little")


def decimal(text: str) -> float | None:
    """A Decimal String, finite; some scanners write commas."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_dataset(path: Path, names: set[str] | None = None) -> FileDataset:
    """The data set of a file, with these attributes of `TAGS` only where `names` is given.

    Raises NotDicom, or ImageError where the file cannot be read as DICOM.
    """
    tags = None if names is None else [TAGS[name] for name in names]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, specific_tags=tags, stop_before_pixels=names is not None)
    except InvalidDicomError:
        raise NotDicom("no DICOM file") from None
    except Exception as error:  # pydicom raises whatever it stumbles over in a broken file.
        raise ImageError(f"cannot be read as DICOM: {error or type(error).__name__}") from None


def read_header(path: Path) -> ImageHeader:
    """Raises NotDicom, ImageError."""
    values = HeaderValues(read_dataset(path, set(TAGS) - PIXEL_TAGS))
    study_uid = values.text("study_uid")
    if not study_uid:
        raise NotDicom("a DICOM file that belongs to no study")
    identity = {name: values.text(name) for name in ("sop_class", "sop_instance_uid", "series_uid")}
    if not identity["sop_instance_uid"] or not identity["series_uid"]:
        raise ImageError("no SOP Instance UID or Series Instance UID")
    if not identity["sop_class"]:
        identity["sop_class"] = str(values.dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    texts = (
        "patient_id accession_number study_description modality manufacturer series_description protocol_name "
        "body_part kernel contrast_agent photometric"
    )
    return ImageHeader(
        study_uid=study_uid,
        **identity,
        **{name: values.text(name) for name in texts.split()},
        **{name: values.integer(name) for name in ("series_number", "acquisition_number", "instance_number", "frames")},
        **{name: values.short(name) for name in ("rows", "columns", "samples_per_pixel")},
        image_type=values.codes("image_type"),
        position=values.decimals("position", 3),
        orientation=values.decimals("orientation", 6),
        pixel_spacing=values.decimals("pixel_spacing", 2),
        slice_thickness=values.decimal("slice_thickness"),
    )


@dataclass(frozen=True)
class PixelFormat:
    """How bits become a stored value (PS3.5 §8.1.1)."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool

    @staticmethod
    def of(values: HeaderValues) -> PixelFormat:
        require(values.short("samples_per_pixel") in (None, 1), "not a monochrome image")
        require(values.text("photometric") in ("MONOCHROME1", "MONOCHROME2"), "not a monochrome image")
        rows, columns = values.short("rows") or 0, values.short("columns") or 0
        require(1 <= rows <= MOST_SIDE and 1 <= columns <= MOST_SIDE, "no usable Rows or Columns")
        allocated = values.short("bits_allocated") or 0
        require(allocated in (8, 16, 32), "bits allocated is none of 8, 16, 32")
        stored = values.short("bits_stored") or allocated
        require(stored <= allocated, "bits stored does not fit bits allocated")
        high = values.short("high_bit")
        high = stored - 1 if high is None else high
        require(stored - 1 <= high < allocated, "high bit does not fit bits allocated and stored")
        return PixelFormat(rows, columns, allocated, stored, high, values.short("pixel_representation") == 1)

    def stored_values(self, raw: np.ndarray) -> np.ndarray:
        """Bits as they stand, int64 -> stored values, int64."""
        value = (raw >> (self.high_bit + 1 - self.bits_stored)) & ((1 << self.bits_stored) - 1)
        if self.is_signed or self.bits_stored == 32:  # the node's values have 32 bits with a sign
            value = np.where(value >> (self.bits_stored - 1) != 0, value - (1 << self.bits_stored), value)
        return value

    def padding(self, values: HeaderValues, raw: np.ndarray, stored: np.ndarray) -> np.ndarray:
        """Which pixels are padding (PS3.3 C.7.5.1.1.2). It may lie outside the bits stored: raw bits count too."""
        bits, limit = values.short("padding"), values.short("padding_limit")
        if bits is None:
            return np.zeros(stored.shape, bool)
        low = self.signed_if_needed(bits)
        if limit is not None:
            low, high = sorted((low, self.signed_if_needed(limit)))
            return (stored >= low) & (stored <= high)
        found = stored == low
        return found | (raw == (bits & ((1 << self.bits_allocated) - 1))) if self.bits_allocated <= 16 else found

    def signed_if_needed(self, bits: int) -> int:
        return bits - 0x10000 if self.is_signed and bits >= 0x8000 else bits


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise ImageError(reason)


def read_hounsfield(path: Path) -> np.ndarray:
    """One image of one frame as HU int16 [row][column] in [-1024, 3071], padding as -1024.

    Raises ImageError where the image cannot be read, MissingDecoder where a package has to be installed.
    """
    try:
        values = HeaderValues(read_dataset(path))
    except NotDicom as error:
        raise ImageError(str(error)) from None
    form = PixelFormat.of(values)
    require((values.integer("frames") or 1) == 1, "multi-frame object, not supported: convert it to CT Image Storage")
    raw = raw_pixels(values, form)
    stored = form.stored_values(raw)
    padding = form.padding(values, raw, stored)
    slope, intercept = values.decimal("slope"), values.decimal("intercept")
    require(
        slope is not None or intercept is not None or TAGS["modality_table"] not in values.dataset,
        "modality look-up tables are not supported",
    )
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    require(slope != 0, "rescale slope is zero")
    if is_wrapped(form, stored[~padding], slope, intercept):
        stored = np.where(stored >= WRAP_START, stored - TWELVE_BITS, stored)
    hounsfield = np.clip(np.rint(stored * slope + intercept), -32768, 32767)
    return clip_planes(np.where(padding, AIR_HU, hounsfield))


def is_wrapped(form: PixelFormat, stored: np.ndarray, slope: float, intercept: float) -> bool:
    """Some scanners keep signed HU in 12 unsigned bits and leave the intercept at about 0: air arrives as 3096.

    A twentieth of the image above 3072 HU, and less of it at 0, is clear-cut: metal never covers so much.
    """
    if form.bits_stored != 12 or form.is_signed or slope != 1 or abs(intercept) > 100:
        return False
    high = int((stored >= WRAP_START).sum())
    return high > 0 and high * 20 >= stored.size and int((stored == 0).sum()) < high


def raw_pixels(values: HeaderValues, form: PixelFormat) -> np.ndarray:
    """Bits of every pixel as they stand, int64 [row][column]."""
    require(TAGS["pixels"] in values.dataset, "no pixel data")
    syntax = UID(values.dataset.file_meta.get("TransferSyntaxUID", ""))
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise ImageError(f"transfer syntax {syntax or 'is missing'}, not supported")
    if syntax.is_compressed and not syntax.is_deflated:
        require(form.bits_allocated <= 16, "compressed with more than 16 bits allocated")
        return decompressed(values.dataset, syntax).astype(np.int64) & ((1 << form.bits_allocated) - 1)
    require(form.bits_allocated > 8 or not values.is_big_endian, "8 bits allocated in big endian, not supported")
    kind = np.dtype(f"{'>' if values.is_big_endian else '<'}u{form.bits_allocated // 8}")
    count = form.rows * form.columns
    pixels = values.bytes("pixels") or b""
    require(len(pixels) >= count * kind.itemsize, "pixel data is shorter than rows and columns say")
    return np.frombuffer(pixels, kind, count).astype(np.int64).reshape(form.rows, form.columns)


def decompressed(dataset: FileDataset, syntax: UID) -> np.ndarray:
    """[row][column] of the first frame, unused bits as the stream has them."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ImageError(f"{syntax.name} is not supported: {CONVERT}") from None
    advice = "install python-gdcm (requirements.txt has it)"
    if not decoder.is_available:
        raise MissingDecoder(f"nothing here decodes {syntax.name}: {advice}")
    plugin = "gdcm" if "gdcm" in decoder.available_plugins else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array, _ = decoder.as_array(
                dataset, index=0, raw=True, decoding_plugin=plugin, correct_unused_bits=False
            )
    except Exception as error:  # whatever the plugins stumble over
        hint = CONVERT if importlib.util.find_spec("gdcm") else advice
        reason = " ".join(str(error).split())[:200]
        raise ImageError(f"{syntax.name} cannot be decoded: {reason}; if other such files fail, {hint}") from None
    require(array.ndim == 2, "the compressed pixels are not monochrome")
    return array
