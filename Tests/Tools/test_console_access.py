"""Who gets into the console of a running node, and that nobody who tries keeps others from working."""

import http.client
import os
import pty
import re
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
from contextlib import suppress
from pathlib import Path

import yaml
from certificates import CertificateFolder
from console_client import USERS, ConsoleClient
from node_fixture import ICHNODE, LOOPBACK, RestartableNode, echoscu, free_ports, needs_node, wait_for

# A loopback address of its own: for all that counts by address, another machine.
ATTACKER = "127.0.0.2"
IDLE_SECONDS = 2
MOST_PER_ADDRESS = 12
SECURITY_HEADERS = (
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "Referrer-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
    "Cache-Control",
)


def ichnode(*arguments: str, typed: str = "") -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(ICHNODE), *arguments], input=typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20
    )


def raw(port: int, request: bytes) -> bytes:
    """What the node says to these bytes until it closes."""
    with socket.create_connection((LOOPBACK, port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


class ConsoleTestCase(unittest.TestCase):
    @classmethod
    def make_node(cls, name: str, **console) -> RestartableNode:
        return RestartableNode(cls.folder / name, free_ports(1)[0], console=console)

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory(prefix="ichnode-console-")
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = Path(temporary.name)

    def client(self, node: RestartableNode, **options) -> ConsoleClient:
        client = ConsoleClient(node.http_port, **options)
        self.addCleanup(client.close)
        return client


@needs_node
class Commands(ConsoleTestCase):
    def test_a_password_from_standard_input_becomes_a_hash(self):
        result = ichnode("console", "hash-password", typed="correct horse battery\n")
        self.assertRegex(result.stdout, r"^\$scrypt\$ln=15,r=8,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}\n$")
        self.assertEqual(result.returncode, 0)
        for typed, reason in (("eleven char\n", "too short"), ("", "no password"), ("x" * 1025, "1024 bytes")):
            result = ichnode("console", "hash-password", typed=typed)
            self.assertEqual(result.returncode, 1)
            self.assertIn(reason, result.stdout)

    def at_a_terminal(self, *lines: str) -> tuple[int, str, str]:
        """What the command prints, and what the terminal shows."""
        controller, terminal = pty.openpty()
        process = subprocess.Popen(
            [str(ICHNODE), "console", "hash-password"],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
        )
        os.close(terminal)
        shown = b""
        for question, line in zip((b"Password: ", b"Again: "), lines):
            while question not in shown:
                self.assertTrue(select.select([controller], [], [], 10)[0], shown)
                shown += os.read(controller, 1024)
            os.write(controller, line.encode() + b"\n")
        printed = process.communicate(timeout=20)[0]
        with suppress(OSError):
            while part := os.read(controller, 1024):
                shown += part
        os.close(controller)
        return process.returncode, printed, shown.decode()

    def test_a_terminal_is_asked_twice_and_shows_nothing(self):
        code, printed, shown = self.at_a_terminal("correct horse battery", "correct horse battery")
        self.assertEqual(code, 0, shown)
        self.assertTrue(printed.startswith("$scrypt$"))
        self.assertNotIn("horse", shown)
        code, printed, shown = self.at_a_terminal("correct horse battery", "correct horse batterie")
        self.assertEqual((code, printed), (1, ""))
        self.assertIn("the two passwords differ", shown)

    def test_nothing_but_loopback_without_tls_and_users(self):
        tls = {"certificate": "/c.pem", "key": "/k.pem"}
        for name, console in {
            "bare": {},
            "users": {"users": USERS},
            "tls": {"tls": tls},
            "tokens": {"tls": tls, "tokens": [{"name": "a", "sha256": "0" * 64}]},
        }.items():
            for host in ("0.0.0.0", "::", "192.0.2.1"):
                node = self.make_node(f"{name}{host}", host=host, **console)
                result = ichnode("serve", "--config", str(node.configuration))
                self.assertEqual(result.returncode, 78, result.stdout)
                self.assertIn("console.host reaches beyond this machine, which needs tls and users", result.stdout)
                self.assertRegex(result.stdout, r"ichnode\.yaml:\d+: ")

    def test_the_doctor_wants_hashes_kept_from_others(self):
        node = self.make_node("doctor", users=USERS)
        for mode, is_said in ((0o644, True), (0o640, False)):
            node.configuration.chmod(mode)
            said = ichnode("doctor", "--config", str(node.configuration)).stdout
            self.assertIn("data directory", said)
            self.assertEqual("warn  " in said and "holds hashes of passwords" in said, is_said, said)


@needs_node
class SignIn(ConsoleTestCase):
    """One node for all."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        drawn = ichnode("console", "token", "robot", "--role", "operator").stdout
        cls.api_token = re.search(r"ichnode_[\w-]{43}", drawn)[0]
        # As the command prints it.
        tokens = yaml.safe_load(drawn[drawn.index("    - name:") :])
        cls.node = cls.make_node(
            "node",
            users=USERS,
            tokens=tokens,
            idle_seconds=IDLE_SECONDS,
            most_connections_per_address=MOST_PER_ADDRESS,
        )
        cls.addClassCleanup(cls.node.stop)
        cls.node.start()

    def sign_in(self, user: str = "otto") -> ConsoleClient:
        client = self.client(self.node)
        answer = client.sign_in(user)
        self.assertEqual((answer.status, answer.location), (303, "/"), answer.text)
        return client

    def test_what_has_patients_is_for_users(self):
        answer = self.client(self.node).get("/sign-out")
        self.assertIn(answer.status, (404, 405))
        client = self.client(self.node)
        self.assertEqual(client.post("/sign-out").location, "/sign-in")
        self.assertFalse(client.is_signed_in)
        self.assertTrue(self.sign_in().is_signed_in)

    def test_a_form_without_the_sessions_token_is_refused(self):
        client = self.sign_in()
        client.get("/nothing")
        token = client.token
        self.assertRegex(token, r"^[\w-]{43}$")
        for wrong in ("", "x", token[:-1], token + "x", self.sign_in().token):
            self.assertEqual(client.post("/sign-out", {"csrf": wrong}).status, 403, wrong)
        self.assertEqual(client.post("/sign-out", {"csrf": token}, Origin="http://evil.example").status, 403)
        self.assertEqual(client.post("/sign-out", {"csrf": token}, **{"Sec-Fetch-Site": "cross-site"}).status, 403)
        self.assertTrue(client.is_signed_in)
        self.assertEqual(client.post("/sign-out", {"csrf": token}).location, "/sign-in")

    def test_a_session_is_over_once_signed_out(self):
        client = self.sign_in()
        kept = dict(client.cookies)
        client.get("/nothing")
        self.assertEqual(client.post("/sign-out").status, 303)
        self.assertFalse(client.is_signed_in)
        client.cookies = kept
        self.assertFalse(client.is_signed_in)

    def test_a_planted_session_is_none(self):
        client = self.client(self.node)
        client.cookies["ichnode"] = "planted" * 6
        self.assertEqual(client.sign_in("otto").status, 303)
        self.assertNotEqual(client.cookies["ichnode"], "planted" * 6)

    def test_the_way_on_stays_here(self):
        for path, expected in (("/peers?x=1", "/peers?x=1"), ("//evil.example/", "/"), ("https://evil.example", "/")):
            self.assertEqual(self.client(self.node).sign_in("vera", next_path=path).location, expected)

    def test_a_token_is_known_by_its_digest(self):
        client = self.client(self.node)
        path = "/sign-out"
        bearer = {"Authorization": f"Bearer {self.api_token}", "Accept": "application/json"}
        self.assertEqual(client.request("POST", path, bearer).status, 303)
        wrong = client.request("POST", path, bearer | {"Authorization": f"Bearer {self.api_token}x"})
        self.assertEqual((wrong.status, wrong.headers["Content-Type"]), (401, "application/problem+json"))
        self.assertIn("invalid_token", wrong.headers["WWW-Authenticate"])
        self.assertNotIn(self.api_token, self.node.configuration.read_text() + self.node.log_text())

    def test_paths_lead_nowhere_else(self):
        for path in (
            "/assets/../../../../etc/passwd",
            "/assets/..%2f..%2f..%2fetc/passwd",
            "/assets/%2e%2e/%2e%2e/etc/passwd",
            "/assets/x/..%5c..%5cetc%5cpasswd",
            "/assets/x/%00console.css",
            "/studies/../../../etc/passwd",
            "/studies/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "/studies/1.2.3/../../health/../etc/passwd",
            "//etc/passwd",
            "/%252e%252e/etc/passwd",
        ):
            for cookie in (b"", b"Cookie: ichnode=" + self.cookie() + b"\r\n"):
                answer = raw(
                    self.node.http_port,
                    b"GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n%sConnection: close\r\n\r\n"
                    % (path.encode(), cookie),
                )
                self.assertRegex(answer, rb"^HTTP/1.1 (303|400|403|404) ", path)
                self.assertNotIn(b"root:", answer)

    def cookie(self) -> bytes:
        if not hasattr(type(self), "_cookie"):
            type(self)._cookie = self.sign_in().cookies["ichnode"].encode()
        return type(self)._cookie

    def test_every_answer_has_the_security_headers(self):
        port = self.node.http_port
        answers = {
            200: b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            404: b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            421: b"GET /health/live HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
            413: b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000,
            400: b"not HTTP at all\r\n\r\n",
        }
        for status, request in answers.items():
            head = raw(port, request).partition(b"\r\n\r\n")[0].decode()
            self.assertRegex(head, rf"^HTTP/1.1 {status} ")
            for name in SECURITY_HEADERS:
                self.assertEqual(len(re.findall(rf"(?mi)^{name}: ", head)), 1, f"{name}\n{head}")
            self.assertNotIn("Strict-Transport-Security", head)

    def test_a_head_that_is_too_large_is_refused(self):
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: %s\r\n\r\n"
        self.assertRegex(raw(self.node.http_port, request % (b"x" * 8000)), rb"^HTTP/1.1 (200|303|401) ")
        self.assertRegex(raw(self.node.http_port, request % (b"x" * 20000)), rb"^(HTTP/1.1 4\d\d |$)")

    def test_who_is_slow_is_closed_and_hurts_nobody(self):
        """Half a head, half a form a byte at a time, and connections that say nothing."""
        client = self.sign_in()
        begun = time.monotonic()
        sockets = [
            socket.create_connection((LOOPBACK, self.node.http_port), 10, (ATTACKER, 0)) for _ in range(100)
        ]
        self.addCleanup(lambda: [each.close() for each in sockets])
        form = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        starts = (
            b"",
            b"GET / HTTP/1.1\r\nHost: local",
            form + b"Content-Type: application/x-www-form-urlencoded\r\n\r\n",
        )
        for index, each in enumerate(sockets):
            with suppress(OSError):
                each.sendall(starts[index % 3])
        opened = list(sockets)
        while opened and time.monotonic() - begun < IDLE_SECONDS + 8:
            self.assertTrue(client.is_signed_in)
            for each in list(opened):
                try:
                    each.send(b"x")
                    each.setblocking(False)
                    if not each.recv(4096):
                        opened.remove(each)
                except BlockingIOError:
                    pass
                except OSError:
                    opened.remove(each)
            time.sleep(0.3)
        self.assertEqual(opened, [], "closed, whatever they drip")
        self.assertLess(time.monotonic() - begun, IDLE_SECONDS + 6)
        self.assertGreater(time.monotonic() - begun, IDLE_SECONDS - 0.5, "not before their time")

    def test_ten_thousand_tries_keep_nobody_from_working(self):
        tries, threads = 10_000, 8
        worker = self.sign_in("vera")
        statuses: dict[int, int] = {}
        lock = threading.Lock()

        def attack(number: int):
            client = ConsoleClient(self.node.http_port, source=ATTACKER)
            client.get("/sign-in")
            counts: dict[int, int] = {}
            for each in range(tries // threads):
                user = "otto" if each % 2 else f"user{number}-{each}"
                status = client.post("/sign-in", {"user": user, "password": f"guess {each}"}).status
                counts[status] = counts.get(status, 0) + 1
            client.close()
            with lock:
                for status, count in counts.items():
                    statuses[status] = statuses.get(status, 0) + count

        begun = time.monotonic()
        attackers = [threading.Thread(target=attack, args=(number,), daemon=True) for number in range(threads)]
        for each in attackers:
            each.start()
        slowest_page = slowest_echo = 0.0
        while any(each.is_alive() for each in attackers):
            started = time.monotonic()
            self.assertTrue(worker.is_signed_in)
            slowest_page = max(slowest_page, time.monotonic() - started)
            started = time.monotonic()
            self.assertEqual(echoscu(self.node).returncode, 0)
            slowest_echo = max(slowest_echo, time.monotonic() - started)
        seconds = time.monotonic() - begun
        self.assertEqual(sum(statuses.values()), tries)
        self.assertEqual(set(statuses) - {403, 429, 503}, set(), statuses)
        self.assertLess(statuses.get(403, 0), 100, "nearly all without a look at the password")
        self.assertLess(slowest_page, 2)
        self.assertLess(slowest_echo, 2)
        self.assertLess(seconds, 60)
        # Whom they wanted to be signs in from elsewhere, right away.
        self.assertEqual(self.client(self.node).sign_in("otto").status, 303)
        refusals = self.node.log_text().count("audit event")
        self.assertLess(refusals, 500, "the trail is not flooded")


@needs_node
class OverTLS(ConsoleTestCase):
    def start(self, name: str, certificates: CertificateFolder) -> RestartableNode:
        node = self.make_node(
            name,
            users=USERS,
            tls={"certificate": str(certificates.pem("console")), "key": str(certificates.key("console"))},
        )
        node.url = f"https://localhost:{node.http_port}"
        # For the wait until it is ready.
        os.environ["SSL_CERT_FILE"] = str(certificates.pem("site"))
        self.addCleanup(os.environ.pop, "SSL_CERT_FILE", None)
        return node

    def test_https(self):
        certificates = CertificateFolder(self.folder / "certificates")
        certificates.authority("site")
        certificates.issue("console", "site")
        certificates.key("console").chmod(0o604)
        node = self.start("node", certificates)
        refused = ichnode("serve", "--config", str(node.configuration))
        self.assertEqual(refused.returncode, 78)
        self.assertIn("is open to others (mode 0604)", refused.stdout)
        self.assertIn("console.tls", ichnode("config", "check", str(node.configuration)).stdout)
        certificates.key("console").chmod(0o600)
        self.addCleanup(node.stop)
        node.start()
        context = certificates.client_context(None, "site")
        context.check_hostname = True
        client = self.client(node, context=context)
        answer = client.sign_in("otto")
        self.assertEqual(answer.status, 303)
        self.assertIn("max-age=", answer.headers["Strict-Transport-Security"])
        self.assertTrue(all(name.startswith("__Host-") for name in client.cookies))
        self.assertIn("; Secure", answer.headers["Set-Cookie"])
        self.assertTrue(client.is_signed_in)
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.client(node).get("/sign-in")
        self.assert_least_version(node)
        self.assert_stalled_handshake_ends_alone(node, context)

        # Renewed: while it runs, and for new connections.
        first = self.serial(node, context)
        certificates.issue("new", "site")
        certificates.key("new").chmod(0o600)
        for used in (certificates.pem, certificates.key):
            shutil.copy(used("new"), used("console").with_suffix(".part"))
            os.replace(used("console").with_suffix(".part"), used("console"))
        wait_for(lambda: self.serial(node, context) != first, "the new certificate", 10)
        self.assertTrue(client.is_signed_in, "sessions go on")

        # Of no use: the old one stays.
        good = self.serial(node, context)
        certificates.pem("console").write_text("no certificate")
        self.assertEqual(self.serial(node, context), good)
        unusable = "new certificate is of no use"
        wait_for(lambda: unusable in node.log_text(), "it is said", 5)
        self.assertEqual(self.serial(node, context), good)
        # Gone, which is another trouble; each is said once, however many come.
        certificates.pem("console").unlink()
        for _ in range(3):
            self.assertEqual(self.serial(node, context), good)
        wait_for(lambda: "cannot be read" in node.log_text(), "it is said", 5)
        self.assertEqual(node.log_text().count(unusable), 2)

    def serial(self, node: RestartableNode, context: ssl.SSLContext) -> str:
        with socket.create_connection((LOOPBACK, node.http_port), 10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                return secure.getpeercert()["serialNumber"]

    def assert_least_version(self, node: RestartableNode) -> None:
        for version, is_taken in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
            result = subprocess.run(
                ["openssl", "s_client", "-connect", f"{LOOPBACK}:{node.http_port}", version]
                + ([] if is_taken else ["-cipher", "ALL@SECLEVEL=0"]),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=10,
            )
            self.assertEqual(result.returncode == 0, is_taken, f"{version}\n{result.stdout}{result.stderr}")

    def assert_stalled_handshake_ends_alone(self, node: RestartableNode, context: ssl.SSLContext) -> None:
        with socket.create_connection((LOOPBACK, node.http_port), 10) as stalled:
            stalled.sendall(bytes([0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]))
            self.assertTrue(self.serial(node, context))


if __name__ == "__main__":
    unittest.main()
