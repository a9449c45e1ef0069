"""Every file operation of a reception fails once, and fails from then on, with every error that a disk gives: success
is said only of what is durable and known, of what is refused nothing remains, and the next object is taken.

With ICHNODE_FAULTS=all (make fault-test) each operation meets each error; otherwise one of them in turn."""

import errno
import itertools
import os
import time
import unittest
from pathlib import Path
from random import Random

from crash_harness import Check, Harness, Holdings, Summary, rows
from faults import LEDGER_OPERATIONS, FaultyNode, Mode, Operation, WORKER_OPERATIONS, compiler, temporary_folder
from node_fixture import data_set_bytes, needs_node, wait_for
from plain_sender import Instance, PlainSender, new_uid, small_image

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
EVERY_ERROR = os.environ.get("ICHNODE_FAULTS") == "all"
SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
# Trials of the crash harness in an ordinary run.
CRASH_TRIALS = 6

needs_compiler = unittest.skipUnless(compiler(), "no C compiler: install gcc")


class FaultTestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = temporary_folder()
        cls.addClassCleanup(folder.cleanup)
        cls.node = FaultyNode(
            Path(folder.name) / "node", completion={"grace_seconds": 600, "quiet_seconds": 600}
        )
        cls.addClassCleanup(cls.node.stop)
        cls.node.start()
        cls.images = small_image()
        cls.random = Random(5)

    def setUp(self):
        self.addCleanup(self.node.workers.disarm)
        self.addCleanup(self.node.daemon.disarm)
        # A test before this one may have left it stopped.
        if self.node.process.poll() is not None:
            self.node.start()

    def image(self, study: str | None = None) -> Instance:
        study = study or new_uid(self.random)
        return self.images.instance(study, new_uid(self.random), new_uid(self.random))

    def other_bytes(self, of: Instance) -> Instance:
        mark = self.random.randbytes(8)
        return self.images.instance(of.study_uid, of.series_uid, of.sop_uid, mark)

    def associate(self) -> PlainSender:
        return PlainSender(self.node.dicom_port, [self.images.sop_class_uid])

    def store(self, instance: Instance) -> None:
        with self.associate() as sender:
            self.assertEqual(sender.store(instance), SUCCESS)

    def stored(self, instance: Instance) -> list[bytes]:
        """Data sets in the spool under an instance's UID, first version first."""
        folder = self.node.folder / "data" / "spool" / "studies" / instance.study_uid
        return [data_set_bytes(path) for path in sorted(folder.glob(f"{instance.sop_uid}.*"), key=str)]

    def known(self, instance: Instance) -> list[int]:
        """Versions that the ledger knows."""
        return rows(
            self.node.ledger, "SELECT version FROM instance WHERE sop_uid = ? ORDER BY version", instance.sop_uid
        )

    def assert_kept(self, instance: Instance, *others: Instance) -> None:
        """These bytes and no others are in the spool, and in the ledger."""
        expected = [each.data_set for each in (instance, *others)]
        self.assertEqual(self.stored(instance), expected)
        wait_for(
            lambda: self.known(instance) == list(range(1, len(expected) + 1)),
            f"the ledger knows {len(expected)} versions",
            10,
            self.node.log_tail,
        )


class Case:
    """What fails, and how."""

    def __init__(self, nth: int, operation: Operation, mode: Mode, error: int, sticky: bool):
        self.nth, self.operation, self.mode, self.error, self.sticky = nth, operation, mode, error, sticky

    @property
    def text(self) -> str:
        how = " from then on" if self.sticky else " after a short write" if self.mode == Mode.SHORTEN else ""
        return f"operation {self.nth} ({self.operation.name}): {errno.errorcode[self.error]}{how}"


def cases(seen: list[Operation]) -> list[Case]:
    turn = itertools.cycle(ERRORS)
    found = []
    for nth, operation in enumerate(seen, 1):
        for error in ERRORS if EVERY_ERROR else [next(turn)]:
            for sticky in (False, True) if EVERY_ERROR else [nth % 2 == 0]:
                found.append(Case(nth, operation, Mode.FAIL, error, sticky))
            if operation == Operation.WRITE:
                found.append(Case(nth, operation, Mode.SHORTEN, error, False))
    return found


