#!/usr/bin/env python3
"""Measures the console of this node: how long the worklist over a large ledger takes, and what viewers that follow it
cost receiving. The same objects and the same sender as in receive.py, with and without viewers, one after the other in
every repeat. Prints figures as Markdown; --check fails where a bound is missed. README.md says more."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import json
import os
import random
import secrets
import shutil
import signal
import sqlite3
import statistics
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

from surroundings import LOOPBACK, OUTPUT, ROOT, BenchmarkFailure, DemoFailure, Places, environment, require_own_network
from surroundings import compile_native, use_node

import objects
import senders
import tables
from objects import Series
from processor_time import wait_until_quiet
from receivers import NodeReceiver, wait_until_stored

MOST_P95_SECONDS, LEAST_RATIO = 0.100, 0.95
LISTS = ("", "?standing=positive", "?standing=under-way", "?period=7d", "?page=2")
FIRST = ("JANE", "JOHN", "MARIA", "KARL", "AYSE", "OLGA", "PAUL", "NINA", "HUGO", "LENA")
STUDY = """INSERT INTO study (study_uid, state, outcome, reason, probability, calling_ae, called_ae, accession_number,
    description, verdicts, first_received_at, last_received_at, concluded_at, open_since, patient_name, patient_id,
    birth_date, sex, study_date, study_time, search_text, active_at, seen_until, flagged_at)
    VALUES (?, 'concluded', ?, '', ?, 'CT1', 'ICHNODE', ?, ?, ?, ?, ?, ?, ?, ?, ?, '19500131', 'F', '20260101', '1015',
            ?, ?, ?, ?)"""
INSTANCE = """INSERT INTO instance (study_uid, series_uid, sop_uid, version, path, common_id, file_size, received_at,
    purged_at) VALUES (?, ?, ?, 1, ?, 1, 525000, ?, ?)"""
DELIVERY = """INSERT INTO delivery (study_uid, destination, state, priority, attempts, next_attempt_at, created_at,
    delivered_at, objects) VALUES (?, 'pacs', 'delivered', 0, 1, ?, ?, ?, '[]')"""
EVENT = "INSERT INTO event (study_uid, at, kind, text) VALUES (?, ?, 'concluded', 'as generated')"


# --- A ledger ---------------------------------------------------------------------------------------------------------


def fill_ledger(path: Path, studies: int, images: int) -> None:
    """A month of studies into the schema that the node has made: 4 % of them of the last day, 8 % positive."""
    random.seed(7)
    now = time.time()
    # As long as of five series.
    verdicts = json.dumps([{"seriesInstanceUID": f"1.2.3.{n}", "instanceCount": images, "verdict": "refused",
                            "reason": "not the thinnest soft-tissue series of the head" * 3} for n in range(5)])
    database = sqlite3.connect(path)
    with database:
        database.execute("INSERT INTO common_attributes (id, digest, attributes) VALUES (1, 'generated', '{}')")
        for number in range(studies):
            uid = f"1.2.826.0.1.{10**9 + number}.{random.randrange(10**12)}"
            name, patient = f"DOE{number % 977}^{random.choice(FIRST)}", f"P{number:06}"
            accession, description = f"ACC{10**6 + number}", random.choice(("CT HEAD W/O", "CCT NATIV", "CT STROKE"))
            at = now - random.uniform(0, 86400) if number % 25 == 0 else now - random.uniform(86400, 30 * 86400)
            outcome = random.choices(("positive", "negative", "undetermined", "not a head CT"), (8, 50, 4, 38))[0]
            search = f"{name.replace('^', ' ')} {patient} {accession} {description}".lower()
            database.execute(
                STUDY,
                (uid, outcome, random.random(), accession, description, verdicts, at - 30, at, at + 3, at - 30, name,
                 patient, search, at + 3, at, at + 4),
            )
            purged = at + 86400 if at < now - 7 * 86400 else None
            database.executemany(
                INSTANCE, ((uid, uid + ".1", f"{uid}.1.{n}", f"/gone/{uid}/{n}", at, purged) for n in range(images))
            )
            database.execute(DELIVERY, (uid, at, at + 3, at + 4))
            database.executemany(EVENT, [(uid, at + n) for n in range(4)])
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


class ConsoleNode(NodeReceiver):
    """With a program's token, and room for so many viewers from one address."""

    def __init__(self, folder: Path, viewers: int):
        self.token = secrets.token_urlsafe(32)
        digest = hashlib.sha256(self.token.encode()).hexdigest()
        super().__init__(
            folder,
            console={
                "tokens": [{"name": "benchmark", "role": "viewer", "sha256": digest}],
                "most_connections": 2 * viewers + 64,
                "most_connections_per_address": 2 * viewers + 64,
            },
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def ledger(self) -> Path:
        return next((self.folder / "data").rglob("*.sqlite"))


# --- Pages ------------------------------------------------------------------------------------------------------------


def queries(count: int) -> list[str]:
    """What people ask for: mostly the list as it is, and names, numbers, standings, periods and pages."""
    random.seed(11)
    found = []
    for number in range(count):
        found.append(
            random.choice((
                {},
                {"page": random.randrange(1, 9)},
                {"standing": random.choice(("positive", "undetermined", "negative", "under-way"))},
                {"period": "7d", "standing": "positive", "page": random.randrange(1, 4)},
                {"period": "all", "page": random.randrange(1, 100)},
                {"period": "all", "q": f"doe{random.randrange(977)}"},
                {"period": "all", "q": f"{random.choice(FIRST)} doe{random.randrange(977)}".lower()},
                {"period": "all", "q": f"P{random.randrange(10000):06}"},
                {"period": "7d", "q": f"ACC{10**6 + number}"},
                {"period": "all", "q": "nobody of this name"},
            ))
        )
    return ["/" + (f"?{urlencode(each)}" if each else "") for each in found]


def measure_pages(node: ConsoleNode, count: int) -> list[float]:
    """Seconds of each request, over one connection, to the last byte."""
    connection = http.client.HTTPConnection(LOOPBACK, node.node.http_port, timeout=30)
    seconds = []
    for path in ["/"] * 20 + queries(count):
        started = time.perf_counter()
        connection.request("GET", path, headers=node.headers)
        answer = connection.getresponse()
        body = answer.read()
        seconds.append(time.perf_counter() - started)
        if answer.status != 200 or b'id="list"' not in body:
            raise BenchmarkFailure(f"{path} was answered with {answer.status}")
    connection.close()
    return seconds[20:]


# --- Viewers ----------------------------------------------------------------------------------------------------------


class Viewers:
    """Browsers that follow the worklist as live.js does: a stream each, and the list asked for again at news."""

    def __init__(self, node: ConsoleNode, count: int):
        self._node, self._count = node, count
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._tasks: list[asyncio.Task] = []
        self.open, self.told, self.fetched, self.failure = 0, 0, 0, None

    def _run(self) -> None:
        # Real viewers are on other machines: here they take what is left.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        self._loop.run_forever()

    def __enter__(self) -> Viewers:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        deadline = time.monotonic() + 30
        while self.open < self._count:
            if self.failure or time.monotonic() > deadline:
                raise BenchmarkFailure(f"{self.open} of {self._count} viewers are live: {self.failure}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._tasks = [asyncio.ensure_future(self._guarded(number)) for number in range(self._count)]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _guarded(self, number: int) -> None:
        try:
            await self._follow(number)
        except (OSError, EOFError, ValueError) as error:
            self.failure = self.failure or repr(error)

    def _request(self, path: str, **headers: str) -> bytes:
        lines = [f"GET {path} HTTP/1.1", f"Host: {LOOPBACK}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in {**self._node.headers, **headers}.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def _follow(self, number: int) -> None:
        port = self._node.node.http_port
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        pages_reader, pages_writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write(self._request("/events?topics=studies,alerts", Accept="text/event-stream"))
            if b" 200 " not in (await reader.readuntil(b"\r\n\r\n")).splitlines()[0]:
                raise ValueError("no stream")
            # Five lists are looked at by all of them.
            path = "/worklist/list" + LISTS[number % len(LISTS)]
            tag = await self._fetch(path, "", pages_reader, pages_writer)
            self.open += 1
            while line := await reader.readline():
                if line.startswith(b"event: changed"):
                    self.told += 1
                    await asyncio.sleep(random.random() * 0.4)
                    tag = await self._fetch(path, tag, pages_reader, pages_writer)
                    self.fetched += 1
            raise EOFError("the stream ended")
        finally:
            writer.close()
            pages_writer.close()

    async def _fetch(self, path: str, tag: str, reader, writer) -> str:
        headers = {"If_None_Match": tag} if tag else {}
        writer.write(self._request(path, X_Background="1", **headers))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if " 304 " in head.split("\r\n")[0]:
            return tag
        if " 200 " not in head.split("\r\n")[0]:
            raise ValueError(head.split("\r\n")[0])
        await reader.readexactly(int(fields["content-length"]))
        return fields["etag"]


# --- Run --------------------------------------------------------------------------------------------------------------


class Benchmark:
    def __init__(self, arguments: argparse.Namespace, places: Places):
        self.arguments, self.places = arguments, places
        templates = places.root("memory") / "templates"
        self.abdomen = Series(templates / "abdomen", *objects.ABDOMEN)
        self.pages: list[float] = []
        self.rates: dict[bool, list[float]] = {False: [], True: []}
        self.told = self.fetched = 0

    def prepared(self) -> ConsoleNode:
        """A node with a large ledger: filled once a first node had made its tables."""
        with ConsoleNode(self.places.fresh("disk"), self.arguments.viewers) as first:
            ledger = first.ledger
        fill_ledger(ledger, self.arguments.studies, self.arguments.study_images)
        node = ConsoleNode(self.places.fresh("disk"), self.arguments.viewers)
        place = node.folder / ledger.relative_to(first.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ledger, place)
        return node

    def run(self) -> None:
        with self.prepared() as node:
            self.pages = measure_pages(node, self.arguments.requests)
            report(f"worklist: p50 {1000 * p(self.pages, 50):.1f} ms, p95 {1000 * p(self.pages, 95):.1f} ms")
            expected = 0
            for number in range(self.arguments.repeats):
                # Every other repeat begins with the viewers.
                for watched in ((False, True), (True, False))[number % 2]:
                    expected += self.arguments.images
                    self.rates[watched].append(self.measure(node, watched, expected))

    def measure(self, node: ConsoleNode, watched: bool, expected: int) -> float:
        images = objects.write_data_set(self.abdomen, self.places.root("memory") / "abdomen", self.arguments.images)
        wait_until_quiet(node.time, least_seconds=node.seconds_to_conclude)
        if not watched:
            rate = self.store(node, images.objects)
        else:
            with Viewers(node, self.arguments.viewers) as viewers:
                time.sleep(1)
                rate = self.store(node, images.objects)
                time.sleep(3)
                if viewers.failure or viewers.told < self.arguments.viewers:
                    raise BenchmarkFailure(f"viewers did not follow: told {viewers.told} times, {viewers.failure}")
                self.told, self.fetched = self.told + viewers.told, self.fetched + viewers.fetched
        if (stored := wait_until_stored(node, expected)) != expected:
            raise BenchmarkFailure(f"{stored} objects in storage, {expected} were acknowledged")
        report(f"{'with' if watched else 'without'} viewers: {rate:.1f} images/s")
        return rate

    def store(self, node: ConsoleNode, images: list) -> float:
        scratch = self.places.root("memory")
        self.places.settle_disk()
        sent = senders.send("fast", node, images, self.arguments.associations, scratch, lambda: None)
        return len(images) / sent["seconds"]

    @property
    def ratio(self) -> float:
        """Median of the ratios within a repeat."""
        return statistics.median(b / a for a, b in zip(self.rates[False], self.rates[True]))

    def text(self) -> str:
        a = self.arguments
        rates = {watched: ", ".join(f"{each:.0f}" for each in found) for watched, found in self.rates.items()}
        return "\n".join([
            f"| worklist, {a.studies} studies, {len(self.pages)} requests | p50 | p95 | most |",
            "|---|---|---|---|",
            f"| milliseconds | {' | '.join(f'{1000 * p(self.pages, each):.1f}' for each in (50, 95, 100))} |",
            "",
            f"| {a.images} images over {a.associations} associations, {a.repeats} repeats | images a second | median |",
            "|---|---|---|",
            f"| nobody looks | {rates[False]} | {statistics.median(self.rates[False]):.0f} |",
            f"| {a.viewers} viewers follow | {rates[True]} | {statistics.median(self.rates[True]):.0f} |",
            "",
            f"Ratio within a repeat, median: {self.ratio:.3f}. The viewers were told {self.told} times and fetched"
            f" {self.fetched} lists.",
        ])

    def missed(self) -> list[str]:
        found = []
        if p(self.pages, 95) >= MOST_P95_SECONDS:
            found.append(f"p95 of the worklist is {1000 * p(self.pages, 95):.0f} ms, not below 100")
        if self.ratio <= LEAST_RATIO:
            found.append(f"with viewers it receives {self.ratio:.3f} times as fast, not above {LEAST_RATIO}")
        return found


def p(values: list[float], percent: int) -> float:
    """Of the values, the one that so many are not above."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def report(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    node = ROOT / ".build" / "release" / "ichnode"
    parser.add_argument("--ichnode", type=Path, default=node, help="ichnode-dicom lies beside it (release build)")
    parser.add_argument("--studies", type=int, default=10_000, help="in the ledger (default: %(default)s)")
    parser.add_argument("--study-images", type=int, default=32, help="of each of them (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=600, help="of the worklist (default: %(default)s)")
    parser.add_argument("--viewers", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="with and without viewers (default: %(default)s)")
    parser.add_argument("--images", type=int, default=3000, help="stored each time (default: %(default)s)")
    parser.add_argument("--associations", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit code 1 when a bound is missed")
    parser.add_argument("--disk", type=Path, default=OUTPUT, help="a folder on it (default: .build/bench)")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a tmpfs (default: %(default)s)")
    parser.add_argument("--all-interfaces", action="store_true", help="go on where there is no network namespace")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require_own_network(arguments.all_interfaces)
        use_node(arguments.ichnode)
        compile_native("fast_sender")
        with Places(arguments.disk, arguments.memory) as places:
            places.wait_for_inodes()
            print(tables.on_one_line(environment(places)), flush=True)
            benchmark = Benchmark(arguments, places)
            benchmark.run()
        print(benchmark.text())
        missed = benchmark.missed()
    except DemoFailure as failure:
        print(f"console: {failure}", file=sys.stderr)
        return 1
    for each in missed:
        print(f"console: {each}", file=sys.stderr)
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
