"""Whatever dies, and whenever: nothing acknowledged is lost, and the study comes back to the PACS exactly once."""

import os
import shutil
import signal
import time
import unittest
from pathlib import Path

import pydicom
from node_fixture import (
    BLEED_SEED,
    BackgroundSender,
    GRACE_SECONDS,
    NodeTestCase,
    Sender,
    Study,
    echoscu,
    example_head,
    needs_example_head,
    needs_node,
    phantom,
    read_or_empty,
    send_all,
    wait_for,
)

IMAGES_PER_SECOND = 20


@needs_node
class Crashes(NodeTestCase):
    def finish(self, study: Study, sender: BackgroundSender) -> None:
        """The sender sends again what was not acknowledged; then everything is there, and reported once."""
        rest = sender.unacknowledged()
        self.assertTrue(rest, "everything was sent before the crash: the test shows nothing")
        self.assert_in_spool(study, sender.acknowledged)
        # Who was cut off comes again, not at once: half a study is no study.
        time.sleep(GRACE_SECONDS + 1)
        self.assertEqual(self.node.study(study.uid)["study"]["state"], "receiving")
        send_all(self.node, rest)
        self.assert_one_report(study)
        self.assert_in_spool(study, study.files)
        self.assertEqual(len(self.node.stored(study.uid)), len(study.files))
        self.assertEqual(list(self.node.incoming.iterdir()), [])

    def test_daemon_killed_in_mid_study(self):
        study = phantom(self.folder)
        sender = BackgroundSender(self.node, study.files, IMAGES_PER_SECOND)
        sender.wait_for(8)
        self.node.kill()
        sender.unacknowledged()
        self.node.start()
        self.finish(study, sender)

    def test_receive_worker_killed_in_mid_association(self):
        study = phantom(self.folder)
        sender = BackgroundSender(self.node, study.files, IMAGES_PER_SECOND)
        sender.wait_for(8)
        os.kill(self.node.serving_worker(), signal.SIGKILL)
        self.finish(study, sender)

    def test_object_that_a_dead_worker_stored_but_did_not_announce_counts_when_it_comes_again(self):
        study = phantom(self.folder)
        send_all(self.node, study.files[:3])
        # As if a worker had died between renaming the file and saying so.
        stray, *rest = study.files[3:]
        uid = pydicom.dcmread(stray, stop_before_pixels=True).SOPInstanceUID
        shutil.copy(stray, self.node.stored(study.uid)[0].parent / f"{uid}.dcm")
        send_all(self.node, [stray, *rest])
        self.assert_one_report(study)
        self.assertEqual(self.node.study(study.uid)["study"]["instanceCount"], len(study.files))

    def test_idle_receive_workers_killed_cost_no_later_association(self):
        for pid in self.node.children("receive"):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        answer = echoscu(self.node)
        self.assertEqual(answer.returncode, 0, answer.stdout)

    def test_template_of_receive_workers_killed_costs_no_later_association(self):
        for pid in self.node.templates():
            os.kill(pid, signal.SIGKILL)
        # More than are ready.
        for _ in range(6):
            answer = echoscu(self.node)
            self.assertEqual(answer.returncode, 0, answer.stdout)
        self.assertTrue(self.node.templates())

    def test_no_worker_has_the_addresses_of_one_that_crashed(self):
        def executable_at(pid: int) -> str:
            return read_or_empty(Path(f"/proc/{pid}/maps")).split("-", 1)[0]

        def one_of(found: set[str]) -> str | None:
            return min(found) if len(found) == 1 else None

        study = phantom(self.folder)
        sender = BackgroundSender(self.node, study.files, IMAGES_PER_SECOND)
        sender.wait_for(4)
        before = {executable_at(pid) for pid in self.node.children("receive")}
        self.assertEqual(len(before), 1)
        os.kill(self.node.serving_worker(), signal.SIGSEGV)
        self.finish(study, sender)
        # One that is about to end, or has not begun, has addresses of its own.
        after = wait_for(
            lambda: one_of({executable_at(pid) for pid in self.node.children("receive") + self.node.templates()}),
            "all workers are forked from one template",
            10,
        )
        self.assertNotEqual(before, {after})

    @needs_example_head
    def test_infer_child_killed_in_mid_study(self):
        study = example_head(self.folder, "INFER")
        sender = BackgroundSender(self.node, study.files, IMAGES_PER_SECOND)
        for count in (20, 60):
            sender.wait_for(count)
            (child,) = wait_for(lambda: self.node.children("infer"), "an infer child runs", 10)
            os.kill(child, signal.SIGKILL)
        self.assertEqual(sender.unacknowledged(), [])
        self.assertEqual(self.assert_one_report(study).outcome, "Absent")

    def test_decode_worker_killed_in_mid_study(self):
        study = phantom(self.folder)
        sender = BackgroundSender(self.node, study.files, IMAGES_PER_SECOND)
        sender.wait_for(8)
        for child in wait_for(lambda: self.node.children("decode"), "a decode worker runs", 10):
            os.kill(child, signal.SIGKILL)
        self.assertEqual(sender.unacknowledged(), [])
        report = self.assert_one_report(study)
        self.assertIn(report.outcome, ("Absent", "Present"), report.comments)

    def kill_daemon_when(self, study: Study, condition, what: str) -> None:
        send_all(self.node, study.files)
        wait_for(condition, what, 30, self.node.log_tail)
        self.node.kill()

    def test_decode_worker_killed_while_idle_costs_no_image(self):
        first, study = phantom(self.folder / "first"), phantom(self.folder / "second")
        send_all(self.node, first.files)
        self.node.wait_until_delivered(first.uid)
        # The next image is asked for alone, as images that come one by one are.
        for child in self.node.children("decode"):
            os.kill(child, signal.SIGKILL)
        with Sender(self.node, study.files) as sender:
            for path in study.files:
                self.assertTrue(sender.store(path))
                time.sleep(0.05)
        self.assert_one_report(study)
        self.assertEqual(self.node.study(study.uid)["study"]["outcome"], "negative")

    def test_daemon_killed_between_assembling_and_composing(self):
        study = phantom(self.folder)
        self.kill_daemon_when(study, lambda: "study assembled" in self.log_of(study), "the study is assembled")
        self.node.start()
        self.assert_one_report(study)
        self.assert_in_spool(study, study.files)

    @needs_example_head
    def test_daemon_killed_while_it_composes(self):
        study = example_head(self.folder, "COMPOSE", BLEED_SEED)
        results = self.node.folder / "data" / "results"
        self.kill_daemon_when(
            study, lambda: any(results.rglob(f"*{study.uid}*/**/*.dcm*")), "the first result object is written"
        )
        self.node.start()
        report = self.assert_one_report(study)
        self.assertEqual(report.outcome, "Present")
        self.assertEqual(len(self.pacs.captures(study.uid)), len(report.flagged))

    def test_daemon_killed_between_composing_and_delivery(self):
        study = phantom(self.folder)
        self.pacs.stop()
        self.kill_daemon_when(study, lambda: "study concluded" in self.log_of(study), "the study is concluded")
        self.pacs.start()
        self.node.start()
        self.assert_one_report(study)

    def test_daemon_killed_while_the_pacs_does_not_answer(self):
        study = phantom(self.folder)
        os.kill(self.pacs.process.pid, signal.SIGSTOP)
        try:
            self.kill_daemon_when(study, lambda: self.node.children("send"), "a send worker runs")
        finally:
            os.kill(self.pacs.process.pid, signal.SIGCONT)
        self.node.start()
        self.assert_one_report(study)

    def log_of(self, study: Study) -> str:
        return "\n".join(line for line in self.node.log_text().splitlines() if study.uid in line)


