#!/usr/bin/env python3
"""A hospital's day in a few hours, against a real node with two archives, a RIS and a receiver of webhooks: studies of
every kind in the rhythm of a day, broken and hostile peers, archives that are down, refuse or are slow, restarts and
kills of the node, viewers of the console. What happens is written down as it does; the verdict is made of that.

    python soak.py --hours 2 --seed 7 --output FOLDER
    python soak.py --verdict FOLDER

Ctrl-C ends the day early; the verdict follows when nothing is under way any more, with another Ctrl-C at once.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Callable

import pydicom
from console_client import USERS, ConsoleClient
from faults import kill_process
from node_fixture import ICHNODE, LOOPBACK, DemoFailure, RestartableNode, RestartablePacs, free_ports, why_not
from plain_pacs import Arrival, Pacs, Step, with_meta
from processes import http
from ris import Ris
from soak_cases import KINDS, OPERATOR_TOKEN, PAUSING, SCANNERS, SINGLE, Case, Failed, Forms, call_api
from soak_plot import draw
from soak_verdict import make_verdict
from soak_watch import Watch
from test_node_operator_alerts import SECRET, Receiver

OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0xA700, 0xC001
DAY_HOURS = 24
# Studies in each hour of the day, beside each other: quiet nights, a peak in the morning.
RHYTHM = (3, 2, 2, 2, 2, 3, 5, 9, 14, 16, 15, 12, 10, 11, 11, 10, 9, 8, 7, 6, 5, 5, 4, 3)
MOST_OUTAGE_SECONDS = 300
# Of the console.
PAGES = ("/", "/deliveries", "/alerts", "/peers", "/system", "/figures", "/model", "/configuration")
# Images go this long after the last of them came.
KEEP_DAYS = 0.01


class RecordingPacs(Pacs):
    """Writes down what is offered, and keeps digests alone."""

    def __init__(self, record: Callable[[dict], None], **options):
        super().__init__(**options)
        self._record = record

    def take(self, arrival: Arrival) -> Arrival:
        header = pydicom.dcmread(
            io.BytesIO(with_meta(arrival)), stop_before_pixels=True, specific_tags=["StudyInstanceUID"]
        )
        digest = hashlib.sha256(arrival.data_set).hexdigest()
        taken = super().take(dataclasses.replace(arrival, data_set=digest.encode()))
        self._record(
            {
                "at": time.time(), "study": str(header.StudyInstanceUID), "sop": arrival.sop_uid,
                "class": arrival.sop_class, "digest": digest, "status": taken.status, "kept": taken.is_kept,
            }
        )  # fmt: skip
        return taken


class Soak:
    def __init__(
        self, hours: float, seed: int, output: Path, studies_per_hour: float = 500, is_short: bool = False,
        say: Callable[[str], None] = print,
    ):  # fmt: skip
        self.hours, self.seed, self.output, self.is_short, self._say = hours, seed, output, is_short, say
        self.random = Random(seed)
        self.deadline_seconds = 10 if is_short else 60
        # For a study until all is as it has to be: longer than any outage, shorter than retention.
        self.patience_seconds = 240 if is_short else 720
        self.counts: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self.output.mkdir(parents=True)
        self.forms = Forms(with_whole_heads=not is_short)
        self._build()
        self.schedule = self._schedule(studies_per_hour)
        self._told: collections.Counter[str] = collections.Counter()

    def _build(self) -> None:
        (node_port,) = free_ports(1)
        self.pacs = RecordingPacs(lambda entry: self.record("arrivals", entry), node_port=node_port)
        self.orthanc = RestartablePacs(self.output / "orthanc", node_port)
        self.ris = Ris()
        self.receiver = Receiver(None)
        secret = self.output / "paging.secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        token = {"name": "soak", "role": "operator", "sha256": hashlib.sha256(OPERATOR_TOKEN.encode()).hexdigest()}
        routes = {each.destinations: [] for each in (*SCANNERS, PAUSING, SINGLE)}
        for each in (*SCANNERS, PAUSING, SINGLE):
            routes[each.destinations].append(each.ae_title)
        self.node = RestartableNode(
            self.output / "node",
            self.orthanc.dicom_port,
            node_port,
            node={"log_level": "info"},
            completion={
                "grace_seconds": 1 if self.is_short else 2,
                "quiet_seconds": 5 if self.is_short else 20,
                "deadline_seconds": self.deadline_seconds,
            },
            retention={"keep_days": KEEP_DAYS},
            # Outages last minutes.
            delivery={
                "first_retry_seconds": 1 if self.is_short else 5, "most_retry_seconds": 2 if self.is_short else 30
            },
            audit={"file_mebibytes": 1, "keep_files": 4},
            # The day may last longer than one.
            alerts={"most_study_age_hours": 24 + self.hours},
            console={"users": USERS, "tokens": [token]},
            peers=[
                {"name": "orthanc", "ae_title": "ORTHANC", "host": LOOPBACK, "port": self.orthanc.dicom_port},
                {
                    "name": "pacs", "ae_title": "PACS", "host": LOOPBACK, "port": self.pacs.port,
                    "commitment": "required",
                },
            ],
            hl7=[{"name": "ris", "host": LOOPBACK, "port": self.ris.port}],
            webhooks=[
                {"name": "paging", "url": f"http://{LOOPBACK}:{self.receiver.port}/", "secret_file": str(secret)}
            ],
            operator_alerts={"webhooks": ["paging"]},
            routes=[
                {
                    "name": "-".join(destinations), "calling_ae_titles": titles, "destinations": list(destinations),
                    "alerts": ["ris", "paging"],
                }
                for destinations, titles in routes.items()
            ],
        )  # fmt: skip
        self.temporary = self.output / "tmp"
        self.temporary.mkdir()
        self.node.command_line = ["/usr/bin/env", f"TMPDIR={self.temporary}", *self.node.command_line]

    # What is written down

    def record(self, name: str, entry: dict) -> None:
        with self._lock, (self.output / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def flush(self) -> None:
        """What receivers of alerts got since."""
        heard, accepted, events = list(self.ris.heard), list(self.ris.accepted), list(self.receiver.events)
        for identifier, text in heard[self._told["heard"] :]:
            self.record("hl7", {"id": identifier, "text": text})
        for identifier in accepted[self._told["accepted"] :]:
            self.record("hl7", {"accepted": identifier})
        for event in events[self._told["events"] :]:
            self.record("webhooks", event)
        self._told.update({"heard": len(heard) - self._told["heard"]})
        self._told.update({"accepted": len(accepted) - self._told["accepted"]})
        self._told.update({"events": len(events) - self._told["events"]})

    def say(self, text: str) -> None:
        self._say(f"{time.strftime('%H:%M:%S')} {self.day_time()} {text}")

    def day_time(self) -> str:
        hour = max(0.0, (time.time() - self.begun) / self.seconds_an_hour)
        return f"{int(hour):02}:{int(hour % 1 * 60):02}"

    @property
    def seconds_an_hour(self) -> float:
        """Of the hospital's day."""
        return self.hours * 3600 / DAY_HOURS

    # Questions to the node

    def api(self, path: str, method: str = "GET") -> dict | None:
        deadline = time.monotonic() + self.patience_seconds
        while True:
            try:
                return call_api(self.node.url, path, method)
            except OSError as failure:
                if time.monotonic() > deadline:
                    raise Failed(f"the API does not answer: {failure}") from failure
                time.sleep(1)

    # The day

    def _schedule(self, per_hour: float) -> list[tuple[float, Case]]:
        """Seconds after the beginning. Each kind comes once at least."""
        count = max(len(KINDS), round(per_hour * self.hours))
        kinds = KINDS + self.random.choices(KINDS, [each.weight for each in KINDS], k=count - len(KINDS))
        self.random.shuffle(kinds)
        hours = self.random.choices(range(DAY_HOURS), RHYTHM, k=count)
        moments = sorted((hour + self.random.random()) * self.seconds_an_hour for hour in hours)
        return [(moment, Case(self, number, kind)) for number, (moment, kind) in enumerate(zip(moments, kinds))]

    def run(self) -> None:
        self.begun = time.time()
        self._describe()
        self.watch = Watch(self.node, self.output / "samples.jsonl", 1 if self.is_short else 5, self.flush)
        servers = (self.orthanc, self.pacs, self.ris)
        try:
            for server in (*servers, self.node):
                server.start()
            self.begun = time.time()
            self._describe()
            self.watch.start()
            try:
                self._day()
            except KeyboardInterrupt:
                self.say("the day is ended early")
            self._end()
        finally:
            self.stopping.set()
            self.watch.stop()
            self.node.stop()
            self.flush()
            for server in (*servers, self.receiver):
                server.stop()

    def _describe(self) -> None:
        def output_of(*command: str) -> str:
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()

        self.description = {
            "hours": self.hours, "seed": self.seed, "cases": len(self.schedule), "begun": self.begun,
            "is_short": self.is_short, "keep_seconds": KEEP_DAYS * 86400, "program": str(ICHNODE),
            "version": output_of(str(ICHNODE), "--version"), "processors": os.cpu_count(),
            "seconds_an_hour": self.seconds_an_hour,
        }  # fmt: skip
        (self.output / "soak.json").write_text(json.dumps(self.description, indent=2))

    def _day(self) -> None:
        self.cases: list[threading.Thread] = []
        others = [self._follow_live, self._follow_live, self._browse, self._troubles]
        self.others = [threading.Thread(target=each, daemon=True) for each in others]
        for each in self.others:
            each.start()
        for moment, case in self.schedule:
            time.sleep(max(0.0, self.begun + moment - time.time()))
            thread = threading.Thread(target=case.run, daemon=True)
            thread.start()
            self.cases.append(thread)
            self.counts["cases"] += 1
            if self.counts["cases"] % (10 if self.is_short else 50) == 0:
                waiting = sum(each.is_alive() for each in self.cases)
                self.say(f"{self.counts['cases']} of {len(self.schedule)} cases, {waiting} under way")
            if self.watch.failure:
                raise self.watch.failure
        time.sleep(max(0.0, self.begun + self.hours * 3600 - time.time()))

    def _end(self) -> None:
        """All archives are back; every case comes to its end."""
        self.stopping.set()
        try:
            for each in self.others:
                each.join(60)
            self.pacs.behave()
            self.say("waiting for what is under way")
            deadline = time.monotonic() + self.patience_seconds + 60
            while any(each.is_alive() for each in self.cases) and time.monotonic() < deadline:
                self._retry_dead()
                time.sleep(2)
            # What an association or a delivery leaves is gone soon after.
            time.sleep(5)
            left = [path.name for path in self.node.incoming.iterdir()]
            self._list_orthanc()
        except KeyboardInterrupt:
            left = []
        self.flush()
        self.watch.stop()
        self.node.stop()
        time.sleep(1)
        self.description |= {
            "ended": time.time(),
            "exit_status": self.node.exit_status,
            "incoming": left,
            "temporary": sorted(str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*")),
            "processes": self.watch.strays(set(), {int(path.name): 0 for path in Path("/proc").glob("[0-9]*")}),
            "complaints": self.pacs.complaints,
            "counts": self.counts,
        }
        (self.output / "soak.json").write_text(json.dumps(self.description, indent=2))

    def _list_orthanc(self) -> None:
        for study in json.loads(http(f"{self.orthanc.url}/studies?expand", timeout=60)):
            for instance in json.loads(http(f"{self.orthanc.url}/studies/{study['ID']}/instances", timeout=60)):
                self.record(
                    "orthanc",
                    {
                        "study": study["MainDicomTags"]["StudyInstanceUID"],
                        "sop": instance["MainDicomTags"]["SOPInstanceUID"],
                    },
                )

    def _troubles(self) -> None:
        """Begin and duration in hours of the day."""
        table: list[tuple[float, float, str, Callable, Callable]] = [
            (2.0, 0, "node restarted (SIGTERM)", self._restart, _nothing),
            (3.0, 0.5, "Orthanc down", self.orthanc.stop, self.orthanc.start),
            (6.0, 0, "node killed", self._kill, _nothing),
            (8.5, 0, "node and its children killed", self._kill_all, _nothing),
            (9.5, 0.6, "PACS down", self.pacs.stop, self.pacs.start),
            (11.0, 0.4, "PACS refuses for now", lambda: self._judge(OUT_OF_RESOURCES), self.pacs.behave),
            (12.0, 0.6, "Orthanc down", self.orthanc.stop, self.orthanc.start),
            (13.5, 0.6, "PACS slow", self._slow, self.pacs.behave),
            (14.5, 0.6, "RIS and webhook down", self._silence_receivers, self._receivers_again),
            (15.5, 0.3, "PACS refuses for good", lambda: self._judge(CANNOT_UNDERSTAND), self._forgiven),
            (16.0, 0.3, "RIS answers badly", self._annoy, _nothing),
            (17.0, 0, "inference and decoders killed", lambda: self._kill_children("infer", "decode"), _nothing),
            (17.5, 0, "senders killed", lambda: self._kill_children("send", "compose", "commit"), _nothing),
            (18.5, 0.3, "Orthanc hangs", lambda: self._signal_orthanc(signal.SIGSTOP),
             lambda: self._signal_orthanc(signal.SIGCONT)),
            (19.5, 0, "configuration reloaded", self._reload, _nothing),
            (21.0, 0, "node restarted (SIGTERM)", self._restart, _nothing),
            (22.5, 0, "node killed", self._kill, _nothing),
        ]  # fmt: skip
        for hour, hours, text, begin, end in table:
            if self._pause_until(hour):
                return
            began = time.time()
            self.say(text)
            try:
                begin()
                self.stopping.wait(min(hours * self.seconds_an_hour, MOST_OUTAGE_SECONDS))
                end()
            except Exception as failure:
                text = f"failed: {text}: {type(failure).__name__}: {failure}"
            self.record("troubles", {"text": text, "begin": began, "end": time.time()})

    def _pause_until(self, hour: float) -> bool:
        """Whether the day is over."""
        return self.stopping.wait(max(0.0, self.begun + hour * self.seconds_an_hour - time.time()))

    def _restart(self) -> None:
        self.node.stop(60)
        status = self.node.exit_status
        self.node.start()
        if status != 0:
            raise AssertionError(f"the node ended with {status}")

    def _kill(self) -> None:
        self.node.kill()
        self.node.start()

    def _kill_all(self) -> None:
        children = [pid for verb in ("receive", "decode", "send", "infer") for pid in self.node.children(verb)]
        self.node.kill()
        for pid in children:
            kill_process(pid)
        self.node.start()

    def _kill_children(self, *verbs: str) -> None:
        deadline = time.monotonic() + (2 if self.is_short else 20)
        waiting = set(verbs)
        while waiting and time.monotonic() < deadline:
            for verb in tuple(waiting):
                for pid in self.node.children(verb):
                    kill_process(pid)
                    waiting.discard(verb)
            time.sleep(0.01)

    def _judge(self, status: int) -> None:
        self.pacs.judge = lambda arrival: status

    def _forgiven(self) -> None:
        self.pacs.behave()
        self._retry_dead()

    def _retry_dead(self) -> None:
        """An operator has what was refused for good tried again."""
        for each in (self.api("/deliveries?state=dead&limit=500") or {"deliveries": []})["deliveries"]:
            self.api(f"/deliveries/{each['id']}/retry", "POST")
            self.counts["retried"] += 1

    def _slow(self) -> None:
        self.pacs.conduct = lambda step, association: time.sleep(0.5) if step == Step.READ else None

    def _silence_receivers(self) -> None:
        self.ris.stop()
        with self.receiver.lock:
            self.receiver.answers = [503] * 10_000

    def _receivers_again(self) -> None:
        self.ris.start()
        with self.receiver.lock:
            self.receiver.answers = []

    def _annoy(self) -> None:
        self.ris.script.extend(["slow", "half", "AE", "cut", "garbage", "mid", "other", "chatty"])

    def _signal_orthanc(self, number: int) -> None:
        os.kill(self.orthanc.process.pid, number)

    def _reload(self) -> None:
        """Where the node has that."""
        if re.search(r"^  reload\b", self.node.command("config", "--help"), re.MULTILINE):
            os.kill(self.node.process.pid, signal.SIGHUP)

    # Viewers of the console

    def _browse(self) -> None:
        """Through all pages, signed in, and into the latest studies."""
        client = ConsoleClient(self.node.http_port)
        while not self.stopping.wait(1):
            try:
                if not client.is_signed_in:
                    client.sign_in("vera")
                for page in PAGES:
                    self._visit(client, page)
                for study in (self.api("/studies?limit=5") or {"studies": []})["studies"]:
                    page = f"/studies/{study['studyInstanceUID']}"
                    self._visit(client, page)
                    self._visit(client, f"{page}/images")
            except Exception:
                self.counts["pages lost"] += 1
                client.close()
        client.close()

    def _visit(self, client: ConsoleClient, page: str) -> None:
        status = client.get(page).status
        self.counts["pages"] += 1
        if status >= 500:
            self.record("pages", {"at": time.time(), "page": page, "status": status})
        self.stopping.wait(0.05 if self.is_short else 1)

    def _follow_live(self) -> None:
        """Server-sent events, as open pages have them."""
        while not self.stopping.wait(1):
            client = ConsoleClient(self.node.http_port)
            try:
                client.sign_in("otto")
                cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
                client.connection.request(
                    "GET", "/events?topics=studies,deliveries,alerts",
                    headers={"Cookie": cookie, "Accept": "text/event-stream"},
                )  # fmt: skip
                with client.connection.getresponse() as answer:
                    while not self.stopping.is_set() and answer.readline():
                        self.counts["live lines"] += 1
            except Exception:
                self.counts["live streams lost"] += 1
            finally:
                client.close()


def _nothing() -> None:
    pass


def conclude(folder: Path) -> int:
    """Verdict and picture, from what was written down."""
    status = make_verdict(folder)
    print(f"picture: {draw(folder)}")
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats the choices, not the timing")
    parser.add_argument("--studies-per-hour", type=float, default=500, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder that is made; replaced where a soak made it")
    parser.add_argument("--verdict", type=Path, metavar="FOLDER", help="only of a run that was")
    arguments = parser.parse_args()
    if arguments.verdict:
        return conclude(arguments.verdict)
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 2
    output = arguments.output or Path(f"soak-{time.strftime('%Y%m%d-%H%M%S')}")
    if (output / "soak.json").exists():
        shutil.rmtree(output)

    def interrupt(*_):
        raise KeyboardInterrupt

    def say(text: str) -> None:
        print(text, flush=True)

    # A polite kill ends the day early, like Ctrl-C.
    signal.signal(signal.SIGTERM, interrupt)
    print(f"seed {arguments.seed}, {arguments.hours:g} hours, in {output}", flush=True)
    try:
        soak = Soak(arguments.hours, arguments.seed, output.absolute(), arguments.studies_per_hour, say=say)
    except DemoFailure as failure:
        print(failure, file=sys.stderr)
        return 2
    soak.run()
    return conclude(soak.output)


if __name__ == "__main__":
    sys.exit(main())
