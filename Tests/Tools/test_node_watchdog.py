"""What the node tells systemd: it feeds the watchdog while its parts turn, and only then. Parts are made to stand still
by stall.c, preloaded into the daemon."""

from __future__ import annotations

import errno
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from faults import LEDGER_OPERATIONS, FaultyNode, Mode, compiler
from node_fixture import HERE, RestartableNode, needs_node, phantom, storescu, wait_for

# `WatchdogSec=`; a part may stand still for three of them.
INTERVAL = 1.5
PARTS = ("listener", "ledger", "disk watch")


class NotifySocket:
    """Stands where systemd listens; keeps what it is told, and when."""

    def __init__(self, path: Path):
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._told: list[tuple[float, str]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while datagram := self._socket.recv(4096):
            now = time.monotonic()
            self._told += [(now, line) for line in datagram.decode().splitlines()]

    def lines(self, start: str) -> list[str]:
        return [line for _, line in self._told if line.startswith(start)]

    def fed(self) -> list[float]:
        return [at for at, line in self._told if line == "WATCHDOG=1"]

    def longest_hunger(self) -> float:
        """Seconds, up to now."""
        times = [*self.fed(), time.monotonic()]
        return max(later - earlier for earlier, later in zip(times, times[1:]))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@needs_node
@unittest.skipUnless(compiler(), "no C compiler")
class Watchdog(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ichnode-watchdog-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.systemd = NotifySocket(self.folder / "notify")
        self.addCleanup(self.systemd.close)
        (self.folder / "node").mkdir()

    def start(self, node: RestartableNode, **environment) -> RestartableNode:
        environment |= {"NOTIFY_SOCKET": self.systemd.path, "WATCHDOG_USEC": int(INTERVAL * 1e6)}
        node.command_line[:0] = ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items())]
        node.start()
        self.addCleanup(node.stop)
        return node

    def live(self, node: RestartableNode) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{node.url}/health/live", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def test_is_fed_while_all_parts_turn_and_the_log_names_those_that_do_not(self):
        stalls, library = self.folder / "stalls", self.folder / "stall.so"
        stalls.mkdir()
        options = ["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library]
        subprocess.run([compiler(), *options, HERE / "stall.c", "-ldl"], check=True)
        node = self.start(RestartableNode(self.folder / "node", 9), LD_PRELOAD=library, STALLS=stalls)
        self.addCleanup(lambda: [path.unlink() for path in stalls.iterdir()])
        self.assertEqual(self.systemd.lines("READY"), ["READY=1"])
        wait_for(lambda: len(self.systemd.fed()) >= 8, "the watchdog is fed", 10, node.log_tail)
        # sd_watchdog_enabled(3) recommends half of it.
        self.assertLess(self.systemd.longest_hunger(), INTERVAL / 2)
        self.assertEqual(
            self.systemd.lines("STATUS=")[-1],
            "STATUS=0 associations open, 0 studies under way, 0 deliveries owed",
        )
        self.assertEqual(self.live(node), (200, "live\n"))

        # Where the ledger is asked to write something it stands; what was sent is acknowledged before.
        (stalls / "ledger").touch()
        storescu(node, phantom(self.folder / "study").files[0])
        for part in PARTS:
            (stalls / part).touch()

        def is_named(part: str) -> bool:
            lines = node.log_text().splitlines()
            return any("part of the node stands still" in line and f"part={part}" in line for line in lines)

        wait_for(lambda: all(map(is_named, PARTS)), "the log names the parts", 6 * INTERVAL, node.log_tail)
        time.sleep(INTERVAL / 2)
        fed = len(self.systemd.fed())
        status, text = self.live(node)
        for part in PARTS:
            self.assertIn(part, text)
            self.assertIn(part, self.systemd.lines("STATUS=Standing still: ")[-1])
        self.assertEqual(status, 503)
        # Those of which nothing keeps them from turning.
        self.assertFalse(is_named("task pool") or is_named("pipeline") or is_named("receive workers"), text)
        time.sleep(INTERVAL)
        self.assertEqual(len(self.systemd.fed()), fed, "it is fed although parts stand still")

        for part in PARTS:
            (stalls / part).unlink()
        wait_for(lambda: len(self.systemd.fed()) > fed, "the watchdog is fed again", 10, node.log_tail)
        self.assertEqual(self.live(node)[0], 200)

    def test_a_full_disk_is_no_reason_to_start_again(self):
        node = self.start(FaultyNode(self.folder / "node"))
        node.daemon.arm(Mode.FAIL, LEDGER_OPERATIONS, 1, errno.ENOSPC, sticky=True)
        storescu(node, phantom(self.folder / "study").files[0])
        wait_for(lambda: "ledger cannot be written" in node.log_text(), "the ledger is refused", 10, node.log_tail)
        time.sleep(4 * INTERVAL)
        self.assertGreater(node.daemon.hits, 1)
        self.assertLess(self.systemd.longest_hunger(), INTERVAL)
        self.assertEqual(self.live(node), (200, "live\n"))

    def test_a_long_start_is_given_time(self):
        node = self.start(RestartableNode(self.folder / "node", 9))
        self.assertEqual(self.systemd.lines("EXTEND_TIMEOUT"), [])
        storescu(node, phantom(self.folder / "study").files[0])
        node.kill()
        # What is in the spool is read again.
        for path in (self.folder / "node" / "data").glob("ledger.sqlite*"):
            path.unlink()
        node.start()
        self.assertEqual(len(self.systemd.lines("EXTEND_TIMEOUT_USEC=")), 1)
        self.assertEqual(
            self.systemd.lines("STATUS=Starting")[0], "STATUS=Starting: study 1 of 1 in the spool, 0 objects read"
        )


if __name__ == "__main__":
    unittest.main()