@needs_node
class UnreachablePACS(NodeTestCase):
    def test_results_are_tried_again_until_the_pacs_takes_them(self):
        study = phantom(self.folder)
        self.pacs.stop()
        send_all(self.node, study.files)
        wait_for(lambda: self.attempts(study) >= 2, "two attempts failed", 30, self.node.log_tail)
        # The same failure again fills no history.
        self.assertEqual(len(self.events(study, "delivery")), 1)
        self.pacs.start()
        self.assert_one_report(study)

    def attempts(self, study: Study) -> int:
        known = self.node.study(study.uid)
        return sum(delivery["attempts"] for delivery in known["deliveries"]) if known else 0

    def test_results_owed_are_delivered_after_a_restart_of_the_node(self):
        study = phantom(self.folder)
        self.pacs.stop()
        send_all(self.node, study.files)
        wait_for(lambda: self.node.study(study.uid), "the study is known", 10)
        wait_for(lambda: self.events(study, "delivery"), "an attempt failed", 30, self.node.log_tail)
        self.node.stop()
        self.assertEqual(self.node.exit_status, 0)
        self.node.start()
        self.assertEqual(self.node.study(study.uid)["study"]["pendingDeliveries"], 1)
        self.pacs.start()
        self.assert_one_report(study)


@needs_node
class Stopping(NodeTestCase):
    def test_sigterm_ends_a_running_association_and_leaves_nothing_half_written(self):
        study = phantom(self.folder)
        sender = Sender(self.node, study.files)
        acknowledged = sender.store_all(study.files[:5])
        started = time.monotonic()
        self.node.stop()
        self.assertEqual(self.node.exit_status, 0, self.node.log_tail())
        self.assertLess(time.monotonic() - started, 12)
        wait_for(lambda: not sender.association.is_established, "the peer sees the association's end", 5)
        self.assertEqual(list(self.node.incoming.iterdir()), [])
        self.node.start()
        self.assert_in_spool(study, acknowledged)
        send_all(self.node, study.files[5:])
        self.assert_one_report(study)

    def test_sigterm_in_the_middle_of_sending_loses_nothing_acknowledged(self):
        study = phantom(self.folder)
        sender = BackgroundSender(self.node, study.files, IMAGES_PER_SECOND)
        sender.wait_for(6)
        self.node.stop()
        self.assertEqual(self.node.exit_status, 0, self.node.log_tail())
        rest = sender.unacknowledged()
        self.assertEqual(list(self.node.incoming.iterdir()), [])
        self.assert_in_spool(study, sender.acknowledged)
        self.node.start()
        send_all(self.node, rest)
        self.assert_one_report(study)


if __name__ == "__main__":
    unittest.main()
