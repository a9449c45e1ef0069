#!/usr/bin/env python3
"""Seconds from the last C-STORE response to the report's arrival in the PACS, over several studies, and how much of the
encoding was over when each study was complete. Prints a line for each study, then minimum, median and maximum, and the
peak memory of daemon and inference child.

Sends the head CT of Debian's invesalius-examples, again and again under fresh UIDs, to a node and an Orthanc that it
starts on loopback."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "Tools"))
import node_fixture  # noqa: E402
from node_fixture import DemoFailure, Sender, Site, example_head, why_not  # noqa: E402

POLL_SECONDS = 0.02


def measure(site: Site, folder: Path, bleed_seed: int | None, per_second: float | None) -> dict:
    study = example_head(folder, "LATENCY", bleed_seed)
    started = time.monotonic()
    with Sender(site.node, study.files) as sender:
        acknowledged = sender.store_all(study.files, per_second)
        last_response = time.monotonic()
    if acknowledged != study.files:
        raise DemoFailure(f"{len(acknowledged)} of {len(study.files)} images accepted\n{site.node.log_tail()}")
    while not site.pacs.find(study.uid, "SR"):
        site.node.require_running()
        if time.monotonic() > last_response + 120:
            raise DemoFailure(f"no report in 120 s\n{site.node.log_tail()}")
        time.sleep(POLL_SECONDS)
    seconds = time.monotonic() - last_response
    known = site.node.wait_until_settled(study.uid)
    trace = next(event["text"] for event in known["events"] if event["kind"] == "trace")
    early, calls = (int(word) for word in trace.split() if word.isdigit())
    return {
        "images": len(study.files),
        "sent_in_seconds": round(last_response - started, 2),
        "outcome": known["study"]["outcome"],
        "report_after_seconds": round(seconds, 3),
        "encoder_calls": calls,
        "encoder_calls_before_complete": early,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10, help="how many (default: %(default)s)")
    parser.add_argument("--grace", type=float, default=2, help="grace_seconds of the node (default: %(default)s)")
    parser.add_argument("--images-per-second", type=float, help="pace of the sender (default: as fast as it goes)")
    parser.add_argument("--bleed", type=int, metavar="SEED", help="paint a haemorrhage, so that captures follow")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"report_latency: {reason}", file=sys.stderr)
        return 1
    # A polite kill unwinds like Ctrl-C, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    node_fixture.GRACE_SECONDS = arguments.grace
    site = Site(completion={"grace_seconds": arguments.grace, "quiet_seconds": 60}, node={"log_level": "info"})
    results = []
    try:
        site.start()
        for number in range(arguments.studies):
            one = measure(site, site.folder / f"study-{number}", arguments.bleed, arguments.images_per_second)
            results.append(one)
            memory = site.node.peak_memory_mib()
            if not arguments.json:
                print(
                    f"  {number + 1:3}  {one['outcome']:12} report after {one['report_after_seconds']:6.2f} s, sent in"
                    f" {one['sent_in_seconds']:6.2f} s, {one['encoder_calls_before_complete']} of"
                    f" {one['encoder_calls']} encoder calls before complete",
                    flush=True,
                )
    except (DemoFailure, AssertionError) as failure:
        print(f"report_latency: {failure}", file=sys.stderr)
        return 1
    finally:
        site.stop()
    seconds = [one["report_after_seconds"] for one in results]
    early = sum(one["encoder_calls_before_complete"] for one in results)
    calls = sum(one["encoder_calls"] for one in results)
    summary = {
        "build": node_fixture.ICHNODE.parent.name,
        "model": node_fixture.MODELS[0].name,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "grace_seconds": arguments.grace,
        "studies": len(results),
        "report_after_seconds": {
            "min": min(seconds),
            "median": round(statistics.median(seconds), 3),
            "max": max(seconds),
        },
        "encoder_calls_before_complete": round(early / calls, 4) if calls else None,
        "peak_memory_mib": memory,
    }
    if arguments.json:
        print(json.dumps({"summary": summary, "studies": results}, indent=1))
        return 0
    latency = summary["report_after_seconds"]
    print(
        f"{len(results)} studies, grace {arguments.grace:g} s, {summary['build']} build, model {summary['model']},"
        f" {summary['cores']} cores, load {summary['load']}\n"
        f"report after the last C-STORE response: min {latency['min']:.2f} s, median {latency['median']:.2f} s,"
        f" max {latency['max']:.2f} s\n"
        f"encoder calls that ended before complete: {early} of {calls}"
        + (f" ({early / calls:.1%})" if calls else "")
        + f"\npeak memory: daemon {memory['daemon']} MiB, infer child {memory['infer']} MiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
