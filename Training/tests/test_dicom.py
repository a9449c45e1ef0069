"""HU of single images, whatever scanners do to them."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import pydicom
from generated import SIZE, head
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLSLossless, RLELossless

from ichtrain import ctdicom, dicom

PLANE = head(1)[0]


class HounsfieldTests(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "image.dcm"
        self.dataset = ctdicom.new_dataset("1.2.3")
        ctdicom.place(self.dataset, PLANE.shape, 0, (1, 1, 5))
        ctdicom.set_pixels(self.dataset, PLANE)

    def store(self, values: np.ndarray, kind: str = "<i2", **changes: object) -> None:
        """Stored values instead of the plane's."""
        self.dataset.PixelData = np.asarray(values).astype(kind).tobytes()
        for name, value in changes.items():
            setattr(self.dataset, name, value)

    def read(self) -> np.ndarray:
        self.dataset.save_as(self.path, enforce_file_format=True)
        return dicom.read_hounsfield(self.path)

    def assert_reads(self, expected: np.ndarray) -> None:
        found = self.read()
        self.assertEqual(found.dtype, np.int16)
        np.testing.assert_array_equal(found, expected)

    def test_unsigned_with_intercept(self) -> None:
        self.assert_reads(PLANE)

    def test_signed_without_intercept(self) -> None:
        self.store(PLANE, PixelRepresentation=1, RescaleIntercept=0)
        self.assert_reads(PLANE)

    def test_signed_in_twelve_of_sixteen_bits(self) -> None:
        values = PLANE & 0x0FFF | 0x5000  # an overlay in the unused bits
        self.store(values, "<u2", PixelRepresentation=1, RescaleIntercept=0, BitsStored=12, HighBit=11)
        self.assert_reads(PLANE)

    def test_slope(self) -> None:
        self.store((PLANE.astype(int) + 1024) * 2, "<u2", RescaleSlope="0.5")
        self.assert_reads(PLANE)

    def test_decimal_commas(self) -> None:
        self.dataset.save_as(self.path, enforce_file_format=True)
        stored = self.path.read_bytes()
        self.assertEqual(stored.count(b"-1024.0 "), 1)
        self.path.write_bytes(stored.replace(b"-1024.0 ", b"-1024,0 "))
        np.testing.assert_array_equal(dicom.read_hounsfield(self.path), PLANE)

    def test_padding_value_is_air(self) -> None:
        values = PLANE.copy()
        values[:4] = -1500
        values[4:8] = 77
        for padding, rows in ((-1500, slice(0, 4)), (77, slice(4, 8))):
            self.store(values, PixelRepresentation=1, RescaleIntercept=0)
            self.dataset.add_new("PixelPaddingValue", "SS", padding)
            found = self.read()
            self.assertTrue((found[rows] == -1024).all())
            self.assertEqual((found[4:8] == 77).all(), padding != 77)

    def test_padding_range(self) -> None:
        self.store(PLANE, PixelRepresentation=1, RescaleIntercept=0)
        self.dataset.add_new("PixelPaddingValue", "SS", 900)
        self.dataset.add_new("PixelPaddingRangeLimit", "SS", 35)
        self.assert_reads(np.where(PLANE >= 35, -1024, PLANE))

    def test_padding_outside_the_bits_stored(self) -> None:
        values = PLANE.astype(int) + 1024
        values[:4] = 0xF830
        self.store(values, "<u2", BitsStored=12, HighBit=11)
        self.dataset.add_new("PixelPaddingValue", "US", 0xF830)
        self.assertTrue((self.read()[:4] == -1024).all())

    def test_undeclared_padding_is_clipped_to_air(self) -> None:
        for padding in (-1024, -2000, -3024):
            values = PLANE.copy()
            values[:4] = padding
            self.store(values, PixelRepresentation=1, RescaleIntercept=0)
            self.assertTrue((self.read()[:4] == -1024).all(), padding)

    def test_metal_is_clipped(self) -> None:
        self.store(np.full(PLANE.shape, 30000), PixelRepresentation=1, RescaleIntercept=0)
        self.assert_reads(np.full(PLANE.shape, 3071))

    def test_twelve_bit_wrap_is_undone(self) -> None:
        self.store(PLANE.astype(int) % 4096, "<u2", RescaleIntercept=0, BitsStored=12, HighBit=11)
        self.assert_reads(PLANE)

    def test_metal_is_no_wrap(self) -> None:
        values = np.clip(PLANE.astype(int), 0, None)
        values[:1, :40] = 3500
        self.store(values, "<u2", RescaleIntercept=0, BitsStored=12, HighBit=11)
        self.assertEqual(self.read()[0, 0], 3071)

    def test_a_right_intercept_is_no_wrap(self) -> None:
        values = np.full(PLANE.shape, 4000)
        self.store(values, "<u2", RescaleIntercept=-1024, BitsStored=12, HighBit=11)
        self.assert_reads(np.full(PLANE.shape, 2976))

    def test_rle_and_deflated(self) -> None:
        self.dataset.compress(RLELossless, generate_instance_uid=False)
        self.assert_reads(PLANE)
        self.dataset.decompress(generate_instance_uid=False)
        self.dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        self.assert_reads(PLANE)

    def test_big_endian(self) -> None:
        self.dataset.PixelData = (PLANE.astype(int) + 1024).astype(">u2").tobytes()
        self.dataset.add_new("PixelPaddingValue", "US", 1024 + 900)
        self.dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pydicom.dcmwrite(self.path, self.dataset, implicit_vr=False, little_endian=False, enforce_file_format=True)
        np.testing.assert_array_equal(dicom.read_hounsfield(self.path), np.where(PLANE == 900, -1024, PLANE))

    def test_a_missing_decoder_names_the_package(self) -> None:
        self.dataset.compress(RLELossless, generate_instance_uid=False)
        self.dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        self.dataset.save_as(self.path, enforce_file_format=True)
        decoder = pydicom.pixels.get_decoder(JPEGLSLossless)
        with mock.patch.object(decoder, "_available", {}), self.assertRaisesRegex(dicom.MissingDecoder, "python-gdcm"):
            dicom.read_hounsfield(self.path)

    def test_a_broken_stream_is_an_image_error(self) -> None:
        self.dataset.compress(RLELossless, generate_instance_uid=False)
        self.dataset.save_as(self.path, enforce_file_format=True)
        whole = self.path.read_bytes()
        self.path.write_bytes(whole[:-1500])
        with self.assertRaises(dicom.ImageError):
            dicom.read_hounsfield(self.path)

    def test_short_pixel_data_is_an_image_error(self) -> None:
        self.dataset.PixelData = self.dataset.PixelData[:-2]
        with self.assertRaisesRegex(dicom.ImageError, "shorter"):
            self.read()

    def test_colour_and_frames_are_refused(self) -> None:
        self.dataset.NumberOfFrames = 2
        with self.assertRaisesRegex(dicom.ImageError, "multi-frame"):
            self.read()
        self.dataset.NumberOfFrames = 1
        self.dataset.PhotometricInterpretation = "RGB"
        with self.assertRaisesRegex(dicom.ImageError, "monochrome"):
            self.read()

    def test_other_files_are_no_dicom(self) -> None:
        self.path.write_text("study,any\n")
        with self.assertRaises(dicom.NotDicom):
            dicom.read_header(self.path)

    def test_header_survives_json(self) -> None:
        self.dataset.StudyInstanceUID, self.dataset.SeriesInstanceUID = "1.2", "1.3"
        self.dataset.SeriesDescription = "Schädel nativ"
        self.dataset.save_as(self.path, enforce_file_format=True)
        header = dicom.read_header(self.path)
        self.assertEqual((header.rows, header.series_description), (SIZE, "Schädel nativ"))
        restored = dicom.ImageHeader.from_dict({
            name: list(value) if isinstance(value, tuple) else value for name, value in header.as_dict().items()
        })
        self.assertEqual(restored, header)


if __name__ == "__main__":
    unittest.main()
