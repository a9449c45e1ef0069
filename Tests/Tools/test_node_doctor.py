"""What `ichnode doctor` says of broken set-ups, each with the real other end, and of a good one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from certificates import CertificateFolder
from node_fixture import (
    ICHNODE,
    LOOPBACK,
    MODELS,
    RestartableNode,
    RestartablePacs,
    Server,
    find_tool,
    free_ports,
    needs_node,
    wait_for,
)
from pynetdicom import AE
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from ris import Ris
from scenario_site import Clock

NOBODY = 65534
# Warnings that are the test machine's: a container has no time service, an old kernel no Landlock, a small disk no room.
OF_THE_MACHINE = {"clock.synchronised", "disk.space", "kernel.version", "kernel.landlock", "kernel.seccomp", "descriptors"}

as_root = unittest.skipUnless(os.geteuid() == 0, "only root becomes another user, or mounts")


class Said:
    """An examination's exit code and findings."""

    def __init__(self, result: subprocess.CompletedProcess):
        self.code, self.text = result.returncode, result.stdout + result.stderr
        self.report = json.loads(result.stdout)
        self.findings = self.report["findings"]

    def of(self, check: str, subject: str | None = None) -> list[dict]:
        return [each for each in self.findings if each["check"] == check and subject in (None, each["subject"])]

    def at(self, level: str) -> set[str]:
        return {each["check"] for each in self.findings if each["level"] == level}


class DoctorTestCase(unittest.TestCase):
    def setUp(self):
        # Not below a folder of root's alone: the node's user comes here too.
        folder = tempfile.TemporaryDirectory(prefix="ichnode-doctor-", dir="/tmp")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.folder.chmod(0o755)

    def node(self, pacs_port: int, **sections) -> RestartableNode:
        node = RestartableNode(Path(tempfile.mkdtemp(dir=self.folder)), pacs_port, **sections)
        node.folder.chmod(0o755)
        self.data(node).chmod(0o750)
        node.change_peer(ae_title="PACS")
        self.addCleanup(node.stop)
        return node

    def data(self, node: RestartableNode) -> Path:
        return node.folder / "data"

    def peer(self, *sop_classes, **demands) -> int:
        """The port of one that accepts these, and Verification."""
        entity = AE(ae_title="PACS")
        for sop_class in (Verification, *sop_classes):
            entity.add_supported_context(sop_class)
        for name, value in demands.items():
            setattr(entity, name, value)
        (port,) = free_ports(1)
        server = entity.start_server((LOOPBACK, port), block=False)
        self.addCleanup(server.shutdown)
        return port

    def good_peer(self, **demands) -> int:
        return self.peer(SecondaryCaptureImageStorage, EnhancedSRStorage, **demands)

    def run_doctor(
        self, node: RestartableNode, *options: str, before: tuple = (), user: int | None = None, **environment: str
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*map(str, before), str(ICHNODE), "doctor", "--config", str(node.configuration), *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            cwd="/",
            env={**os.environ, **environment},
            **({} if user is None else {"user": user, "group": user, "extra_groups": []}),
        )

    def doctor(self, node: RestartableNode, **options) -> Said:
        return Said(self.run_doctor(node, "--json", **options))

    def assert_only_bad(self, said: Said, check: str, *words: str) -> None:
        """One check is bad, and says so in these words; whatever went wrong, the code is 78."""
        self.assertEqual((said.code, said.report["result"], said.at("bad")), (78, "bad", {check}), said.text)
        sentences = [f"{each['text']}: {each.get('advice')}" for each in said.of(check)]
        self.assertTrue(any(all(word in each for word in words) for each in sentences), f"{words} in {sentences}")

    def give_to_nobody(self, node: RestartableNode) -> None:
        tried = subprocess.run([str(ICHNODE), "--version"], capture_output=True, cwd="/", user=NOBODY)
        if tried.returncode != 0:
            self.skipTest(f"{ICHNODE} cannot be run by another user")
        for path in (self.data(node), *self.data(node).rglob("*"), node.folder / "run"):
            os.chown(path, NOBODY, NOBODY)


class StorageServer(Server):
    """DCMTK's storescp."""

    def __init__(self, folder: Path, *options: str):
        (self.port,) = free_ports(1)
        folder.mkdir()
        command = [find_tool("storescp", "dcmtk"), *map(str, options), "-od", str(folder), str(self.port)]
        super().__init__("storescp", command, folder / "log")


