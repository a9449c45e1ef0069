"""What an administrator sees of deliveries and associations on the console of a real node, and can do about them."""

from __future__ import annotations

import hashlib
import html
import itertools
import re
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from node_fixture import LOOPBACK, Site, echoscu, needs_node, phantom, storescu, wait_for
from plain_pacs import Pacs

TOKEN = "ichnode_of_a_test"
OPERATOR = {"name": "test", "role": "operator", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
# Beyond the tests' patience: what arrives earlier was asked for.
RETRY_SECONDS = 500


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Console:
    """As a program with an operator's token."""

    def __init__(self, url: str):
        self.url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)

    def _request(self, path: str, form: dict | None = None) -> tuple[int, str, str]:
        body = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(self.url + path, data=body, headers={"Authorization": f"Bearer {TOKEN}"})
        try:
            with self._opener.open(request, timeout=30) as response:
                return response.status, response.read().decode(), ""
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read().decode(), answer.headers.get("Location", "")

    def page(self, path: str) -> str:
        """Its text, without markup."""
        status, body, _ = self._request(path)
        if status != 200:
            raise AssertionError(f"{path}: {status}\n{body}")
        content = body[body.index("<main") : body.index("</main>")]
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", content)).split())

    def act(self, path: str, **form: str) -> str:
        """The page that is shown after it."""
        status, body, location = self._request(path, form)
        if status != 303:
            raise AssertionError(f"{path}: {status}\n{body}")
        return self.page(location)


@needs_node
class ConsoleDeliveries(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.archive = Pacs().start()
        cls.addClassCleanup(cls.archive.stop)
        cls.site = Site(
            console={"tokens": [OPERATOR]},
            operator_alerts={"check_seconds": 1},
            delivery={"first_retry_seconds": RETRY_SECONDS, "most_retry_seconds": RETRY_SECONDS},
        )
        cls.addClassCleanup(cls.site.stop)
        cls.site.node.add_peer("archive", ae_title="PACS", port=cls.archive.port)
        cls.site.start()
        cls.node, cls.pacs = cls.site.node, cls.site.pacs
        cls.console = Console(cls.node.url)

    numbers = itertools.count(1000)
    # By which the pages name studies.
    accessions: dict[str, str] = {}

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ichnode-console-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def send(self) -> str:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        accession = f"A{next(self.numbers)}"
        study = phantom(folder, "--accession", accession)
        storescu(self.node, folder)
        self.accessions[study.uid] = accession
        return study.uid

    def wait_for_text(self, path: str, *texts: str) -> str:
        def found():
            page = self.console.page(path)
            return page if all(self.accessions.get(text, text) in page for text in texts) else None

        return wait_for(found, f"{texts} on {path}", 30, lambda: self.console.page(path) + self.node.log_tail())

    def delivery(self, study: str, destination: str) -> str:
        deliveries = self.node.study(study)["deliveries"]
        (found,) = [each for each in deliveries if each["destination"] == destination]
        return str(found["id"])

    def test_a_pacs_that_is_down_is_named_and_served_when_an_operator_says_it_is_back(self):
        self.pacs.stop()
        self.addCleanup(lambda: self.pacs.process.poll() is None or self.pacs.start())
        study = self.send()
        page = self.wait_for_text("/deliveries", "out of reach", study)
        self.assertRegex(page, r"pacs out of reach DICOM peer, ORTHANC at 127\.0\.0\.1:\d+ Nothing reaches it since")
        self.assertRegex(page, r"1 attempt\. Next attempt at \d{4}-")
        self.assertIn("cannot connect", page)
        verified = self.console.act("/peers/verify", peer="pacs")
        self.assertRegex(verified, r"Not done: peer pacs \(ORTHANC at .*\): .*cannot connect.* in all\)")

        self.pacs.start()
        verified = self.console.act("/peers/verify", peer="pacs")
        self.assertRegex(verified, r"peer pacs \(ORTHANC at .*\) answers C-ECHO in \d+ ms.* in all\)")
        told = self.console.act(f"/deliveries/{self.delivery(study, 'pacs')}/retry", destination="pacs")
        self.assertIn("to pacs is tried again now", told)
        self.node.wait_until_delivered(study)
        self.assertEqual(len(self.pacs.reports(study)), 1)
        self.assertIn(self.accessions[study], self.console.page("/deliveries?destination=pacs&state=delivered"))
        self.assertIn("pacs answers", self.console.page("/deliveries"))

    def test_what_was_given_up_is_tried_again_or_withdrawn(self):
        self.archive.judge = lambda arrival: 0xA900
        self.addCleanup(self.archive.behave)
        first, second, third = self.send(), self.send(), self.send()
        page = self.wait_for_text("/deliveries?destination=archive&state=given-up", first, second, third)
        self.assertIn("0xA900, it does not match its SOP class", page)
        self.wait_for_text("/alerts", "Deliveries given up archive")

        withdrawn = self.delivery(third, "archive")
        told = self.console.act(f"/deliveries/{withdrawn}/discard")
        self.assertIn(f"delivery {withdrawn} to archive is withdrawn", told)
        again = self.console.act(f"/deliveries/{withdrawn}/retry")
        self.assertIn(f"Not done: no delivery {withdrawn} waits or was given up", again)

        self.archive.behave()
        told = self.console.act("/deliveries/retry-given-up", destination="archive")
        self.assertIn("2 deliveries to archive tried again now", told)
        for study in (first, second):
            self.node.wait_until_delivered(study)
        self.assertIn(self.accessions[third], self.console.page("/deliveries?state=withdrawn"))
        self.wait_for_text("/alerts", "Over Alert About Raised Lasted What it said Deliveries given up archive")

    def test_a_scanner_that_is_refused_reads_what_to_change(self):
        echoscu(self.node, calling="NEWSCANNER", called="FOO")
        expected = 'called AE title "FOO" is not ours: name ICHNODE at the sender, or add it to node.further_ae_titles'
        self.wait_for_text("/peers", "NEWSCANNER", expected)
        echoscu(self.node, calling="NEWSCANNER")
        page = self.wait_for_text("/peers", "C-ECHO")
        self.assertRegex(page, rf"Latest associations .*NEWSCANNER {LOOPBACK} plain ICHNODE C-ECHO released")


if __name__ == "__main__":
    unittest.main()
