#!/usr/bin/env python3
"""Measures how fast this node and its peers receive, in one run: the same objects, the same senders, one receiver at a
time, all of them in every repeat. Prints ratios and figures as Markdown and writes them, with every measurement, below
--output. README.md says what the columns mean.

Everything runs on loopback, in a network namespace of its own where the kernel allows it."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from pathlib import Path

from surroundings import (
    OUTPUT,
    ROOT,
    BenchmarkFailure,
    DemoFailure,
    Places,
    compile_native,
    environment,
    require_own_network,
    use_node,
)

import cases as plan
import objects
import senders
import tables
from cases import Case
from objects import DataSet, Series
from processor_time import wait_until_quiet
from receivers import KINDS, NodeReceiver, Receiver, wait_until_stored

# Share of a core: above the first, analysis was not idle; below the second, it did not run all the time.
# Inference is niced: where sender and receiver fill the cores, little is left to it.
MOST_IDLE_ANALYSIS, LEAST_RUNNING_ANALYSIS = 0.02, 0.05


class Clocks:
    """A receiver's processor time at three moments."""

    def __init__(self, receiver: Receiver):
        self._receiver = receiver
        self.at_start = receiver.time.seconds()
        self.at_gate, self.analysis_at_gate, self.gate_at = self.at_start, 0.0, 0.0

    def pass_gate(self, settle: bool) -> None:
        """All associations are open. What is due after that, such as the start of the next workers, is let pass."""
        if settle:
            wait_until_quiet(self._receiver.time)
        self.at_gate = self._receiver.time.seconds()
        self.analysis_at_gate = self._analysis()
        self.gate_at = time.monotonic()

    def finish(self, settle: bool) -> dict:
        analysis_share = (self._analysis() - self.analysis_at_gate) / max(time.monotonic() - self.gate_at, 1e-6)
        if settle:
            wait_until_quiet(self._receiver.time, least_seconds=self._receiver.seconds_to_conclude)
        return {
            "opening_seconds": self.at_gate - self.at_start,
            "seconds": self._receiver.time.seconds() - self.at_gate,
            "analysis_share": analysis_share,
        }

    def _analysis(self) -> float:
        return self._receiver.analysis_seconds() if isinstance(self._receiver, NodeReceiver) else 0.0


