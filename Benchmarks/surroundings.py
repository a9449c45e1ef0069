"""Where a benchmark runs: a network of its own, folders on disk and in memory, the programs compiled for it, and what
has to be said about the machine beside any figure."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pynetdicom

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Tests" / "Tools"))
# The other files here import these from here, since only this one knows where they are.
import node_fixture  # noqa: E402
from make_ct_series import arguments_from, make  # noqa: E402, F401
from node_fixture import LOOPBACK, RestartableNode, free_ports, why_not  # noqa: E402, F401
from processes import DemoFailure, Pacs, Server, find_tool, http  # noqa: E402, F401

NATIVE = Path(__file__).resolve().parent / "native"
# Ignored by git, removed by `make clean`.
OUTPUT = ROOT / ".build" / "bench"
# Set for the program that was started again.
IN_OWN_NETWORK = "ICHNODE_BENCH_IN_OWN_NETWORK"
CLONE_NEWNET = 0x40000000
IFF_UP, SIOCSIFFLAGS, SIOCGIFFLAGS = 0x1, 0x8914, 0x8913


class BenchmarkFailure(DemoFailure):
    """The benchmark cannot run, or a figure would not mean what its name says."""


# --- Network ----------------------------------------------------------------------------------------------------------


def enter_own_network() -> bool:
    """Moves this process, and what it starts, into a network namespace whose only interface is loopback: DCMTK's
    servers and Orthanc listen on all interfaces, and there nobody else reaches them. Where that takes a user namespace,
    which no process with threads can enter, the program starts again in one.

    Returns whether the kernel allowed it."""
    if os.environ.get(IN_OWN_NETWORK) != "1":
        if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
            command = ["unshare", "--user", "--map-root-user", "--net", "--"]
            if subprocess.run([*command, "true"], stdin=subprocess.DEVNULL, capture_output=True).returncode != 0:
                return False
            os.environ[IN_OWN_NETWORK] = "1"
            os.execvp(command[0], [*command, sys.executable, *sys.argv])
    with socket.socket() as any_socket:
        request = bytearray(struct.pack("16sH14x", b"lo", 0))
        fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("H", request, 16)
        struct.pack_into("H", request, 16, flags | IFF_UP)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)
    return True


def require_own_network(all_interfaces: bool) -> None:
    if not enter_own_network() and not all_interfaces:
        raise BenchmarkFailure(
            "this kernel gives no network namespace, and DCMTK's servers and Orthanc listen on all interfaces: run as"
            " root, allow user namespaces, or accept that with --all-interfaces"
        )


# --- Programs ---------------------------------------------------------------------------------------------------------


def compile_native(name: str) -> Path:
    """The program of native/<name>.cpp, compiled where it is older than its sources."""
    sources = [NATIVE / f"{name}.cpp", NATIVE / "wire.hpp"]
    program = OUTPUT / "bin" / name.replace("_", "-")
    if program.exists() and program.stat().st_mtime > max(each.stat().st_mtime for each in sources):
        return program
    compiler = next((found for each in ("c++", "g++", "clang++") if (found := shutil.which(each))), None)
    if compiler is None:
        raise BenchmarkFailure("no C++ compiler: install Debian's package build-essential")
    program.parent.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(f".{os.getpid()}")
    command = [compiler, "-std=c++20", "-O2", "-pthread", "-Wall", "-Wextra", str(sources[0]), "-o", str(fresh)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise BenchmarkFailure(f"{sources[0].name} does not compile\n{result.stderr[-3000:]}")
    fresh.replace(program)
    return program


def use_node(executable: Path) -> None:
    """Chooses the node that everything here starts."""
    node_fixture.ICHNODE = executable.resolve()
    if reason := why_not():
        raise BenchmarkFailure(reason)


# --- Folders ----------------------------------------------------------------------------------------------------------


def file_system(folder: Path) -> str:
    """Its type: ext4, tmpfs ..."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, this, *_ = line.split()
        if (f"{folder.resolve()}/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
            best, kind = mount, this
    return kind


# RECENCY_MIN and RECENCY_DIRTY of fs/ext4/ialloc.c together.
EXT4_REMEMBERS_SECONDS = 360


class Places:
    """A folder on disk and one in memory, removed at the end."""

    def __init__(self, disk: Path, memory: Path):
        disk.mkdir(parents=True, exist_ok=True)
        self.kinds = {"disk": file_system(disk), "memory": file_system(memory)}
        if self.kinds["disk"] in ("tmpfs", "ramfs"):
            raise BenchmarkFailure(f"--disk {disk} is in memory: nothing is durable there")
        if self.kinds["memory"] != "tmpfs":
            raise BenchmarkFailure(f"--memory {memory} is no tmpfs")
        self._folders = {
            medium: tempfile.TemporaryDirectory(prefix="ib-", dir=parent, ignore_cleanup_errors=True)
            for medium, parent in (("disk", disk), ("memory", memory))
        }
        self._count = 0
        self._removed = disk / "removed"

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_) -> None:
        for each in self._folders.values():
            each.cleanup()
        self._removed.touch()

    def wait_for_inodes(self) -> None:
        """Until ext4 has forgotten what the run before has deleted (`remove` says why)."""
        try:
            left = self._removed.stat().st_mtime + EXT4_REMEMBERS_SECONDS - time.time()
        except FileNotFoundError:
            return
        if left > 0:
            print(f"waiting {left:.0f} s: the files of the run before were deleted a moment ago", file=sys.stderr)
            time.sleep(left)

    def root(self, medium: str) -> Path:
        return Path(self._folders[medium].name)

    def fresh(self, medium: str) -> Path:
        """A new empty folder. Its name is short: the node's control socket lies below it."""
        self._count += 1
        folder = self.root(medium) / str(self._count)
        folder.mkdir()
        return folder

    def remove(self, folder: Path) -> None:
        """With what the kernel still has to write of it, so that the next receiver does not pay. On disk the files are
        emptied and stay until the end: for minutes ext4 gives no file the inode of one that was deleted, and goes
        through all of those for each new file."""
        if folder.parent == self.root("memory"):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            for each in folder.rglob("*"):
                if each.is_file() and not each.is_symlink():
                    os.truncate(each, 0)
        self.settle_disk()

    def settle_disk(self) -> None:
        subprocess.run(["sync", "--file-system", str(self.root("disk"))], check=True, stdin=subprocess.DEVNULL)


