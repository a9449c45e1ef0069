"""DICOM over TLS: who is let in, what is said to the others, and that nobody who stalls keeps anybody waiting."""

import base64
import json
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import pydicom
from certificates import CertificateFolder
from node_fixture import (
    ICHNODE,
    LOOPBACK,
    NodeTestCase,
    RestartableNode,
    RestartablePacs,
    Sender,
    echoscu,
    free_ports,
    needs_node,
    phantom,
    run_tool,
    storescu,
    wait_for,
)
from processes import Server, find_tool, http

REQUEST_DEADLINE_SECONDS = 4
# A-ASSOCIATE-RQ of protocol version 2, which does not exist (PS3.8 §9.3.2).
VERSION_2_REQUEST = (
    bytes([1, 0, 0, 0, 0, 68, 0, 2, 0, 0]) + b"ICHNODE".ljust(16) + b"DEMOPACS".ljust(16) + bytes(32)
)
# The head of a TLS 1.2 record that announces more than follows.
HALF_A_HELLO = bytes([0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3])


class TLSTestCase(NodeTestCase):
    """Nodes of their own beside the shared one, for certificates that all of its tests share."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory(prefix="ichnode-tls-")
        cls.addClassCleanup(folder.cleanup)
        cls.certificates = CertificateFolder(Path(folder.name))
        for authority in ("site", "other"):
            cls.certificates.authority(authority)
        cls.certificates.issue("node", "site")
        cls.certificates.issue("scanner", "site")
        cls.certificates.issue("stranger", "other")
        cls.certificates.issue("old", "site", expired=True)

    @classmethod
    def tls_section(cls, identity: str = "node", **keys) -> dict:
        return cls.certificates.tls_section(identity, "site", *free_ports(1), **keys)

    @classmethod
    def started(cls, name: str, tls: dict, **dicom) -> RestartableNode:
        dicom = {"request_deadline_seconds": REQUEST_DEADLINE_SECONDS, **dicom}
        node = cls.site.add_node(name, tls=tls, dicom=dicom)
        node.tls_port = tls["port"]
        cls.addClassCleanup(node.stop)
        return node.start()

    def options(self, name: str | None = "scanner", trusts: str = "site") -> list[str]:
        """Of DCMTK's programs."""
        identity = ["+tla"] if name is None else ["+tls", self.certificates.key(name), self.certificates.pem(name)]
        return [*map(str, identity), "+cf", str(self.certificates.pem(trusts))]

    def tls_echo(self, node, *options: str, called: str = "ICHNODE", port: int | None = None):
        address = [LOOPBACK, str(port or node.tls_port)]
        return run_tool("echoscu", "-v", *options, "-aet", "DEMOPACS", "-aec", called, *address, timeout=30)

    def assert_logged(self, node, *texts: str, seconds: float = 5) -> str:
        """A line that holds them all."""

        def line():
            return next((each for each in node.log_text().splitlines() if all(text in each for text in texts)), None)

        return wait_for(line, f"{texts} in one line of the log", seconds, lambda: node.log_tail(30))

    def context(self, name: str | None = "scanner") -> ssl.SSLContext:
        return self.certificates.client_context(name, "site")

    def connected(self, node, name: str | None = "scanner") -> ssl.SSLSocket:
        plain = socket.create_connection((LOOPBACK, node.tls_port), timeout=10)
        self.addCleanup(plain.close)
        secure = self.context(name).wrap_socket(plain)
        self.addCleanup(secure.close)
        return secure

    @staticmethod
    def counter(node, name: str) -> float:
        text = http(f"{node.url}/metrics").decode()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0


