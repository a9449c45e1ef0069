"""Back-ups of a node under load, what comes of a node that is restored from them, and what no back-up is made or
restored of."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import unittest
from pathlib import Path

import pydicom
from faults import Mode, Operation, Plan, compile_faults, compiler
from node_fixture import (
    ICHNODE,
    LOOPBACK,
    BackgroundSender,
    RestartableNode,
    Site,
    data_set_bytes,
    needs_node,
    phantom,
    storescu,
    wait_for,
)

# Of studies with slices missing; of the alert on those without a result.
DEADLINE_SECONDS = 6
PARTS = {
    "completion": {"deadline_seconds": DEADLINE_SECONDS, "quiet_seconds": 3},
    "operator_alerts": {"check_seconds": 0.5, "no_result_minutes": 0.01},
}


def command(*arguments: object, prefix: tuple = (), **options) -> tuple[int, str]:
    result = subprocess.run(
        [*prefix, str(ICHNODE), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        **options,
    )
    return result.returncode, result.stdout


def of_node(node: RestartableNode) -> tuple:
    return ("--config", node.configuration)


def only_backup(place: Path) -> Path:
    (found,) = (each for each in place.iterdir() if each.name.startswith("ichnode-"))
    return found


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_node
class Restoring(unittest.TestCase):
    """A node dies for good in the middle of its work, and another takes its place from what was backed up before."""

    @classmethod
    def setUpClass(cls):
        cls.site = Site(**PARTS)
        cls.addClassCleanup(cls.site.stop)
        cls.site.start()
        cls.node, cls.pacs, folder = cls.site.node, cls.site.pacs, cls.site.folder
        cls.done, cls.owed, cls.cut, cls.late = (phantom(folder / name) for name in ("done", "owed", "cut", "late"))
        storescu(cls.node, folder / "done")
        cls.outcome = cls.node.wait_until_delivered(cls.done.uid)["study"]["outcome"]
        cls.pacs.stop()
        storescu(cls.node, folder / "owed")
        wait_for(lambda: (cls.node.study(cls.owed.uid) or {}).get("analyses"), "the study is analysed", 30)
        # Not all of it: slices in the middle are to come.
        storescu(cls.node, *cls.cut.files[:8], *cls.cut.files[12:])
        sender = BackgroundSender(cls.node, cls.late.files * 40, per_second=40)
        sender.wait_for(4)
        cls.before = len(sender.acknowledged)
        for name, option in (("plain", ()), ("with-images", ("--images",))):
            code, said = command("backup", folder / name, *option, *of_node(cls.node))
            assert code == 0, said
        cls.acknowledged_meanwhile = len(sender.acknowledged) - cls.before
        cls.acknowledged = set(sender.acknowledged)
        cls.node.kill()
        sender.join(40)
        cls.plain, cls.images = only_backup(folder / "plain"), only_backup(folder / "with-images")
        cls.pacs.start()

    def restored(self, name: str, backup: Path, **sections) -> tuple[RestartableNode, str]:
        """Another node, at another path, that has not started yet."""
        node = self.site.add_node(name, **(PARTS | sections))
        code, said = command("restore", backup, *of_node(node))
        self.assertEqual(code, 0, said)
        return node, said

    def test_receiving_goes_on_and_both_back_ups_are_whole_and_closed_to_others(self):
        self.assertGreater(self.acknowledged_meanwhile, 4)
        for backup in (self.plain, self.images):
            with self.subTest(backup.parent.name):
                code, said = command("backup", "verify", backup)
                self.assertEqual(code, 0, said)
                self.assertIn("is whole", said)
                modes = {path.stat().st_mode & 0o777 for path in [backup, *backup.rglob("*")]}
                self.assertEqual(modes, {0o700, 0o600})
                # As other tools see it too.
                subprocess.run(["sha256sum", "--check", "--status", "manifest.json.sha256"], cwd=backup, check=True)
                for line in (backup / "files").read_text().splitlines():
                    digest, size, path = line.split(" ")
                    content = (backup / path).read_bytes()
                    self.assertEqual((hashlib.sha256(content).hexdigest(), str(len(content))), (digest, size), path)
                with sqlite3.connect(f"file:{backup}/ledger.sqlite?mode=ro", uri=True) as ledger:
                    named = [row[0] for row in ledger.execute("SELECT path FROM result_object")]
                self.assertGreater(len(named), 5)
                data = f"{self.node.folder}/data/"
                self.assertEqual([path for path in named if not (backup / path.removeprefix(data)).is_file()], [])

    def test_elsewhere_without_images_what_was_found_stays_and_what_is_owed_arrives_once(self):
        node, said = self.restored("elsewhere", self.plain)
        for study in (self.cut, self.late):
            self.assertIn(study.uid, said)
        self.assertNotIn(self.owed.uid, said)
        node.start()
        storescu(node, self.late.files[0].parent)
        with self.subTest("a study that was concluded has its outcome, and its report can be opened"):
            known = node.study(self.done.uid)
            self.assertEqual((known["study"]["state"], known["study"]["outcome"]), ("concluded", self.outcome))
            (delivery,) = known["deliveries"]
            self.assertEqual(delivery["state"], "delivered")
            for each in delivery["objects"]:
                path = Path(each["object"]["path"])
                self.assertTrue(path.is_relative_to(node.folder / "data"), path)
                self.assertEqual(pydicom.dcmread(path).SOPInstanceUID, each["object"]["sopInstanceUID"])
            self.assertEqual(len(self.pacs.reports(self.done.uid)), 1)
        with self.subTest("what was owed arrives, once, under the same UIDs"):
            owed = node.wait_until_delivered(self.owed.uid)["deliveries"][0]["objects"]
            (found,) = self.pacs.find(self.owed.uid, "SR")
            report = pydicom.dcmread(io.BytesIO(self.pacs.download(found))).SOPInstanceUID
            self.assertEqual(report, owed[0]["object"]["sopInstanceUID"])
            old = {path.stem for path in (self.node.folder / "data/results" / self.owed.uid).rglob("*.dcm")}
            self.assertIn(report, old)
        with self.subTest("a study that comes again before the node has given it up is analysed"):
            late = node.wait_until_delivered(self.late.uid)["study"]
            self.assertEqual((late["outcome"], late["purgedCount"]), (self.outcome, 0), late)
        with self.subTest("a study whose images are gone is told to an operator, and ends as not analysed"):
            alerts = wait_for(
                lambda: [a for a in json.loads(node.command("alerts", "--json")) if a["subject"] == self.cut.uid],
                "an alert on the study",
            )
            self.assertEqual(alerts[0]["kind"], "no-result")
            ended = wait_for(
                lambda: (s := node.study(self.cut.uid))["study"]["state"] == "concluded" and s, "the study ends", 20
            )
            self.assertEqual(ended["study"]["outcome"], "undetermined", ended["study"])
            self.assertEqual(ended["deliveries"], [])
            self.assertIn("restored", [event["kind"] for event in ended["events"]])
            self.assertEqual(self.pacs.reports(self.cut.uid), [])
            wait_for(
                lambda: any(
                    a["subject"] == self.cut.uid and "none of its images is left" in a["text"]
                    for a in json.loads(node.command("alerts", "--json"))
                ),
                "the alert stays and says so",
            )
        with self.subTest("some of its images alone are reported as undetermined"):
            storescu(node, *self.cut.files[:8])
            wait_for(lambda: self.pacs.reports(self.cut.uid), "a report in the PACS", 30, node.log_tail)
            self.assertEqual(node.study(self.cut.uid)["study"]["outcome"], "undetermined")
        with self.subTest("sent again whole, it is analysed like any other"):
            storescu(node, self.cut.files[0].parent)
            study = wait_for(
                lambda: (s := node.study(self.cut.uid))["study"]["purgedCount"] == 0
                and s["study"]["state"] == "concluded"
                and len(s["analyses"]) > 1
                and s,
                "the whole study is analysed",
                30,
                node.log_tail,
            )
            self.assertNotIn("retention", study["study"]["reason"])
            node.wait_until_delivered(self.cut.uid)
        with self.subTest("one image of a study that was reported changes nothing"):
            storescu(node, self.done.files[3])
            wait_for(
                lambda: any("not analysed again" in e["text"] for e in node.study(self.done.uid)["events"]),
                "the late image is judged",
                30,
            )
            self.assertEqual(len(self.pacs.reports(self.done.uid)), 1)
        node.stop()

    def test_with_images_open_studies_are_analysed_to_the_end(self):
        # The PACS has what others of these tests send.
        nobody = {"name": "pacs", "ae_title": "NOBODY", "host": LOOPBACK, "port": 1}
        node, _ = self.restored("images", self.images, peers=[nobody])
        with self.subTest("all that was acknowledged before is there, as it was sent"):
            stored = {data_set_bytes(path) for path in node.stored(self.late.uid)}
            for path in self.late.files[: self.before]:
                self.assertIn(data_set_bytes(path), stored)
            self.assertEqual(len(node.stored(self.cut.uid)), len(self.cut.files) - 4)
        node.start()
        for study in (self.cut, self.late):
            with self.subTest(study.uid):
                ended = wait_for(
                    lambda study=study: (s := node.study(study.uid))["study"]["state"] == "concluded" and s,
                    "the study is concluded",
                    30,
                    node.log_tail,
                )
                self.assertEqual((ended["study"]["purgedCount"], len(ended["analyses"])), (0, 1))
        self.assertIn("no slice at", node.study(self.cut.uid)["study"]["reason"])
        node.stop()


class SmallNode(unittest.TestCase):
    """A node that has run, is stopped, and owes a result."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="ichnode-backup-")
        cls.addClassCleanup(folder.cleanup)
        cls.base = Path(folder.name)
        cls.node = RestartableNode(cls.base / "node", 1)
        cls.study = phantom(cls.base / "study")
        cls.node.start()
        try:
            storescu(cls.node, cls.base / "study")
            wait_for(lambda: (cls.node.study(cls.study.uid) or {}).get("analyses"), "the study is analysed", 30)
            code, said = command("backup", cls.base / "good", "--images", *of_node(cls.node))
            assert code == 0, said
            cls.while_it_runs()
        finally:
            cls.node.stop()
        cls.backup = only_backup(cls.base / "good")

    @classmethod
    def while_it_runs(cls):
        pass

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=self.base))

    def damaged(self, change) -> Path:
        copy = Path(tempfile.mkdtemp(dir=self.folder)) / self.backup.name
        shutil.copytree(self.backup, copy)
        change(copy)
        return copy

    def restore(self, backup: Path, target: Path, **options) -> tuple[int, str]:
        return command("restore", backup, *of_node(self.node), "--data-directory", target, **options)

    def assert_usable(self, target: Path) -> None:
        """All files of the back-up are there; in the ledger paths alone have changed."""
        expected, found = tree(self.backup), tree(target)
        for name in ("manifest.json", "manifest.json.sha256", "files", "ledger.sqlite"):
            expected.pop(name)
        self.assertEqual({path: found.get(path) for path in expected}, expected)
        self.assertEqual(set(found) - set(expected), {"ledger.sqlite", "spool/lock"})
        with sqlite3.connect(target / "ledger.sqlite") as ledger:
            paths = [row[0] for row in ledger.execute("SELECT path FROM instance UNION SELECT path FROM result_object")]
        self.assertEqual([path for path in paths if not Path(path).is_relative_to(target)], [])
        self.assertEqual([path for path in paths if not Path(path).is_file()], [])


