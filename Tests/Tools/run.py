#!/usr/bin/env python3
"""Runs the test modules of this folder, each in a process of its own: they wait for nodes and archives more than they
work, so several run at once. Those that measure times come last, one by one. What fails beside others is run again
alone, and that counts; the end says which these were: a test that loses a race is a fault of the test. What the failed
ones printed is printed."""

from __future__ import annotations

import argparse
import os
import queue
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOST_SECONDS = 900
# They compare times or speeds with a bound, or load the machine.
ALONE = (
    "test_node_attacks",
    "test_node_attacks_tls",
    "test_node_crashes",
    "test_node_load",
    "test_node_receiving",
    "test_node_tls",
    "test_node_watchdog",
)
# The longest first, so that none is left alone at the end; roughly, in seconds.
LONG = {
    "test_node_results": 150, "test_node_delivery": 120, "test_node_completion": 105, "test_node_commitment": 90,
    "test_node_soak": 75, "test_node_alerts": 60, "test_node_backup": 60, "test_node_operator_alerts": 50,
    "test_node_doctor": 50, "test_node_character_sets": 45, "test_enhanced_ct": 45, "test_node_reload": 35,
}


@dataclass
class Run:
    module: str
    status: int
    output: str
    seconds: float
    count: int


def run(module: str, ports: queue.SimpleQueue, parts: int) -> Run:
    """`ports` holds parts of the ports: no module takes one that another is about to listen on."""
    started = time.monotonic()
    part = ports.get()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "unittest", "--verbose", module],
            cwd=HERE,
            env={**os.environ, "ICHNODE_PORTS": str(part), "ICHNODE_PARTS": str(parts)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            # Polite first, so that the servers of its tests are stopped.
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            status = 124
        output.seek(0)
        text = output.read().decode(errors="replace")
    ports.put(part)
    if status == 124:
        text += f"\n{module} did not end in {MOST_SECONDS} s\n"
    counted = re.findall(r"^Ran (\d+) tests?", text, re.MULTILINE)
    return Run(module, status, text, time.monotonic() - started, int(counted[-1]) if counted else 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="all when none is named")
    # They wait too: each needs less than a processor.
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 2) + 1, help="at once (default: %(default)s)")
    options = parser.parse_args()
    modules = options.modules or sorted(path.stem for path in HERE.glob("test_*.py"))
    together = sorted((name for name in modules if name not in ALONE), key=lambda name: -LONG.get(name, 0))
    alone = [name for name in modules if name in ALONE]
    ports: queue.SimpleQueue = queue.SimpleQueue()
    for part in range(options.jobs):
        ports.put(part)
    runs: list[Run] = []

    def report(done: Run) -> None:
        word = "ok" if done.status == 0 else f"FAILED ({done.status})"
        print(f"{done.module}: {done.count} tests, {done.seconds:.0f} s, {word}", flush=True)
        if done.status != 0:
            print(done.output, flush=True)

    started = time.monotonic()
    again = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in pool.map(lambda name: run(name, ports, options.jobs), together):
            report(done)
            if done.status == 0:
                runs.append(done)
            else:
                again.append(done.module)
    for name in again + alone:
        runs.append(run(name, ports, options.jobs))
        report(runs[-1])

    failed = [done for done in runs if done.status != 0]
    skipped = [line for done in runs for line in done.output.splitlines() if re.search(r"\.\.\. skipped ", line)]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("\n".join(skipped))
    print(
        f"{sum(done.count for done in runs)} tests in {len(runs)} modules, {time.monotonic() - started:.0f} s "
        f"({used.ru_utime + used.ru_stime:.0f} s of processor), {len(skipped)} skipped, "
        + (f"FAILED: {', '.join(done.module for done in failed)}" if failed else "all passed")
        + (f"; run twice: {', '.join(again)}" if again else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