@needs_node
@needs_compiler
class ReceptionFaults(FaultTestCase):
    OPERATIONS = (*WORKER_OPERATIONS, Operation.UNLINK)

    def seen_in(self, prepare) -> list[Operation]:
        """The operations of a reception in which nothing fails."""
        instance = prepare()
        with self.associate() as sender:
            self.node.workers.arm(Mode.COUNT, self.OPERATIONS)
            self.assertEqual(sender.store(instance), SUCCESS)
            self.node.workers.disarm()
        return self.node.workers.seen

    def status_with(self, case: Case, sender: PlainSender, instance: Instance) -> int | None:
        """Status of the response; None where the association ended."""
        self.node.workers.arm(case.mode, self.OPERATIONS, case.nth, case.error, sticky=case.sticky)
        try:
            return sender.store(instance)
        except OSError:
            return None
        finally:
            self.node.workers.disarm()
            self.assertGreater(self.node.workers.hits, 0, "nothing failed: the test shows nothing")

    def assert_next_is_taken(self, sender: PlainSender, status: int | None, study: str) -> None:
        following = self.image(study)
        if status is None:
            self.store(following)
        else:
            self.assertEqual(sender.store(following), SUCCESS)
        # The daemon records in order of arrival: what it would know of an object before this one, it knows now.
        self.assert_kept(following)

    def assert_nothing_incoming(self, case: Case, status: int | None) -> None:
        """At once, where the worker goes on and could remove it; else when the daemon has seen the worker's end."""
        if status is None:
            self.node.wait_until_quiet()
        elif not case.sticky and case.operation != Operation.UNLINK:
            self.assertEqual(list(self.node.incoming.iterdir()), [])

    def assert_remains(self, instance: Instance, data_sets: list[bytes]) -> None:
        """Nothing of what was refused; whole where its name was given already and could not be made durable: a worker
        may add to a study, not remove. Then the ledger knows it, and it is judged as any other when it is sent again."""
        self.assertEqual(self.stored(instance), data_sets, "not what should remain of what was refused")

    def assert_known(self, instance: Instance, versions: list[int]) -> None:
        """To the ledger, which is written a little later than the spool."""
        wait_for(
            lambda: self.known(instance) == versions,
            f"the ledger knows versions {versions}",
            5,
            lambda: str(self.known(instance)),
        )

    def test_new_object(self):
        seen = self.seen_in(self.image)
        self.assertEqual(
            [each for each in seen if each != Operation.WRITE],
            [
                Operation.SPACE,
                Operation.CREATE,
                Operation.SYNC,
                Operation.MKDIR,
                Operation.OPEN_FOLDER,
                Operation.SYNC_FOLDER,
                Operation.RENAME,
                Operation.OPEN_FOLDER,
                Operation.SYNC_FOLDER,
            ],
        )
        placed = seen.index(Operation.RENAME) + 1
        for case in cases(seen):
            with self.subTest(case.text):
                instance = self.image()
                with self.associate() as sender:
                    status = self.status_with(case, sender, instance)
                    self.assertIn(status, (OUT_OF_RESOURCES, None))
                    self.assert_nothing_incoming(case, status)
                    self.assert_remains(instance, [instance.data_set] if case.nth > placed else [])
                    self.assert_next_is_taken(sender, status, instance.study_uid)
                    self.assert_known(instance, [1] if case.nth > placed else [])
                self.node.wait_until_quiet()
                self.store(instance)
                self.assert_kept(instance)

    def test_the_same_object_again(self):
        def prepare():
            instance = self.image()
            self.store(instance)
            return instance

        seen = self.seen_in(prepare)
        self.assertIn(Operation.UNLINK, seen)
        for case in cases(seen):
            with self.subTest(case.text):
                instance = prepare()
                with self.associate() as sender:
                    status = self.status_with(case, sender, instance)
                    # What cannot be removed now is removed at the association's end.
                    if case.operation != Operation.UNLINK or case.sticky:
                        self.assertIn(status, (OUT_OF_RESOURCES, None))
                    self.assert_nothing_incoming(case, status)
                    self.assert_next_is_taken(sender, status, instance.study_uid)
                self.node.wait_until_quiet()
                self.assert_kept(instance)
                self.store(instance)
                self.assert_kept(instance)

    def test_other_bytes_under_a_known_uid(self):
        def prepare():
            nonlocal first
            first = self.image()
            self.store(first)
            return self.other_bytes(first)

        first: Instance | None = None
        seen = self.seen_in(prepare)
        self.assertEqual(seen.count(Operation.RENAME), 2)
        placed = len(seen) - seen[::-1].index(Operation.RENAME)
        for case in cases(seen):
            with self.subTest(case.text):
                instance = prepare()
                with self.associate() as sender:
                    status = self.status_with(case, sender, instance)
                    self.assertIn(status, (OUT_OF_RESOURCES, None))
                    self.assert_nothing_incoming(case, status)
                    whole = [first.data_set, instance.data_set]
                    self.assert_remains(instance, whole if case.nth > placed else whole[:1])
                    self.assert_next_is_taken(sender, status, instance.study_uid)
                    self.assert_known(instance, [1, 2] if case.nth > placed else [1])
                self.node.wait_until_quiet()
                self.store(instance)
                self.assert_kept(first, instance)

    def test_failed_fsync_of_a_file_is_final_for_the_object(self):
        """A second fsync would say success of pages that the kernel has dropped."""
        instance = self.image()
        with self.associate() as sender:
            self.node.workers.arm(Mode.FAIL, (Operation.SYNC,), 1, errno.EIO)
            self.assertEqual(sender.store(instance), OUT_OF_RESOURCES)
            self.assertEqual(self.node.workers.seen, [Operation.SYNC], "the same file was fsynced again")
            self.assertEqual(self.stored(instance), [])
            # Sent again it is written again.
            self.node.workers.arm(Mode.COUNT, (Operation.CREATE, Operation.SYNC))
            self.assertEqual(sender.store(instance), SUCCESS)
            self.assertEqual(self.node.workers.seen, [Operation.CREATE, Operation.SYNC])
        self.assert_kept(instance)