@needs_node
class Refusals(SmallNode):
    @classmethod
    def while_it_runs(cls):
        cls.running = [
            command("restore", only_backup(cls.base / "good"), *of_node(cls.node)),
            command("backup", cls.node.folder / "data" / "backups", *of_node(cls.node)),
        ]

    def test_into_a_data_directory_in_use_nothing_is_restored(self):
        code, said = self.running[0]
        self.assertEqual(code, 78, said)
        self.assertIn("is not empty", said)
        # A node that has only just begun: it holds the lock, and nothing else is there.
        spool = self.folder / "spool"
        spool.mkdir()
        with (spool / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            code, said = self.restore(self.backup, self.folder)
        self.assertEqual(code, 78, said)
        self.assertIn("a node runs", said)
        self.assertEqual(set(tree(self.folder)), {"spool/lock"})

    def test_places_that_are_none_are_refused_and_left_alone(self):
        foreign = self.folder / "home"
        foreign.mkdir()
        (foreign / "letter.txt").write_text("mine")
        code, said = self.running[1]
        cases = {
            "within the data directory": (code, said, "is in the data directory"),
            "with something else in it": (*command("backup", foreign, *of_node(self.node)), "letter.txt"),
            "without a parent": (*command("backup", self.folder / "no" / "place", *of_node(self.node)), "cannot make"),
        }
        for name, (code, said, words) in cases.items():
            with self.subTest(name):
                self.assertEqual(code, 78, said)
                self.assertIn(words, said)
        self.assertEqual(tree(foreign), {"letter.txt": b"mine"})
        self.assertFalse((self.node.folder / "data" / "backups").exists())

    def test_damaged_truncated_and_foreign_back_ups_are_refused_whole(self):
        def flip(path: Path):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)

        def first(copy: Path, pattern: str) -> Path:
            return next(copy.glob(pattern))

        def seal(copy: Path, **keys):
            manifest = json.loads((copy / "manifest.json").read_text()) | keys
            text = json.dumps(manifest)
            (copy / "manifest.json").write_text(text)
            digest = hashlib.sha256(text.encode()).hexdigest()
            (copy / "manifest.json.sha256").write_text(f"{digest}  manifest.json\n")

        def escape(copy: Path):
            """A list with right digests that leads elsewhere."""
            victim = copy / "results" / "passwd"
            victim.write_text("x")
            lines = (copy / "files").read_text()
            lines += f"{hashlib.sha256(b'x').hexdigest()} 1 results/../../../passwd\n"
            (copy / "files").write_text(lines)
            seal(copy, listDigest=hashlib.sha256(lines.encode()).hexdigest(), fileCount=lines.count("\n"))

        def link(copy: Path):
            path = first(copy, "results/*/*/*.dcm")
            shutil.move(path, copy.parent / "aside")
            path.symlink_to(copy.parent / "aside")

        cases = {
            "a bit of a result": (1, lambda c: flip(first(c, "results/*/*/*.dcm"))),
            "a bit of an image": (1, lambda c: flip(first(c, "spool/studies/*/*.dcm"))),
            "a bit of the ledger": (1, lambda c: flip(c / "ledger.sqlite")),
            "a bit of the list": (1, lambda c: flip(c / "files")),
            "a bit of the manifest": (1, lambda c: flip(c / "manifest.json")),
            "a ledger cut short": (1, lambda c: os.truncate(c / "ledger.sqlite", 4096)),
            "a result that is missing": (1, lambda c: first(c, "results/*/*/*.dcm").unlink()),
            "a manifest that is missing": (1, lambda c: (c / "manifest.json").unlink()),
            "a file that is not listed": (1, lambda c: (c / "results" / "more").write_text("x")),
            "a list that leads elsewhere": (1, escape),
            "a link in place of a file": (1, link),
            "a later format": (78, lambda c: seal(c, format=2)),
            "a later schema": (78, lambda c: seal(c, schemaVersion=1000)),
        }
        target = self.folder / "target"
        for name, (expected, change) in cases.items():
            with self.subTest(name):
                backup = self.damaged(change)
                code, said = self.restore(backup, target)
                self.assertEqual(code, expected, said)
                self.assertFalse(target.exists(), said)
        # A back-up that is as it was is taken, by the same command.
        code, said = self.restore(self.backup, target)
        self.assertEqual(code, 0, said)
        self.assert_usable(target)
        # Not over another.
        code, said = self.restore(self.backup, target)
        self.assertEqual(code, 78, said)
        self.assert_usable(target)

    def test_an_older_schema_is_brought_up_to_date(self):
        def age(copy: Path):
            with sqlite3.connect(copy / "ledger.sqlite") as ledger:
                ledger.execute("DROP INDEX delivery_by_end")
                ledger.execute("DELETE FROM grdb_migrations WHERE identifier = 'deliveries by their end'")
            lines = (copy / "files").read_text().splitlines()
            content = (copy / "ledger.sqlite").read_bytes()
            lines[0] = f"{hashlib.sha256(content).hexdigest()} {len(content)} ledger.sqlite"
            (copy / "files").write_text("\n".join(lines) + "\n")
            manifest = json.loads((copy / "manifest.json").read_text())
            manifest["schemaVersion"] -= 1
            manifest["listDigest"] = hashlib.sha256((copy / "files").read_bytes()).hexdigest()
            (copy / "manifest.json").write_text(json.dumps(manifest))
            digest = hashlib.sha256((copy / "manifest.json").read_bytes()).hexdigest()
            (copy / "manifest.json.sha256").write_text(f"{digest}  manifest.json\n")

        target = self.folder / "target"
        code, said = self.restore(self.damaged(age), target)
        self.assertEqual(code, 0, said)
        with sqlite3.connect(target / "ledger.sqlite") as ledger:
            found = ledger.execute("SELECT count(*) FROM sqlite_master WHERE name = 'delivery_by_end'").fetchone()
        self.assertEqual(found, (1,))

    def test_what_a_node_wrote_after_a_restore_that_did_not_end_stays(self):
        target = self.folder / "target"
        code, said = self.restore(self.backup, target)
        self.assertEqual(code, 0, said)
        whole, part = tree(target), target / "restore.part"
        with self.subTest("all was in its place"):
            (part / "spool").mkdir(parents=True)
            code, said = self.restore(self.backup, target)
            self.assertEqual(code, 0, said)
            self.assertIn("finished now", said)
            self.assertFalse(part.exists())
            self.assertEqual(tree(target), whole)
        with self.subTest("parts were not, so that the ledger is a node's"):
            part.mkdir()
            (part / "ledger.sqlite").write_bytes(b"left")
            code, said = self.restore(self.backup, target)
            self.assertEqual(code, 78, said)
            self.assertIn("of a node that ran since", said)
            self.assertEqual(tree(target), whole | {"restore.part/ledger.sqlite": b"left"})

    def test_a_data_directory_behind_a_link_is_taken_whole_and_what_is_missing_is_told(self):
        data, moved = self.folder / "data", self.folder / "moved"
        code, said = self.restore(self.backup, data)
        self.assertEqual(code, 0, said)
        data.rename(moved)
        data.symlink_to(moved)
        make = ("--images", *of_node(self.node), "--data-directory", moved)
        code, said = command("backup", self.folder / "whole", *make)
        self.assertEqual(code, 0, said)
        target = self.folder / "target"
        code, said = self.restore(only_backup(self.folder / "whole"), target)
        self.assertEqual(code, 0, said)
        self.assertNotIn("not there", said)
        self.assert_usable(target)
        next(moved.glob("results/*/*/*.dcm")).unlink()
        code, said = command("backup", self.folder / "lacking", *make)
        self.assertEqual(code, 1, said)
        lacking = only_backup(self.folder / "lacking")
        for code, said in (command("backup", "verify", lacking), self.restore(lacking, self.folder / "other")):
            self.assertEqual(code, 0, said)
            self.assertIn("1 result files that its ledger names were not there", said)

    @unittest.skipUnless(os.geteuid() == 0, "giving files away takes root")
    def test_root_works_as_the_owner_of_the_data_directory(self):
        def owners(folder: Path) -> set[int]:
            return {path.lstat().st_uid for path in [folder, *folder.rglob("*")]}

        data, user = self.folder / "data", 4711
        code, said = self.restore(self.backup, data)
        self.assertEqual(code, 0, said)
        for path in [data, *data.rglob("*")]:
            os.chown(path, user, user)
        for folder in (self.folder, self.folder.parent):
            folder.chmod(0o711)
        # As after a crash: the write-ahead log is there.
        with sqlite3.connect(data / "ledger.sqlite") as ledger:
            ledger.execute("PRAGMA journal_mode = WAL")
        ledger.close()
        code, said = command("backup", self.folder / "place", *of_node(self.node), "--data-directory", data)
        self.assertEqual(code, 0, said)
        self.assertEqual((owners(data), owners(self.folder / "place")), ({user}, {user}))
        target = self.folder / "target"
        target.mkdir()
        os.chown(target, user, user)
        code, said = self.restore(only_backup(self.folder / "place"), target)
        self.assertEqual(code, 0, said)
        self.assertEqual(owners(target), {user})

    def test_a_disk_without_room_gives_no_back_up_and_no_data_directory(self):
        place = self.folder / "disk"
        place.mkdir()

        def on_small_disk(options: str, *arguments: object) -> tuple[int, str, list[str]]:
            script = f'mount -t tmpfs -o {options} none {place} && "$@"; code=$?; find {place} -mindepth 1; exit $code'
            code, said = command(*arguments, prefix=("unshare", "--mount", "sh", "-c", script, "sh"))
            return code, said, [line for line in said.splitlines() if line.startswith(f"{place}/")]

        if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
            self.skipTest("mounting takes root")
        backup = ("backup", place, "--images", *of_node(self.node))
        restore = ("restore", self.backup, *of_node(self.node), "--data-directory", place)
        for name, options, arguments in (
            ("too small for a back-up", "size=1m", backup),
            ("too small for a restore", "size=1m", restore),
            # The room is there, and the disk is full nevertheless.
            ("full within a back-up", "size=200m,nr_inodes=12", backup),
            ("full within a restore", "size=200m,nr_inodes=12", restore),
        ):
            with self.subTest(name):
                code, said, left = on_small_disk(options, *arguments)
                self.assertEqual(code, 1, said)
                self.assertRegex(said, "make room|No space left")
                self.assertLessEqual({Path(path).name for path in left}, {"lock", "spool"}, said)


