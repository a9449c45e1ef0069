"""A running node reads its configuration again, by SIGHUP and by `ichnode config reload`: what changes, what does not,
and that nothing is lost meanwhile."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
from pathlib import Path
from random import Random

from console_client import USERS, ConsoleClient
from lxml import etree
from node_fixture import (
    HERE,
    ICHNODE,
    LOOPBACK,
    RestartableNode,
    Site,
    echoscu,
    find_tool,
    free_ports,
    needs_node,
    phantom,
    storescu,
    wait_for,
)
from plain_sender import PlainSender, SenderFailure, new_uid, small_image
from processes import Server


class StoreSCP(Server):
    """DCMTK's, as a further archive."""

    def __init__(self, folder: Path):
        (self.dicom_port,) = free_ports(1)
        self.received = folder / "received"
        self.received.mkdir(parents=True)
        command = [find_tool("storescp", "dcmtk"), "-od", str(self.received), str(self.dicom_port)]
        super().__init__("storescp", command, folder / "storescp.log")

    def objects(self) -> int:
        return len(list(self.received.iterdir()))


def metric(node: RestartableNode, name: str) -> float:
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])


def reload(node: RestartableNode, *where: str) -> subprocess.CompletedProcess:
    command = [str(ICHNODE), "config", "reload", *(where or ("--run-directory", str(node.folder / "run")))]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)


def hang_up(node: RestartableNode) -> str:
    """SIGHUP. Returns what the log says of it."""
    begun = len(node.log_text())
    os.kill(node.process.pid, signal.SIGHUP)
    said = lambda: re.search(r".*configuration (read again|refused).*", node.log_text()[begun:])  # noqa: E731
    return wait_for(said, "the configuration is read", 20, node.log_tail)[0]


