#!/usr/bin/env python3
"""How long a radiologist waits for the report of a study that is sent over one association: from the last C-STORE
response to *complete*, and from there until the PACS has accepted the report. Percentiles over many studies, each a head
of its own UIDs, one after the other, with an Orthanc as the PACS.

The images are the head of Debian's invesalius-examples, resampled to 512 × 512 and as many slices as asked for; a real
one, so that noise costs what it costs."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "Tools"))
import node_fixture  # noqa: E402
from ct_series import CTVolume, write_series  # noqa: E402
from invesalius_head import demo_header, load_head  # noqa: E402
from node_fixture import DemoFailure, RestartableNode, Site, run_tool, wait_for, why_not  # noqa: E402
from paint_haemorrhage import paint  # noqa: E402
from plain_sender import Instance, PlainSender, new_uid  # noqa: E402
from pydicom.uid import CTImageStorage, JPEGLosslessSV1  # noqa: E402

SIDE = 512
PERCENTILES = (50, 95, 99)
# What peers wait for after the last image by default, in place of evidence: see docs/BENCHMARKS.md.
PEERS_SECONDS = (5, 60, 960)


def resampled(slices: int, bleed_seed: int | None) -> CTVolume:
    head = load_head()
    if bleed_seed is not None:
        head.hounsfield, _ = paint(head, bleed_seed)
    count, rows, columns = head.hounsfield.shape
    factors = (slices / count, SIDE / rows, SIDE / columns)
    pixels = ndimage.zoom(head.hounsfield.astype(np.float32), factors, order=1)
    spacing = round(head.slice_spacing_mm * count / slices, 3)
    return CTVolume(
        pixels,
        head.row_spacing_mm * rows / SIDE,
        head.column_spacing_mm * columns / SIDE,
        [round(index * spacing, 3) for index in range(slices)],
        spacing,
    )


class Head:
    """One study, encoded once; every copy of it has UIDs of its own."""

    def __init__(self, volume: CTVolume, folder: Path, is_lossless: bool):
        random = Random("of no other use")
        header = demo_header("LATENCY", "1")
        header.series_description = "HEAD WITHOUT CONTRAST"
        self._study, self._series = header.study_uid, header.series_uid = new_uid(random), new_uid(random)
        self._sops = [new_uid(random) for _ in volume.hounsfield]
        written = write_series(volume, header, folder, sop_uids=self._sops)
        paths = [folder / each["file"] for each in written]
        for path in paths if is_lossless else []:
            result = run_tool("dcmcjpeg", "+e1", str(path), str(path))
            if result.returncode != 0:
                raise DemoFailure(f"dcmcjpeg: {result.stdout}")
        self._data_sets = [node_fixture.data_set_bytes(path) for path in paths]

    def copy(self, random: Random) -> list[Instance]:
        study, series = new_uid(random), new_uid(random)
        found = []
        for content, old in zip(self._data_sets, self._sops):
            sop = new_uid(random)
            for before, after in ((self._study, study), (self._series, series), (old, sop)):
                content = content.replace(before.encode(), after.encode())
            found.append(Instance(study, series, CTImageStorage, sop, content))
        return found


def times(node: RestartableNode, study_uid: str) -> dict[str, float]:
    """Of the first *complete* and of the delivery; seconds since 1970, from the ledger."""
    with sqlite3.connect(f"file:{node.folder}/data/ledger.sqlite?mode=ro", uri=True) as ledger:
        complete = ledger.execute(
            "SELECT min(at) FROM event WHERE study_uid = ? AND kind = 'complete'", (study_uid,)
        ).fetchone()[0]
        delivered = ledger.execute(
            "SELECT max(delivered_at) FROM delivery WHERE study_uid = ? AND destination = 'pacs'", (study_uid,)
        ).fetchone()[0]
    return {"complete": complete, "delivered": delivered}


def measure(site: Site, objects: list[Instance], syntax: str | None) -> dict:
    study_uid = objects[0].study_uid
    started = time.time()
    options = {"transfer_syntax": syntax} if syntax else {}
    with PlainSender(site.node.dicom_port, [CTImageStorage], **options) as sender:
        for each in objects:
            if (status := sender.store(each)) != 0:
                raise DemoFailure(f"status {status:04X}\n{site.node.log_tail()}")
        last_response = time.time()

    def delivered():
        known = site.node.study(study_uid)
        states = {each["state"] for each in known["deliveries"]} if known else set()
        return known if states == {"delivered"} else None

    # Whoever asks all the time is in the way.
    time.sleep(node_fixture.GRACE_SECONDS + 0.3)
    known = wait_for(delivered, "the report is delivered", 120, site.node.log_tail)
    found = times(site.node, study_uid)
    return {
        "outcome": known["study"]["outcome"],
        "sent": last_response - started,
        "complete": found["complete"] - last_response,
        "report": found["delivered"] - found["complete"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=50, help="how many (default: %(default)s)")
    parser.add_argument("--slices", type=int, default=32, help="of each (default: %(default)s)")
    parser.add_argument("--jpeg-lossless", action="store_true", help="JPEG lossless instead of uncompressed")
    parser.add_argument("--bleed", type=int, metavar="SEED", help="paint a haemorrhage, so that captures follow")
    parser.add_argument("--grace", type=float, default=2, help="grace_seconds of the node (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"report_latency: {reason}", file=sys.stderr)
        return 2
    # A polite kill unwinds like Ctrl-C, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    node_fixture.GRACE_SECONDS = arguments.grace
    site = Site(completion={"grace_seconds": arguments.grace, "quiet_seconds": 60}, node={"log_level": "info"})
    syntax = JPEGLosslessSV1 if arguments.jpeg_lossless else None
    results = []
    try:
        site.start()
        head = Head(resampled(arguments.slices, arguments.bleed), site.folder / "head", arguments.jpeg_lossless)
        random = Random()
        for _ in range(arguments.studies):
            results.append(measure(site, head.copy(random), syntax))
        memory = site.node.peak_memory_mib()
    except (DemoFailure, AssertionError, OSError) as failure:
        print(f"report_latency: {failure}", file=sys.stderr)
        return 1
    finally:
        site.stop()
    summary = {
        "build": node_fixture.ICHNODE.parent.name, "model": node_fixture.MODELS[0].name, "cores": os.cpu_count(),
        "grace_seconds": arguments.grace, "studies": len(results), "slices": arguments.slices,
        "syntax": "JPEG lossless" if syntax else "uncompressed",
        "outcomes": sorted({each["outcome"] for each in results}), "peak_memory_mib": memory,
    }  # fmt: skip
    for phase in ("sent", "complete", "report"):
        seconds = [each[phase] for each in results]
        summary[phase] = {f"p{each}": round(float(np.percentile(seconds, each)), 3) for each in PERCENTILES}
        summary[phase]["most"] = round(max(seconds), 3)
    if arguments.json:
        print(json.dumps({"summary": summary, "studies": results}, indent=1))
        return 0
    print(
        f"{summary['studies']} studies of {summary['slices']} slices, {summary['syntax']}, {summary['outcomes']};"
        f" {summary['build']} build, {summary['model']}, {summary['cores']} cores, grace {arguments.grace:g} s;"
        f" peak memory {memory} MiB"
    )
    for phase, words in (
        ("sent", "all sent in"), ("complete", "last response to complete"), ("report", "complete to report accepted"),
    ):  # fmt: skip
        print(f"  {words:28} " + "  ".join(f"{name} {value:.3f} s" for name, value in summary[phase].items()))
    print(f"  peers wait before they begin {', '.join(f'{each} s' for each in PEERS_SECONDS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
