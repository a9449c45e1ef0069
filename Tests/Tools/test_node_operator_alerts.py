"""Alerts of the running node: signed events to webhooks, and what an operator should look at, for every state that a
study can be stuck in. Receivers check events by the very lines of docs/ALERTS.md."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest
import unittest.mock
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pydicom
from certificates import CertificateFolder
from node_fixture import (
    BLEED_SEED,
    ICHNODE,
    LOOPBACK,
    ROOT,
    RestartableNode,
    Sender,
    example_head,
    free_ports,
    needs_example_head,
    needs_node,
    phantom,
    send_all,
    storescu,
    wait_for,
)
from processes import http
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage
from pynetdicom.sop_class import SecondaryCaptureImageStorage

SCHEMA = json.loads((ROOT / "docs" / "webhook-event.schema.json").read_text())
jsonschema.Draft202012Validator.check_schema(SCHEMA)
CANNOT_UNDERSTAND = 0xC000
# A head CT without a result is late after this.
NO_RESULT_SECONDS = 3
SECRET = "0123456789abcdef0123456789abcdef"
IDENTITY = ("PHANTOM", "SECRETNAME", "SECRETID", "SECRETACCESSION", "19700131")


def documented_check() -> dict:
    """The names that the Python lines of docs/ALERTS.md define."""
    text = (ROOT / "docs" / "ALERTS.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) == 10, "the documents promise ten lines"
    names: dict = {}
    exec(compile(code, "docs/ALERTS.md", "exec"), names)
    return names


class Receiver:
    """An HTTPS server that takes events as docs/ALERTS.md says. What it answers first, a test may say."""

    def __init__(self, context: ssl.SSLContext | None, secret: str = SECRET):
        self.names = documented_check()
        self.secret = secret
        self.known: set = set()
        # Every request: path, headers, body, status of the answer.
        self.requests: list[SimpleNamespace] = []
        self.events: list[dict] = []
        self.answers: list[int] = []
        self.lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver._take(self.path, self.headers, body)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _take(self, path: str, headers, body: bytes) -> int:
        with self.lock:
            status = self.answers.pop(0) if self.answers else 204
            request = SimpleNamespace(path=path, headers=headers, body=body, status=status)
            self.requests.append(request)
            if request.status == 204:
                try:
                    event = self.check(body, headers["ICHNode-Signature"])
                except PermissionError:
                    request.status = 401
                else:
                    if event:
                        jsonschema.validate(event, SCHEMA)
                        self.events.append(event)
            return request.status

    def check(self, body: bytes, signature: str) -> dict | None:
        return self.names["receive"](body, signature, self.secret.encode(), self.known)

    def of_kind(self, *kinds: str) -> list[dict]:
        with self.lock:
            return [event for event in self.events if event["kind"] in kinds]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Archive:
    """A PACS that stores in memory, refuses what it is told to, and can be gone."""

    def __init__(self):
        self.status = 0
        self.stored: list[str] = []
        (self.port,) = free_ports(1)
        self.server = None

    def start(self) -> None:
        entity = AE(ae_title="ARCHIVE")
        for sop_class in (
            *(EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage),
            SecondaryCaptureImageStorage,
        ):
            entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        handlers = [(evt.EVT_C_STORE, self._store)]
        self.server = entity.start_server((LOOPBACK, self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
        self.server = None

    def _store(self, event) -> int:
        if self.status == 0:
            self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return self.status


class Alerts(unittest.TestCase):
    """A node with an archive, a receiver of events and a program that takes mail."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="ichnode-alerts-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.certificates = CertificateFolder(self.folder / "certificates")
        self.certificates.authority("site")
        self.certificates.issue("receiver", "site", names="DNS:localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.pem("receiver"), self.certificates.key("receiver"))
        self.receiver = Receiver(context)
        self.addCleanup(self.receiver.stop)
        self.archive = Archive()
        self.archive.start()
        self.addCleanup(self.archive.stop)

    def webhook(self, name: str, url: str, mode: int = 0o600, **keys) -> dict:
        path = self.folder / f"{name}.secret"
        path.write_text(SECRET + "\n")
        path.chmod(mode)
        return {"name": name, "url": url, "secret_file": str(path), **keys}

    def paging(self, name: str, **keys) -> dict:
        """To the receiver, by TLS."""
        url = f"https://localhost:{self.receiver.port}/{name}"
        return self.webhook(name, url, ca=str(self.certificates.pem("site")), **keys)

    def make_node(self, **sections) -> RestartableNode:
        node = RestartableNode(self.folder / "node", self.archive.port, **sections)
        node.change_peer(ae_title="ARCHIVE")
        self.addCleanup(node.stop)
        return node

    def deliveries(self, node: RestartableNode) -> list[dict]:
        text = node.command("outbox", "list", "--all", "--json")
        self.assertTrue(text.startswith("["), f"{text}\n{node.log_tail()}")
        return json.loads(text)


@needs_node
class Findings(Alerts):
    @needs_example_head
    def test_a_finding_and_its_correction_reach_the_webhooks_signed_once_and_after_a_crash(self):
        self.certificates.authority("other")
        endless, silent = Endless(), Silent()
        self.addCleanup(endless.stop)
        self.addCleanup(silent.stop)
        names = ["paging", "named", "distrusting", "misnamed", "endless", "silent"]
        webhooks = [
            self.paging("paging"),
            self.paging("named", include_patient=True),
            {**self.paging("distrusting"), "ca": str(self.certificates.pem("other"))},
            {**self.paging("misnamed"), "url": f"https://127.0.0.1:{self.receiver.port}/misnamed"},
            self.webhook("endless", f"http://{LOOPBACK}:{endless.port}/"),
            self.webhook("silent", f"http://{LOOPBACK}:{silent.port}/", timeout_seconds=0.5),
        ]
        route = {"name": "default", "destinations": ["pacs"], "alerts": names}
        node = self.make_node(webhooks=webhooks, routes=[route])
        # Nothing is taken before the crash: not by a redirect, nor otherwise.
        self.receiver.answers = [307, *[503] * 1000]
        node.start()
        study = example_head(self.folder / "head", "PAINTED", BLEED_SEED)
        for path in study.files:
            ds = pydicom.dcmread(path)
            ds.PatientName, ds.PatientID, ds.AccessionNumber = "SECRETNAME^X", "SECRETID", "SECRETACCESSION"
            ds.PatientBirthDate = "19700131"
            ds.save_as(path)
        storescu(node, *study.files)
        tried = lambda name: [each for each in self.receiver.requests if each.path == f"/{name}"]  # noqa: E731
        wait_for(lambda: len(tried("paging")) > 1 and len(tried("named")) > 1, "attempts", 60, node.log_tail)
        node.kill()
        self.receiver.answers = []
        node.start()
        wait_for(lambda: len(self.receiver.of_kind("finding")) == 2, "two events", 30, node.log_tail)

        for name in ("paging", "named"):
            with self.subTest(name):
                attempts = tried(name)
                self.assertEqual(len({each.body for each in attempts}), 1, "the body is the same at every attempt")
                self.assertEqual([each.status for each in attempts].count(204), 1)
                self.assertEqual(attempts[0].headers["Content-Type"], "application/json")
                identified = [text for text in IDENTITY if text in attempts[0].body.decode()]
                self.assertEqual(identified, list(IDENTITY[1:]) if name == "named" else [])
        self.assertEqual([each.path for each in self.receiver.requests if each.path == "/elsewhere"], [])
        self.assert_tells_the_truth(self.receiver.of_kind("finding")[0], study)
        self.assert_checks_fail_what_is_not_genuine(tried("paging")[-1])
        self.assert_says_why_others_do_not_get_it(node, tried)
        self.assertNotIn(SECRET, "".join(log.read_text() for log in node.folder.glob("*.log")))

        # Nothing flags with this threshold: the same study analysed again is a correction.
        node.stop()
        node._configure(lambda configuration: configuration["routes"][0].update(threshold=1.0))
        node.start()
        node.command("study", "reprocess", study.uid)
        wait_for(lambda: len(self.receiver.of_kind("correction")) == 2, "the correction", 60, node.log_tail)
        correction = self.receiver.of_kind("correction")[0]
        self.assertEqual(correction["study"]["study_instance_uid"], study.uid)
        self.assertNotEqual(correction["result"]["presence"], "present")
        self.assertEqual(correction["result"]["revision"], 2)
        self.assertEqual(correction["result"]["flagged_sop_instance_uids"], [])
        self.assertEqual(len(self.receiver.of_kind("finding")), 2)

    def test_a_secret_that_others_may_read_is_found_before_an_event_is_due(self):
        node = self.make_node(webhooks=[self.webhook("open", "https://localhost/", mode=0o644)])
        for mode, status, text in ((0o644, 78, "open.secret is open to others (mode 644)"), (0o640, 0, "good")):
            (self.folder / "open.secret").chmod(mode)
            command = [str(ICHNODE), "config", "check", str(node.configuration)]
            result = subprocess.run(command, capture_output=True, text=True, timeout=30)
            self.assertEqual(result.returncode, status, result)
            self.assertIn(text, result.stdout + result.stderr)
            self.assertNotIn(SECRET, result.stdout + result.stderr)

    def assert_tells_the_truth(self, event: dict, study) -> None:
        sent = [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in study.files]
        result = event["result"]
        self.assertEqual(event["study"]["study_instance_uid"], study.uid)
        self.assertEqual(result["presence"], "present")
        self.assertGreaterEqual(result["probability"], result["threshold"])
        flagged = result["flagged_sop_instance_uids"]
        self.assertTrue(flagged)
        # Feet to head, as the study is written.
        self.assertEqual(flagged, [uid for uid in sent if uid in flagged])
        self.assertIn(result["report_sop_instance_uid"], self.archive.stored)
        self.assertLessEqual(result["last_image_received_at"], event["created_at"])

    def assert_checks_fail_what_is_not_genuine(self, request) -> None:
        """By the lines of the documents, with a request that was good."""
        receiver, body, signature = self.receiver, request.body, request.headers["ICHNode-Signature"]
        self.assertIsNone(receiver.check(body, signature), "a replay is known")
        moment = int(re.search(r"t=(\d+)", signature)[1])
        altered = {
            "body": (body.replace(b"present", b"absent"), signature),
            "time": (body, signature.replace(f"t={moment}", f"t={moment + 1}")),
            "signature": (body, signature[:-1] + ("0" if signature[-1] != "0" else "1")),
        }
        for what, (text, header) in altered.items():
            with self.subTest(what), self.assertRaises(PermissionError):
                receiver.check(text, header)
        with self.assertRaises(PermissionError):
            receiver.names["receive"](body, signature, b"another secret", set())
        for seconds, is_good in ((300, True), (301, False)):
            clock = SimpleNamespace(time=lambda seconds=seconds: moment + seconds)
            with self.subTest(f"{seconds} s later"), unittest.mock.patch.dict(receiver.names, time=clock):
                if is_good:
                    self.assertIsNotNone(receiver.names["receive"](body, signature, SECRET.encode(), set()))
                else:
                    with self.assertRaises(PermissionError):
                        receiver.names["receive"](body, signature, SECRET.encode(), set())

    def assert_says_why_others_do_not_get_it(self, node: RestartableNode, tried) -> None:
        expected = {
            "distrusting": "certificate",
            "misnamed": "certificate",
            "endless": "no answer of the receiver",
            "silent": "does not answer in time",
        }

        def errors():
            return {each["destination"]: each.get("lastError") or "" for each in self.deliveries(node)}

        for name, part in expected.items():
            wait_for(lambda name=name, part=part: part in errors()[name], f"{name}: {part}", 30, lambda: f"{errors()}")
        self.assertEqual(tried("distrusting") + tried("misnamed"), [])


class Endless:
    """Answers with headers that never end."""

    def __init__(self):
        self.server = _server(self._answer)
        self.port = self.server.getsockname()[1]

    @staticmethod
    def _answer(connection) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-Filler: " + b"a" * 60_000 + b"\r\n")

    def stop(self) -> None:
        self.server.close()


class Silent(Endless):
    """Takes requests, and says nothing."""

    @staticmethod
    def _answer(connection) -> None:
        while connection.recv(65536):
            pass


def _server(answer):
    server = socket.create_server((LOOPBACK, 0))

    def serve(connection):
        try:
            with connection:
                answer(connection)
        except OSError:
            pass

    def accept():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server


@needs_node
class Watchdog(Alerts):
    def setUp(self):
        super().setUp()
        self.mails = self.folder / "mails"
        self.mails.mkdir()
        sendmail = self.folder / "sendmail"
        sendmail.write_text(
            f'#!/bin/sh\n[ "$*" = "-t -i" ] || exit 64\ncd "{self.mails}" && cat > $$.new && mv $$.new $$.eml\n'
        )
        sendmail.chmod(0o755)
        self.certificates.issue("node", "site", days=5)
        (tls_port,) = free_ports(1)
        self.node = self.make_node(
            tls=self.certificates.tls_section("node", "site", tls_port),
            completion={"deadline_seconds": 120},
            webhooks=[self.paging("paging")],
            operator_alerts={
                "check_seconds": 0.2,
                "no_result_minutes": NO_RESULT_SECONDS / 60,
                "destination_minutes": NO_RESULT_SECONDS / 60,
                "disk_below_mebibytes": 1 << 30,
                "crashes": 0,
                "crash_window_minutes": 0.1,
                "webhooks": ["paging"],
                "mail": {"to": ["a@example.org"], "from": "n@example.org", "sendmail": str(sendmail)},
            },
            routes=[{"name": "default", "calling_ae_titles": ["DEMOPACS"], "destinations": ["pacs"]}],
        )

    # What the node says

    def alerts(self, *options: str) -> list[dict]:
        return json.loads(self.node.command("alerts", "--json", *options))

    def wait_raised(self, kind: str, subject: str, part: str = "") -> dict:
        def found():
            active = [each for each in self.alerts() if (each["kind"], each["subject"]) == (kind, subject)]
            return active[0] if active and part in active[0]["text"] else None

        return wait_for(found, f"{kind} of {subject}: {part}", 30, self._detail)

    def wait_cleared(self, alert: dict) -> None:
        def is_over():
            (found,) = [each for each in self.alerts("--all", "--limit", "500") if each["id"] == alert["id"]]
            return found.get("clearedAt")

        wait_for(is_over, f"the end of {alert}", 40, self._detail)

    def _detail(self) -> str:
        return f"{self.node.command('alerts', '--all')}\n{self.node.command('study', 'list')}\n{self.node.log_tail(20)}"

    def head(self, name: str, *options: str):
        identity = ("--patient-name", "SECRETNAME^X", "--patient-id", "SECRETID", "--accession", "SECRETACCESSION")
        return phantom(self.folder / name, *identity, *options)

    # Tests

    def test_every_way_to_be_stuck_is_raised_once_and_cleared(self):
        self.node.start()
        disk = self.wait_raised("disk-short", "spool")
        certificate = self.wait_raised("certificate-expiring", str(self.certificates.pem("node")), "expires")

        # One of each at once: its sender stays open, no route, two patients, no head.
        waiting, stranger, conflict = self.head("waiting"), self.head("stranger"), self.head("conflict")
        other = self.head("other", "--patient-id", "SECRETID2", "--study-uid", conflict.uid)
        texts = ("--study-description", "CT CHEST", "--series-description", "CHEST")
        chest = self.head("chest", "--body-part", "CHEST", *texts)
        send_all(self.node, stranger.files, calling="STRANGER")
        send_all(self.node, conflict.files + other.files)
        with Sender(self.node, chest.files) as chest_sender, Sender(self.node, waiting.files) as sender:
            chest_sender.store_all(chest.files[:10])
            sender.store_all(waiting.files[:10])
            receiving = self.wait_raised("no-result", waiting.uid, "it waits")
            routeless = self.wait_raised("no-result", stranger.uid, "no route takes it")
            held = self.wait_raised("identity-conflict", conflict.uid)
            self.assertEqual(self.node.study(waiting.uid)["study"]["state"], "receiving")
            sender.store_all(waiting.files[10:])
        self.node.command("study", "ignore", stranger.uid)
        self.node.command("study", "release", conflict.uid)
        for alert in (receiving, routeless, held):
            self.wait_cleared(alert)
        self.assertEqual(self.node.study(waiting.uid)["study"]["pendingDeliveries"], 0)

        self._stop_the_decoder()
        self._crash_children()
        self._lose_the_archive()
        self._refuse_results()

        # It was open for longer than the head beside it.
        self.assertNotIn(chest.uid, [each["subject"] for each in self.alerts("--all", "--limit", "500")])
        self._restart_with_more_room(disk, certificate)
        self._assert_all_was_told()

    def _stop_the_decoder(self) -> None:
        """One study's analysis hangs, and the next waits for its turn."""
        (decoder,) = self.node.children("decode")
        os.kill(decoder, signal.SIGSTOP)
        try:
            studies = [self.head("hanging"), self.head("queued")]
            for study in studies:
                send_all(self.node, study.files)
            alerts = [
                self.wait_raised("no-result", studies[0].uid, "its analysis does not end"),
                self.wait_raised("no-result", studies[1].uid, "it waits"),
            ]
            self.assertEqual(self.node.study(studies[0].uid)["study"]["state"], "analysing")
        finally:
            os.kill(decoder, signal.SIGCONT)
        for alert in alerts:
            self.wait_cleared(alert)

    def _crash_children(self) -> None:
        for verb in ("decode", "infer"):
            (child,) = self.node.children(verb)
            os.kill(child, signal.SIGKILL)
        send_all(self.node, self.head("crash").files)
        # Over when the window has passed them.
        for alert in [self.wait_raised("process-crashes", verb) for verb in ("decode", "infer")]:
            self.wait_cleared(alert)

    def _lose_the_archive(self) -> None:
        self.archive.stop()
        study = self.head("pending")
        send_all(self.node, study.files)
        alerts = [
            self.wait_raised("no-result", study.uid, "not taken by pacs"),
            self.wait_raised("destination-failing", "pacs"),
        ]
        gauge = http(f"{self.node.url}/metrics").decode()
        self.assertIn('ichnode_operator_alerts_active{kind="destination-failing"} 1', gauge)
        self.archive.start()
        for alert in alerts:
            self.wait_cleared(alert)

    def _refuse_results(self) -> None:
        self.archive.status = CANNOT_UNDERSTAND
        study = self.head("refused")
        send_all(self.node, study.files)
        alerts = [
            self.wait_raised("delivery-given-up", "pacs"),
            self.wait_raised("no-result", study.uid, "refused for good by pacs"),
        ]
        self.archive.status = 0
        (dead,) = [each["id"] for each in self.deliveries(self.node) if each["state"] == "dead"]
        self.node.command("outbox", "retry", str(dead))
        for alert in alerts:
            self.wait_cleared(alert)

    def _restart_with_more_room(self, disk: dict, certificate: dict) -> None:
        self.assertLessEqual({disk["id"], certificate["id"]}, {each["id"] for each in self.alerts()})
        self.node.stop()
        self.node._configure(
            lambda configuration: configuration["operator_alerts"].update(disk_below_mebibytes=0, certificate_days=1)
        )
        self.node.start()
        for alert in (disk, certificate):
            self.wait_cleared(alert)

    def _assert_all_was_told(self) -> None:
        wait_for(lambda: self.alerts() == [], "nothing is active any more", 30, self._detail)
        alerts = self.alerts("--all", "--limit", "500")
        told = lambda kind: sorted(each["alert"]["number"] for each in self.receiver.of_kind(kind))  # noqa: E731
        numbers = sorted(each["id"] for each in alerts)
        wait_for(lambda: told("operator-alert-cleared") == numbers, "all events", 20, self._detail)
        self.assertEqual(told("operator-alert"), numbers)
        self.assertEqual({each["occurrence"] for each in alerts if each["kind"] == "no-result"}, {1})

        def mail():
            return "".join(each.read_text() for each in self.mails.glob("*.eml"))

        for alert in alerts:
            for word in ("RAISED", "CLEARED"):
                line = re.compile(rf"^{word} {alert['kind']} \({alert['id']}[,)]", re.MULTILINE)
                wait_for(lambda line=line: line.search(mail()), f"{word} {alert['id']} in a mail", 20, mail)
        for text in (mail(), *(each.body.decode() for each in self.receiver.requests)):
            self.assertEqual([each for each in IDENTITY if each in text], [])


if __name__ == "__main__":
    unittest.main()
