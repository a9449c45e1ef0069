"""Kills the node while it delivers, again and again, and checks after each trial that the PACS holds each result object
of each study exactly once, byte for byte: nothing is lost, nothing is there under a second UID.

A trial: two studies arrive, one with a haemorrhage. Once at a chosen step, from before the results are composed until
after the ledger knows that they were taken, and once at a random moment the daemon, the worker that sends, or both are
killed with SIGKILL. Then all is left in peace until nothing is owed. In half of the trials a result is delivered only
when the PACS has committed to keep it; in half it refuses the first SOP class of the report.

    python delivery_harness.py --trials 200 --seed 7
"""

from __future__ import annotations

import argparse
import collections
import itertools
import re
import signal
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Callable

from crash_harness import rows
from faults import FaultyNode, Mode, Operation, compiler, kill_process, temporary_folder
from node_fixture import (
    LOOPBACK, DemoFailure, RestartableNode, data_set_bytes, free_ports, phantom, wait_for, why_not,
)  # fmt: skip
from plain_pacs import DUPLICATE, Arrival, Pacs, Step, at
from plain_sender import PlainSender, Template, image_of, new_uid
from pydicom.filereader import read_file_meta_info
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, CTImageStorage, EnhancedSRStorage

# Whether they show a haemorrhage.
STUDIES = (False, True)
# Trials on one data folder, all with commitment or all without.
TRIALS_PER_SITE = 20
# By the name in the configuration; a report that is refused as the route's is offered as the others, in this order.
REPORT_CLASSES = {
    "comprehensive3d": Comprehensive3DSRStorage,
    "comprehensive": ComprehensiveSRStorage,
    "enhanced": EnhancedSRStorage,
}
# How the PACS refuses an Enhanced SR: not at all, without a presentation context, with a status.
REFUSALS = (None, "no context", None, 0x0122, None, 0xC000)
# From the last restart until nothing is owed.
PATIENCE_SECONDS = 60


def is_report(arrival: Arrival) -> bool:
    return arrival.sop_class in REPORT_CLASSES.values()


