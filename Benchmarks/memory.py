#!/usr/bin/env python3
"""Whether the daemon grows. First over many small instances (at most 16 KB each): its memory and the ledger's size as
they come in. Then over hostile association requests - duplicate user identity, contexts without transfer syntax,
malformed extended negotiation - with the receive workers that are left, beside storescp, which leaks by them.

RSS counts all resident pages, PSS shared ones in part, anonymous what the process has allocated: that alone does not
depend on what else runs. In earnest: --instances 100000 --hostile 10000."""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from surroundings import (
    OUTPUT,
    ROOT,
    BenchmarkFailure,
    DemoFailure,
    Places,
    compile_native,
    environment,
    on_one_line,
    require_own_network,
    use_node,
)

import hostile_requests
import objects
import senders
from objects import Series
from receivers import KINDS, NodeReceiver, Receiver, wait_until_stored
from tables import number, table

SAMPLES = 20
MOST_OBJECT_BYTES = 16384
MOST_STUDY_IMAGES = 500
HOSTILE_AT_ONCE = 4
# storescp is there to show that the requests are hostile: a few are enough. It leaves some without an answer.
MOST_HOSTILE_FOR_PEER = 60
ANSWER_SECONDS, PEER_ANSWER_SECONDS = 20, 1
SETTLE_SECONDS = 5