@needs_node
class Peers(DoctorTestCase):
    """What does not come as far as TLS."""

    def said(self, port: int, route: dict | None = None, **peer) -> Said:
        node = self.node(port, routes=[{"name": "default", "destinations": ["pacs"], **(route or {})}])
        node.change_peer(**peer)
        return self.doctor(node)

    def test_wrong_called_ae_title(self):
        said = self.said(self.good_peer(require_called_aet=True), ae_title="PASC")
        self.assert_only_bad(said, "peer.association", 'called AE title "PASC"', "ae_title of this peer in the file")
        self.assertEqual(said.of("peer.echo"), [], "what could not be tried is not good")

    def test_unknown_calling_ae_title(self):
        said = self.said(self.good_peer(require_calling_aet=["VIEWER"]))
        self.assert_only_bad(
            said, "peer.association", 'calling AE title "ICHNODE"', "enter ICHNODE with this machine's address at the PACS"
        )

    def test_unknown_calling_ae_title_of_an_archive_that_blames_the_called_one(self):
        """DCMTK's, which knows those of its table alone."""
        (port,) = free_ports(1)
        archive = self.folder / "archive"
        archive.mkdir()
        settings = self.folder / "dcmqrscp.cfg"
        settings.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\nviewer = (VIEWER, localhost, 104)\nHostTable END\n"
            f"VendorTable BEGIN\nVendorTable END\nAETable BEGIN\nPACS {archive} RW (9, 1024mb) viewer\nAETable END\n"
        )
        command = [find_tool("dcmqrscp", "dcmtk"), "-c", str(settings)]
        self.enterContext(Server("dcmqrscp", command, self.folder / "dcmqrscp.log"))
        wait_for(lambda: socket.socket().connect_ex((LOOPBACK, port)) == 0, "dcmqrscp listens")
        said = self.said(port)
        self.assert_only_bad(said, "peer.association", 'called AE title "PACS"', "enter ICHNODE there")

    def test_closed_port(self):
        (port,) = free_ports(1)
        said = self.said(port)
        self.assert_only_bad(said, "peer.tcp", f"cannot connect to {LOOPBACK}:{port}", "Check host and port of this peer")

    def test_unknown_name(self):
        said = self.said(104, host="pacs.invalid")
        self.assert_only_bad(said, "peer.name", '"pacs.invalid" is not known here', "correct host of this peer")

    def test_everything_that_is_refused_is_named_with_what_to_change(self):
        route = {"key_objects": True, "counts_from": "pacs", "retrieve_from": "pacs"}
        said = self.said(self.peer(SecondaryCaptureImageStorage), route, commitment="required")
        self.assert_only_bad(said, "peer.contexts", "no Enhanced SR Storage", "change sr_class of the route default")
        advised = {each["text"]: each["advice"] for each in said.of("peer.contexts")}
        for refused, advice in (
            ("Enhanced SR Storage", "allow it there, or change sr_class of the route default"),
            ("Key Object Selection Document Storage", "allow it there, or set key_objects: false in the route default"),
            ("Study Root query (C-FIND)", "allow it there, or set counts_from: none in the route default"),
            ("Study Root retrieval (C-MOVE)", "allow it there, or set retrieve_from: none in the route default"),
            ("storage commitment", "switch it on there, or set commitment: none for this peer"),
        ):
            with self.subTest(refused):
                self.assertEqual(advised.pop(f"peer pacs accepts no {refused}"), advice)
        self.assertEqual(advised, {})

    def test_a_peer_that_may_be_the_sender_has_to_accept_results(self):
        said = self.said(self.peer(SecondaryCaptureImageStorage), {"destinations": ["sender"]})
        self.assert_only_bad(said, "peer.contexts", "no Enhanced SR Storage")

    def test_another_sr_class_will_do(self):
        port = self.peer(SecondaryCaptureImageStorage, ComprehensiveSRStorage)
        said = self.said(port, {"sr_class": "comprehensive3d"})
        self.assertEqual(said.code, 0, said.text)
        (finding,) = said.of("peer.contexts")
        self.assertEqual(finding["level"], "warning")
        self.assertIn("peer pacs accepts no Comprehensive 3D SR Storage", finding["text"])

    def test_a_peer_that_refuses_queries_only_when_it_is_asked(self):
        entity = AE(ae_title="PACS")
        for sop_class in (
            Verification,
            SecondaryCaptureImageStorage,
            EnhancedSRStorage,
            StorageCommitmentPushModel,
            StudyRootQueryRetrieveInformationModelFind,
        ):
            entity.add_supported_context(sop_class)
        (port,) = free_ports(1)
        # Without a handler for it pynetdicom answers each query with a failure.
        self.addCleanup(entity.start_server((LOOPBACK, port), block=False).shutdown)
        said = self.said(port, {"counts_from": "pacs"}, commitment="required")
        self.assert_only_bad(said, "peer.query", "does not answer C-FIND", "set counts_from: none")
        self.assertEqual([each["level"] for each in said.of("peer.contexts")], ["good"])

    def test_silent_ends_are_given_up_all_at_once(self):
        with socket.create_server((LOOPBACK, 0), backlog=64) as silent:
            port = silent.getsockname()[1]
            node = self.node(port, hl7=[{"name": "ris", "host": LOOPBACK, "port": 1}])
            for name in ("second", "third", "fourth"):
                node.add_peer(name, ae_title=name.upper(), port=port)
            started = time.monotonic()
            said = self.doctor(node)
            seconds = time.monotonic() - started
        self.assertEqual(said.code, 78)
        self.assertEqual(len([each for each in said.of("peer.association") if each["level"] == "bad"]), 4, said.text)
        self.assertEqual([each["level"] for each in said.of("hl7.tcp")], ["bad"])
        # Each has 5 s for its answer.
        self.assertLess(seconds, 15)