@needs_node
class Reload(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.site = Site(console={"users": USERS}).start()
        cls.addClassCleanup(cls.site.stop)
        cls.node = cls.site.node
        cls.good = cls.node.configuration.read_text()

    def setUp(self):
        # As it was, whatever the test before has left.
        self.node.configuration.write_text(self.good)
        self.reload()

    def reload(self) -> str:
        result = reload(self.node)
        self.assertEqual(result.returncode, 0, result.stdout)
        return result.stdout

    def archive(self) -> StoreSCP:
        archive = StoreSCP(Path(tempfile.mkdtemp(dir=self.site.folder)))
        self.addCleanup(archive.stop)
        archive.__enter__()
        return archive

    def study(self, **options):
        return phantom(Path(tempfile.mkdtemp(dir=self.site.folder)), *options)

    def test_a_peer_and_a_route_that_are_added_get_the_next_study(self):
        archive = self.archive()
        before = len(self.node.children("receive")) and self.node.process.pid
        self.node.add_peer("archive", ae_title="ARCHIVE", port=archive.dicom_port)
        self.node.change_route(name="everything")
        said = self.reload()
        self.assertIn("peers [pacs] -> [pacs, archive]\n", said)
        self.assertIn("routes [default] -> [everything]\n", said)
        study = self.study()
        storescu(self.node, *study.files)
        known = self.node.wait_until_delivered(study.uid)
        self.assertEqual(known["analyses"][-1]["route"], "everything")
        self.assertEqual({each["destination"] for each in known["deliveries"]}, {"pacs", "archive"})
        self.assertGreater(archive.objects(), 0)
        self.assertEqual(len(self.site.pacs.reports(study.uid)), 1)
        self.assertEqual(self.node.process.pid, before, "it is the same node")

    def test_what_is_owed_to_a_peer_that_is_removed_waits_for_it(self):
        archive = self.archive()
        archive.stop()
        self.node.add_peer("archive", ae_title="ARCHIVE", port=archive.dicom_port)
        self.reload()
        study = self.study()
        storescu(self.node, *study.files)
        with_archive = self.node.configuration.read_text()
        wait_for(lambda: len((self.node.study(study.uid) or {}).get("deliveries", [])) == 2, "deliveries", 30)
        self.node.configuration.write_text(self.good)
        self.assertIn("peers [pacs, archive] -> [pacs]\n", self.reload())
        wait_for(
            lambda: "no destination is named archive" in self.node.command("outbox", "list"),
            "what is owed is shown with the reason", 20, lambda: self.node.command("outbox", "list"),
        )  # fmt: skip
        again = StoreSCP(Path(tempfile.mkdtemp(dir=self.site.folder)))
        self.addCleanup(again.stop)
        again.__enter__()
        self.node.configuration.write_text(
            with_archive.replace(f'"port": {archive.dicom_port}', f'"port": {again.dicom_port}')
        )
        self.reload()
        self.node.wait_until_delivered(study.uid, 20)
        self.assertGreater(again.objects(), 0)

    def test_a_bad_file_is_refused_as_a_whole(self):
        def bad_key(configuration):
            configuration["routes"][0]["destinatoins"] = []
            configuration["dicom"]["allowed_calling_ae_titles"] = ["SOMEBODY"]

        def bad_threshold(configuration):
            configuration["routes"][0]["threshold"] = "no-such"
            configuration["dicom"]["allowed_calling_ae_titles"] = ["SOMEBODY"]

        def bad_secret(configuration):
            configuration["webhooks"] = [{"name": "w", "url": "https://h.example/", "secret_file": "/nowhere"}]
            configuration["dicom"]["allowed_calling_ae_titles"] = ["SOMEBODY"]

        def bad_certificate(configuration):
            files = {each: "/nowhere" for each in ("certificate", "key", "ca")}
            configuration["peers"][0] |= {"tls": True, **files}
            configuration["dicom"]["allowed_calling_ae_titles"] = ["SOMEBODY"]

        since = metric(self.node, "ichnode_configuration_success_timestamp_seconds")
        for change, reason in [
            (bad_key, "did you mean destinations"),
            (bad_threshold, "no-such"),
            (bad_secret, "webhook w: secret_file"),
            (bad_certificate, "/nowhere"),
        ]:
            with self.subTest(change.__name__):
                configuration = json.loads(self.good)
                change(configuration)
                self.node.configuration.write_text(json.dumps(configuration, indent=1))
                result = reload(self.node)
                self.assertEqual(result.returncode, 1)
                self.assertIn(reason, result.stdout)
                self.assertIn("the earlier configuration stays in force", result.stdout)
                self.assertEqual(echoscu(self.node).returncode, 0)
                self.assertEqual(metric(self.node, "ichnode_configuration_reload_successful"), 0)
        self.node.configuration.write_text("routes: [")
        self.assertIn("refused", hang_up(self.node))
        console = ConsoleClient(self.node.http_port)
        console.sign_in("otto")
        page = console.get("/configuration").text
        self.assertIn("and refused", page)
        self.assertIn("not YAML", page)
        self.assertEqual(metric(self.node, "ichnode_configuration_success_timestamp_seconds"), since)
        self.node.configuration.write_text(self.good)
        self.assertIn("read again", hang_up(self.node))
        self.assertEqual(metric(self.node, "ichnode_configuration_reload_successful"), 1)
        self.assertNotIn("and refused", console.get("/configuration").text)

    def test_who_may_call_is_asked_at_the_next_association(self):
        template = small_image()
        with PlainSender(self.node.dicom_port, [template.sop_class_uid]) as open_before:
            self.node.change("dicom", allowed_calling_ae_titles=["SOMEBODY"])
            self.reload()
            self.assertIn("Calling AE Title Not Recognized", echoscu(self.node).stdout)
            self.assertEqual(echoscu(self.node, calling="SOMEBODY").returncode, 0)
            instance = template.instance(*(new_uid(Random()) for _ in range(3)), b"1")
            self.assertEqual(open_before.store(instance), 0, "an open association goes on")
        self.node.change("node", further_ae_titles=["TRIAGE"])
        self.node.change("dicom", allowed_networks=["10.0.0.0/8"])
        self.reload()
        self.assertNotEqual(echoscu(self.node, calling="SOMEBODY").returncode, 0)
        self.node.change("dicom", allowed_networks=["127.0.0.0/8"])
        self.assertIn("read again", hang_up(self.node))
        self.assertEqual(echoscu(self.node, calling="SOMEBODY", called="TRIAGE").returncode, 0)

    def test_users_who_are_removed_are_out_at_once(self):
        vera, otto = ConsoleClient(self.node.http_port), ConsoleClient(self.node.http_port)
        vera.sign_in("vera")
        otto.sign_in("otto")
        self.assertTrue(vera.is_signed_in and otto.is_signed_in)
        self.node.change("console", users=[each for each in USERS if each["name"] != "vera"])
        self.assertIn("console.users ", self.reload())
        self.assertFalse(vera.is_signed_in)
        self.assertTrue(otto.is_signed_in)

    def test_the_log_level_changes(self):
        self.node.change("node", log_level="error")
        self.reload()
        begun = len(self.node.log_text())
        echoscu(self.node)
        time.sleep(0.3)
        self.assertEqual(self.node.log_text()[begun:], "")
        self.node.change("node", log_level="debug")
        self.reload()
        echoscu(self.node)
        wait_for(lambda: "echo answered" in self.node.log_text()[begun:], "debug lines", 10)

    def test_what_needs_a_start_is_named(self):
        (port,) = free_ports(1)
        self.node.change("dicom", port=port, warm_workers=3)
        for where in [(), ("--config", str(self.node.configuration))]:
            said = reload(self.node, *where).stdout
            self.assertIn(f"dicom.port {self.node.dicom_port} -> {port}: takes effect at the next start\n", said)
        self.assertNotIn("warm_workers", said, "said once")
        self.assertEqual(echoscu(self.node).returncode, 0, "the old port is the one")
        console = ConsoleClient(self.node.http_port)
        console.sign_in("otto")
        self.assertIn("at the next start", console.get("/configuration").text)

    def test_several_at_once_are_one_after_the_other(self):
        self.node.change("node", log_level="info")
        command = [str(ICHNODE), "config", "reload", "--run-directory", str(self.node.folder / "run")]
        begun = len(self.node.log_text())
        asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(5)]
        os.kill(self.node.process.pid, signal.SIGHUP)
        said = [each.communicate(timeout=30)[0] for each in asking]
        self.assertEqual([each.returncode for each in asking], [0] * len(asking))
        self.assertLessEqual(sum("node.log_level debug -> info" in each for each in said), 1, "said once")
        wait_for(lambda: self.node.log_text()[begun:].count("configuration read again") == 6, "six times", 10)

    def test_it_is_audited(self):
        self.reload()
        self.node.configuration.write_text("routes: [")
        reload(self.node)
        path = self.node.folder / "data" / "audit" / "audit.log"
        found = lambda: [each for each in path.read_text().splitlines() if "110131" in each][-2:]  # noqa: E731
        wait_for(lambda: "configuration refused" in self.description(found()[-1]), "the trail tells of it", 10)
        schema = etree.RelaxNG(etree.parse(str(HERE / "audit_message.rng")))
        outcomes = []
        for line in found():
            tree = etree.fromstring(line)
            self.assertTrue(schema.validate(tree), schema.error_log)
            event = tree.find("EventIdentification")
            self.assertEqual(event.find("EventID").get("csd-code"), "110113")
            outcomes.append(event.get("EventOutcomeIndicator"))
        self.assertEqual(outcomes, ["0", "4"])

    @staticmethod
    def description(line: str) -> str:
        return base64.b64decode(re.search('type="Alert Description" value="([^"]*)"', line)[1]).decode()

    def test_a_signal_to_all_processes_costs_no_association(self):
        template = small_image()
        with PlainSender(self.node.dicom_port, [template.sop_class_uid]) as sender:
            for pid in [self.node.process.pid, *self.node.children("receive"), *self.node.children("infer")]:
                os.kill(pid, signal.SIGHUP)
            instance = template.instance(*(new_uid(Random()) for _ in range(3)), b"1")
            self.assertEqual(sender.store(instance), 0)
        self.assertEqual(metric_or_zero(self.node, "ichnode_worker_crashes_total"), 0)

    def test_under_load_nothing_is_lost(self):
        archive = self.archive()
        stop = threading.Event()
        template = small_image()
        sent: list[dict[str, str]] = [{} for _ in range(4)]
        failures: list[str] = []

        def send(number: int) -> None:
            random = Random(number)
            while not stop.is_set():
                study, series = new_uid(random), new_uid(random)
                try:
                    with PlainSender(self.node.dicom_port, [template.sop_class_uid], timeout=30) as sender:
                        for _ in range(20):
                            instance = template.instance(study, series, new_uid(random), random.randbytes(64))
                            if (status := sender.store(instance)) != 0:
                                failures.append(f"{instance.sop_uid} got {status:#06x}")
                            sent[number][instance.sop_uid] = study
                except (OSError, SenderFailure) as failure:
                    failures.append(repr(failure))

        senders = [threading.Thread(target=send, args=(number,), daemon=True) for number in range(len(sent))]
        for sender in senders:
            sender.start()
        with_archive = json.loads(self.good)
        with_archive["peers"].append(
            {"name": "archive", "ae_title": "ARCHIVE", "host": LOOPBACK, "port": archive.dicom_port}
        )
        with_archive["routes"][0]["destinations"].append("archive")
        studies = [self.study() for _ in range(2)]
        reloads = 0
        for study in studies:
            storescu(self.node, *study.files)
            begun = time.monotonic()
            # While it is assembled, analysed and delivered.
            while time.monotonic() - begun < 2:
                without = reloads % 2 == 1
                self.node.configuration.write_text(self.good if without else json.dumps(with_archive))
                self.reload()
                reloads += 1
        self.node.configuration.write_text(json.dumps(with_archive))
        self.reload()
        stop.set()
        for sender in senders:
            sender.join(30)
        self.assertEqual(failures, [])
        acknowledged = {uid: study for each in sent for uid, study in each.items()}
        spool = self.node.folder / "data" / "spool" / "studies"
        missing = [uid for uid, study in acknowledged.items() if not (spool / study / f"{uid}.dcm").exists()]
        self.assertEqual(missing, [])
        for study in studies:
            known = self.node.wait_until_delivered(study.uid, 30)
            self.assertEqual(len(known["analyses"]), 1)
            self.assertEqual(len(self.site.pacs.reports(study.uid)), 1)
        print(f"\n    {reloads} reloads, {len(acknowledged)} instances", flush=True)


