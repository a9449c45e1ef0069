"""Whatever the PACS does: in the end it holds every result that it did not refuse for good, once, byte for byte, and
the node says of the others why they were refused. With ICHNODE_DELIVERIES=all (make delivery-test) every status comes
everywhere, and a PACS is waited for that says nothing."""

from __future__ import annotations

import itertools
import json
import os
import struct
import tempfile
import time
import unittest
from collections import Counter
from pathlib import Path
from typing import Callable

from crash_harness import rows
from delivery_harness import REPORT_CLASSES, Harness, is_report, result_files
from faults import compiler
from node_fixture import LOOPBACK, RestartableNode, needs_node, wait_for
from plain_pacs import Arrival, Association, Pacs, Step, at
from plain_sender import PlainSender
from pydicom.uid import CTImageStorage
from raw_dicom import ASSOCIATE_AC, C_ECHO_RQ, C_STORE_RQ, P_DATA, even, pdu, release_pdu
from scenario_site import Clock, Patient, encoded

# The node's default; jitter makes it a fifth longer.
MOST_RETRY_SECONDS = 600
ALL = os.environ.get("ICHNODE_DELIVERIES") == "all"
needs_time = unittest.skipUnless(ALL, "takes minutes: make delivery-test")

# PS3.4 Table B.2-1 and PS3.7 Annex C, and codes that no standard knows.
TAKEN = (0x0000, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007)
TRIED_AGAIN = (
    0x0110, 0x0112, 0x0117, 0x0210, 0x0211, 0x0212, 0xA700, 0xA7FF, 0x1234, 0xFE00, 0xFF00,
)  # fmt: skip
REFUSED = (0x0122, 0x0124, 0xA900, 0xA9FF, 0xC000, 0xCFFF)


class DeliverySite:
    """A node whose clock is set, with the default pauses between attempts, and a PACS."""

    def __init__(self, **further: int):
        """`further`: ports of other destinations."""
        self._temporary = tempfile.TemporaryDirectory(prefix="ichnode-deliveries-")
        self.folder = Path(self._temporary.name)
        self.clock = Clock(self.folder)
        self.pacs = Pacs().start()
        ports = {"pacs": self.pacs.port, **further}
        routes = [
            {"name": each, "calling_ae_titles": [each.upper()], "destinations": list(ports), "sr_class": each}
            for each in REPORT_CLASSES
        ]
        self.node = RestartableNode(
            self.folder / "node",
            self.pacs.port,
            delivery={"first_retry_seconds": 5, "most_retry_seconds": MOST_RETRY_SECONDS},
            peers=[{"name": name, "ae_title": "PACS", "host": LOOPBACK, "port": ports[name]} for name in ports],
            routes=routes,
        )
        preload = [f"LD_PRELOAD={self.clock.library}", f"ICHNODE_CLOCK={self.clock.path}"]
        self.node.command_line = ["/usr/bin/env", *preload, *self.node.command_line]
        self.node.start()

    def stop(self) -> None:
        self.node.stop()
        self.pacs.stop()
        self._temporary.cleanup()


_shared: DeliverySite | None = None


def shared_site() -> DeliverySite:
    global _shared
    if _shared is None:
        _shared = DeliverySite()
        unittest.addModuleCleanup(_shared.stop)
    return _shared