@needs_node
class WithinTLS(DoctorTestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="ichnode-doctor-tls-")
        cls.addClassCleanup(folder.cleanup)
        cls.certificates = CertificateFolder(Path(folder.name))
        for authority in ("site", "other"):
            cls.certificates.authority(authority)
        names = "DNS:localhost,IP:127.0.0.1"
        for name, authority in (("node", "site"), ("pacs", "site"), ("stranger", "other")):
            cls.certificates.issue(name, authority, names=names)
        cls.certificates.issue("old", "site", expired=True)

    def server(self, name: str) -> int:
        """The port of one within TLS that shows this certificate."""
        identity = ["+tls", self.certificates.key(name), self.certificates.pem(name)]
        server = self.enterContext(
            StorageServer(self.folder / name, *identity, "+cf", self.certificates.pem("site"))
        )
        wait_for(lambda: socket.socket().connect_ex((LOOPBACK, server.port)) == 0, "storescp listens")
        return server.port

    def own_files(self) -> dict[str, str]:
        section = self.certificates.tls_section("node", "site", 0)
        return {key: section[key] for key in ("certificate", "key", "ca")}

    def said(self, port: int, *, tls: bool = True, **peer) -> Said:
        node = self.node(port)
        node.change_peer(host="localhost", **({"tls": True, **self.own_files()} if tls else {}), **peer)
        return self.doctor(node)

    def test_tls_to_a_plain_port(self):
        said = self.said(self.good_peer())
        self.assert_only_bad(said, "peer.tls", "no TLS with localhost", "the peer answers without TLS")

    def test_plain_to_a_tls_port(self):
        said = self.said(self.server("pacs"), tls=False)
        self.assert_only_bad(said, "peer.tls", "the peer speaks TLS on this port: set tls: true")

    def test_unknown_issuer(self):
        said = self.said(self.server("stranger"))
        self.assert_only_bad(
            said, "peer.tls", 'certificate "CN=stranger,O=Test site" issued by "CN=other', "is not in peers[0].ca"
        )

    def test_expired_certificate(self):
        # That has no names.
        said = self.said(self.server("old"), verify_host=False)
        self.assert_only_bad(
            said, "peer.tls", '"O=Test site,CN=old"', "it has expired (it is valid to 2020-02-01)", "renew it at the peer"
        )

    def receiver(self, name: str, context: ssl.SSLContext) -> tuple[str, list[str]]:
        """URL of a receiver of events, and the requests that it gets."""
        heard: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self):
                super().handle_one_request()
                heard.append(getattr(self, "requestline", ""))

            def do_HEAD(self):
                self.send_response(405)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"https://localhost:{server.server_port}/{name}", heard

    def server_context(self, name: str = "pacs") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.pem(name), self.certificates.key(name))
        return context

    def secret(self) -> Path:
        secret = self.folder / "secret"
        secret.write_text("0123456789abcdef" * 2)
        secret.chmod(0o600)
        return secret

    def test_a_good_set_up_before_the_start_and_while_the_node_runs(self):
        pacs = self.enterContext(RestartablePacs(self.folder / "orthanc", DicomAlwaysAllowFind=True))
        mutual = self.server_context()
        mutual.verify_mode = ssl.CERT_REQUIRED
        mutual.load_verify_locations(self.certificates.pem("site"))
        ris = Ris(context=mutual).start()
        self.addCleanup(ris.stop)
        url, heard = self.receiver("paging", self.server_context())
        sendmail = self.folder / "sendmail"
        sendmail.write_text("#!/bin/sh\n")
        sendmail.chmod(0o755)
        route = {"counts_from": "pacs", "retrieve_from": "pacs", "key_objects": True, "alerts": ["ris", "paging"]}
        node = self.node(
            pacs.dicom_port,
            tls=self.certificates.tls_section("node", "site", *free_ports(1)),
            hl7=[{"name": "ris", "host": "localhost", "port": ris.port, "tls": True, **self.own_files()}],
            webhooks=[
                {
                    "name": "paging",
                    "url": url,
                    "secret_file": str(self.secret()),
                    "ca": str(self.certificates.pem("site")),
                }
            ],
            operator_alerts={
                "webhooks": ["paging"],
                "mail": {"to": ["a@b.example"], "from": "c@d.example", "sendmail": str(sendmail)},
            },
            routes=[{"name": "default", "destinations": ["pacs", "archive"], **route}],
        )
        node.change_peer(ae_title="ORTHANC", commitment="required")
        archive = {"ae_title": "ARCHIVE", "host": "localhost", "port": self.server("pacs"), "tls": True}
        peers = json.loads(node.configuration.read_text())["peers"]
        node._configure(lambda configuration: configuration.update(peers=[*peers, {"name": "archive", **archive}]))

        def good() -> Said:
            said = self.doctor(node)
            self.assertEqual(said.code, 0, said.text)
            self.assertLessEqual(said.at("warning"), OF_THE_MACHINE, said.text)
            return said

        before = good()
        expected = {"folder.data", "model.load", "certificate", "peer.echo", "peer.tls", "peer.contexts", "peer.query"}
        expected |= {"hl7.tcp", "hl7.tls", "webhook.tcp", "webhook.tls", "clock.receiver", "clock.order"}
        expected |= {"port.dicom", "port.tls", "port.console", "node.running", "configuration", "user"}
        self.assertLessEqual(expected, before.at("good"))
        (secured,) = before.of("peer.tls", "archive")
        shown = r'shows the certificate "CN=pacs,O=Test site" issued by "CN=site,O=Test site", valid to \d{4}-\d\d-\d\d, '
        self.assertRegex(secured["text"], shown + r"by TLSv1\.[23]$")
        for check in ("hl7.tls", "webhook.tls"):
            self.assertRegex(before.of(check)[0]["text"], shown)
        self.assertEqual(sorted(os.listdir(self.data(node))), [], "it leaves nothing behind")
        self.assertEqual(ris.heard, [])
        self.assertEqual({each.split(" ")[0] for each in heard} - {""}, {"HEAD"})

        node.start()
        running = good()
        self.assertIn("is held by the running node", running.of("port.dicom")[0]["text"])
        self.assertLessEqual({"node.running", "node.version", "node.configuration", "alerts"}, running.at("good"))
        # As text, line by line.
        lines = self.run_doctor(node).stdout.splitlines()
        self.assertEqual({line[:6] for line in lines} - {"warn  "}, {"good  "})
        self.assertEqual(len(lines), len(running.findings))

        node.change("completion", quiet_seconds=50)
        changed = self.doctor(node)
        self.assertEqual((changed.code, changed.at("warning") - OF_THE_MACHINE), (0, {"node.configuration"}))
        self.assertIn("has changed since the running node read it", changed.of("node.configuration")[0]["text"])
        # Another node's port.
        node.change("node", run_directory=str(self.folder))
        taken = self.doctor(node)
        self.assertEqual((taken.code, taken.at("bad")), (78, {"port.dicom", "port.tls", "port.console"}), taken.text)
        self.assertIn("is taken by another program", taken.of("port.dicom")[0]["text"])

    def test_receivers_that_cannot_be_reached(self):
        url, _ = self.receiver("paging", self.server_context("stranger"))
        (closed,) = free_ports(1)
        plain = Ris().start()
        self.addCleanup(plain.stop)
        hook = {"secret_file": str(self.secret()), "ca": str(self.certificates.pem("site"))}
        node = self.node(
            self.good_peer(),
            hl7=[
                {"name": "closed", "host": LOOPBACK, "port": closed},
                {"name": "plain", "host": LOOPBACK, "port": plain.port, "tls": True, **self.own_files()},
                {"name": "nameless", "host": "ris.invalid", "port": 1},
            ],
            webhooks=[
                {"name": "strange", "url": url, **hook},
                {"name": "gone", "url": "https://paging.invalid/x", **hook},
                {"name": "secretless", "url": f"http://{LOOPBACK}:{closed}/", "secret_file": "/nowhere"},
            ],
        )
        said = self.doctor(node)
        self.assertEqual(said.code, 78)
        bad = {(each["check"], each["subject"]) for each in said.findings if each["level"] == "bad"}
        expected = {("hl7.tcp", "closed"), ("hl7.tls", "plain"), ("hl7.name", "nameless"), ("webhook.tls", "strange")}
        expected |= {("webhook.name", "gone"), ("webhook.tcp", "secretless"), ("webhook.files", "secretless")}
        self.assertEqual(bad, expected, said.text)
        self.assertIn('"CN=stranger,O=Test site"', said.of("webhook.tls")[0]["text"])
        self.assertEqual(plain.heard, [])


