"""Looks at a running node from outside, each few seconds: its processes in /proc, its metrics, its folders."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Callable

from node_fixture import RestartableNode, read_or_empty
from processes import http

# Walking through the folders takes longer than all else.
FOLDERS_EVERY = 6
# Of the metrics, without the buckets of histograms.
KEPT = re.compile(r"ichnode_(?!.*_bucket)[^ ]+ [0-9.eE+-]+$")


def process(pid: int) -> dict | None:
    """Memory in KiB, descriptors, threads, seconds of processor. None where it has ended."""
    status = read_or_empty(Path(f"/proc/{pid}/status"))
    if not status:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    kib = {name: int(fields.get(key, "0 kB").split()[0]) for name, key in (("rss", "VmRSS"), ("anon", "RssAnon"))}
    rollup = re.search(r"^Pss:\s+(\d+)", read_or_empty(Path(f"/proc/{pid}/smaps_rollup")), re.MULTILINE)
    try:
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        descriptors = 0
    times = read_or_empty(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return {
        "pid": pid, "parent": int(fields["PPid"]), "state": fields["State"].split()[0],
        "threads": int(fields["Threads"]), "descriptors": descriptors, **kib,
        "pss": int(rollup[1]) if rollup else kib["rss"],
        "cpu": (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK") if times else 0,
    }  # fmt: skip


def verb(pid: int) -> str:
    """serve, receive, "receive (template)", decode, compose, send, infer …"""
    arguments = read_or_empty(Path(f"/proc/{pid}/cmdline")).split("\0")
    found = arguments[1] if len(arguments) > 1 and arguments[1] else "(ended)"
    is_template = read_or_empty(Path(f"/proc/{pid}/comm")).strip() == "dicom-template"
    return f"{found} (template)" if is_template else found


def all_processes() -> dict[int, int]:
    """Parents by process id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = read_or_empty(path).rpartition(")")[2].split()
        if fields:
            found[int(path.parent.name)] = int(fields[1])
    return found


def descendants(root: int, parents: dict[int, int]) -> list[int]:
    found, fresh = [], [root]
    while fresh:
        fresh = [pid for pid, parent in parents.items() if parent in fresh]
        found += fresh
    return found


def bytes_below(folder: Path) -> tuple[int, int]:
    """Bytes and files."""
    size = count = 0
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size, count = size + entry.stat(follow_symlinks=False).st_size, count + 1
        except FileNotFoundError:
            # Retention was faster.
            continue
    return size, count


class Watch(threading.Thread):
    """`flush` is called each time, after the sample is written."""

    def __init__(self, node: RestartableNode, output: Path, seconds: float, flush: Callable[[], None]):
        super().__init__(daemon=True)
        self.node, self.output, self.seconds, self.flush = node, output, seconds, flush
        self.ending = threading.Event()
        self.failure: BaseException | None = None
        self.count = 0

    def run(self) -> None:
        try:
            with self.output.open("a") as output:
                while not self.ending.wait(self.seconds):
                    output.write(json.dumps(self.sample()) + "\n")
                    output.flush()
                    self.flush()
        except BaseException as failure:
            self.failure = failure

    def stop(self) -> None:
        self.ending.set()
        if self.is_alive():
            self.join(30)

    def sample(self) -> dict:
        self.count += 1
        daemon = self.node.process.pid
        parents = all_processes()
        ours = descendants(daemon, parents)
        kinds: dict[str, dict] = {}
        zombies = []
        for pid in ours:
            found = process(pid)
            if found is None:
                continue
            if found["state"] == "Z":
                zombies.append(pid)
                continue
            total = kinds.setdefault(verb(pid), {"count": 0, "pss": 0, "anon": 0, "descriptors": 0, "most_pss": 0})
            total["count"] += 1
            for key in ("pss", "anon", "descriptors"):
                total[key] += found[key]
            total["most_pss"] = max(total["most_pss"], found["pss"])
        sample = {
            "at": time.time(), "lifetime": self.node.starts, "daemon": process(daemon), "children": kinds,
            "zombies": zombies, "strays": self.strays(set(ours) | {daemon}, parents), "load": os.getloadavg()[0],
            "metrics": self.metrics(),
        }  # fmt: skip
        data = self.node.folder / "data"
        wal = data / "ledger.sqlite-wal"
        sample["wal"] = wal.stat().st_size if wal.exists() else 0
        if self.count % FOLDERS_EVERY == 1:
            sample["folders"] = {
                name: bytes_below(data / name) for name in ("spool/studies", "spool/incoming", "results", "audit")
            }
            sample["folders"]["ledger"] = ((data / "ledger.sqlite").stat().st_size, 1)
            sample["folders"]["logs"] = (sum(path.stat().st_size for path in self.node.folder.glob("*.log")), 1)
        return sample

    def strays(self, known: set[int], parents: dict[int, int]) -> list[int]:
        """Processes of this node that the daemon is no parent of; commands of an operator are none."""
        mark = str(self.node.folder / "data").encode()
        found = []
        for pid in parents:
            if pid in known:
                continue
            try:
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            program = arguments.split(b"\0")[0]
            if mark in arguments and program.startswith(str(self.node.executable.parent).encode()):
                found.append(pid)
        return found

    def metrics(self) -> dict[str, float]:
        try:
            text = http(f"{self.node.url}/metrics", timeout=5).decode()
        except OSError:
            return {}
        found = {}
        for line in text.splitlines():
            if KEPT.match(line):
                name, _, number = line.rpartition(" ")
                found[name.removeprefix("ichnode_")] = float(number)
        return found
