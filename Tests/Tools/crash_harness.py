"""Kills the node under load, again and again, and checks after each trial that nothing acknowledged was lost, nothing
is there twice, and nothing is left over.

A trial: several senders store small unique objects, some into the same study, some of them the same objects at the
same time, some other bytes under a known UID; one who is cut off comes again with what was not acknowledged, and now
and then with what was. Meanwhile processes are killed with SIGKILL: once at a chosen point of an object's way to disk,
once at a random moment. Then the senders finish, and spool, ledger and what the senders hold are compared.

SIGKILL does not lose what the kernel holds: this tests the order of steps and the bookkeeping. That the disk has what
fsync promised, only a power cut can test.

    python crash_harness.py --trials 1000 --seed 7
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import itertools
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Iterator

from faults import FaultyNode, Mode, Operation, compiler, kill_process, temporary_folder
from node_fixture import DemoFailure, data_set_bytes, phantom, wait_for, why_not
from plain_sender import Instance, PlainSender, Template, image_of, new_uid, small_image

SENDERS = 4
OBJECTS_PER_SECOND = 40
# Trials on one data folder: later starts have more to mend, later ones less is left to find.
TRIALS_PER_SITE = 25
# From the kill until every sender has everything acknowledged.
PATIENCE_SECONDS = 60


# --- What to kill, and when -------------------------------------------------------------------------------------------


class Point:
    """A step of an object's way to disk, and whether the kill comes before it or after it."""

    def __init__(self, text: str, operation: Operation, afterwards: bool = False):
        self.text, self.operation, self.afterwards = text, operation, afterwards

    @property
    def is_of_daemon(self) -> bool:
        return self.operation in (Operation.LEDGER_WRITE, Operation.LEDGER_SYNC)


POINTS = (
    Point("written, before fsync", Operation.SYNC),
    Point("fsynced, before rename", Operation.RENAME),
    Point("renamed, before the folder's fsync", Operation.RENAME, afterwards=True),
    Point("folder fsynced, before the daemon is told", Operation.SYNC_FOLDER, afterwards=True),
    Point("daemon told, before the response", Operation.RESPOND),
    Point("before the daemon records", Operation.LEDGER_WRITE),
    Point("response sent", Operation.RESPONDED, afterwards=True),
    Point("file made, before its meta header", Operation.CREATE, afterwards=True),
    Point("within writing", Operation.WRITE),
    Point("study's folder made", Operation.MKDIR, afterwards=True),
    Point("while the daemon records", Operation.LEDGER_WRITE, afterwards=True),
    Point("recorded, before the ledger's fsync", Operation.LEDGER_SYNC),
    Point("ledger fsynced", Operation.LEDGER_SYNC, afterwards=True),
)
VICTIMS = ("worker", "daemon", "daemon and worker")
RANDOM_VICTIMS = ("daemon", "one worker", "all workers", "daemon and all workers", "infer", "decode", "nobody")


def point_kills() -> Iterator[tuple[Point, str]]:
    """All points with all victims, for ever; the first six are six points with two each of the victims."""
    for round_ in itertools.count():
        for index, point in enumerate(POINTS):
            yield point, "daemon" if point.is_of_daemon else VICTIMS[(index + round_) % len(VICTIMS)]


# --- What senders hold ------------------------------------------------------------------------------------------------


