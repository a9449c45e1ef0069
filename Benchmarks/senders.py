"""The senders: DCMTK's storescu and dcmsend as they come, and the fast sender of native/fast_sender.cpp."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from typing import Callable

from objects import StoredObject, write_list
from surroundings import LOOPBACK, BenchmarkFailure, compile_native, find_tool

# Known to Orthanc's configuration (scripts/demo/processes.py).
CALLING = "DEMOPACS"
SENDER_DEADLINE_SECONDS = 600


def plain_environment() -> dict[str, str]:
    """Without what would change DCMTK's behaviour."""
    return {name: value for name, value in os.environ.items() if name not in ("TCP_NODELAY", "TCP_BUFFER_LENGTH")}


def titles(receiver) -> list[str]:
    return ["--calling", CALLING, "--called", receiver.called]


def answers(receiver) -> bool:
    """Whether a C-ECHO is answered; for a raw sink, whether it accepts."""
    if receiver.is_raw:
        try:
            socket.create_connection((LOOPBACK, receiver.port), timeout=1).close()
            return True
        except OSError:
            return False
    command = [str(compile_native("fast_sender")), "echo", LOOPBACK, str(receiver.port), "--count", "1"]
    command += [*titles(receiver), "--timeout", "5"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def run_stock(tool: str, receiver, objects: list[StoredObject]) -> dict:
    """Whole life of one process of DCMTK's: start, association, all objects, release."""
    command = [find_tool(tool, "dcmtk"), "-aet", CALLING, "-aec", receiver.called, LOOPBACK, str(receiver.port)]
    started = time.monotonic()
    result = subprocess.run(
        [*command, *(str(each.path) for each in objects)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SENDER_DEADLINE_SECONDS,
        env=plain_environment(),
    )
    seconds = time.monotonic() - started
    if result.returncode != 0 or result.stdout.strip():
        raise BenchmarkFailure(f"{tool} ended with {result.returncode}\n{result.stdout[-2000:]}")
    return {"count": len(objects), "seconds": seconds}


def run_fast(mode: str, receiver, *options: str, at_gate: Callable[[], None] | None = None) -> dict:
    """The fast sender; `at_gate` is called when all associations are open and nothing has been sent."""
    command = [str(compile_native("fast_sender")), mode, LOOPBACK, str(receiver.port), *titles(receiver), *options]
    process = subprocess.Popen(
        [*command, *(["--gate"] if at_gate else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=plain_environment(),
    )
    try:
        if at_gate and process.stdout.readline() == "ready\n":
            at_gate()
        output, errors = process.communicate("go\n", timeout=SENDER_DEADLINE_SECONDS)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode != 0:
        raise BenchmarkFailure(f"{errors.strip() or 'fast sender'} (exit code {process.returncode})")
    return json.loads(output.splitlines()[-1])


def send(
    sender: str, receiver, objects: list[StoredObject], associations: int, folder: Path, at_gate: Callable[[], None]
) -> dict:
    """All objects once; each has to be answered with success. `seconds` are those of the transfer."""
    if sender != "fast":
        at_gate()
        return run_stock(sender, receiver, objects)
    listing = write_list(objects, folder / "objects.list")
    options = ("--objects", str(listing), "--associations", str(associations))
    return run_fast("raw" if receiver.is_raw else "store", receiver, *options, at_gate=at_gate)