class DeliveryTestCase(unittest.TestCase):
    def setUp(self):
        self.site = shared_site()
        self.node, self.pacs, self.clock = self.site.node, self.site.pacs, self.site.clock
        self.addCleanup(self._recover)

    def _recover(self) -> None:
        """For the next test."""
        self.pacs.behave()
        if not self.pacs.is_up:
            self.pacs.start()
        if self.node.process.poll() is not None:
            self.node.start()
        self.pacs.complaints.clear()

    # What happens

    def send(self, *, positive: bool = False, sr_class: str = "enhanced") -> str:
        """A study. Returns its UID."""
        patient = Patient()
        images = patient.head(bleed="left" if positive else "none")
        with PlainSender(self.node.dicom_port, [CTImageStorage], calling=sr_class.upper()) as sender:
            for image in images:
                self.assertEqual(sender.store(encoded(image)), 0)

        def is_concluded():
            known = self.node.study(patient.study_uid)
            return known and known["study"]["state"] == "concluded"

        # The clock goes on by leaps: one before all images are known would make two revisions of them.
        wait_for(is_concluded, "the study is concluded", 30, self.node.log_tail)
        return patient.study_uid

    def try_again(self) -> None:
        """Whatever waits is due now: the pause of the destination, and that of the delivery, are over."""
        self.clock.advance(2 * (MOST_RETRY_SECONDS * 1.2 + 1))

    # What the node says

    def delivery(self, study: str, to: str = "pacs") -> dict | None:
        """From the ledger's file, which costs less than a command."""
        columns = "'id', id, 'state', state, 'attempts', attempts, 'lastError', last_error, 'objects', json(objects)"
        query = f"SELECT json_object({columns}) FROM delivery WHERE study_uid = ? AND destination = ?"
        found = rows(self.node.folder / "data" / "ledger.sqlite", query, study, to)
        return json.loads(found[0]) if found else None

    def wait_for_delivery(
        self, study: str, condition: Callable[[dict], object], what: str, seconds: float = 20, to: str = "pacs"
    ) -> dict:
        def found():
            delivery = self.delivery(study, to)
            return delivery if delivery and condition(delivery) else None

        def detail():
            delivery = json.dumps(self.delivery(study, to), indent=1)
            return f"{delivery}\n{self.pacs.complaints}\n{self.node.log_tail(20)}"

        return wait_for(found, what, seconds, detail)

    def wait_until_attempted(self, study: str, attempts: int) -> dict:
        return self.wait_for_delivery(study, lambda it: it["attempts"] >= attempts, f"{attempts} attempts")

    def wait_until(self, study: str, state: str) -> dict:
        return self.wait_for_delivery(study, lambda it: it["state"] == state, f"the delivery is {state}")

    def delivered(self, study: str) -> dict:
        """When it is, after one more attempt."""
        self.try_again()
        return self.wait_until(study, "delivered")

    def dead(self, study: str) -> dict[str, dict]:
        """Objects refused for good, by UID, as `ichnode outbox list` shows them."""
        listed = json.loads(self.node.command("outbox", "list", "--json", "--limit", "1000"))
        (delivery,) = (each for each in listed if each["studyInstanceUID"] == study)
        self.assertEqual(delivery["state"], "dead")
        self.reasons = delivery["lastError"]
        return {each["object"]["sopInstanceUID"]: each for each in delivery["objects"] if each["state"] == "dead"}

    # What the PACS holds

    def assert_held(self, study: str, refused: set[str] = frozenset(), report: str | None = "enhanced") -> None:
        """One report of this class and all but what was refused of the rest, with the bytes of the result files."""
        held, (reports, rest) = self.pacs.held_of(study), result_files(self.node, study)
        of_reports = {uid: each for uid, each in held.items() if is_report(each)}
        self.assertEqual(set(held) - set(of_reports), set(rest) - refused)
        classes = [REPORT_CLASSES[report]] if report else []
        found = [each.sop_class for each in of_reports.values()]
        self.assertEqual(found, classes, self.node.command("study", "show", study))
        differing = [uid for uid, each in held.items() if each.data_set != (reports | rest).get(uid)]
        self.assertEqual(differing, [], "other bytes than in the result file")
        self.assertEqual(self.pacs.complaints, [])

    def assert_report_first(self, study: str) -> None:
        """Nothing else is offered until it is taken, or refused in all its classes."""
        arrived = self.pacs.arrived(study)
        reports = [index for index, each in enumerate(arrived) if is_report(each)]
        self.assertEqual(reports, list(range(len(reports))), [hex(each.status) for each in arrived])