class Benchmark:
    def __init__(self, arguments: argparse.Namespace, places: Places):
        self.arguments, self.places = arguments, places
        templates = places.root("memory") / "templates"
        self.abdomen = Series(templates / "abdomen", *objects.ABDOMEN)
        self.head = Series(templates / "head")
        self.measurements: list[dict] = []
        self.failures: list[str] = []
        self.doubts: list[str] = []

    # One repeat

    def repeat(self, number: int, chosen: list[Case]) -> None:
        folder, images = self.places.root("memory"), self.arguments.images
        abdomen = objects.write_data_set(self.abdomen, folder / "abdomen", images)
        # A whole study first, so that analysis is running when the clock starts.
        head = objects.write_data_set(self.head, folder / "head", images, warm_up=objects.STUDY_IMAGES)
        for case in interleaved(chosen, number, self.arguments.repeats):
            data_set = head if case.receiver == "node-analysing" else abdomen
            if case.is_slow:
                data_set = data_set.first(min(images, plan.SLOW_IMAGES))
            try:
                measured = self.measure(case, data_set)
            except DemoFailure as failure:
                self.failures.append(f"{case.key}, repeat {number + 1}: {str(failure).splitlines()[0]}")
                print(f"  {number + 1}  {case.key:38} FAILED: {failure}", file=sys.stderr, flush=True)
                continue
            measured |= {"key": case.key, "repeat": number, "load": round(os.getloadavg()[0], 2)}
            self.measurements.append(measured)
            report_progress(number, case, measured)

    def measure(self, case: Case, data_set: DataSet) -> dict:
        folder = self.places.fresh(case.medium)
        try:
            with KINDS[case.receiver].make(folder, case.associations) as receiver:
                if case.sends_images:
                    return self.measure_images(case, receiver, data_set)
                return self.measure_echoes(case, receiver)
        finally:
            self.places.remove(folder)

    # Images

    def measure_images(self, case: Case, receiver: Receiver, data_set: DataSet) -> dict:
        analysing = case.receiver == "node-analysing"
        scratch = self.places.root("memory")
        senders.send("fast", receiver, data_set.warm_up, 1, scratch, at_gate=lambda: None)
        if not analysing:
            wait_until_quiet(receiver.time)
        self.places.settle_disk()
        clocks = Clocks(receiver)
        sent = senders.send(
            case.sender, receiver, data_set.objects, case.associations, scratch, lambda: clocks.pass_gate(not analysing)
        )
        used = clocks.finish(settle=not analysing)
        self.check(case, receiver, len(data_set.warm_up) + len(data_set.objects), used)
        images = len(data_set.objects)
        return {
            "images": images,
            "seconds": sent["seconds"],
            "per_second": images / sent["seconds"],
            "p50_ms": sent.get("p50_ms"),
            "p99_ms": sent.get("p99_ms"),
            "most_ms": sent.get("most_ms"),
            "sender_cpu_ms_per_image": 1000 * sent["cpu_seconds"] / images if "cpu_seconds" in sent else None,
            "cpu_ms_per_image": 1000 * used["seconds"] / images,
            # The stock senders do not wait at the gate: theirs is in the images' time.
            "opening_cpu_ms": 1000 * used["opening_seconds"] / case.associations if case.sender == "fast" else None,
            "analysis_share": round(used["analysis_share"], 3),
            "cpu_from": receiver.time.source,
        }

    def check(self, case: Case, receiver: Receiver, expected: int, used: dict) -> None:
        """That the figure means what its name says."""
        receiver.server.require_running()
        stored = wait_until_stored(receiver, expected)
        if stored != expected:
            raise BenchmarkFailure(f"{stored} objects in storage, {expected} were acknowledged")
        share = used["analysis_share"]
        if case.receiver == "node":
            if share > MOST_IDLE_ANALYSIS:
                self.doubts.append(f"{case.key}: analysis was not idle, it used {share:.0%} of a core")
            if (outcomes := receiver.outcomes().keys()) != {"not a head CT"}:
                self.doubts.append(f"{case.key}: studies that should be no head CT ended as {', '.join(outcomes)}")
        if case.receiver == "node-analysing" and share < LEAST_RUNNING_ANALYSIS:
            self.doubts.append(f"{case.key}: analysis used {share:.0%} of a core only: it did not run all the time")

    # C-ECHO

    def measure_echoes(self, case: Case, receiver: Receiver) -> dict:
        senders.run_fast("rate", receiver, "--seconds", "0.5", "--pace", "10")
        wait_until_quiet(receiver.time)
        clocks = Clocks(receiver)
        seconds, at_once = str(self.arguments.rate_seconds), str(case.associations)
        if case.sender == "echo":
            found = senders.run_fast("echo", receiver, "--count", str(plan.OPEN_ECHOES))
        elif case.sender == "paced":
            pace = str(plan.PACED_ECHOES_PER_SECOND)
            found = senders.run_fast("rate", receiver, "--seconds", seconds, "--pace", pace)
        else:
            found = senders.run_fast("rate", receiver, "--seconds", seconds, "--associations", at_once)
        used = clocks.finish(settle=True)
        if found["count"] == 0:
            raise BenchmarkFailure("no C-ECHO was answered")
        return {
            "count": found["count"],
            "seconds": found["seconds"],
            "per_second": found["count"] / found["seconds"],
            "p50_ms": found["p50_ms"],
            "p99_ms": found["p99_ms"],
            "most_ms": found["most_ms"],
            "cpu_ms_each": 1000 * used["seconds"] / found["count"],
            "cpu_from": receiver.time.source,
        }