@needs_node
@unittest.skipIf(compiler() is None, "no C compiler")
class Faults(SmallNode):
    """kill -9, and a disk that fails, at moments of a back-up and of a restore: all, or some drawn by chance."""

    TRIALS = os.environ.get("ICHNODE_BACKUP_TRIALS", "4")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.library, cls.plan = compile_faults(cls.base), Plan(cls.base / "plan")

    def faulty(self, below: Path, mode: Mode, nth: int, *arguments: object) -> tuple[int, str]:
        """Ends or fails at the n-th of its operations below a folder."""
        environment = {"LD_PRELOAD": self.library, "FAULTS_CONTROL": self.plan.path, "FAULTS_BELOW": below}
        self.plan.arm(mode, tuple(Operation), nth=nth, error=errno.ENOSPC)
        return command(*arguments, env=os.environ | {name: str(value) for name, value in environment.items()})

    def moments(self, below: Path, *arguments: object) -> list[tuple[Mode, int]]:
        code, said = self.faulty(below, Mode.COUNT, 0, *arguments)
        self.assertEqual(code, 0, said)
        count = len(self.plan.seen)
        self.assertGreater(count, 40)
        every = range(1, count + 1)
        drawn = [every if self.TRIALS == "all" else random.sample(every, int(self.TRIALS)) for _ in range(2)]
        # What is last has to be right each time: names, and the marker of a restore.
        return [(Mode.KILL, nth) for nth in {*drawn[0], count, count - 1}] + [(Mode.FAIL, nth) for nth in drawn[1]]

    def test_a_back_up_that_did_not_end_never_passes_for_a_whole_one(self):
        def arguments(place: Path) -> tuple:
            return ("backup", place, "--images", *of_node(self.node))

        for mode, nth in self.moments(self.folder / "count", *arguments(self.folder / "count")):
            with self.subTest(mode=mode.name, nth=nth):
                place = self.folder / f"{mode.name}-{nth}"
                code, said = self.faulty(place, mode, nth, *arguments(place))
                self.assertEqual(self.plan.hits, 1)
                named = [each for each in place.glob("ichnode-*") if each.suffix != ".part"]
                for each in named:
                    self.assertEqual(command("backup", "verify", each)[0], 0)
                if mode is Mode.FAIL:
                    self.assertEqual(list(place.glob("*.part")), [], said)
                    self.assertTrue(code in (1, 78) or named, said)
                    continue
                self.assertEqual(code, -9, said)
                code, said = command(*arguments(place), "--keep", 1)
                self.assertEqual(code, 0, said)
                self.assertEqual(command("backup", "verify", only_backup(place))[0], 0)
                self.assertEqual({each.name for each in place.iterdir()}, {"lock", only_backup(place).name})

    def test_a_restore_that_did_not_end_is_no_data_directory_and_the_next_one_ends_it(self):
        target = self.folder / "count"
        moments = self.moments(target, "restore", self.backup, *of_node(self.node), "--data-directory", target)
        is_refused = False
        for mode, nth in moments:
            target = self.folder / f"{mode.name}-{nth}"
            arguments = (*of_node(self.node), "--data-directory", target)
            with self.subTest(mode=mode.name, nth=nth):
                code, said = self.faulty(target, mode, nth, "restore", self.backup, *arguments)
                if mode is Mode.KILL:
                    self.assertEqual(code, -9, said)
                elif code != 0:
                    self.assertLessEqual(set(tree(target)), {"spool/lock"}, said)
                if (target / "restore.part").exists() and not is_refused:
                    is_refused = True
                    for attempt in (("serve",), ("backup", self.folder / "of-half")):
                        refused, said = command(*attempt, *arguments)
                        self.assertEqual(refused, 78, said)
                        self.assertIn("did not end", said)
                is_whole = (target / "ledger.sqlite").exists() and not (target / "restore.part").exists()
                if not is_whole:
                    code, said = command("restore", self.backup, *arguments)
                    self.assertEqual(code, 0, said)
                self.assert_usable(target)
        self.assertTrue(is_refused)


if __name__ == "__main__":
    unittest.main()