def metric_or_zero(node: RestartableNode, name: str) -> float:
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(each) for each in re.findall(rf"^{name}\S* (\S+)$", text, re.MULTILINE))


@needs_node
class Start(unittest.TestCase):
    def test_a_signal_while_it_starts_is_not_lost_and_does_no_harm(self):
        folder = Path(tempfile.mkdtemp(prefix="ichnode-start-"))
        self.addCleanup(shutil.rmtree, folder)
        node = RestartableNode(folder, 104)
        self.addCleanup(node.stop)
        node.starts += 1
        Server.__enter__(node)
        # Trapped, or ignored for it: SigBlk, SigIgn or SigCgt.
        trapped = lambda: any(  # noqa: E731
            int(value, 16) & 1 << (signal.SIGHUP - 1)
            for value in re.findall(r"^Sig(?:Blk|Ign|Cgt):\s*(\w+)", status(node), re.MULTILINE)
        )
        wait_for(trapped, "SIGHUP is trapped", 10, node.log_tail)
        self.assertNotIn("node ready", node.log_text())
        node.change("node", log_level="info")
        for _ in range(3):
            os.kill(node.process.pid, signal.SIGHUP)
        wait_for(lambda: "node ready" in node.log_text(), "the node is ready", 30, node.log_tail)
        # Again, or only then for the first time.
        seen = ("configuration read again", " info ichnode")
        wait_for(lambda: any(each in node.log_text() for each in seen), "it was read", 10, node.log_tail)
        # While it stops.
        node.process.send_signal(signal.SIGTERM)
        for _ in range(20):
            node.process.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        self.assertEqual(node.process.wait(20), 0)


def status(node: RestartableNode) -> str:
    return Path(f"/proc/{node.process.pid}/status").read_text()


if __name__ == "__main__":
    unittest.main()