@needs_node
class Outage(DeliveryTestCase):
    def test_a_day_without_the_pacs(self):
        self.pacs.stop()
        negative, *positives = self.send(), self.send(positive=True), self.send(positive=True)
        studies = [negative, *positives]
        for each in studies:
            self.wait_for_delivery(each, lambda it: True, "results are owed")
        for hour in range(24):
            before = self.attempts(studies)
            self.clock.advance(3600)
            wait_for(lambda: self.attempts(studies) > before, f"tried again in hour {hour}", 20, self.node.log_tail)
            if hour == 12:
                self.node.kill()
                self.node.start()
        self.pacs.start()
        numbers = {each: self.delivered(each)["id"] for each in studies}
        for each in studies:
            self.assert_held(each)
            self.assert_report_first(each)
            # Each object once: what could not be connected was not sent.
            self.assertEqual(len(self.pacs.arrived(each)), len(self.pacs.held_of(each)))
        # Positives first, among them the older.
        order = [study for arrival in self.pacs.arrivals for study in studies if study.encode() in arrival.data_set]
        positives.sort(key=lambda study: numbers[study])
        self.assertEqual(list(dict.fromkeys(order)), [*positives, negative])

    def attempts(self, studies: list[str]) -> int:
        return sum(self.delivery(each)["attempts"] for each in studies)


class MisconductTestCase(DeliveryTestCase):
    """One study whose every attempt the PACS ends in another way."""

    def play(self, *acts: tuple[Step, int, Callable[[Association], None], str]) -> None:
        """Each is a step, at which object of the association it comes, what the PACS does, and what the node says."""
        step, nth, act, expected = acts[0]
        self.pacs.conduct = at(step, nth, act)
        study = self.send(positive=True)
        for number, (step, nth, act, expected) in enumerate(acts, 1):
            if number > 1:
                self.pacs.conduct = at(step, nth, act)
                self.try_again()
            delivery = self.wait_until_attempted(study, number)
            what = f"{number}: {step.name} of object {nth}"
            self.assertEqual(delivery["state"], "pending", what)
            self.assertRegex(delivery["lastError"], expected, what)
            taken = {each["object"]["sopInstanceUID"] for each in delivery["objects"] if each["state"] != "pending"}
            self.assertLessEqual(taken, set(self.pacs.held), f"{what}: said to be taken")
        self.pacs.behave()
        self.delivered(study)
        self.assert_held(study)