def memory_of(pid: int) -> dict[str, int]:
    """KiB of one process."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        found[name] = int(value.split()[0])
    return {
        "rss_kib": found["Rss"],
        "pss_kib": found["Pss"],
        "anonymous_kib": found["Anonymous"],
    }


def daemon_pid(receiver: Receiver) -> int:
    return receiver.server.process.pid


def slope(samples: list[dict], field: str, per: str) -> float | None:
    """KiB for each of `per`, by least squares over the second half of the samples: by then, what is filled once is."""
    half = samples[len(samples) // 2 :]
    if len(half) < 3:
        return None
    x, y = [each[per] for each in half], [each[field] for each in half]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((each - mean_x) ** 2 for each in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / spread if spread else None


# --- Many small instances ---------------------------------------------------------------------------------------------


def sample_node(receiver: NodeReceiver, instances: int, started: float) -> dict:
    data = receiver.folder / "data"
    return {
        "instances": instances,
        "seconds": round(time.monotonic() - started, 1),
        **memory_of(daemon_pid(receiver)),
        "ledger_kib": sum(each.stat().st_size for each in data.glob("ledger.sqlite*")) // 1024,
        "receive_workers": len(receiver.node.children("receive")),
    }


def measure_instances(total: int, places: Places) -> dict:
    memory = places.root("memory")
    series = Series(memory / "small", *objects.ABDOMEN, slices=8, size=64)
    if series.object_bytes > MOST_OBJECT_BYTES:
        raise BenchmarkFailure(f"an instance has {series.object_bytes} bytes, more than {MOST_OBJECT_BYTES}")
    batches = [total * (n + 1) // SAMPLES - total * n // SAMPLES for n in range(SAMPLES)]
    folder = places.fresh("disk")
    try:
        with NodeReceiver(folder) as receiver:
            started, sent = time.monotonic(), 0
            samples = [sample_node(receiver, 0, started)]
            for count in filter(None, batches):
                send_batch(receiver, series, count, memory)
                sent += count
                samples.append(sample_node(receiver, sent, started))
                report(samples[-1])
            if (stored := wait_until_stored(receiver, sent)) != sent:
                raise BenchmarkFailure(f"{stored} objects in storage, {sent} were acknowledged")
            time.sleep(SETTLE_SECONDS)
            samples.append(sample_node(receiver, sent, started))
            outcomes = receiver.outcomes()
    finally:
        places.remove(folder)
    growing = samples[1:-1]
    return {
        "object_bytes": series.object_bytes,
        "samples": samples,
        "outcomes": outcomes,
        "rss_kib_per_1000": per_thousand(slope(growing, "rss_kib", "instances")),
        "anonymous_kib_per_1000": per_thousand(slope(growing, "anonymous_kib", "instances")),
    }


def send_batch(receiver: Receiver, series: Series, count: int, memory: Path) -> None:
    studies = -(-count // MOST_STUDY_IMAGES)
    batch = series.write(memory / "batch", count, studies)
    listing = objects.write_list(batch, memory / "batch.list")
    options = ("--objects", str(listing), "--associations", str(min(2, studies)))
    senders.run_fast("store", receiver, *options)
    for each in batch:
        each.path.unlink()


def per_thousand(value: float | None) -> float | None:
    return None if value is None else round(value * 1000, 2)


# --- Hostile association requests -------------------------------------------------------------------------------------


def sample_hostile(receiver: Receiver, requests: int, started: float) -> dict:
    found = {"requests": requests, "seconds": round(time.monotonic() - started, 1), **memory_of(daemon_pid(receiver))}
    if isinstance(receiver, NodeReceiver):
        found["receive_workers"] = len(receiver.node.children("receive"))
    return found


def measure_hostile(name: str, total: int, places: Places) -> dict:
    """Kinds in turn, a few at once."""
    folder = places.fresh("disk")
    try:
        with KINDS[name].make(folder, 1) as receiver:
            requests = [build(receiver.called) for build in hostile_requests.KINDS.values()]
            kinds = itertools.cycle(zip(hostile_requests.KINDS, requests))
            started, asked = time.monotonic(), 0
            samples, answers = [], Counter()
            # storescp serves one after the other.
            pool = concurrent.futures.ThreadPoolExecutor(HOSTILE_AT_ONCE if name == "node" else 1)
            try:
                for tenth in range(10):
                    batch = list(itertools.islice(kinds, total * (tenth + 1) // 10 - asked))
                    for (kind, _), answer in zip(batch, pool.map(lambda each: ask(receiver, each[1]), batch)):
                        answers[f"{kind}: {answer}"] += 1
                    asked += len(batch)
                    samples.append(sample_hostile(receiver, asked, started))
                    report(samples[-1])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
            time.sleep(SETTLE_SECONDS)
            if not senders.answers(receiver):
                raise BenchmarkFailure(f"{name} answers no C-ECHO after {asked} hostile requests")
            time.sleep(1)
            samples.append(sample_hostile(receiver, asked, started))
    finally:
        places.remove(folder)
    growing = samples[:-1]
    return {
        "receiver": name,
        "samples": samples,
        "answers": dict(sorted(answers.items())),
        "rss_kib_per_1000": per_thousand(slope(growing, "rss_kib", "requests")),
        "anonymous_kib_per_1000": per_thousand(slope(growing, "anonymous_kib", "requests")),
        "receive_workers_left": samples[-1].get("receive_workers"),
    }


def ask(receiver: Receiver, request: bytes) -> str:
    receiver.server.require_running()
    patience = ANSWER_SECONDS if isinstance(receiver, NodeReceiver) else PEER_ANSWER_SECONDS
    return hostile_requests.ask(receiver.port, request, patience)


# --- Output -----------------------------------------------------------------------------------------------------------


def report(sample: dict) -> None:
    print("  " + "  ".join(f"{name} {value}" for name, value in sample.items()), file=sys.stderr, flush=True)


def mebibytes(kib: int) -> str:
    return f"{kib / 1024:.1f}"


def markdown(found: dict, instances: dict | None, hostile: list[dict]) -> str:
    parts = ["# The daemon's memory", on_one_line(found)]
    if instances:
        header = ["instances", "seconds", "RSS MiB", "PSS MiB", "anonymous MiB", "ledger MiB", "receive workers"]
        rows = [
            [
                str(each["instances"]),
                f"{each['seconds']:g}",
                *(mebibytes(each[field]) for field in ("rss_kib", "pss_kib", "anonymous_kib", "ledger_kib")),
                str(each["receive_workers"]),
            ]
            for each in instances["samples"]
        ]
        growth = (
            f"Growth over the second half: RSS {number(instances['rss_kib_per_1000'])} KiB, anonymous"
            f" {number(instances['anonymous_kib_per_1000'])} KiB for 1000 instances of"
            f" {instances['object_bytes']} bytes."
            f" The last row is {SETTLE_SECONDS} s after the end. Studies: "
            + ", ".join(f"{count} {outcome}" for outcome, count in instances["outcomes"].items())
        )
        parts += ["## Small instances", table(header, rows), growth + "."]
    if hostile:
        header = ["receiver", "requests", "RSS MiB", "PSS MiB", "anonymous MiB", "receive workers"]
        rows = [
            [
                KINDS[each["receiver"]].title,
                str(sample["requests"]),
                *(mebibytes(sample[field]) for field in ("rss_kib", "pss_kib", "anonymous_kib")),
                str(sample.get("receive_workers", "")),
            ]
            for each in hostile
            for sample in (each["samples"][0], each["samples"][4], each["samples"][-1])
        ]
        parts += ["## Hostile association requests", table(header, rows)]
        for each in hostile:
            left = each["receive_workers_left"]
            parts.append(
                f"{KINDS[each['receiver']].title}: growth over the second half:"
                f" RSS {number(each['rss_kib_per_1000'])} KiB, anonymous {number(each['anonymous_kib_per_1000'])} KiB for 1000 requests"
                + (f"; {left} receive workers left" if left is not None else "")
                + "; answered: "
                + ", ".join(f"{answer} {count}" for answer, count in each["answers"].items())
                + "."
            )
    return "\n\n".join(parts) + "\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    node = ROOT / ".build" / "release" / "ichnode"
    parser.add_argument("--ichnode", type=Path, default=node, help="the node (release build)")
    parser.add_argument("--instances", type=int, default=5000, help="small instances; 0: none (default: %(default)s)")
    parser.add_argument("--hostile", type=int, default=600, help="hostile requests; 0: none (default: %(default)s)")
    parser.add_argument("--disk", type=Path, default=OUTPUT, help="(default: .build/bench)")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a tmpfs (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT / "results", help="(default: .build/bench/results)")
    parser.add_argument("--all-interfaces", action="store_true", help="go on where there is no network namespace")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> int:
    require_own_network(arguments.all_interfaces)
    use_node(arguments.ichnode)
    compile_native("fast_sender")
    instances, hostile = None, []
    with Places(arguments.disk, arguments.memory) as places:
        found = environment(places)
        if arguments.instances > 0:
            instances = measure_instances(arguments.instances, places)
        if arguments.hostile > 0:
            hostile.append(measure_hostile("node", arguments.hostile, places))
            hostile.append(measure_hostile("storescp", min(arguments.hostile, MOST_HOSTILE_FOR_PEER), places))
    text = markdown(found, instances, hostile)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "memory.md").write_text(text)
    results = {"environment": found, "instances": instances, "hostile": hostile}
    (arguments.output / "memory.json").write_text(json.dumps(results, indent=1) + "\n")
    print(text)
    return 0


def main() -> int:
    arguments = parse_arguments()
    # A polite kill unwinds like Ctrl-C, so that all servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(arguments)
    except DemoFailure as failure:
        print(f"memory: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