@needs_node
class TLSReceiving(TLSTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.secure = cls.started("secure", cls.tls_section())

    # Those who may

    def test_objects_are_stored_byte_for_byte_and_the_log_names_the_peer(self):
        study = phantom(self.folder, "--slices", "5", "--size", "512")
        address = ["-aet", "DEMOPACS", "-aec", "ICHNODE", LOOPBACK, str(self.secure.tls_port)]
        result = run_tool("storescu", "-v", "+sd", *self.options(), *address, str(self.folder))
        self.assertEqual(result.returncode, 0, result.stdout)
        wait_for(lambda: len(self.secure.stored(study.uid)) == 5, "all are stored", 10, self.secure.log_tail)
        self.assert_in_spool(study, study.files, self.secure)
        line = self.assert_logged(self.secure, " info ", "association accepted", "peer.certificate=CN=scanner")
        for part in ("tls.version=TLSv1.3", "tls.cipher=TLS_AES", "peer.ae=DEMOPACS"):
            self.assertIn(part, line)

    def test_another_implementation_sends_and_is_told_when_the_node_stops(self):
        node = self.started("stopped", self.tls_section())
        study = phantom(self.folder, "--slices", "3")
        with Sender(node, study.files, port=node.tls_port, tls_args=(self.context(), None)) as sender:
            self.assertEqual(len(sender.store_all(study.files)), 3)
            started = time.monotonic()
            node.stop()
            self.assertLess(time.monotonic() - started, 10)
            wait_for(lambda: sender.association.is_aborted, "the node aborts the association", 5)
        self.assertEqual(node.exit_status, 0)
        self.assert_in_spool(study, study.files, node)
        self.assertIn("stopped by the daemon", node.log_text())

    def test_tls_1_2_with_the_suites_of_the_profile_is_taken(self):
        for suite in ("ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
            context = self.context()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(suite)
            with socket.create_connection((LOOPBACK, self.secure.tls_port), timeout=10) as plain:
                with context.wrap_socket(plain) as secure:
                    self.assertEqual((secure.version(), secure.cipher()[0]), ("TLSv1.2", suite))

    def test_both_ports_are_open(self):
        self.assertEqual(echoscu(self.secure).returncode, 0)
        self.assertEqual(self.tls_echo(self.secure, *self.options()).returncode, 0)

    # Those who may not

    def refused(self, *options: str) -> None:
        before = self.counter(self.secure, "ichnode_tls_handshakes_failed_total")
        started = time.monotonic()
        answer = self.tls_echo(self.secure, *options)
        self.assertNotEqual(answer.returncode, 0)
        self.assertLess(time.monotonic() - started, 10)
        wait_for(
            lambda: self.counter(self.secure, "ichnode_tls_handshakes_failed_total") == before + 1,
            "the handshake is counted as failed",
            5,
        )

    def test_without_a_certificate(self):
        self.refused(*self.options(None))
        # RFC 8446 §6.2: the peer is told too, though its own handshake is through by then.
        secure = self.connected(self.secure, None)
        secure.sendall(VERSION_2_REQUEST)
        with self.assertRaisesRegex(ssl.SSLError, "certificate required"):
            secure.recv(1)
        self.assert_logged(self.secure, "warning", "TLS handshake failed", "the peer sent no certificate")

    def test_certificate_of_another_issuer(self):
        self.refused(*self.options("stranger"))
        self.assert_logged(self.secure, 'certificate "CN=stranger', 'issued by "CN=other', "not in tls.ca")

    def test_expired_certificate(self):
        self.refused(*self.options("old"))
        self.assert_logged(self.secure, "we refused the peer's certificate", "CN=old", "it has expired")
        # A Security Alert of the audit trail says so too (PS3.15 §A.5.3.11).
        trail = self.secure.folder / "data" / "audit" / "audit.log"

        def alerts() -> list[str]:
            found = re.findall(r'Node Authentication.*type="Alert Description" value="([^"]*)"', trail.read_text())
            return [base64.b64decode(each).decode() for each in found]

        wait_for(lambda: any("CN=old" in each and "expired" in each for each in alerts()), "an audit message", 5)

    def test_peer_that_does_not_trust_the_node(self):
        self.refused(*self.options(trusts="other"))
        self.assert_logged(self.secure, "the peer refused our certificate", "unknown CA")

    def test_tls_1_1(self):
        client = ["openssl", "s_client", "-connect", f"{LOOPBACK}:{self.secure.tls_port}", "-tls1_1"]
        client += ["-cipher", "ALL:@SECLEVEL=0"]
        result = subprocess.run(client, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("alert protocol version", result.stderr)
        self.assert_logged(self.secure, "TLS handshake failed", "the peer offers TLS 1.1 at most")

    def test_plain_sender_on_the_tls_port(self):
        started = time.monotonic()
        answer = self.tls_echo(self.secure)
        self.assertNotEqual(answer.returncode, 0)
        self.assertLess(time.monotonic() - started, 5)
        port = self.secure.dicom_port
        advice = f"switch TLS on at the peer, or send to port {port}"
        self.assert_logged(self.secure, f"plain DICOM on the TLS port: {advice}")

    def test_tls_sender_on_the_plain_port(self):
        started = time.monotonic()
        answer = self.tls_echo(self.secure, *self.options(), port=self.secure.dicom_port)
        self.assertNotEqual(answer.returncode, 0)
        self.assertLess(time.monotonic() - started, 5)
        port = self.secure.tls_port
        self.assert_logged(self.secure, f"switch TLS off at the peer, or send to the TLS port ({port})")

    def test_wrong_called_ae_title_is_named_as_the_reason_within_tls(self):
        answer = self.tls_echo(self.secure, *self.options(), called="SOMEONE")
        self.assertNotEqual(answer.returncode, 0)
        self.assertIn("Called AE Title Not Recognized", answer.stdout)
        self.assert_logged(self.secure, "connection refused", 'called AE title "SOMEONE" is not ours')

    def test_wrong_protocol_version_within_tls(self):
        secure = self.connected(self.secure)
        secure.sendall(VERSION_2_REQUEST)
        # PS3.8 Table 9-21: permanent, by the ACSE service provider, protocol version not supported.
        self.assertEqual(secure.recv(100), bytes([3, 0, 0, 0, 0, 4, 0, 1, 2, 2]))
        self.assertEqual(secure.recv(1), b"", "closed in order, within TLS too")

    def test_request_over_the_limit_within_tls(self):
        secure = self.connected(self.secure)
        secure.sendall(bytes([1, 0, 0xFF, 0xFF, 0xFF, 0xF0]) + bytes(68))
        # PS3.8 Table 9-10, AA-1: A-ABORT by the service user.
        self.assertEqual(secure.recv(100), bytes([7, 0, 0, 0, 0, 4, 0, 0, 0, 0]))
        self.assertEqual(secure.recv(1), b"")
        self.assert_logged(self.secure, "connection refused", "is over the limit")

    # Those who stall

    def assert_ended_at_the_deadline(self, stalled: socket.socket) -> None:
        """While others go on, on both ports."""
        started = time.monotonic()
        self.assertEqual(echoscu(self.secure).returncode, 0)
        self.assertEqual(self.tls_echo(self.secure, *self.options()).returncode, 0)
        self.assertLess(time.monotonic() - started, REQUEST_DEADLINE_SECONDS, "nobody waits for who stalls")
        stalled.settimeout(3 * REQUEST_DEADLINE_SECONDS)
        try:
            while stalled.recv(4096):
                pass
        except ConnectionResetError:
            pass
        self.assertLess(time.monotonic() - started, 2 * REQUEST_DEADLINE_SECONDS)

    def test_silent_socket(self):
        with socket.create_connection((LOOPBACK, self.secure.tls_port)) as stalled:
            self.assert_ended_at_the_deadline(stalled)
        self.assert_logged(self.secure, "no complete TLS hello in time")

    def test_half_a_hello(self):
        with socket.create_connection((LOOPBACK, self.secure.tls_port)) as stalled:
            stalled.sendall(HALF_A_HELLO)
            self.assert_ended_at_the_deadline(stalled)
        self.assert_logged(self.secure, "no complete TLS hello in time")

    def test_stalled_within_the_handshake(self):
        outgoing = ssl.MemoryBIO()
        client = self.context().wrap_bio(ssl.MemoryBIO(), outgoing)
        with self.assertRaises(ssl.SSLWantReadError):
            client.do_handshake()
        with socket.create_connection((LOOPBACK, self.secure.tls_port)) as stalled:
            stalled.sendall(outgoing.read())
            self.assert_ended_at_the_deadline(stalled)
        self.assert_logged(self.secure, "the peer stalled within the handshake")

    def test_stalled_after_the_handshake(self):
        stalled = self.connected(self.secure)
        self.assert_ended_at_the_deadline(stalled)
        self.assert_logged(self.secure, "no complete association request in time after the TLS handshake")

    def test_stalled_within_its_request(self):
        stalled = self.connected(self.secure)
        stalled.sendall(VERSION_2_REQUEST[:40])
        self.assert_ended_at_the_deadline(stalled)

    def test_peer_that_sends_a_byte_now_and_then(self):
        stalled = self.connected(self.secure)
        started = time.monotonic()
        try:
            for byte in VERSION_2_REQUEST:
                stalled.sendall(bytes([byte]))
                time.sleep(0.2)
                if time.monotonic() - started > 4 * REQUEST_DEADLINE_SECONDS:
                    self.fail("still open")
        except OSError:
            pass
        self.assertLess(time.monotonic() - started, 3 * REQUEST_DEADLINE_SECONDS)


@needs_node
class TLSAlone(TLSTestCase):
    """The plain port is closed."""

    def test_without_client_certificates_everyone_in_the_networks_may_come(self):
        node = self.started("no-clients", self.tls_section(client_certificates="none"), port="none")
        answer = self.tls_echo(node, *self.options(None))
        self.assertEqual(answer.returncode, 0, answer.stdout + node.log_tail())
        self.assertNotIn("peer.certificate", self.assert_logged(node, "association accepted"))
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, node.dicom_port), timeout=5)
        answer = self.tls_echo(node)
        self.assertNotEqual(answer.returncode, 0)
        line = self.assert_logged(node, "plain DICOM on the TLS port: switch TLS on at the peer")
        self.assertNotIn("or send to", line)

    def test_over_the_limit_the_connection_is_closed_after_the_queue_time(self):
        tls = self.tls_section()
        node = self.started("full", tls, port="none", most_associations_per_peer=1, admission_queue_seconds=0.3)
        holding = self.connected(node)
        answer = self.tls_echo(node, *self.options())
        self.assertNotEqual(answer.returncode, 0)
        self.assert_logged(node, "connection refused", "too many associations; closed, since it speaks TLS")
        holding.close()
        wait_for(lambda: self.tls_echo(node, *self.options()).returncode == 0, "the place is free again", 5)

    def test_renewed_files_are_presented_by_the_next_association(self):
        certificates = self.certificates
        installed = {"certificate": self.folder / "certificate.pem", "key": self.folder / "key.pem"}

        def install(name: str) -> None:
            # Written beside and moved, as a careful script does: key first.
            for source, target in ((certificates.key(name), "key"), (certificates.pem(name), "certificate")):
                shutil.copy(source, self.folder / "new")
                (self.folder / "new").rename(installed[target])

        def presented() -> str:
            secure = self.connected(node)
            (name,) = (value for part in secure.getpeercert()["subject"] for key, value in part if key == "commonName")
            secure.close()
            return name

        install("node")
        node = self.started("renewed", self.tls_section(**{k: str(v) for k, v in installed.items()}), port="none")
        self.assertEqual(presented(), "node")
        certificates.issue("renewed", "site")
        install("renewed")
        # Each of the workers that waited has loaded the old ones.
        self.assertEqual([presented() for _ in range(4)], ["renewed"] * 4)
        # What does not fit costs the associations of that time, and is mended by mending the files.
        shutil.copy(certificates.key("scanner"), installed["key"])
        self.assertNotEqual(self.tls_echo(node, *self.options()).returncode, 0)
        self.assert_logged(node, "is not the key of tls.certificate")
        install("node")
        self.assertEqual(presented(), "node")
        self.assertEqual(self.tls_echo(node, *self.options()).returncode, 0)


class StorageServer(Server):
    """DCMTK's storescp within TLS, which asks for a certificate."""

    def __init__(self, folder: Path, *options: str):
        (self.dicom_port,) = free_ports(1)
        self.received = folder / "received"
        self.received.mkdir(parents=True)
        command = [find_tool("storescp", "dcmtk"), "-v", *options, "-od", str(self.received), str(self.dicom_port)]
        super().__init__("storescp", command, folder / "storescp.log")


@needs_node
class TLSDelivering(TLSTestCase):
    def setUp(self):
        super().setUp()
        installed = {"certificate": "node", "key": "node", "ca": "site"}
        self.files = {key: self.folder / f"installed-{key}.pem" for key in installed}
        for key, name in installed.items():
            source = self.certificates.key(name) if key == "key" else self.certificates.pem(name)
            shutil.copy(source, self.files[key])

    def own_files(self) -> dict[str, str]:
        return {key: str(path) for key, path in self.files.items()}

    def sending_node(self, name: str, port: int, tls: dict | None = None, **peer) -> RestartableNode:
        peers = [{"name": "pacs", "ae_title": "ORTHANC", "host": "localhost", "port": port, "tls": True, **peer}]
        node = self.site.add_node(name, peers=peers, **({"tls": tls} if tls else {}))
        self.addCleanup(node.stop)
        return node

    def doctor(self, node: RestartableNode) -> str:
        command = [str(ICHNODE), "doctor", "--config", str(node.configuration)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60).stdout

    def test_results_reach_a_pacs_that_speaks_tls_alone_and_knows_us_by_another_title(self):
        pacs = RestartablePacs(
            self.folder / "pacs",
            DicomTlsEnabled=True,
            DicomTlsCertificate=str(self.certificates.pem("scanner")),
            DicomTlsPrivateKey=str(self.certificates.key("scanner")),
            DicomTlsTrustedCertificates=str(self.certificates.pem("site")),
            DicomAlwaysAllowEcho=True,
            DicomModalities={"node": ["TRIAGE", LOOPBACK, 104]},
        )
        self.enterContext(pacs)
        # With the section's files, which serve the TLS port too.
        node = self.sending_node("to-orthanc", pacs.dicom_port, self.tls_section(), calling_ae_title="TRIAGE")
        node.start()
        said = self.doctor(node)
        self.assertRegex(said, "good  peer pacs .* answers C-ECHO")
        self.assertEqual(said.count("tls.certificate"), 1, "said once, though two ends use it")
        study = phantom(self.folder / "study")
        storescu(node, self.folder / "study")
        node.wait_until_settled(study.uid)
        self.assertEqual(len(pacs.reports(study.uid)), 1, node.log_tail(30))
        self.assert_key_is_nowhere_in(node)

    def test_results_wait_for_an_issuer_and_go_out_once_it_is_named(self):
        server = StorageServer(self.folder / "server", *self.options("stranger"))
        self.enterContext(server)
        node = self.sending_node("to-storescp", server.dicom_port, **self.own_files())
        node.start()
        self.assertRegex(self.doctor(node), r"BAD   peer pacs .*: no TLS with localhost:\d+: we refused the peer's")
        study = phantom(self.folder / "study")
        storescu(node, self.folder / "study")
        expected = "we refused the peer's certificate \"CN=stranger,O=Test site\" issued by \"CN=other,O=Test site\""
        self.assert_logged(node, expected, "is not in peers[0].ca", seconds=60)
        self.assertEqual(list(server.received.iterdir()), [])
        # Each attempt reads the files anew: there is nothing to restart.
        both = [self.certificates.pem(name).read_text() for name in ("site", "other")]
        self.files["ca"].write_text("".join(both))
        node.wait_until_settled(study.uid)
        received = [pydicom.dcmread(path, stop_before_pixels=True) for path in server.received.iterdir()]
        self.assertEqual([each.Modality for each in received].count("SR"), 1)
        self.assertEqual({each.StudyInstanceUID for each in received}, {study.uid})
        self.assert_key_is_nowhere_in(node)

    def assert_key_is_nowhere_in(self, node: RestartableNode) -> None:
        line = self.certificates.key("node").read_text().splitlines()[1]
        self.assertNotIn(line, node.log_text())
        self.assertNotIn("PRIVATE KEY", node.log_text())

    def test_unusable_files_of_a_peer_are_told_and_keep_no_image_out(self):
        self.files["key"].chmod(0o644)
        (port,) = free_ports(1)
        node = self.sending_node("unusable", port, **self.own_files())
        node.start()
        said = f"peers[0].key {self.files['key']} is open to others (mode 0644)"
        self.assertIn(f"BAD   {said}", self.doctor(node))
        self.assertIn("certificate is of no use", self.assert_logged(node, said, " error "))
        self.assertEqual(echoscu(node).returncode, 0)
        check = [str(ICHNODE), "config", "check", str(node.configuration)]
        result = subprocess.run(check, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 78)
        self.assertIn(said, result.stderr)


@needs_node
class KeyMaterial(TLSTestCase):
    """What `config check`, `doctor` and the start say of the files."""

    def configured(self, certificate: str = "node", **tls) -> RestartableNode:
        return self.site.add_node(self.id(), tls=self.tls_section(certificate, **tls))

    def check(self, node: RestartableNode, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(ICHNODE), *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    def config_check(self, node: RestartableNode) -> subprocess.CompletedProcess:
        return self.check(node, "config", "check", str(node.configuration))

    def test_good_files(self):
        node = self.configured()
        result = self.config_check(node)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"TLS port {json.loads(node.configuration.read_text())['tls']['port']}", result.stdout)
        result = self.check(node, "doctor", "--config", str(node.configuration))
        self.assertIn('good  tls.certificate', result.stdout)
        self.assertIn("names 1 valid issuer", result.stdout)

    def test_certificate_that_expires_soon(self):
        self.certificates.issue("soon", "site", days=7)
        node = self.configured("soon")
        result = self.config_check(node)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("expires in", result.stderr)
        result = self.check(node, "doctor", "--config", str(node.configuration))
        self.assertRegex(result.stdout, "warn  tls.certificate .* expires in [67] days")

    def test_expired_certificate(self):
        result = self.config_check(self.configured("old"))
        self.assertEqual(result.returncode, 78)
        self.assertIn("has expired, on 2020-02-01, and peers refuse it: renew it", result.stderr)

    def test_key_that_others_may_read(self):
        key = self.folder / "open.pem"
        shutil.copy(self.certificates.key("node"), key)
        key.chmod(0o644)
        node = self.configured(key=str(key))
        result = self.config_check(node)
        self.assertEqual(result.returncode, 78)
        self.assertIn(f"tls.key {key} is open to others (mode 0644): chmod 640", result.stderr)
        result = self.check(node, "doctor", "--config", str(node.configuration))
        self.assertIn(f"BAD   tls.key {key} is open to others", result.stdout)
        result = self.check(node, "serve", "--config", str(node.configuration))
        self.assertEqual(result.returncode, 78)
        self.assertIn("the node cannot start: tls.key", result.stderr)

    def test_key_of_another_certificate(self):
        result = self.config_check(self.configured(key=str(self.certificates.key("scanner"))))
        self.assertEqual(result.returncode, 78)
        self.assertIn("is not the key of tls.certificate", result.stderr)

    def test_missing_issuers(self):
        result = self.config_check(self.configured(ca="/nowhere/ca.pem"))
        self.assertEqual(result.returncode, 78)
        self.assertIn("tls.ca /nowhere/ca.pem cannot be read (No such file or directory)", result.stderr)


@needs_node
class PrivateKey(TLSTestCase):
    def test_the_key_is_nowhere_once_the_association_is_there(self):
        """Whoever breaks into a serving worker finds none; no log has it."""
        node = self.started("forgetful", self.tls_section())
        line = self.certificates.key("node").read_text().splitlines()[1]
        prime = first_prime(self.certificates.key("node"))
        # OpenSSL keeps numbers with their least significant word first.
        wanted = [prime, prime[::-1], line.encode()]
        if memory_holds(node.process.pid, wanted) is None:
            self.skipTest("another process's memory cannot be read here")

        def waiting():
            return sorted(any(memory_holds(pid, wanted)) for pid in node.children("receive"))

        # Two workers wait for each port; those for the plain one never see the key.
        expected = [False, False, True, True]
        wait_for(lambda: waiting() == expected, "half of them hold the key", 10, lambda: str(waiting()))
        secure = self.connected(node)
        node.dicom_port, plain_port = node.tls_port, node.dicom_port
        pid = wait_for(lambda: serving(node), "a worker serves", 5)
        node.dicom_port = plain_port
        # The peer's side of the handshake may be over a moment before the worker's.
        wait_for(lambda: memory_holds(pid, wanted) == [False, False, False], "the key is gone", 5)
        secure.close()
        self.assertNotIn(line, node.log_text())


def first_prime(key: Path) -> bytes:
    command = ["openssl", "rsa", "-in", str(key), "-noout", "-text"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    digits = re.search(r"prime1:\n((?:    .*\n)+)", text).group(1)
    return bytes.fromhex(re.sub(r"[\s:]", "", digits)).lstrip(b"\0")


def serving(node: RestartableNode) -> int | None:
    try:
        return node.serving_worker()
    except AssertionError:
        return None


def memory_holds(pid: int, texts: list[bytes]) -> list[bool] | None:
    """Whether each is in the writable memory of a process; None where we may not look."""
    found = [False] * len(texts)
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                bounds, rights = line.split()[:2]
                if not rights.startswith("rw"):
                    continue
                start, end = (int(each, 16) for each in bounds.split("-"))
                memory.seek(start)
                try:
                    content = memory.read(end - start)
                except (OSError, OverflowError):
                    continue
                found = [known or text in content for known, text in zip(found, texts)]
    except PermissionError:
        return None
    return found


if __name__ == "__main__":
    unittest.main()
