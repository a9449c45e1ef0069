"""Starts and stops the demo's two servers, Orthanc and the node, each by its own process id, on free ports."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

LOOPBACK = "127.0.0.1"


class DemoFailure(Exception):
    """Something that the demo needs is missing or broken; the text says what and where to look."""


def find_tool(name: str, package: str) -> str:
    """A program of Debian's; .venv has programs of the same names, which are other implementations."""
    folders = [p for p in os.environ.get("PATH", "").split(os.pathsep) if p and not p.startswith(sys.prefix)]
    found = shutil.which(name, path=os.pathsep.join([*folders, "/usr/sbin", "/usr/bin"]))
    if not found:
        raise DemoFailure(f"{name} is missing: install Debian's package {package} (scripts/setup demo)")
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, and none that the system gives to other sockets before they are used."""
    # A part of them where several processes look for ports at once.
    part, parts = (int(os.environ.get(name, default)) for name, default in (("ICHNODE_PORTS", 0), ("ICHNODE_PARTS", 1)))
    size = 12000 // parts
    first = 20000 + part * size
    ports: list[int] = []
    for port in random.sample(range(first, first + size), min(size, 1000)):
        if len(ports) == count:
            return ports
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        ports.append(port)
    raise DemoFailure("no ports are free: see what listens on this machine (ss -ltn)")


class Server:
    """A child process with a log file. Stopped at the end of the `with` block, whatever happened in it."""

    def __init__(self, name: str, command: list[str], log: Path):
        self.name, self.command_line, self.log = name, command, log
        self.process: subprocess.Popen | None = None
        self.exit_status: int | None = None

    def __enter__(self):
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            # A session of its own, so that Ctrl-C reaches the demo alone, which then stops its servers in order.
            self.process = subprocess.Popen(
                self.command_line,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, patience_seconds: float = 20) -> None:
        if self.process is None or self.exit_status is not None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.exit_status = self.process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.exit_status = self.process.wait()

    def require_running(self) -> None:
        status = self.process.poll()
        if status is not None:
            self.exit_status = status
            raise DemoFailure(f"{self.name} ended by itself with status {status}\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"the last lines of {self.log}:", *(f"  | {line}" for line in text)])

    def wait_until(self, condition, what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.require_running()
            if time.monotonic() > deadline:
                raise DemoFailure(f"{self.name}: {what} not reached after {seconds:.0f} s\n{self.log_tail()}")
            time.sleep(0.05)


def http(url: str, body: dict | None = None, timeout: float = 10) -> bytes:
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    # No proxy between a loopback server and us.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout) as response:
        return response.read()


def answers(url: str) -> bool:
    try:
        http(url, timeout=2)
        return True
    except (urllib.error.URLError, OSError):
        return False


class Pacs(Server):
    """Orthanc with a configuration and a storage folder of its own."""

    def __init__(self, folder: Path, node_port: int, ae_title: str = "ORTHANC", **settings):
        """`settings` are Orthanc's, in place of ours."""
        self.ae_title = ae_title
        self.dicom_port, self.http_port = free_ports(2)
        self.url = f"http://{LOOPBACK}:{self.http_port}"
        folder.mkdir(parents=True)
        configuration = folder / "orthanc.json"
        configuration.write_text(
            json.dumps(
                {
                    "Name": "Demo PACS",
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "Plugins": [],
                    "DicomAet": ae_title,
                    "DicomPort": self.dicom_port,
                    "HttpPort": self.http_port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    # Orthanc listens on all interfaces; only these two peers, from loopback, get anywhere.
                    "DicomAlwaysAllowEcho": False,
                    "DicomAlwaysAllowStore": False,
                    "DicomCheckCalledAet": True,
                    "DicomCheckModalityHost": True,
                    "DicomModalities": {
                        "node": ["ICHNODE", LOOPBACK, node_port],
                        "scanner": ["DEMOPACS", LOOPBACK, 104],
                    },
                    "UnknownSopClassAccepted": True,
                    "OverwriteInstances": False,
                    "SaveJobs": False,
                    **settings,
                },
                indent=2,
            )
        )
        super().__init__("Orthanc", [find_tool("Orthanc", "orthanc"), str(configuration)], folder / "orthanc.log")

    def __enter__(self):
        super().__enter__()
        try:
            self.wait_until(lambda: answers(f"{self.url}/system"), "HTTP port", 30)
        except BaseException:
            self.stop()
            raise
        return self

    def find(self, study_uid: str, modality: str, series_number: int | None = None) -> list[str]:
        """Orthanc's identifiers of the instances of one modality in a study, or of those of its series of one number."""
        query = {"StudyInstanceUID": study_uid, "Modality": modality}
        if series_number is not None:
            query["SeriesNumber"] = str(series_number)
        return json.loads(http(f"{self.url}/tools/find", {"Level": "Instance", "Query": query}))

    def download(self, identifier: str) -> bytes:
        return http(f"{self.url}/instances/{identifier}/file")


class Node(Server):
    """`ichnode serve` with a configuration that sends every result to one PACS."""

    def __init__(self, executable: Path, model: Path, folder: Path, dicom_port: int, grace_seconds: int):
        self.executable, self.dicom_port, self.folder = executable, dicom_port, folder
        (self.http_port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{self.http_port}"
        self.grace_seconds, self.model = grace_seconds, model
        self.configuration = folder / "ichnode.yaml"
        super().__init__(
            "ichnode", [str(executable), "serve", "--config", str(self.configuration)], folder / "ichnode.log"
        )

    def configure(self, pacs: Pacs) -> None:
        for name in ("data", "run"):
            (self.folder / name).mkdir(parents=True)
        self.configuration.write_text(
            f"""# Written by the demo.
node:
  ae_title: ICHNODE
  data_directory: "{self.folder / "data"}"
  run_directory: "{self.folder / "run"}"
  model: "{self.model}"
  log_level: info
dicom:
  port: {self.dicom_port}
  bind: ["{LOOPBACK}"]
  allowed_networks: ["127.0.0.0/8"]
completion:
  grace_seconds: {self.grace_seconds}
console:
  host: {LOOPBACK}
  port: {self.http_port}
peers:
  - {{name: pacs, ae_title: {pacs.ae_title}, host: {LOOPBACK}, port: {pacs.dicom_port}}}
routes:
  - {{name: default, calling_ae_titles: ["*"], destinations: [pacs], key_objects: true}}
"""
        )

    def __enter__(self):
        super().__enter__()
        try:
            self.wait_until(lambda: answers(f"{self.url}/health/ready"), "readiness", 60)
        except BaseException:
            self.stop()
            raise
        return self

    def command(self, *arguments: str) -> str:
        """Output of one of the operator's commands, for failure messages."""
        try:
            result = subprocess.run(
                [str(self.executable), *arguments, "--run-directory", str(self.folder / "run")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=10,
                text=True,
            )
            return result.stdout.strip()
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"({' '.join(arguments)}: {error})"
