"""Processor time of a server with all its processes, those that have ended included."""

from __future__ import annotations

import os
import time
from pathlib import Path

# Version 2, alone or beside version 1.
_MOUNTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
CGROUPS = next((each for each in _MOUNTS if (each / "cgroup.procs").exists()), None)


class ControlGroup:
    """A cgroup (version 2) for one server: the kernel adds up what all its processes use, to the microsecond, also of
    those that ended or were orphaned. `wrap` makes a command line that starts in it."""

    source = "cgroup"

    def __init__(self, folder: Path):
        self.folder = folder

    @staticmethod
    def make(name: str) -> ControlGroup | None:
        """None where this user may not make one."""
        own = next(
            (line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), None
        )
        if CGROUPS is None or own is None:
            return None
        folder = CGROUPS / own.lstrip("/") / f"ichnode-bench-{os.getpid()}-{name}"
        try:
            folder.mkdir()
        except OSError:
            return None
        group = ControlGroup(folder)
        if not (folder / "cpu.stat").exists() or not os.access(folder / "cgroup.procs", os.W_OK):
            group.remove()
            return None
        return group

    def wrap(self, command: list[str]) -> list[str]:
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs"), *command]

    def attach(self, _pid: int) -> None:
        """Nothing to do: the command joined by itself."""

    def seconds(self) -> float:
        for line in (self.folder / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6
        raise RuntimeError(f"{self.folder}: no usage_usec in cpu.stat")

    def members(self) -> list[int]:
        return [int(each) for each in (self.folder / "cgroup.procs").read_text().split()]

    def remove(self) -> None:
        """Once its processes have ended."""
        deadline = time.monotonic() + 5
        while True:
            try:
                self.folder.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


class ProcessTree:
    """Without a cgroup: the clocks of all live processes of the server, to the nanosecond, and what their parents were
    charged for children that ended, in ticks of 10 ms. A child that was orphaned is found by its session."""

    source = "proc"

    def __init__(self):
        self.pid = 0

    def wrap(self, command: list[str]) -> list[str]:
        return command

    def attach(self, pid: int) -> None:
        self.pid = pid

    def members(self) -> list[int]:
        parents, sessions = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))):
                parents[int(entry.name)], sessions[int(entry.name)] = int(fields[1]), int(fields[3])
        found = {pid for pid, session in sessions.items() if session == self.pid} | {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found & parents.keys())

    def seconds(self) -> float:
        ticks, total = os.sysconf("SC_CLK_TCK"), 0.0
        for pid in self.members():
            if (fields := _stat(pid)) is None:
                continue
            try:
                own = process_seconds(pid)
            except OSError:
                # Ended, and its parent has not asked yet.
                own = (int(fields[11]) + int(fields[12])) / ticks
            total += own + (int(fields[13]) + int(fields[14])) / ticks
        return total

    def remove(self) -> None:
        """Nothing is left."""


def process_seconds(pid: int) -> float:
    """User and system time of one live process with its threads, ended ones included: clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (field 3 of proc(5) is index 0)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def account(name: str) -> ControlGroup | ProcessTree:
    return ControlGroup.make(name) or ProcessTree()


def wait_until_quiet(
    processor_time: ControlGroup | ProcessTree, most_seconds: float = 4, least_seconds: float = 0
) -> None:
    """What a server does after its last answer is part of its work: returns when it uses less than 1 % of a core."""
    time.sleep(least_seconds)
    deadline = time.monotonic() + most_seconds
    before, quiet = processor_time.seconds(), 0
    while quiet < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
        now = processor_time.seconds()
        quiet = quiet + 1 if now - before < 0.001 else 0
        before = now
