"""A node whose processes fail, stop or die at a chosen file operation: faults.c, compiled here, is preloaded into the
receive workers (through a script in the place of ichnode-dicom, since children inherit no environment that they do not
need) and into the daemon. Nothing in the node knows of it."""

from __future__ import annotations

import enum
import mmap
import os
import shutil
import signal
import struct
import subprocess
import tempfile
from pathlib import Path

from node_fixture import HERE, ICHNODE, RestartableNode, wait_for


class Operation(enum.IntEnum):
    """What faults.c counts; the order is that of its enumeration."""

    CREATE = 0
    WRITE = 1
    SYNC = 2
    MKDIR = 3
    OPEN_FOLDER = 4
    SYNC_FOLDER = 5
    RENAME = 6
    RESPOND = 7
    RESPONDED = 8
    UNLINK = 9
    SPACE = 10
    LEDGER_OPEN = 11
    LEDGER_WRITE = 12
    LEDGER_SYNC = 13
    LEDGER_TRUNCATE = 14
    OPEN_STORED = 15
    READ_STORED = 16
    REPLACE = 17
    RMDIR = 18


# What a receive worker does to the disk for an object.
WORKER_OPERATIONS = (
    Operation.SPACE,
    Operation.CREATE,
    Operation.WRITE,
    Operation.SYNC,
    Operation.MKDIR,
    Operation.OPEN_FOLDER,
    Operation.SYNC_FOLDER,
    Operation.RENAME,
)
LEDGER_OPERATIONS = (
    Operation.LEDGER_OPEN,
    Operation.LEDGER_WRITE,
    Operation.LEDGER_SYNC,
    Operation.LEDGER_TRUNCATE,
)


class Mode(enum.IntEnum):
    OFF, COUNT, FAIL, SHORTEN, STOP, KILL = range(6)


_RUNNING, _REACHED, _RELEASED = range(3)


class Plan:
    """The page that a test shares with the processes of one kind."""

    _SIZE = 64 + 1024
    # The order is that of `struct control` in faults.c; all are 32 bits wide.
    _FIELDS = (
        "mode", "operations", "nth", "error", "afterwards", "sticky", "count", "hits", "state", "pid", "operation"
    )  # fmt: skip

    def __init__(self, path: Path):
        path.write_bytes(bytes(self._SIZE))
        self.path = path
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), self._SIZE)

    def _get(self, name: str) -> int:
        return struct.unpack_from("=I", self._page, 4 * self._FIELDS.index(name))[0]

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            struct.pack_into("=I", self._page, 4 * self._FIELDS.index(name), value)

    def arm(
        self,
        mode: Mode,
        operations: tuple[Operation, ...],
        nth: int = 0,
        error: int = 0,
        *,
        afterwards: bool = False,
        sticky: bool = False,
    ) -> None:
        """Counts from now on, and acts at the n-th; `sticky`: at all after it, too."""
        self.disarm()
        self._set(
            operations=sum(1 << operation for operation in operations),
            nth=nth,
            error=error,
            afterwards=afterwards,
            sticky=sticky,
            count=0,
            hits=0,
            state=_RUNNING,
            pid=0,
        )
        self._set(mode=mode)

    def disarm(self) -> None:
        """Also lets go on what has stopped."""
        self._set(mode=Mode.OFF, state=_RELEASED)

    @property
    def hits(self) -> int:
        return self._get("hits")

    @property
    def seen(self) -> list[Operation]:
        """Operations since `arm`, in order."""
        count = min(self._get("count"), self._SIZE - 64)
        return [Operation(each) for each in self._page[64 : 64 + count]]

    @property
    def stopped_process(self) -> int | None:
        """The process that stopped at the n-th operation."""
        return self._get("pid") if self._get("state") == _REACHED else None


def compiler() -> str | None:
    return shutil.which("cc")


def compile_faults(folder: Path) -> Path:
    library = folder / "faults.so"
    subprocess.run(
        [compiler(), "-std=gnu11", "-Wall", "-Werror", "-O1", "-shared", "-fPIC"]
        + ["-o", str(library), str(HERE / "faults.c"), "-ldl"],
        check=True,
    )
    return library


class FaultyNode(RestartableNode):
    """A node from a copy of the build, which may be rebuilt meanwhile, with a plan for its workers and one for the
    daemon. Nobody listens where its results should go."""

    def __init__(self, folder: Path, **sections: dict):
        # Port 9 is that of the discard protocol: closed everywhere.
        super().__init__(folder, 9, **sections)
        programs = folder / "programs"
        programs.mkdir()
        library = compile_faults(programs)
        self.workers, self.daemon = Plan(programs / "workers"), Plan(programs / "daemon")
        data = str(folder / "data")
        shutil.copy(ICHNODE, programs / "ichnode")
        shutil.copy(ICHNODE.parent / "ichnode-dicom", programs / "ichnode-dicom-itself")
        worker = programs / "ichnode-dicom"
        worker.write_text(
            "#!/bin/sh\n"
            f"export LD_PRELOAD='{library}' FAULTS_CONTROL='{self.workers.path}' FAULTS_BELOW='{data}'\n"
            f"exec '{programs / 'ichnode-dicom-itself'}' \"$@\"\n"
        )
        worker.chmod(0o755)
        self.executable = programs / "ichnode"
        environment = {"LD_PRELOAD": library, "FAULTS_CONTROL": self.daemon.path, "FAULTS_BELOW": data}
        self.command_line = [
            "/usr/bin/env",
            *(f"{name}={value}" for name, value in environment.items()),
            str(self.executable),
            *self.command_line[1:],
        ]

    @property
    def ledger(self) -> Path:
        return self.folder / "data" / "ledger.sqlite"

    def kill_workers(self) -> int:
        """SIGKILL to all receive workers. Returns how many there were."""
        pids = self.children("receive")
        for pid in pids:
            kill_process(pid)
        return len(pids)

    def wait_until_quiet(self, seconds: float = 15) -> None:
        """Until the daemon has cleaned up after associations that ended."""
        wait_for(lambda: not list(self.incoming.iterdir()), "nothing is left in incoming", seconds, self.log_tail)


def kill_process(pid: int) -> None:
    """SIGKILL, unless it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def temporary_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="ichnode-faults-")