@needs_node
@needs_compiler
class DaemonFaults(FaultTestCase):
    def test_stored_object_that_cannot_be_read_for_comparison(self):
        operations = (Operation.OPEN_STORED, Operation.READ_STORED)
        instance = self.image()
        self.store(instance)
        with self.associate() as sender:
            self.node.daemon.arm(Mode.COUNT, operations)
            self.assertEqual(sender.store(instance), SUCCESS)
            self.node.daemon.disarm()
            seen = self.node.daemon.seen
            self.assertGreaterEqual(len(seen), 4)
            statuses = set()
            for case in cases(seen):
                with self.subTest(case.text):
                    for each in (instance, self.other_bytes(instance)):
                        self.node.daemon.arm(case.mode, operations, case.nth, case.error, sticky=case.sticky)
                        status = sender.store(each)
                        self.node.daemon.disarm()
                        # What is stored and cannot be read keeps no intact copy out: it becomes the next version, until
                        # there are too many. What was received and cannot be read back is refused.
                        self.assertIn(status, (SUCCESS, OUT_OF_RESOURCES))
                        if status == SUCCESS:
                            self.assertIn(each.data_set, self.stored(instance))
                        if self.node.daemon.hits:
                            statuses.add(status)
                        self.assertEqual(list(self.node.incoming.iterdir()), [])
                    self.assertEqual(sender.store(instance), SUCCESS)
        self.assertEqual(statuses, {SUCCESS, OUT_OF_RESOURCES})
        self.assertEqual(self.stored(instance)[0], instance.data_set)

    def ledger_operations(self) -> list[Operation]:
        self.node.daemon.arm(Mode.COUNT, LEDGER_OPERATIONS)
        instance = self.image()
        self.store(instance)
        wait_for(lambda: self.known(instance), "the ledger knows the object", 10)
        time.sleep(0.1)
        self.node.daemon.disarm()
        return self.node.daemon.seen

    def test_rows_of_an_object_are_fsynced(self):
        seen = self.ledger_operations()
        self.assertIn(Operation.LEDGER_WRITE, seen)
        self.assertEqual(seen[-1], Operation.LEDGER_SYNC, f"not fsynced after the last write: {seen}")

    def test_ledger_that_cannot_be_written_for_a_moment(self):
        """The object is durable, so it is acknowledged; the ledger knows it as soon as it can be written."""
        turn = itertools.cycle(ERRORS)
        for nth in itertools.count(1):
            for error in ERRORS if EVERY_ERROR else [next(turn)]:
                for sticky in (False, True) if EVERY_ERROR else [nth % 2 == 0]:
                    how = " from then on" if sticky else ""
                    with self.subTest(f"operation {nth}: {errno.errorcode[error]}{how}"):
                        hits = self.store_with(nth, error, sticky)
            # A transaction has as many operations as it changes pages: about so many, not exactly.
            if not hits:
                break
        self.assertGreater(nth, 10, "a transaction without operations?")

    def store_with(self, nth: int, error: int, sticky: bool) -> int:
        """Stores an object while the ledger's n-th operation fails; returns how many failed."""
        instance = self.image()
        self.node.daemon.arm(Mode.FAIL, LEDGER_OPERATIONS, nth, error, sticky=sticky)
        self.store(instance)
        wait_for(lambda: self.node.daemon.hits or self.known(instance), "an operation fails or none has to", 5)
        if sticky and self.node.daemon.hits:
            wait_for(lambda: self.node.daemon.hits > 1, "it is tried again", 5, self.node.log_tail)
        self.node.daemon.disarm()
        self.assert_kept(instance)
        return self.node.daemon.hits

    def test_daemon_killed_while_the_ledger_cannot_be_written(self):
        instances = [self.image() for _ in range(3)]
        self.node.daemon.arm(Mode.FAIL, LEDGER_OPERATIONS, 1, errno.ENOSPC, sticky=True)
        for instance in instances:
            self.store(instance)
        wait_for(lambda: "ledger cannot be written" in self.node.log_text(), "the ledger is full", 5)
        self.node.kill()
        self.node.daemon.disarm()
        self.node.start()
        for instance in instances:
            self.assert_kept(instance)

    def test_stopping_while_the_ledger_cannot_be_written(self):
        instance = self.image()
        self.node.daemon.arm(Mode.FAIL, LEDGER_OPERATIONS, 1, errno.ENOSPC, sticky=True)
        self.store(instance)
        wait_for(lambda: self.node.daemon.hits > 1, "it is tried again", 5, self.node.log_tail)
        self.node.stop(15)
        self.assertEqual(self.node.exit_status, 0, self.node.log_tail())
        self.node.daemon.disarm()
        self.node.start()
        self.assert_kept(instance)