def interleaved(chosen: list[Case], number: int, repeats: int) -> list[Case]:
    """Every repeat begins elsewhere, every other one runs backwards: nobody is always first or after the same one."""
    start = len(chosen) * number // repeats
    turned = chosen[start:] + chosen[:start]
    return turned[::-1] if number % 2 else turned


def report_progress(number: int, case: Case, measured: dict) -> None:
    if case.sends_images:
        figures = f"{measured['per_second']:7.1f} images/s  {measured['cpu_ms_per_image']:6.2f} ms CPU an image"
    else:
        figures = f"{measured['per_second']:7.1f} a second  p99 {measured['p99_ms']:6.2f} ms"
    print(f"  {number + 1}  {case.key:38} {figures}  load {measured['load']:.1f}", file=sys.stderr, flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    node = ROOT / ".build" / "release" / "ichnode"
    parser.add_argument("--ichnode", type=Path, default=node, help="ichnode-dicom lies beside it (release build)")
    parser.add_argument("--repeats", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--images", type=int, default=400, help="of every receiver in a repeat (default: %(default)s)")
    parser.add_argument(
        "--rate-seconds", type=float, default=plan.RATE_SECONDS, help="of each C-ECHO case (default: %(default)s)"
    )
    parser.add_argument("--only", metavar="PATTERN", help="cases that match: receiver/sender/associations/medium")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument("--check", action="store_true", help="exit code 1 when a required ratio is missed")
    parser.add_argument("--disk", type=Path, default=OUTPUT, help="a folder on it (default: .build/bench)")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a tmpfs (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT / "results", help="(default: .build/bench/results)")
    parser.add_argument("--all-interfaces", action="store_true", help="go on where there is no network namespace")
    arguments = parser.parse_args()
    if arguments.repeats < 1 or arguments.images < objects.LEAST_STUDIES:
        parser.error(f"at least 1 repeat and {objects.LEAST_STUDIES} images, one for each of 16 associations")
    return arguments


def run(arguments: argparse.Namespace, chosen: list[Case]) -> int:
    require_own_network(arguments.all_interfaces)
    use_node(arguments.ichnode)
    for name in ("fast_sender", "raw_sink"):
        compile_native(name)
    with Places(arguments.disk, arguments.memory) as places:
        places.wait_for_inodes()
        found = environment(places)
        print(tables.on_one_line(found), file=sys.stderr, flush=True)
        benchmark = Benchmark(arguments, places)
        for number in range(arguments.repeats):
            benchmark.repeat(number, chosen)
    results = {
        "environment": found,
        "run": {
            "repeats": arguments.repeats,
            "images": arguments.images,
            "slow_images": min(arguments.images, plan.SLOW_IMAGES),
            "studies": objects.studies_for(arguments.images),
            "object_bytes": benchmark.abdomen.object_bytes,
            "only": arguments.only,
        },
        "measurements": benchmark.measurements,
        "failures": benchmark.failures,
        "doubts": benchmark.doubts,
    }
    print(tables.write_results(results, chosen, arguments.output))
    missed = [each.title for each in plan.verdicts(plan.Figures(benchmark.measurements)) if not each.is_met]
    if arguments.check and missed:
        print(f"receive: required and not met: {'; '.join(missed)}", file=sys.stderr)
    return 1 if benchmark.failures or (arguments.check and (missed or benchmark.doubts)) else 0


def main() -> int:
    arguments = parse_arguments()
    chosen = [each for each in plan.all_cases() if not arguments.only or re.search(arguments.only, each.key)]
    if arguments.list or not chosen:
        print("\n".join(each.key for each in chosen) or f"no case matches {arguments.only}")
        return 0 if chosen else 64
    # A polite kill unwinds like Ctrl-C, so that all servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(arguments, chosen)
    except DemoFailure as failure:
        print(f"receive: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
