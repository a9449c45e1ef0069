#!/usr/bin/env python3
"""What another peer notices of a flood: C-ECHO latency, association included, without and beside 200 sockets that say
nothing and 50 senders of one byte a second, all from other loopback addresses. Against this node, storescp and
Orthanc."""

from __future__ import annotations

import argparse
import errno
import json
import selectors
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from surroundings import (
    LOOPBACK,
    OUTPUT,
    ROOT,
    BenchmarkFailure,
    DemoFailure,
    Places,
    compile_native,
    environment,
    on_one_line,
    require_own_network,
    use_node,
)

import senders
from hostile_requests import association_request
from receivers import KINDS, Receiver
from tables import number, table

DEFAULT_RECEIVERS = "node,storescp,orthanc"
ECHOES_PER_SECOND = 20
# An echo that takes longer counts as failed.
ECHO_TIMEOUT_SECONDS = 5


class Flood(threading.Thread):
    """Holds idle sockets and slow senders open; whatever the receiver closes is opened again at once."""

    def __init__(self, port: int, idle: int, slow: int, called: str):
        super().__init__(daemon=True)
        self._port, self._request = port, association_request(called=called, calling="FLOOD")
        self._selector = selectors.DefaultSelector()
        # Socket to bytes sent so far; None for one that stays silent.
        self._sockets: dict[socket.socket, int | None] = {}
        self._ended = threading.Event()
        self.opened = self.closed_by_receiver = 0
        for index in range(idle):
            self._open(f"127.0.1.{1 + index % 100}", None)
        for index in range(slow):
            self._open(f"127.0.2.{1 + index % 100}", 0)

    def _open(self, source: str, sent: int | None) -> None:
        one = socket.socket()
        one.setblocking(False)
        one.bind((source, 0))
        if (result := one.connect_ex((LOOPBACK, self._port))) not in (0, errno.EINPROGRESS):
            raise BenchmarkFailure(f"the flood cannot connect: {errno.errorcode.get(result, result)}")
        self._sockets[one] = sent
        self._selector.register(one, selectors.EVENT_READ, source)
        self.opened += 1

    def run(self) -> None:
        next_byte = time.monotonic()
        while not self._ended.is_set():
            for key, _ in self._selector.select(max(0.0, min(0.2, next_byte - time.monotonic()))):
                self._read(key.fileobj, key.data)
            if time.monotonic() >= next_byte:
                next_byte += 1
                for one, sent in list(self._sockets.items()):
                    if sent is not None:
                        self._drip(one, sent)
        for one in self._sockets:
            one.close()
        self._selector.close()

    def _read(self, one: socket.socket, source: str) -> None:
        try:
            if one.recv(4096):
                return
        except OSError:
            pass
        self.closed_by_receiver += 1
        sent = self._sockets.pop(one)
        self._selector.unregister(one)
        one.close()
        self._open(source, None if sent is None else 0)

    def _drip(self, one: socket.socket, sent: int) -> None:
        # The last byte never comes.
        position = min(sent, len(self._request) - 2)
        try:
            self._sockets[one] = sent + one.send(self._request[position : position + 1])
        except BlockingIOError:
            pass
        except OSError:
            # Closed; the selector tells.
            pass

    def stop(self) -> None:
        self._ended.set()
        self.join(10)


def echo(receiver: Receiver, seconds: float) -> dict:
    options = ("--seconds", f"{seconds:g}", "--pace", str(ECHOES_PER_SECOND), "--timeout", str(ECHO_TIMEOUT_SECONDS))
    return senders.run_fast("rate", receiver, *options, "--keep-going")


def measure(name: str, arguments: argparse.Namespace, places: Places) -> list[dict]:
    folder = places.fresh("disk")
    try:
        with KINDS[name].make(folder, 1) as receiver:
            echo(receiver, 1)
            rows = [{"receiver": name, "beside": "nothing", **echo(receiver, arguments.seconds / 3)}]
            flood = Flood(receiver.port, arguments.idle, arguments.slow, receiver.called)
            flood.start()
            try:
                time.sleep(2)
                rows.append({"receiver": name, "beside": "flood", **echo(receiver, arguments.seconds)})
                receiver.server.require_running()
                if not flood.is_alive():
                    raise BenchmarkFailure("the flood ended early")
            finally:
                flood.stop()
            rows[-1] |= {"flood_opened": flood.opened, "flood_closed_by_receiver": flood.closed_by_receiver}
            return rows
    finally:
        places.remove(folder)


def markdown(found: dict, rows: list[dict], arguments: argparse.Namespace) -> str:
    header = ["receiver", "beside", "answered", "failed", "p50 ms", "p99 ms", "most ms", "flood: closed, opened again"]
    cells = [
        [
            KINDS[row["receiver"]].title,
            row["beside"],
            str(row["count"]),
            str(row["failed"]),
            *(number(row[field]) if row["count"] else "" for field in ("p50_ms", "p99_ms", "most_ms")),
            str(row.get("flood_closed_by_receiver", "")),
        ]
        for row in rows
    ]
    return (
        f"# C-ECHO beside a flood\n\n{on_one_line(found)}\n\nFlood: {arguments.idle} silent sockets, {arguments.slow}"
        f" senders of one byte a second. Open, C-ECHO, release, {ECHOES_PER_SECOND} a second at most; failed: no answer"
        f" in {ECHO_TIMEOUT_SECONDS} s.\n\n{table(header, cells)}\n"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    node = ROOT / ".build" / "release" / "ichnode"
    parser.add_argument("--ichnode", type=Path, default=node, help="the node (release build)")
    parser.add_argument("--receivers", default=DEFAULT_RECEIVERS, help="with commas between (default: %(default)s)")
    parser.add_argument("--idle", type=int, default=200, help="silent sockets (default: %(default)s)")
    parser.add_argument("--slow", type=int, default=50, help="senders of one byte a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="beside the flood (default: %(default)s)")
    parser.add_argument("--most-p99-ms", type=float, help="exit code 1 when the node's p99 beside the flood is above")
    parser.add_argument("--disk", type=Path, default=OUTPUT, help="(default: .build/bench)")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a tmpfs (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT / "results", help="(default: .build/bench/results)")
    parser.add_argument("--all-interfaces", action="store_true", help="go on where there is no network namespace")
    arguments = parser.parse_args()
    if unknown := set(arguments.receivers.split(",")) - KINDS.keys():
        parser.error(f"unknown receivers: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return arguments


def run(arguments: argparse.Namespace) -> int:
    require_own_network(arguments.all_interfaces)
    use_node(arguments.ichnode)
    compile_native("fast_sender")
    rows: list[dict] = []
    with Places(arguments.disk, arguments.memory) as places:
        found = environment(places)
        for name in arguments.receivers.split(","):
            rows += measure(name, arguments, places)
    text = markdown(found, rows, arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "idle-flood.md").write_text(text)
    (arguments.output / "idle-flood.json").write_text(json.dumps({"environment": found, "rows": rows}, indent=1) + "\n")
    print(text)
    beside = [row for row in rows if row["receiver"] == "node" and row["beside"] == "flood"]
    if arguments.most_p99_ms is not None and not all(
        row["failed"] == 0 and 0 < row["p99_ms"] <= arguments.most_p99_ms for row in beside
    ):
        print(f"idle_flood: not met: p99 of at most {arguments.most_p99_ms:g} ms, none failed", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    arguments = parse_arguments()
    # A polite kill unwinds like Ctrl-C, so that all servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(arguments)
    except DemoFailure as failure:
        print(f"idle_flood: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