@needs_node
class Machine(DoctorTestCase):
    """What is wrong on this side."""

    def test_unknown_key_beside_a_rest_that_is_looked_at(self):
        (port,) = free_ports(1)
        node = self.node(port)
        node.change("completion", grace_second=3)
        node.change("disk", refuse_objects_below_mebibytes="much")
        said = self.doctor(node)
        self.assertEqual((said.code, said.at("bad")), (78, {"configuration", "peer.tcp"}), said.text)
        unknown, impossible = sorted(said.of("configuration"), key=lambda each: "grace_second" not in each["text"])
        lines = node.configuration.read_text().splitlines()
        self.assertIn("completion.grace_second is not a known key; did you mean grace_seconds?", unknown["text"])
        for finding, key in ((unknown, '"grace_second"'), (impossible, "refuse_objects")):
            self.assertIn(key, lines[int(finding["subject"].rsplit(":", 1)[1]) - 1])

    def test_a_file_that_is_none(self):
        node = self.node(104)
        for content, words in (("peers: [", "not YAML"), (None, "cannot be read")):
            with self.subTest(words):
                node.configuration.unlink() if content is None else node.configuration.write_text(content)
                self.assert_only_bad(self.doctor(node), "configuration", words)

    @as_root
    def test_full_disk(self):
        node = self.node(self.good_peer())
        fill = f"mount -t tmpfs -o size=1m,mode=750 none {self.data(node)} && mkdir -p {self.data(node)}/spool/incoming"
        fill += f'; head -c 2M /dev/zero > {self.data(node)}/full 2>/dev/null; exec "$@"'
        said = self.doctor(node, before=("unshare", "--mount", "bash", "-c", fill, "bash"))
        self.assertEqual((said.code, said.at("bad")), (78, {"disk.write", "disk.space"}), said.text)
        self.assertIn(f"nothing can be written to {self.data(node)} (No space left", said.of("disk.write")[0]["text"])
        self.assertIn("0.0 GiB free", said.of("disk.space")[0]["text"])
        self.assertIn("objects are refused with less than 1.0 GiB", said.of("disk.space")[0]["text"])

    @as_root
    def test_model_that_the_nodes_user_may_not_read(self):
        model = shutil.copytree(MODELS[0], self.folder / "model")
        (model / "encoder.onnx").chmod(0o600)
        node = self.node(self.good_peer())
        node.change("node", model=str(model))
        self.give_to_nobody(node)
        said = self.doctor(node)
        self.assert_only_bad(said, "model.files", str(model), "that the node's user may read")
        self.assertEqual(said.of("user")[0]["text"], "looks as nobody, the node's user")
        self.assertEqual(said.of("model.load"), [])

    def test_damaged_model_and_a_threshold_that_it_does_not_have(self):
        model = shutil.copytree(MODELS[0], self.folder / "model")
        node = self.node(self.good_peer())
        node.change("node", model=str(model))
        node.change_route(threshold="bold")
        self.assert_only_bad(self.doctor(node), "model.threshold", 'no threshold "bold"', "route default")
        with (model / "encoder.onnx").open("r+b") as file:
            file.write(b"\1\2\3\4")
        self.assert_only_bad(self.doctor(node), "model.files", "SHA-256 differs")

    @as_root
    def test_spool_that_the_nodes_user_may_not_write(self):
        """Left by somebody who once ran the node as root. Root, who looks on behalf of that user, sees the same."""
        node = self.node(self.good_peer())
        self.give_to_nobody(node)
        incoming = self.data(node) / "spool" / "incoming"
        incoming.mkdir(parents=True)
        os.chown(incoming.parent, NOBODY, NOBODY)
        for user in (NOBODY, None):
            with self.subTest(user=user):
                said = self.doctor(node, user=user)
                self.assert_only_bad(
                    said, "folder.spool", f"{incoming} is not writable for nobody: it belongs to root", "chown -R nobody:"
                )

    def test_a_data_directory_at_which_the_node_would_not_start(self):
        node = self.node(self.good_peer())
        (self.data(node) / "restore.part").mkdir()
        (self.data(node) / "installation-id").touch()
        ledger = sqlite3.connect(self.data(node) / "ledger.sqlite")
        ledger.execute("PRAGMA journal_mode = WAL")
        ledger.execute("CREATE TABLE grdb_migrations (identifier TEXT NOT NULL PRIMARY KEY)")
        ledger.execute("INSERT INTO grdb_migrations VALUES ('of tomorrow')")
        ledger.commit()
        ledger.close()
        names = sorted(os.listdir(self.data(node)))
        said = self.doctor(node)
        self.assertEqual((said.code, said.at("bad")), (78, {"folder.data", "ledger"}), said.text)
        texts = [each["text"] for each in said.findings if each["level"] == "bad"]
        for words in ("run `ichnode restore` once more", "installation-id is empty", "of a later version of ichnode"):
            self.assertEqual(len([each for each in texts if words in each]), 1, f"{words} in {texts}")
        self.assertEqual(sorted(os.listdir(self.data(node))), names, "it leaves nothing behind")

    def test_data_directory_that_is_a_link_to_nothing(self):
        node = self.node(self.good_peer())
        self.data(node).rmdir()
        self.data(node).symlink_to(self.folder / "unmounted")
        self.assert_only_bad(self.doctor(node), "folder.data", "is a link to nothing")

    @as_root
    def test_whoever_is_not_the_nodes_user_is_told_so(self):
        node = self.node(self.good_peer())
        self.give_to_nobody(node)
        said = self.doctor(node, user=1)
        self.assert_only_bad(said, "user", f"looks as daemon, while {self.data(node)} belongs to nobody", "run it as root")
        self.assertEqual([each for each in said.findings if each["check"].startswith("folder.")], [])

    def test_clock_that_went_back(self):
        node = self.node(self.good_peer())
        (self.data(node) / "ledger.sqlite").touch()
        clock = Clock(self.folder)
        clock.path.write_bytes(struct.pack("<q", -90 * 86400 * 10**9))
        said = self.doctor(node, LD_PRELOAD=str(clock.library), ICHNODE_CLOCK=str(clock.path))
        self.assert_only_bad(said, "clock.order", "which is before the ledger was written", "set the clock")

    def test_clock_that_differs_from_a_receivers(self):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        secret = self.folder / "secret"
        secret.write_text("0123456789abcdef")
        secret.chmod(0o600)
        url = f"http://{LOOPBACK}:{server.server_port}/event"
        node = self.node(self.good_peer(), webhooks=[{"name": "paging", "url": url, "secret_file": str(secret)}])
        clock = Clock(self.folder)
        clock.advance(7200)
        said = self.doctor(node, LD_PRELOAD=str(clock.library), ICHNODE_CLOCK=str(clock.path))
        self.assert_only_bad(said, "clock.receiver", "ahead of that of webhook paging")
        self.assertRegex(said.of("clock.receiver")[0]["text"], r"the clock is (7199|7200|7201|7202) s ahead")


if __name__ == "__main__":
    unittest.main()
