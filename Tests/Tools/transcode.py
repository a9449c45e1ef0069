#!/usr/bin/env python3
"""Writes one DICOM image in every transfer syntax that Debian's DCMTK and OpenJPEG can write.

Prints as JSON what was written. Each file keeps the SOP Instance UID of the input, unless --new-uids."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from ct_series import new_uid


@dataclass(frozen=True)
class Target:
    name: str
    uid: str
    command: tuple[str, ...] = ()  # DCMTK program and options; empty: OpenJPEG
    lossless: bool = True
    bits: int | None = None  # bits stored that the syntax is limited to


# PS3.6 Annex A. DCMTK's conversion to 8 or 12 bits goes through the options below.
TARGETS = [
    Target("implicit-little", "1.2.840.10008.1.2", ("dcmconv", "+ti")),
    Target("explicit-little", "1.2.840.10008.1.2.1", ("dcmconv", "+te")),
    Target("deflated", "1.2.840.10008.1.2.1.99", ("dcmconv", "+td")),
    Target("explicit-big", "1.2.840.10008.1.2.2", ("dcmconv", "+tb")),
    Target("jpeg-baseline", "1.2.840.10008.1.2.4.50", ("dcmcjpeg", "+eb", "+un"), lossless=False, bits=8),
    Target("jpeg-extended", "1.2.840.10008.1.2.4.51", ("dcmcjpeg", "+ee", "+un"), lossless=False, bits=12),
    Target("jpeg-spectral-selection", "1.2.840.10008.1.2.4.53", ("dcmcjpeg", "+es", "+un"), lossless=False, bits=12),
    Target("jpeg-progressive", "1.2.840.10008.1.2.4.55", ("dcmcjpeg", "+ep", "+un"), lossless=False, bits=12),
    Target("jpeg-lossless-14", "1.2.840.10008.1.2.4.57", ("dcmcjpeg", "+el", "+un")),
    Target("jpeg-lossless-sv1", "1.2.840.10008.1.2.4.70", ("dcmcjpeg", "+e1", "+un")),
    Target("jpeg-ls-lossless", "1.2.840.10008.1.2.4.80", ("dcmcjpls", "+el", "+un")),
    Target("jpeg-ls-near-lossless", "1.2.840.10008.1.2.4.81", ("dcmcjpls", "+en", "+un"), lossless=False),
    Target("jpeg-2000-lossless", "1.2.840.10008.1.2.4.90"),
    Target("jpeg-2000", "1.2.840.10008.1.2.4.91", lossless=False),
    Target("rle", "1.2.840.10008.1.2.5", ("dcmcrle", "+un")),
]


def tool(name: str) -> str:
    """A program of Debian's; .venv has other implementations under some of these names."""
    folders = [p for p in os.environ.get("PATH", "").split(os.pathsep) if p and not p.startswith(sys.prefix)]
    found = shutil.which(name, path=os.pathsep.join([*folders, "/usr/bin"]))
    if not found:
        raise SystemExit(f"transcode: {name} is missing: run scripts/setup test")
    return found


def transcode(source: Path, target: Target, output: Path) -> None:
    if not target.command:
        _jpeg_2000(source, target, output)
        return
    program, *options = target.command
    result = subprocess.run([tool(program), *options, str(source), str(output)], capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{program} {' '.join(options)}: {result.stderr.strip()}")


def _jpeg_2000(source: Path, target: Target, output: Path) -> None:
    ds = pydicom.dcmread(source)
    with tempfile.TemporaryDirectory() as folder:
        raw, codestream = Path(folder) / "image.raw", Path(folder) / "image.j2k"
        # RAW is big endian for opj_compress; RAWL is little.
        raw.with_suffix(".rawl").write_bytes(ds.PixelData)
        sign = "s" if ds.PixelRepresentation else "u"
        command = [tool("opj_compress"), "-i", str(raw.with_suffix(".rawl")), "-o", str(codestream)]
        command += ["-F", f"{ds.Columns},{ds.Rows},1,{ds.BitsStored},{sign}"]
        command += [] if target.lossless else ["-r", "10", "-I"]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0 or not codestream.exists():
            raise RuntimeError(f"opj_compress: {result.stdout.strip()} {result.stderr.strip()}")
        ds.PixelData = encapsulate([codestream.read_bytes()])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID(target.uid)
    if not target.lossless:
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionRatio = 10
        ds.LossyImageCompressionMethod = "ISO_15444_1"
    ds.save_as(output, enforce_file_format=True)


def with_bits(source: Path, bits: int, folder: Path) -> Path:
    """The image with fewer bits stored, unsigned: brain window for 8 bits, HU + 1024 cut at 4095 for 12."""
    ds = pydicom.dcmread(source)
    if ds.BitsStored <= bits and not ds.PixelRepresentation:
        return source
    hounsfield = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    slope, intercept = (1.0, -1024.0) if bits == 12 else (160 / 255, -40.0)
    stored = np.clip(np.rint((hounsfield - intercept) / slope), 0, (1 << bits) - 1)
    ds.PixelData = stored.astype("<u2" if bits > 8 else "u1").tobytes()
    ds["PixelData"].VR = "OW"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (16 if bits > 8 else 8), bits, bits - 1, 0
    ds.RescaleSlope, ds.RescaleIntercept = f"{slope:.10g}", f"{intercept:.10g}"
    for keyword in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue"):
        if keyword in ds:
            del ds[keyword]
    path = folder / f"{bits}-bit.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, help="an uncompressed monochrome DICOM image")
    parser.add_argument("output", type=Path, help="folder for the files, one per transfer syntax")
    parser.add_argument(
        "--only", action="append", choices=[t.name for t in TARGETS], help="this transfer syntax (repeatable)"
    )
    parser.add_argument("--new-uids", action="store_true", help="a SOP Instance UID of its own for each file")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory() as folder:
        for target in TARGETS:
            if arguments.only and target.name not in arguments.only:
                continue
            source = with_bits(arguments.input, target.bits, Path(folder)) if target.bits else arguments.input
            if arguments.new_uids:
                ds = pydicom.dcmread(source)
                ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid()
                source = Path(folder) / "renamed.dcm"
                ds.save_as(source, enforce_file_format=True)
            path = arguments.output / f"{target.name}.dcm"
            transcode(source, target, path)
            header = pydicom.dcmread(path, stop_before_pixels=True)
            if header.file_meta.TransferSyntaxUID != target.uid:
                raise RuntimeError(f"{path} is in {header.file_meta.TransferSyntaxUID}, wanted {target.uid}")
            written.append(
                {
                    "file": path.name,
                    "transfer_syntax": target.uid,
                    "lossless": target.lossless,
                    "bits_stored": int(header.BitsStored),
                    "sop_instance_uid": header.SOPInstanceUID,
                }
            )
    json.dump(written, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
