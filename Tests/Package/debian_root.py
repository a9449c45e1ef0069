"""A clean Debian 12 of its own, with systemd booted in its own namespaces: what the Debian package is installed in.

Needs root, debootstrap and systemd-nspawn, and Debian's archive. The root has a network of its own that holds nothing but
loopback; what is to talk to the node in it is started in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

PACKAGES = "systemd,systemd-sysv,dbus,ca-certificates"


def base(folder: Path) -> Path:
    """A fresh Debian, made once and copied for each use."""
    root = folder / "debian-12"
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        # Every boot takes an identity of its own.
        (root / "etc/machine-id").write_text("")
        # As the installer of Debian writes it.
        (root / "etc/hosts").write_text("127.0.0.1\tlocalhost\n::1\tlocalhost\n")
        (root / "made").touch()
    return root


class DebianRoot:
    def __init__(self, folder: Path):
        self._temporary = tempfile.TemporaryDirectory(prefix="ichnode-root-", dir=folder)
        self.path = Path(self._temporary.name) / "root"
        subprocess.run(["cp", "--archive", "--reflink=auto", base(folder), self.path], check=True)
        self._process: subprocess.Popen | None = None
        # Process id of its systemd; None while it is not booted.
        self.leader: int | None = None

    # --- Not booted ---

    def _container(self, *arguments: str) -> list[str]:
        # No machined to register with, and no unit of the host to move to.
        return ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={self.path}", *arguments]

    def prepare(self, script: str) -> None:
        """Before it boots, with the network of the host: for apt-get."""
        subprocess.run(self._container("/bin/sh", "-ec", script), check=True, stdout=subprocess.DEVNULL)

    # --- Booted ---

    def boot(self, seconds: float = 60) -> None:
        self._process = subprocess.Popen(
            self._container("--private-network", "--console=pipe", "--boot"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            self.leader = int(children[0]) if children else None
            if self.leader and self.run("systemctl is-system-running", check=False).stdout.strip() in (
                "running",
                "degraded",
            ):
                self.run("ip link set lo up", check=False)
                return
            if self._process.poll() is not None:
                raise AssertionError("systemd-nspawn ended: does this machine allow namespaces?")
            time.sleep(0.3)
        raise AssertionError(f"systemd is not up after {seconds:g} s")

    def entered(self, *command: str) -> list[str]:
        """A command that runs in it, as root of it."""
        assert self.leader is not None, "it is not booted"
        return ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--pid", "--net", "--", *command]

    def run(self, script: str, check: bool = True, seconds: float = 300) -> subprocess.CompletedProcess:
        done = subprocess.run(
            self.entered("/bin/bash", "-c", script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{script}\nended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done

    def start(self, *command: str, log: Path) -> subprocess.Popen:
        """A server in its network, from the host's files."""
        assert self.leader is not None, "it is not booted"
        with log.open("wb") as output:
            return subprocess.Popen(
                ["nsenter", f"--target={self.leader}", "--net", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def beside(self, *command: str, seconds: float = 120) -> subprocess.CompletedProcess:
        """A program of the host in its network."""
        return subprocess.run(
            ["nsenter", f"--target={self.leader}", "--net", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )

    def halt(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = self.leader = None

    def close(self) -> None:
        self.halt()
        self._temporary.cleanup()