class Holdings:
    """What was sent and what was acknowledged, by SOP Instance UID and by the digest of the data set."""

    def __init__(self):
        self._lock = threading.Lock()
        self.offered: dict[str, set[str]] = collections.defaultdict(set)
        self.acknowledged: dict[str, set[str]] = collections.defaultdict(set)
        self.study_of: dict[str, str] = {}
        self.recent: collections.deque[Instance] = collections.deque(maxlen=8)
        self.responses = 0
        self.refusals: collections.Counter[int] = collections.Counter()

    def offer(self, instance: Instance) -> None:
        with self._lock:
            self.offered[instance.sop_uid].add(instance.digest)
            self.study_of[instance.sop_uid] = instance.study_uid

    def begun(self, instance: Instance) -> None:
        with self._lock:
            self.recent.append(instance)

    def answered(self, instance: Instance, status: int) -> None:
        with self._lock:
            if status == 0:
                self.responses += 1
                self.acknowledged[instance.sop_uid].add(instance.digest)
            else:
                self.refusals[status] += 1

    def some_recent(self, random: Random) -> Instance | None:
        with self._lock:
            return random.choice(self.recent) if self.recent else None

    def snapshot(self) -> dict[str, set[str]]:
        with self._lock:
            return {uid: set(digests) for uid, digests in self.acknowledged.items()}


class LoadSender(threading.Thread):
    """Sends until told to finish, and then until all is acknowledged; comes again when it is cut off.

    Kinds: `new` sends new objects, `same` now and then what others have just sent, `head` slices of head CTs.
    """

    def __init__(
        self, node: FaultyNode, holdings: Holdings, seed: int, study_uid: str, kind: str, templates: Templates
    ):
        super().__init__(daemon=True)
        self.node, self.holdings, self.kind, self.templates = node, holdings, kind, templates
        self.random = Random(seed)
        self.study_uid, self.series_uid = study_uid, new_uid(self.random)
        self.slices = 0
        self.finishing = threading.Event()
        self.failure: BaseException | None = None
        self.losses = 0

    def run(self) -> None:
        try:
            self._run()
        except BaseException as failure:
            self.failure = failure

    def _run(self) -> None:
        waiting: list[Instance] = []
        while waiting or not self.finishing.is_set():
            done: list[Instance] = []
            try:
                with PlainSender(self.node.dicom_port, self.templates.sop_classes) as sender:
                    self._serve(sender, waiting, done)
            except OSError:
                self.losses += 1
                # Some senders begin again with what they know to be stored.
                if self.random.random() < 0.3:
                    waiting += done[-5:]
                time.sleep(0.05)

    def _serve(self, sender: PlainSender, waiting: list[Instance], done: list[Instance]) -> None:
        for _ in range(self.random.randrange(3, 30)):
            if not waiting:
                if self.finishing.is_set():
                    return
                waiting.append(self._next())
            instance = waiting[0]
            self.holdings.offer(instance)
            self.holdings.begun(instance)
            status = sender.store(instance)
            self.holdings.answered(instance, status)
            if status == 0:
                done.append(waiting.pop(0))
            time.sleep(self.random.random() * 2 / OBJECTS_PER_SECOND)

    def _next(self) -> Instance:
        if self.kind == "head":
            return self._next_slice()
        mark = self.random.randbytes(64)
        if self.kind == "same" and self.random.random() < 0.4:
            recent = self.holdings.some_recent(self.random)
            if recent and self.random.random() < 0.2:
                return self.templates.small.instance(recent.study_uid, recent.series_uid, recent.sop_uid, mark)
            if recent:
                return recent
        return self.templates.small.instance(self.study_uid, self.series_uid, new_uid(self.random), mark)

    def _next_slice(self) -> Instance:
        """Of a head CT, feet to head; after the last one begins another study."""
        if self.slices == len(self.templates.head):
            self.slices, self.study_uid, self.series_uid = 0, new_uid(self.random), new_uid(self.random)
        template = self.templates.head[self.slices]
        self.slices += 1
        return template.instance(self.study_uid, self.series_uid, new_uid(self.random))


class Templates:
    def __init__(self, folder: Path):
        self.small = small_image()
        self.head: list[Template] = [image_of(path) for path in phantom(folder).files]
        self.sop_classes = [self.small.sop_class_uid, self.head[0].sop_class_uid]


# --- Checks -----------------------------------------------------------------------------------------------------------


