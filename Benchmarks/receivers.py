"""The receivers that are compared: this node, the servers that others use, and sinks without DICOM. Each is started
with an empty folder, on a free port, and with processor time accounted for all its processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import processor_time
import senders
from surroundings import (
    LOOPBACK,
    BenchmarkFailure,
    Pacs,
    RestartableNode,
    Server,
    compile_native,
    find_tool,
    free_ports,
    http,
)

MOST_CONTROL_PATH = 100
# As by default.
GRACE_SECONDS = 2


@dataclass(frozen=True)
class Kind:
    """One row of the comparison."""

    title: str
    make: Callable[[Path, int], Receiver]
    # What it does before it answers, for the table.
    promise: str


class Receiver:
    """A running server. `server` is started and stopped by scripts/demo/processes.py."""

    called = "ANY-SCP"
    is_raw = False
    # It goes on working for so long after its last answer, with pauses.
    seconds_to_conclude = 0.0

    def __init__(self, server: Server, folder: Path, port: int, *, no_delay: bool = False):
        self.server, self.folder, self.port = server, folder, port
        self.time = processor_time.account(folder.name)
        environment = ["env", "-u", "TCP_NODELAY"] + (["TCP_NODELAY=1"] if no_delay else [])
        server.command_line = self.time.wrap([*environment, *server.command_line])

    def __enter__(self) -> Receiver:
        try:
            self.server.__enter__()
            self.time.attach(self.server.process.pid)
            self.server.wait_until(lambda: senders.answers(self), "an answer", 30)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        self.server.stop()
        if isinstance(self.time, processor_time.ControlGroup):
            # What outlived its parent.
            for pid in self.time.members():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.time.remove()

    def stored(self) -> int:
        """Objects in its storage."""
        raise NotImplementedError


# --- This node --------------------------------------------------------------------------------------------------------


class NodeReceiver(Receiver):
    called = "ICHNODE"
    # The grace after the association's end, and what follows it.
    seconds_to_conclude = GRACE_SECONDS + 0.5

    def __init__(self, folder: Path, _associations: int = 1, **sections: dict):
        if len(f"{folder}/run/control.sock") > MOST_CONTROL_PATH:
            raise BenchmarkFailure(f"{folder} is too long a path for the node's control socket: give a shorter one")
        # Nobody takes the results: where studies are analysed, one attempt fails at once and the next is far away.
        (nobody,) = free_ports(1)
        defaults = {
            "node": {"log_level": "info"},
            "completion": {"grace_seconds": GRACE_SECONDS, "quiet_seconds": 60},
            "delivery": {"first_retry_seconds": 600, "most_retry_seconds": 600},
        }
        for section, keys in sections.items():
            defaults[section] = defaults.get(section, {}) | keys
        self.node = RestartableNode(folder, nobody, **defaults)
        super().__init__(self.node, folder, self.node.dicom_port)

    def stored(self) -> int:
        studies = self.folder / "data" / "spool" / "studies"
        return sum(1 for study in os.scandir(studies) for name in os.listdir(study) if name.endswith(".dcm"))

    def analysis_seconds(self) -> float:
        """Processor time so far of inference and decoding; 0 for what is not started."""
        pids = self.node.children("infer") + self.node.children("decode")
        return sum(processor_time.process_seconds(pid) for pid in pids)

    def outcomes(self) -> dict[str, int]:
        """How many studies ended how."""
        found: dict[str, int] = {}
        for each in json.loads(self.node.command("study", "list", "--limit", "10000", "--json")):
            outcome = each.get("outcome") or each.get("state")
            found[outcome] = found.get(outcome, 0) + 1
        return found


# --- Others' ----------------------------------------------------------------------------------------------------------


class FolderReceiver(Receiver):
    """One that writes files somewhere below a folder."""

    def __init__(self, name: str, command: list[str], folder: Path, storage: Path, port: int, **options):
        storage.mkdir(exist_ok=True)
        self.storage = storage
        super().__init__(Server(name, command, folder / "log"), folder, port, **options)

    def stored(self) -> int:
        leave_out = ("index.dat", ".lock")
        return sum(1 for _, _, names in os.walk(self.storage) for name in names if not name.endswith(leave_out))


def storescp(*options: str, no_delay: bool = False) -> Callable[[Path, int], Receiver]:
    def make(folder: Path, associations: int) -> Receiver:
        (port,) = free_ports(1)
        storage = folder / "storage"
        # Without --fork it serves one association after the other.
        fork = ["--fork"] if associations > 1 else []
        command = [find_tool("storescp", "dcmtk"), *options, *fork, "--output-directory", str(storage), str(port)]
        return FolderReceiver("storescp", command, folder, storage, port, no_delay=no_delay)

    return make


def dcmqrscp(no_delay: bool = False) -> Callable[[Path, int], Receiver]:
    def make(folder: Path, associations: int) -> Receiver:
        (port,) = free_ports(1)
        storage, configuration = folder / "storage", folder / "dcmqrscp.cfg"
        configuration.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = {associations + 4}\n"
            "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nANY-SCP {storage} RW (500, 1024mb) ANY\nAETable END\n"
        )
        command = [find_tool("dcmqrscp", "dcmtk"), "--config", str(configuration)]
        return FolderReceiver("dcmqrscp", command, folder, storage, port, no_delay=no_delay)

    return make


def pynetdicom_storescp(folder: Path, _associations: int) -> Receiver:
    (port,) = free_ports(1)
    storage = folder / "storage"
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-q", "-ba", LOOPBACK, "-od", str(storage)]
    return FolderReceiver("pynetdicom storescp", command, folder, storage, port)


class OrthancReceiver(Receiver):
    called = "ORTHANC"

    def __init__(self, folder: Path, no_delay: bool):
        self.pacs = Pacs(folder / "orthanc", node_port=104)
        super().__init__(self.pacs, folder, self.pacs.dicom_port, no_delay=no_delay)

    def stored(self) -> int:
        return json.loads(http(f"{self.pacs.url}/statistics"))["CountInstances"]


def orthanc(no_delay: bool = False) -> Callable[[Path, int], Receiver]:
    return lambda folder, _associations: OrthancReceiver(folder, no_delay)


class RawSink(FolderReceiver):
    is_raw = True

    def __init__(self, folder: Path, sync: bool):
        (port,) = free_ports(1)
        storage = folder / "storage"
        command = [str(compile_native("raw_sink")), *(["--sync"] if sync else []), str(port), str(storage)]
        super().__init__("raw sink", command, folder, storage, port)


def raw_sink(sync: bool) -> Callable[[Path, int], Receiver]:
    return lambda folder, _associations: RawSink(folder, sync)


DURABLE = "fsync of file, rename, fsync of folder"
FILE = "written, not synced"
KINDS = {
    "node": Kind("this node", NodeReceiver, DURABLE),
    "node-analysing": Kind("this node, analysis running", NodeReceiver, DURABLE),
    "storescp": Kind("storescp", storescp(), FILE),
    "storescp+B": Kind("storescp +B", storescp("+B"), FILE),
    "storescp+B-nodelay": Kind("storescp +B, TCP_NODELAY=1", storescp("+B", no_delay=True), FILE),
    "dcmqrscp": Kind("dcmqrscp", dcmqrscp(), FILE),
    "dcmqrscp-nodelay": Kind("dcmqrscp, TCP_NODELAY=1", dcmqrscp(no_delay=True), FILE),
    "orthanc": Kind("Orthanc", orthanc(), "database, fsync of file"),
    "orthanc-nodelay": Kind("Orthanc, TCP_NODELAY=1", orthanc(no_delay=True), "database, fsync of file"),
    "pynetdicom": Kind("pynetdicom storescp", pynetdicom_storescp, FILE),
    "sink": Kind("raw TCP sink", raw_sink(sync=False), FILE),
    "sink-fsync": Kind("raw TCP sink, fsyncing", raw_sink(sync=True), DURABLE),
}


def wait_until_stored(receiver: Receiver, count: int, seconds: float = 5) -> int:
    """The number in its storage, once it is `count` or time is up: an index may lag behind the answers."""
    deadline = time.monotonic() + seconds
    while (found := receiver.stored()) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