@needs_node
@needs_compiler
class CrashTrials(unittest.TestCase):
    def test_what_is_acknowledged_survives_kills_at_chosen_points_and_random_moments(self):
        harness = Harness(seed=3, say=lambda text: print(text, flush=True))
        summary = harness.run(CRASH_TRIALS)
        print("\n" + "\n".join(f"    {line}" for line in summary.text().splitlines()), flush=True)
        self.assertTrue(summary.is_clean, summary.text())
        self.assertGreaterEqual(sum(summary.kills.values()), 2 * CRASH_TRIALS - 1)
        self.assertGreater(summary.instances, 20)


@needs_node
@needs_compiler
class CrashChecks(FaultTestCase):
    """The harness finds what it is there to find."""

    def findings(self, harm) -> dict[str, int]:
        holdings, instance = Holdings(), self.image()
        holdings.offer(instance)
        self.store(instance)
        holdings.answered(instance, SUCCESS)
        self.assert_kept(instance)
        (path,) = self.node.stored(instance.study_uid)
        harm(path)
        summary = Summary()
        Check(self.node, summary, patience_seconds=0).complete(holdings)
        return {kind: len(found) for kind, found in summary.failures.items() if found}

    def test_nothing_done_nothing_found(self):
        self.assertEqual(self.findings(lambda path: None), {})

    def test_lost_file(self):
        found = self.findings(Path.unlink)
        self.assertEqual(found["lost"], 1)
        self.assertIn("disagreements", found)

    def test_changed_byte(self):
        def change(path: Path):
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)

        self.assertIn("lost", self.findings(change))

    def test_second_file_of_the_same_bytes(self):
        found = self.findings(lambda path: path.with_suffix(".v2.dcm").write_bytes(path.read_bytes()))
        self.assertEqual(found["duplicated"], 1)

    def test_litter(self):
        self.assertEqual(self.findings(lambda path: path.with_suffix(".part").write_bytes(b"x")), {"litter": 1})


if __name__ == "__main__":
    unittest.main()