def result_files(node: RestartableNode, study: str) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Data sets by SOP Instance UID: of the report in all its SOP classes, and of all else."""
    reports, rest = {}, {}
    for path in (node.folder / "data" / "results" / study).rglob("*.dcm"):
        is_one = read_file_meta_info(path).MediaStorageSOPClassUID in REPORT_CLASSES.values()
        (reports if is_one else rest)[path.stem] = data_set_bytes(path)
    return reports, rest


# --- What to kill, and when -------------------------------------------------------------------------------------------

VICTIMS = ("daemon", "worker", "daemon and worker")
RANDOM_VICTIMS = ("daemon", "send", "daemon and send", "compose", "commit")
# Steps of the ledger, and whether the kill comes after them.
LEDGER_STEPS = tuple(
    (operation, afterwards)
    for operation in (Operation.LEDGER_WRITE, Operation.LEDGER_SYNC)
    for afterwards in (False, True)
)


def ledger_text(operation: Operation, afterwards: bool) -> str:
    return f"{'after' if afterwards else 'before'} a {operation.name.lower().replace('_', ' ')}"


class Blow:
    """A kill at a chosen step. `arm` before the studies arrive; it has fallen when `fallen` is true."""

    def __init__(self, text: str):
        self.text = text

    def arm(self, trial: Trial) -> None:
        raise NotImplementedError

    def fallen(self, trial: Trial) -> bool:
        """Asked again and again."""
        return trial.struck.is_set()


class AtStep(Blow):
    """Of an association, as the PACS sees it."""

    def __init__(self, step: Step, victim: str):
        super().__init__(f"{victim}: {step.value}")
        self.step, self.victim = step, victim

    def arm(self, trial: Trial) -> None:
        # A trial has two associations of each kind at least, and ten objects, of which eight have several fragments.
        is_of_object = self.step.name in ("COMMANDED", "BEGUN", "READ", "STORED", "RESPONDED")
        if self.step == Step.REPORTED:
            trial.pacs.reports_on_the_same_association = True
        verb = "commit" if self.step in (Step.ASKED, Step.PROMISED, Step.REPORTED) else "send"
        nth = trial.random.randint(1, 8 if is_of_object else len(STUDIES))
        trial.at_step(self.step, nth, lambda: trial.strike(self.victim, verb))


class AtLedger(Blow):
    """Of the daemon, at its next steps on the ledger once something has happened."""

    def __init__(self, after: str, operation: Operation, afterwards: bool):
        super().__init__(f"daemon: {after}, {ledger_text(operation, afterwards)}")
        self.after, self.operation, self.afterwards = after, operation, afterwards

    def arm(self, trial: Trial) -> None:
        self.is_armed = False
        # One fsync for each transaction.
        self.nth = trial.random.randint(1, 2 if self.operation == Operation.LEDGER_SYNC else 4)
        if self.after == "answered":
            trial.at_step(Step.RELEASING, 1, lambda: self._arm(trial))

    def _arm(self, trial: Trial) -> None:
        self.is_armed = True
        trial.node.daemon.arm(Mode.KILL, (self.operation,), self.nth, afterwards=self.afterwards)

    def fallen(self, trial: Trial) -> bool:
        if not self.is_armed and self.after == "composing" and trial.node.children("compose"):
            self._arm(trial)
        return trial.node.process.poll() is not None


class WhenComposing(Blow):
    def __init__(self, victim: str):
        super().__init__(f"{victim}: composing")
        self.victim = victim

    def arm(self, trial: Trial) -> None:
        self.delay = trial.random.uniform(0, 0.05)

    def fallen(self, trial: Trial) -> bool:
        if not trial.node.children("compose"):
            return False
        time.sleep(self.delay)
        trial.strike(self.victim, "compose")
        return True


class WhenAssembled(Blow):
    def __init__(self):
        super().__init__("daemon: assembled, before composing")

    def arm(self, trial: Trial) -> None:
        self.studies = list(trial.studies)

    def fallen(self, trial: Trial) -> bool:
        lines = (line for line in trial.node.log_text().splitlines() if "study assembled" in line)
        if not any(study in line for line in lines for study in self.studies):
            return False
        trial.strike("daemon", "")
        return True


def blows(with_commitment: bool) -> list[Blow]:
    of_commitment = (Step.ASKED, Step.PROMISED, Step.REPORTED)
    steps = [step for step in Step if with_commitment or step not in of_commitment]
    found: list[Blow] = [AtStep(step, victim) for step in steps for victim in VICTIMS]
    found += [WhenComposing(victim) for victim in VICTIMS] + [WhenAssembled()]
    found += [AtLedger(after, *step) for after in ("composing", "answered") for step in LEDGER_STEPS]
    return found


# --- Results ----------------------------------------------------------------------------------------------------------


class Summary:
    def __init__(self):
        self.trials = self.restarts = self.studies = self.objects = self.offers = self.commitments = 0
        self.with_commitment = 0
        self.kills: collections.Counter[str] = collections.Counter()
        self.failures: dict[str, list[str]] = {
            kind: [] for kind in ("lost", "duplicated", "altered", "left", "stuck")
        }
        self.started = time.monotonic()

    def fail(self, kind: str, text: str) -> None:
        self.failures[kind].append(f"trial {self.trials}: {text}")

    @property
    def is_clean(self) -> bool:
        return not any(self.failures.values())

    def text(self) -> str:
        lines = [
            f"{self.trials} trials in {time.monotonic() - self.started:.0f} s, {self.with_commitment} of them with "
            f"storage commitment, {self.restarts} restarts of the node",
            f"{self.kills.total()} kills:",
            *(f"  {count:5} {kind}" for kind, count in sorted(self.kills.items())),
            f"{self.studies} studies, {self.objects} objects held, offered {self.offers} times, "
            f"{self.commitments} requests of commitment",
            ", ".join(f"{kind}: {len(found)}" for kind, found in self.failures.items()),
            *(f"  {kind}: {each}" for kind, found in self.failures.items() for each in found[:20]),
        ]
        return "\n".join(lines)


# --- Trials -----------------------------------------------------------------------------------------------------------


class Trial:
    """Some studies, and what is done to the node meanwhile."""

    def __init__(self, node: FaultyNode, pacs: Pacs, random: Random, heads: dict[bool, list[Template]]):
        self.node, self.pacs, self.random, self.heads = node, pacs, random, heads
        self.studies = {new_uid(random): is_positive for is_positive in STUDIES}
        self.struck = threading.Event()
        self.killed = 0
        self.refusal: str | int | None = None

    def send(self) -> None:
        """All over one association: none is complete before its end."""
        with PlainSender(self.node.dicom_port, [CTImageStorage]) as sender:
            for study, is_positive in self.studies.items():
                series = new_uid(self.random)
                for template in self.heads[is_positive]:
                    status = sender.store(template.instance(study, series, new_uid(self.random)))
                    assert status == 0, f"status {status:04X}"

    def at_step(self, step: Step, nth: int, act: Callable[[], None]) -> None:
        self.pacs.conduct = at(step, nth, lambda association: act())

    def strike(self, victim: str, verb: str) -> None:
        workers = self.node.children(verb) if "worker" in victim else []
        if "daemon" in victim:
            self.node.kill()
        for pid in workers:
            kill_process(pid)
        self.killed += len(workers) + ("daemon" in victim)
        self.struck.set()


class Harness:
    def __init__(self, seed: int, say=print, trials_per_site: int = TRIALS_PER_SITE):
        self.say, self.trials_per_site = say, trials_per_site
        self.random = Random(seed)
        self.summary = Summary()
        self.blows = {each: self._shuffled(blows(each)) for each in (False, True)}
        self.refusals = itertools.cycle(REFUSALS)
        self.random_victims = self._shuffled(list(RANDOM_VICTIMS))
        # How many objects of which SOP class a study has, negative and positive, when nothing happens.
        self.expected: dict[bool, collections.Counter[str]] = {}

    def _shuffled(self, each: list):
        """All of them, for ever."""
        while True:
            yield from self.random.sample(each, len(each))

    def run(self, trials: int) -> Summary:
        with temporary_folder() as folder:
            heads = Path(folder)
            self.heads = {
                is_positive: [image_of(path) for path in phantom(heads / str(is_positive), *options).files]
                for is_positive, options in ((False, ()), (True, ("--bleed", "left")))
            }
        for site in itertools.count():
            count = min(self.trials_per_site, trials - self.summary.trials)
            if count <= 0 or not self.summary.is_clean:
                return self.summary
            self._site(count, with_commitment=site % 2 == 1)

    def _site(self, trials: int, with_commitment: bool) -> None:
        with temporary_folder() as folder:
            (port,) = free_ports(1)
            self.pacs = Pacs(node_port=port).start()
            self.node = FaultyNode(
                Path(folder) / "node",
                port=port,
                disk={"reject_associations_below_mebibytes": 0, "refuse_objects_below_mebibytes": 0},
                completion={"grace_seconds": 0.3, "quiet_seconds": 1},
                delivery={"first_retry_seconds": 0.2, "most_retry_seconds": 1},
                peers=[
                    {
                        "name": "pacs", "ae_title": "PACS", "host": LOOPBACK, "port": self.pacs.port,
                        "commitment": "required" if with_commitment else "none",
                    }
                ],
                # The summary is the largest object by far, and one more picture like the others.
                routes=[{"name": "default", "destinations": ["pacs"], "summary": False, "key_objects": True}],
            )  # fmt: skip
            try:
                self.node.start()
                if not self.expected:
                    self._undisturbed()
                for _ in range(trials):
                    self.summary.trials += 1
                    self.summary.with_commitment += with_commitment
                    try:
                        self._trial(with_commitment)
                    except (AssertionError, DemoFailure, OSError) as failure:
                        self.summary.fail("stuck", str(failure))
                    if not self.summary.is_clean:
                        self.say(self.node.log_tail(60))
                        return
                self._end()
                self.say(f"{self.summary.trials} trials, {self.summary.kills.total()} kills")
            finally:
                self.node.stop()
                self.pacs.stop()

    def _trial(self, with_commitment: bool) -> None:
        trial = Trial(self.node, self.pacs, self.random, self.heads)
        self._refuse(trial)
        # Peers answer an object that they have as they like.
        self.pacs.judge_again = lambda arrival: trial.random.choice((0x0000, DUPLICATE))
        self.pacs.reports_on_the_same_association = self.random.random() < 0.5
        blow = next(self.blows[with_commitment])
        blow.arm(trial)
        trial.send()
        try:
            wait_for(lambda: blow.fallen(trial), blow.text, 20, self.node.log_tail)
        finally:
            self.node.daemon.disarm()
            self.pacs.conduct = lambda step, association: None
        # A worker may have ended just before.
        if trial.killed or self.node.process.poll() is not None:
            self.summary.kills[blow.text] += 1
        self._restart_if_dead()
        self._strike_at_random(trial)
        self._restart_if_dead()
        self._settle(trial)
        self._check(trial)

    def _refuse(self, trial: Trial) -> None:
        refusal = trial.refusal = next(self.refusals)
        self.pacs.refused_classes = {EnhancedSRStorage} if refusal == "no context" else set()
        self.pacs.judge = (
            lambda arrival: refusal if arrival.sop_class == EnhancedSRStorage and isinstance(refusal, int) else 0
        )

    def _strike_at_random(self, trial: Trial) -> None:
        victim, before = next(self.random_victims), trial.killed
        time.sleep(self.random.uniform(0, 2.5))
        if victim == "daemon":
            trial.strike("daemon", "")
        else:
            verb = victim.split()[-1]
            deadline = time.monotonic() + 1
            while not self.node.children(verb) and time.monotonic() < deadline:
                time.sleep(0.002)
            trial.strike("daemon and worker" if "daemon" in victim else "worker", verb)
        if trial.killed > before:
            self.summary.kills[f"{victim}: random moment"] += 1

    def _restart_if_dead(self) -> None:
        if self.node.process.poll() is not None:
            self.summary.restarts += 1
            self.node.start()

    def _settle(self, trial: Trial) -> None:
        def states() -> list[str]:
            return [
                state
                for study in trial.studies
                for state in rows(self.node.ledger, "SELECT state FROM delivery WHERE study_uid = ?", study)
            ]

        def at_rest() -> bool:
            return len(found := states()) == len(trial.studies) and set(found) == {"delivered"}

        wait_for(at_rest, "all is delivered", PATIENCE_SECONDS, lambda: f"{states()}\n{self.node.log_tail(40)}")

    def _undisturbed(self) -> None:
        trial = Trial(self.node, self.pacs, self.random, self.heads)
        trial.send()
        self._settle(trial)
        for study, is_positive in trial.studies.items():
            self.expected[is_positive] = self._classes(study)
        negative, positive = self.expected[False], self.expected[True]
        assert negative.total() == 1 and positive.total() > 5, self.expected

    def _classes(self, study: str) -> collections.Counter[str]:
        return collections.Counter(each.sop_class for each in self.pacs.held_of(study).values())

    def _check(self, trial: Trial) -> None:
        for study, is_positive in trial.studies.items():
            held = self.pacs.held_of(study)
            reports, rest = result_files(self.node, study)
            for uid in rest.keys() - held.keys():
                self.summary.fail("lost", f"{uid} of study {study}")
            for uid, each in held.items():
                if each.data_set != (reports | rest).get(uid):
                    self.summary.fail("altered", f"{uid} of study {study} is not the result file")
            # Another UID with another file would pass what is above.
            found, expected = self._classes(study), self._expected(trial, is_positive)
            if found != expected:
                kind = "duplicated" if found > expected else "lost"
                self.summary.fail(kind, f"study {study} has {dict(found)} instead of {dict(expected)}")
            self.summary.objects += len(held)
        for each in self.pacs.complaints:
            self.summary.fail("altered", each)
        self.summary.studies += len(trial.studies)

    def _expected(self, trial: Trial, is_positive: bool) -> collections.Counter[str]:
        expected = self.expected[is_positive].copy()
        if trial.refusal:
            del expected[EnhancedSRStorage]
            expected[Comprehensive3DSRStorage] = 1
        return expected

    def _end(self) -> None:
        self.node.stop()
        if self.node.exit_status != 0:
            self.summary.fail("stuck", f"the node ended with {self.node.exit_status}")
        files = [path for path in (self.node.folder / "data" / "results").rglob("*") if path.is_file()]
        studies = {path.parent.parent.name for path in files}
        reports = {uid for study in studies for uid in result_files(self.node, study)[0]}
        for path in files:
            # What an analysis saw lies beside its report.
            is_finding = re.fullmatch(r"finding-[0-9a-f]{32}\.json", path.name) is not None
            if not is_finding and path.stem not in self.pacs.held.keys() | reports:
                self.summary.fail("left", f"{path} among the results")
        self.summary.offers += len(self.pacs.arrivals)
        self.summary.commitments += self.pacs.commitments


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats the choices, not the timing")
    arguments = parser.parse_args()
    if reason := why_not() or (None if compiler() else "no C compiler"):
        print(reason, file=sys.stderr)
        return 2
    # A polite kill unwinds like Ctrl-C, so that the node is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"seed {arguments.seed}", flush=True)
    summary = Harness(arguments.seed, say=lambda text: print(text, flush=True)).run(arguments.trials)
    print(summary.text())
    return 0 if summary.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