class Summary:
    def __init__(self):
        self.trials = 0
        self.kills: collections.Counter[str] = collections.Counter()
        self.restarts = self.instances = self.responses = self.losses = 0
        self.refusals: collections.Counter[int] = collections.Counter()
        kinds = ("lost", "duplicated", "litter", "disagreements", "stuck")
        self.failures: dict[str, list[str]] = {kind: [] for kind in kinds}
        self.started = time.monotonic()

    def fail(self, kind: str, text: str) -> None:
        self.failures[kind].append(f"trial {self.trials}: {text}")

    @property
    def is_clean(self) -> bool:
        return not any(self.failures.values())

    def text(self) -> str:
        lines = [
            f"{self.trials} trials in {time.monotonic() - self.started:.0f} s, {self.restarts} restarts of the node",
            f"{sum(self.kills.values())} kills:",
            *(f"  {count:5} {kind}" for kind, count in sorted(self.kills.items())),
            f"{self.instances} instances acknowledged in {self.responses} responses",
            f"{self.losses} associations lost or not had",
            *(f"{count} responses of status 0x{status:04X}" for status, count in self.refusals.items()),
            ", ".join(f"{kind}: {len(found)}" for kind, found in self.failures.items()),
            *(f"  {kind}: {each}" for kind, found in self.failures.items() for each in found[:20]),
        ]
        return "\n".join(lines)


class Check:
    """Compares what senders hold with spool and ledger."""

    def __init__(self, node: FaultyNode, summary: Summary, patience_seconds: float = 15):
        self.node, self.summary, self.patience_seconds = node, summary, patience_seconds
        self.studies = node.folder / "data" / "spool" / "studies"

    def present(self, acknowledged: dict[str, set[str]], study_of: dict[str, str], when: str) -> None:
        """Every acknowledged data set is in the spool, byte for byte."""
        for uid, digests in acknowledged.items():
            missing = digests - {digest for digest, _ in self._versions(study_of[uid], uid)}
            for digest in missing:
                self.summary.fail("lost", f"{when}: {uid} with digest {digest[:12]} was acknowledged")

    def _versions(self, study: str, uid: str) -> list[tuple[str, Path]]:
        folder = self.studies / study
        names = [f"{uid}.dcm", *(f"{uid}.v{version}.dcm" for version in range(2, 17))]
        paths = [folder / name for name in names if (folder / name).exists()]
        return [(hashlib.sha256(data_set_bytes(path)).hexdigest(), path) for path in paths]

    def complete(self, holdings: Holdings) -> None:
        """When all senders are done: nothing lost, nothing twice, spool and ledger agree."""
        self.present(holdings.acknowledged, holdings.study_of, "at the end")
        expected: dict[str, set[str]] = collections.defaultdict(set)
        for uid, study in holdings.study_of.items():
            versions = self._versions(study, uid)
            expected[study] |= {str(path) for _, path in versions}
            counts = collections.Counter(digest for digest, _ in versions)
            for digest, count in counts.items():
                if count > 1:
                    self.summary.fail("duplicated", f"{uid}: {count} files of the same bytes")
                if digest not in holdings.offered[uid]:
                    self.summary.fail("lost", f"{uid}: a file of bytes that nobody sent")
        for study, paths in expected.items():
            self._study(study, paths)

    def _study(self, study: str, expected: set[str]) -> None:
        known: list[str] = []

        def all_known() -> bool:
            known[:] = rows(self.node.ledger, "SELECT path FROM instance WHERE study_uid = ?", study)
            return len(known) >= len(expected)

        try:
            wait_for(all_known, "the ledger knows the study's instances", self.patience_seconds)
        except AssertionError:
            pass
        files = {str(path) for path in (self.studies / study).glob("*")}
        for path in files - expected:
            self.summary.fail("litter", f"{path} in the spool")
        for path in expected - set(known):
            self.summary.fail("lost", f"{path} is not in the ledger")
        for path in set(known) - expected:
            self.summary.fail("disagreements", f"{path} is in the ledger only")
        if len(known) != len(set(known)):
            self.summary.fail("duplicated", f"study {study} has rows of the same path")
        shown = self.node.study(study)
        count = shown["study"]["instanceCount"] if shown else None
        if count != len(expected):
            self.summary.fail("disagreements", f"study show tells {count} instances of {study}, not {len(expected)}")

    def nothing_left(self) -> None:
        try:
            self.node.wait_until_quiet(self.patience_seconds)
        except AssertionError:
            for path in self.node.incoming.iterdir():
                self.summary.fail("litter", f"{path.name} in incoming")

    def whole_spool(self) -> None:
        """With the node stopped: each file has its row, each row its file."""
        files = {str(path) for path in self.studies.glob("*/*")}
        known = rows(self.node.ledger, "SELECT path FROM instance")
        for path in files ^ set(known):
            self.summary.fail("disagreements", f"{path} is in {'the spool' if path in files else 'the ledger'} only")
        if len(known) != len(set(known)):
            self.summary.fail("duplicated", "rows of the same path")
        for uid in rows(
            self.node.ledger,
            "SELECT sop_uid FROM instance GROUP BY study_uid, sop_uid, version HAVING count(*) > 1",
        ):
            self.summary.fail("duplicated", f"{uid} has several rows of one version")


