"""The console's pages about the node itself, of a running node: what goes wrong is on top, and no secret is shown."""

import os
import re
import signal
import tempfile
import unittest
from pathlib import Path

from console_client import PASSWORD_HASH, USERS, ConsoleClient
from node_fixture import LOOPBACK, RestartableNode, free_ports, needs_node, wait_for
from pynetdicom import AE
from pynetdicom.sop_class import Verification

TOKEN_DIGEST = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
HOOK = "https://localhost/services/s3cr3tpath"
SECRET = "0123456789abcdef0123456789abcdef"


@needs_node
class SystemPages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory(prefix="ichnode-console-")
        cls.addClassCleanup(temporary.cleanup)
        folder = Path(temporary.name)
        secret = folder / "paging.secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        (pacs_port,) = free_ports(1)
        cls.node = RestartableNode(
            folder / "node",
            pacs_port,
            console={"users": USERS, "tokens": [{"name": "monitor", "role": "viewer", "sha256": TOKEN_DIGEST}]},
            disk={"reject_associations_below_mebibytes": 2, "refuse_objects_below_mebibytes": 1},
            operator_alerts={"disk_below_mebibytes": 0, "webhooks": ["paging"]},
            webhooks=[{"name": "paging", "url": HOOK, "secret_file": str(secret)}],
        )
        cls.node.start()
        cls.addClassCleanup(cls.node.stop)

    def setUp(self):
        self.client = ConsoleClient(self.node.http_port)
        self.addCleanup(self.client.close)
        self.assertEqual(self.client.sign_in("vera").status, 303)

    def page(self, path: str) -> str:
        answer = self.client.get(path)
        self.assertEqual(answer.status, 200, path)
        return answer.text

    def test_a_worker_that_dies_is_on_top(self):
        running = re.search(r'">receive</td><td data-label="Running" class="number">(\d+)<', self.page("/system"))
        self.assertGreater(int(running[1]), 0)
        entity = AE(ae_title="SENDER")
        entity.add_requested_context(Verification)
        association = entity.associate(LOOPBACK, self.node.dicom_port, ae_title="ICHNODE")
        self.assertTrue(association.is_established)
        self.assertIn("<dd>1 of at most 64</dd>", self.page("/system"))
        os.kill(self.node.serving_worker(), signal.SIGSEGV)

        def top():
            text = self.page("/system").partition('<div class="system">')[0]
            return text if "&quot;receive&quot; died" in text else None

        self.assertIn("1 process &quot;receive&quot; died since the start", wait_for(top, "the death is shown", 10))
        # The log says so too, to those who may read it.
        self.assertRegex(self.page("/system"), r'<td data-label="Text" class="said">[^<]*receive')

    def test_the_watermarks_are_shown_and_what_they_do(self):
        self.assertIn("there is room", self.page("/system"))
        self.node.stop()
        self.node.change("disk", reject_associations_below_mebibytes=1 << 30)
        self.node.start()
        # Connections and sessions end with the node.
        self.client.close()
        self.assertEqual(self.client.sign_in("vera").status, 303)
        text = self.page("/system")
        self.assertIn("studies are rejected", text)
        self.assertIn("disk nearly full", text.partition('<div class="system">')[0])

    def test_looking_costs_no_memory(self):
        def look(times: int) -> int:
            for _ in range(times):
                self.page("/system")
            return self.node.anonymous_memory_kib()

        before = look(50)
        self.assertLess(look(300) - before, 4096)

    def test_no_secret_is_in_the_configuration(self):
        text = self.page("/configuration")
        for secret in (PASSWORD_HASH, "$scrypt$", TOKEN_DIGEST, "s3cr3tpath", SECRET):
            self.assertNotIn(secret, text)
        self.assertIn("https://localhost/…", text)
        self.assertGreaterEqual(text.count('<span class="tag">hidden</span>'), len(USERS) + 1)
        self.assertIn("vera", text)
        self.assertNotIn("has changed since", text)
        file = self.node.configuration
        before = file.read_text()
        self.addCleanup(file.write_text, before)
        file.write_text(before + "\n")
        self.assertIn("The file has changed since the node read it", self.page("/configuration"))

    def test_pages_are_for_whom_they_are(self):
        stranger = ConsoleClient(self.node.http_port)
        self.addCleanup(stranger.close)
        for path in ("/system", "/model", "/figures", "/configuration"):
            self.assertEqual(stranger.get(path).status, 303, path)
        self.assertIn("Research use.", self.page("/model"))
        self.assertIn("Never tried on", self.page("/model"))
        self.assertIn("Studies by day: n 0", self.page("/figures"))


if __name__ == "__main__":
    unittest.main()