# --- What to say about the machine ------------------------------------------------------------------------------------


def environment(places: Places | None = None) -> dict:
    def version(tool: str, package: str) -> str:
        """The first number with dots that it prints of itself."""
        command = [find_tool(tool, package), "--version"]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        found = re.search(r"\d+(\.\d+)+", result.stdout + result.stderr)
        return found.group() if found else "of unknown version"

    processors = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processors[0] if processors else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(meminfo["MemTotal"].split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
        "node_build": node_fixture.ICHNODE.parent.name,
        "model": node_fixture.MODELS[0].name,
        "dcmtk": version("storescp", "dcmtk"),
        "orthanc": version("Orthanc", "orthanc"),
        "pynetdicom": pynetdicom.__version__,
    }
    if places:
        found |= {"disk": places.kinds["disk"], "memory": places.kinds["memory"]}
    return found


def on_one_line(found: dict) -> str:
    return (
        f"{found['cores']} cores of {found['processor']}, {found['memory_gib']:g} GiB, Linux {found['kernel']},"
        f" {found.get('disk', '')} disk, load {found['load_before']:g} before; {found['node_build']} build, model"
        f" {found['model']}; DCMTK {found['dcmtk']}, Orthanc {found['orthanc']}, pynetdicom {found['pynetdicom']};"
        f" {found['date']}"
    )
