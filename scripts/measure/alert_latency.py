#!/usr/bin/env python3
"""How long it takes from *complete* until a RIS has acknowledged the alert of a positive study (HL7 over MLLP, python-hl7
as the RIS), and until the PACS has accepted its report. Percentiles over many studies, one after the other."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import sys
from random import Random

import numpy as np
import report_latency
from node_fixture import LOOPBACK, DemoFailure, Site, why_not
from ris import Ris

BLEED_SEED = 8


def acknowledged(site: Site, study_uid: str) -> float:
    """From *complete*, seconds."""
    with sqlite3.connect(f"file:{site.node.folder}/data/ledger.sqlite?mode=ro", uri=True) as ledger:
        return ledger.execute(
            """SELECT d.delivered_at - (SELECT min(at) FROM event e WHERE e.study_uid = d.study_uid AND kind = 'complete')
               FROM delivery d WHERE study_uid = ? AND destination = 'ris'""",
            (study_uid,),
        ).fetchone()[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=50, help="how many (default: %(default)s)")
    parser.add_argument("--slices", type=int, default=32, help="of each (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"alert_latency: {reason}", file=sys.stderr)
        return 2
    # A polite kill unwinds like Ctrl-C, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ris = Ris().start()
    site = Site(
        node={"log_level": "info"},
        hl7=[{"name": "ris", "host": LOOPBACK, "port": ris.port}],
        routes=[{"name": "default", "destinations": ["pacs"], "alerts": ["ris"]}],
    )
    reports, alerts = [], []
    try:
        site.start()
        head = report_latency.Head(
            report_latency.resampled(arguments.slices, BLEED_SEED), site.folder / "head", is_lossless=False
        )
        random = Random()
        for _ in range(arguments.studies):
            objects = head.copy(random)
            found = report_latency.measure(site, objects, None)
            if found["outcome"] != "positive":
                raise DemoFailure(f"the painted head is {found['outcome']}: nobody is told")
            reports.append(found["report"])
            alerts.append(acknowledged(site, objects[0].study_uid))
        if len(ris.accepted) != arguments.studies:
            raise DemoFailure(f"{len(ris.accepted)} alerts for {arguments.studies} studies")
    except (DemoFailure, AssertionError, OSError) as failure:
        print(f"alert_latency: {failure}", file=sys.stderr)
        return 1
    finally:
        site.stop()
        ris.stop()
    summary = {
        "build": report_latency.node_fixture.ICHNODE.parent.name, "cores": os.cpu_count(), "studies": len(alerts),
        "slices": arguments.slices,
    }  # fmt: skip
    for phase, seconds in (("alert", alerts), ("report", reports)):
        summary[phase] = {f"p{each}": round(float(np.percentile(seconds, each)), 3) for each in (50, 95, 99)}
        summary[phase]["most"] = round(max(seconds), 3)
    if arguments.json:
        print(json.dumps(summary, indent=1))
        return 0
    print(f"{len(alerts)} positive studies of {arguments.slices} slices; {summary['build']} build, {os.cpu_count()} cores")
    for phase, words in (("alert", "complete to acknowledgement"), ("report", "complete to report accepted")):
        print(f"  {words:28} " + "  ".join(f"{name} {value:.3f} s" for name, value in summary[phase].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