@needs_node
class Misconduct(MisconductTestCase):
    def test_rejections(self):
        nobody = "rejected the association without a reason"
        reasons = {
            (1, 1, 1): nobody,
            (1, 1, 2): "rejected the application context name",
            (1, 1, 3): 'rejected calling AE title "ICHNODE"',
            (1, 1, 7): 'rejected called AE title "PACS"',
            (1, 2, 1): nobody,
            (1, 2, 2): "rejected the protocol version",
            (2, 1, 1): nobody,
            (2, 2, 1): nobody,
            (2, 3, 0): "peer rejected",
            (2, 3, 1): "temporary congestion",
            (2, 3, 2): "limit of associations",
            (1, 3, 1): "temporary congestion",
            (7, 9, 200): ".",
        }
        self.play(
            *(
                (Step.REQUESTED, 1, lambda association, each=each: association.reject(*each), text)
                for each, text in reasons.items()
            )
        )

    def test_ends_of_associations(self):
        ends = {
            "aborted the association": lambda association: association.abort(),
            "closed the connection|aborted": lambda association: association.drop(),
            "reset|closed the connection|aborted": lambda association: association.reset(),
        }
        names = ("CONNECTED", "REQUESTED", "COMMANDED", "BEGUN", "READ", "STORED", "RESPONDED")
        acts = [(Step[name], 1, end, text) for name in names for text, end in ends.items()][:: 1 if ALL else 2]
        # Every answer that came counts: of nine objects, at most seven are taken by the way.
        acts += [(step, 2, end, text) for step in (Step.BEGUN, Step.STORED) for text, end in list(ends.items())[::2]]
        self.play(*acts)

    def test_provider_aborts(self):
        self.play(
            *(
                (Step.READ, 1, lambda association, reason=reason: association.abort(2, reason), "aborted")
                for reason in (range(7) if ALL else (0, 6))
            )
        )

    def test_answers_that_are_none(self):
        def answers(content: bytes):
            return lambda association: association.answer(content)

        def responds(request: int, message: int):
            def act(association: Association) -> None:
                sop = (each.encode() for each in (association.arrival.sop_class, association.arrival.sop_uid))
                elements = dict(zip((0x0002, 0x1000), map(even, sop)))
                elements |= {0x0100: struct.pack("<H", request), 0x0110: struct.pack("<H", message)}
                association.answer(association.response(min(association.contexts), elements, 0x0000))

            return act

        self.play(
            (Step.CONNECTED, 1, answers(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "."),
            (Step.REQUESTED, 1, answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "."),
            (Step.REQUESTED, 1, answers(pdu(ASSOCIATE_AC, b"\xff" * 80)), "."),
            (Step.REQUESTED, 1, answers(struct.pack(">BBI", ASSOCIATE_AC, 0, 0xFFFFFFFF)), "."),
            (Step.REQUESTED, 1, answers(release_pdu()), "."),
            (Step.READ, 1, answers(release_pdu()), "."),
            (Step.READ, 1, answers(pdu(P_DATA, b"\xff" * 12)), "."),
            (Step.READ, 1, answers(pdu(P_DATA, b"")), "."),
            (Step.READ, 1, answers(b"\0" * 600), "."),
            # Success, of something else.
            (Step.READ, 1, responds(C_ECHO_RQ, 1), "."),
            (Step.READ, 1, responds(C_STORE_RQ, 999), "."),
        )

    def test_a_report_that_it_cannot_bear_holds_back_no_other_study(self):
        cursed: list[str] = []

        def conduct(now: Step, association: Association) -> None:
            if now == Step.READ and any(study.encode() in association.arrival.data_set for study in cursed):
                association.abort()

        self.pacs.conduct = conduct
        cursed.append(self.send(positive=True))
        self.wait_until_attempted(cursed[0], 1)
        other = self.send()

        def is_there():
            # In small steps: a moment comes at which the destination's pause is over, and the study's is not.
            self.clock.advance(20)
            time.sleep(0.2)
            return (self.delivery(other) or {}).get("state") == "delivered"

        wait_for(is_there, "the other study is delivered", 30, self.node.log_tail)
        self.assert_held(other)
        study = cursed.pop()
        self.assertEqual(self.delivery(study)["state"], "pending")
        self.delivered(study)
        self.assert_held(study)

    def test_a_picture_that_it_cannot_bear_holds_back_no_other(self):
        cursed: list[str] = []

        def conduct(now: Step, association: Association) -> None:
            if now != Step.READ or is_report(association.arrival):
                return
            if not cursed:
                cursed.append(association.arrival.sop_uid)
            if association.arrival.sop_uid in cursed:
                association.abort()

        self.pacs.conduct = conduct
        study = self.send(positive=True)

        def all_but_one():
            self.try_again()
            time.sleep(0.3)
            rest = result_files(self.node, study)[1].keys() - set(cursed)
            return len(rest) > 5 and rest <= self.pacs.held.keys()

        wait_for(all_but_one, "all others are there", 30, self.node.log_tail)
        self.assertNotIn(cursed[0], self.pacs.held)
        self.pacs.behave()
        self.delivered(study)
        self.assert_held(study)

    def test_restarts_in_the_middle(self):
        def restart(association: Association) -> None:
            self.pacs.stop()
            self.pacs.start()
            association.drop()

        self.play(
            (Step.BEGUN, 2, restart, "closed the connection"),
            (Step.STORED, 3, restart, "closed the connection"),
        )


@needs_node
class Statuses(DeliveryTestCase):
    def test_of_captures(self):
        statuses = [*TAKEN, *TRIED_AGAIN, *REFUSED]
        asked: dict[str, int] = {}
        left = list(statuses)

        def judge(arrival: Arrival) -> int:
            if is_report(arrival):
                return 0
            if arrival.sop_uid in asked:
                return asked[arrival.sop_uid] if asked[arrival.sop_uid] in REFUSED else 0
            asked[arrival.sop_uid] = left.pop(0) if left else 0
            return asked[arrival.sop_uid]

        self.pacs.judge = judge
        studies = [self.send(positive=True) for _ in range(3)]
        for each in studies:
            self.wait_until_attempted(each, 1)
        self.assertEqual(left, [])
        found: Counter[int] = Counter()
        for study in studies:
            # One object holds back no other: all are offered over the first association.
            arrived = self.pacs.arrived(study)
            at_once = {each.sop_uid for each in arrived if each.association == arrived[0].association}
            self.assertLessEqual(result_files(self.node, study)[1].keys(), at_once)
        self.try_again()
        for study in studies:
            mine = {uid: status for uid, status in asked.items() if uid in result_files(self.node, study)[1]}
            refused = {uid for uid, status in mine.items() if status in REFUSED}
            self.wait_until(study, "dead" if refused else "delivered")
            offered = Counter(each.sop_uid for each in self.pacs.arrived(study))
            for uid, count in offered.items():
                with self.subTest(status=f"{mine.get(uid, 0):04X}"):
                    self.assertEqual(count, 2 if mine.get(uid) in TRIED_AGAIN else 1)
            if refused:
                dead = self.dead(study)
                found_dead = {uid: each["status"] for uid, each in dead.items()}
                self.assertEqual(found_dead, {uid: mine[uid] for uid in refused})
                for uid in refused:
                    self.assertIn(f"0x{mine[uid]:X}", self.reasons)
            self.assert_held(study, refused)
            found.update(mine.values())
        self.assertEqual(set(found), set(statuses))

    def test_of_reports(self):
        """What is taken or refused for good is so at once; all else waits for what is tried again."""
        some = (0x0111, 0x0116, 0xB007), (0x0110, 0xA700, 0x1234)
        for status in (each for group in ((TAKEN, TRIED_AGAIN) if ALL else some) for each in group):
            with self.subTest(status=f"{status:04X}"):
                left = [status]
                self.pacs.judge = lambda arrival: left.pop() if left and is_report(arrival) else 0
                study = self.send(positive=True)
                self.wait_until_attempted(study, 1)
                if status in TRIED_AGAIN:
                    self.assertEqual([each.status for each in self.pacs.arrived(study)], [status])
                self.delivered(study)
                self.assert_held(study)
                self.assert_report_first(study)
                reports = [each.sop_uid for each in self.pacs.arrived(study) if is_report(each)]
                self.assertEqual(len(reports), 2 if status in TRIED_AGAIN else 1)
                self.assertEqual(len(set(reports)), 1)


def order_of(sr_class: str) -> list[str]:
    """In which a report is offered."""
    return [sr_class, *(each for each in REPORT_CLASSES if each != sr_class)]


@needs_node
class ReportClasses(DeliveryTestCase):
    def refuse(self, refused: list[str], status: int | None) -> None:
        """By a status, or no presentation context."""
        classes = {REPORT_CLASSES[each] for each in refused}
        self.pacs.behave()
        if status is None:
            self.pacs.refused_classes = classes
        else:
            self.pacs.judge = lambda arrival: status if arrival.sop_class in classes else 0

    def offered(self, study: str) -> list[str]:
        """Classes of the reports that arrived."""
        names = {uid: name for name, uid in REPORT_CLASSES.items()}
        return [names[each.sop_class] for each in self.pacs.arrived(study) if is_report(each)]

    def test_the_next_is_offered_where_one_is_refused(self):
        every = list(itertools.product(REPORT_CLASSES, (1, 2), (None, *REFUSED)))
        some = [
            ("enhanced", 1, None), ("enhanced", 2, 0x0122), ("enhanced", 1, 0x0124), ("enhanced", 1, 0xA900),
            ("comprehensive", 2, 0xC000), ("comprehensive3d", 1, None),
        ]  # fmt: skip
        for sr_class, count, status in every if ALL else some:
            with self.subTest(sr_class=sr_class, refused=count, status=status and f"{status:04X}"):
                order = order_of(sr_class)
                self.refuse(order[:count], status)
                study = self.send(positive=True, sr_class=sr_class)
                # No pause lies between.
                self.wait_until(study, "delivered")
                self.assert_held(study, report=order[count])
                self.assert_report_first(study)
                self.assertEqual(self.offered(study), order[count if status is None else 0 : count + 1])

    def test_refused_in_all_classes_it_is_dead_and_the_pictures_are_there(self):
        for status in (None, 0x0122) if not ALL else (None, *REFUSED):
            with self.subTest(status=status and f"{status:04X}"):
                self.refuse(list(REPORT_CLASSES), status)
                study = self.send(positive=True)
                self.wait_until(study, "dead")
                self.assert_held(study, report=None)
                self.assert_report_first(study)
                (dead,) = self.dead(study).values()
                self.assertIn(dead["object"]["sopClassUID"], REPORT_CLASSES.values())
                self.assertIn("no presentation context" if status is None else f"0x{status:X}", self.reasons)
                self.assertEqual(self.offered(study), [] if status is None else order_of("enhanced"))

    def test_refused_in_all_classes_an_operator_has_it_tried_again(self):
        self.refuse(list(REPORT_CLASSES), 0x0122)
        study = self.send(positive=True)
        number = self.wait_until(study, "dead")["id"]
        self.pacs.behave()
        self.node.command("outbox", "retry", str(number))
        self.wait_until(study, "delivered")
        (report,) = (each for each in self.pacs.held_of(study).values() if is_report(each))
        (name,) = (name for name, uid in REPORT_CLASSES.items() if uid == report.sop_class)
        self.assert_held(study, report=name)

    def test_the_next_class_that_is_out_of_resources_is_tried_again_itself(self):
        left = [0x0122, 0xA700, 0xA700]
        self.pacs.judge = lambda arrival: left.pop(0) if left and is_report(arrival) else 0
        study = self.send(positive=True)
        while left:
            self.try_again()
            time.sleep(0.3)
        self.delivered(study)
        self.assert_held(study, report="comprehensive3d")
        self.assert_report_first(study)
        self.assertEqual(self.offered(study), ["enhanced"] + ["comprehensive3d"] * 3)

    def test_killed_between_one_class_and_the_next(self):
        for step in (Step.RESPONDED, Step.COMMANDED, Step.STORED):
            with self.subTest(step.name):
                self.refuse(["enhanced"], 0xA900)

                def conduct(now: Step, association: Association) -> None:
                    sop_class = "enhanced" if step == Step.RESPONDED else "comprehensive3d"
                    if now == step and association.arrival.sop_class == REPORT_CLASSES[sop_class]:
                        self.pacs.conduct = lambda step, association: None
                        self.node.kill()

                self.pacs.conduct = conduct
                study = self.send(positive=True)
                wait_for(lambda: self.node.process.poll() is not None, "the node is killed", 20, self.node.log_tail)
                self.node.start()
                self.delivered(study)
                self.assert_held(study, report="comprehensive3d")
                self.assert_report_first(study)


@needs_node
@needs_time
class Silence(DeliveryTestCase):
    def setUp(self):
        # The second object is larger than what a connection holds unread.
        self.silent: dict[str, Pacs] = {}
        nths = {Step.CONNECTED: 1, Step.COMMANDED: 1, Step.BEGUN: 2, Step.STORED: 3, Step.RELEASING: 1}
        for step, nth in nths.items():
            peer = self.silent[f"silent_{step.name.lower()}"] = Pacs().start()
            self.addCleanup(peer.stop)
            peer.conduct = at(step, nth, lambda association: association.hang())
        self.site = DeliverySite(**{name: peer.port for name, peer in self.silent.items()})
        self.addCleanup(self.site.stop)
        self.node, self.pacs, self.clock = self.site.node, self.site.pacs, self.site.clock

    def test_of_one_pacs_delays_no_other_and_ends(self):
        study = self.send(positive=True)
        self.wait_until(study, "delivered")
        # All objects of this one are answered.
        self.wait_for_delivery(study, lambda it: it["state"] == "delivered", "delivered", 20, "silent_releasing")
        for name in self.silent.keys() - {"silent_releasing"}:
            failed = self.wait_for_delivery(study, lambda it: it["attempts"] == 1, f"{name} is given up", 100, name)
            self.assertIn("no answer from the peer in time", failed["lastError"], name)
        self.try_again()
        for name, peer in self.silent.items():
            self.wait_for_delivery(study, lambda it: it["state"] == "delivered", f"{name} has it", 30, name)
            self.pacs = peer
            self.assert_held(study)


@needs_node
@unittest.skipUnless(compiler(), "no C compiler")
class Kills(unittest.TestCase):
    def test_some_trials_of_the_delivery_harness(self):
        """Of `make delivery-test`, without and with storage commitment."""
        summary = Harness(seed=5, say=lambda text: print(text, flush=True), trials_per_site=2).run(4)
        self.assertTrue(summary.is_clean, summary.text())
        self.assertEqual((summary.trials, summary.with_commitment), (4, 2))


if __name__ == "__main__":
    unittest.main()