def rows(ledger: Path, query: str, *arguments: str) -> list:
    """The first column of what the ledger's file answers; it is not locked by that."""
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=10)
    try:
        return [row[0] for row in connection.execute(query, arguments)]
    finally:
        connection.close()


# --- Trials -----------------------------------------------------------------------------------------------------------


class Harness:
    def __init__(self, seed: int, say=print):
        self.seed, self.say = seed, say
        self.random = Random(seed)
        self.summary = Summary()
        self.points = point_kills()
        self.random_victims = itertools.cycle(RANDOM_VICTIMS)

    def run(self, trials: int) -> Summary:
        remaining = trials
        with temporary_folder() as templates_folder:
            self.templates = Templates(Path(templates_folder))
            while remaining > 0 and self.summary.is_clean:
                count = min(remaining, TRIALS_PER_SITE)
                self._site(count)
                remaining -= count
        return self.summary

    def _site(self, trials: int) -> None:
        with temporary_folder() as folder:
            self.node = FaultyNode(
                Path(folder) / "node",
                dicom={"warm_workers": 3},
                disk={"reject_associations_below_mebibytes": 0, "refuse_objects_below_mebibytes": 0},
                completion={"grace_seconds": 1, "quiet_seconds": 20},
                delivery={"first_retry_seconds": 600, "most_retry_seconds": 600},
            )
            self.check = Check(self.node, self.summary)
            try:
                self.node.start()
                for _ in range(trials):
                    try:
                        self._trial()
                    except (AssertionError, DemoFailure) as failure:
                        self.summary.fail("stuck", str(failure))
                    if not self.summary.is_clean:
                        self.say(self.node.log_tail(60))
                        return
                    if self.summary.trials % TRIALS_PER_SITE == 0:
                        self.say(self.summary.text() + "\n")
                self.node.stop()
                if self.node.exit_status != 0:
                    self.summary.fail("disagreements", f"the node ended with {self.node.exit_status}")
                self.check.nothing_left()
                self.check.whole_spool()
            finally:
                self.node.stop()

    def _trial(self) -> None:
        self.summary.trials += 1
        holdings = Holdings()
        random_victim = next(self.random_victims)
        point, victim = next(self.points)
        with_head = random_victim in ("infer", "decode")
        senders = self._senders(holdings, with_head)
        try:
            steps = [
                lambda: self._kill_at(point, victim, holdings),
                lambda: self._kill_at_random(random_victim, holdings),
            ]
            self.random.shuffle(steps)
            for step in steps:
                time.sleep(self.random.uniform(0.05, 0.4))
                step()
        finally:
            self.node.workers.disarm()
            self.node.daemon.disarm()
            for sender in senders:
                sender.finishing.set()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for sender in senders:
            sender.join(max(0.0, deadline - time.monotonic()))
            if sender.is_alive() or sender.failure:
                raise AssertionError(f"a sender {sender.failure or 'is not done'}")
            self.summary.losses += sender.losses
        self.check.nothing_left()
        self.check.complete(holdings)
        self.summary.instances += sum(map(len, holdings.acknowledged.values()))
        self.summary.responses += holdings.responses
        self.summary.refusals += holdings.refusals

    def _senders(self, holdings: Holdings, with_head: bool) -> list[LoadSender]:
        shared, other = new_uid(self.random), new_uid(self.random)
        kinds = [(shared, "new"), (shared, "same"), (other, "new"), (other, "head" if with_head else "same")]
        assert len(kinds) == SENDERS
        senders = []
        for study, kind in kinds:
            study = new_uid(self.random) if kind == "head" else study
            sender = LoadSender(self.node, holdings, self.random.randrange(1 << 32), study, kind, self.templates)
            senders.append(sender)
            sender.start()
        return senders

    def _kill_at(self, point: Point, victim: str, holdings: Holdings) -> None:
        plan = self.node.daemon if point.is_of_daemon else self.node.workers
        # A study's folder is made once in a trial by each sender: there are not many.
        nth = self.random.randrange(1, 3 if point.operation == Operation.MKDIR else 12)
        mode = Mode.KILL if victim == "worker" else Mode.STOP
        plan.arm(mode, (point.operation,), nth, afterwards=point.afterwards)
        name = f"{victim}: {point.text}"
        try:
            if mode == Mode.KILL:
                wait_for(lambda: plan.hits, name, 15, self.node.log_tail)
                self._record(name, holdings)
                return
            pid = wait_for(lambda: plan.stopped_process, name, 15, self.node.log_tail)
            if point.operation == Operation.LEDGER_WRITE:
                # Responses go on while the daemon is held up.
                self._wait_for_responses(holdings, 5)
            if "worker" in victim:
                kill_process(pid)
            self.node.kill()
        finally:
            plan.disarm()
        self._record(name, holdings)
        self._restart()

    def _wait_for_responses(self, holdings: Holdings, count: int) -> None:
        until, deadline = holdings.responses + count, time.monotonic() + 1
        while holdings.responses < until and time.monotonic() < deadline:
            time.sleep(0.002)

    def _kill_at_random(self, victim: str, holdings: Holdings) -> None:
        node = self.node
        if victim == "one worker":
            pids = node.children("receive")
            self._kill(self.random.sample(pids, min(1, len(pids))))
        elif victim == "all workers":
            self._kill(node.children("receive"))
        elif victim in ("infer", "decode"):
            try:
                self._kill(wait_for(lambda: node.children(victim), f"{victim} runs", 10))
            except AssertionError:
                victim = f"{victim} (none ran)"
        elif victim == "daemon":
            node.kill()
        elif victim == "daemon and all workers":
            pids = node.children("receive")
            node.kill()
            self._kill(pids)
        if victim == "nobody":
            return
        self._record(f"{victim}: random moment", holdings)
        if "daemon" in victim:
            self._restart()

    @staticmethod
    def _kill(pids: list[int]) -> None:
        for pid in pids:
            kill_process(pid)

    def _record(self, kill: str, holdings: Holdings) -> None:
        self.summary.kills[kill] += 1
        # Before senders that come again could make good a loss.
        self.check.present(holdings.snapshot(), holdings.study_of, f"after {kill}")

    def _restart(self) -> None:
        self.summary.restarts += 1
        self.node.start()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats the choices, not the timing")
    arguments = parser.parse_args()
    if reason := why_not() or (None if compiler() else "no C compiler"):
        print(reason, file=sys.stderr)
        return 2
    # A polite kill unwinds like Ctrl-C, so that the node is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"seed {arguments.seed}", flush=True)
    harness = Harness(arguments.seed, say=lambda text: print(text, flush=True))
    summary = harness.run(arguments.trials)
    print(summary.text())
    return 0 if summary.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
