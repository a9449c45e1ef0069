"""The page of one study: what it says of a study that went all the way to a real PACS, its files, and sending again."""

import hashlib
import html
import io
import re
import unittest
import urllib.error
import urllib.parse
import urllib.request

import pydicom
from node_fixture import NodeTestCase, data_set_bytes, needs_node, phantom, read_or_empty, send_all, wait_for

PATIENT_ID = "PAGE1"
TOKENS = {role: f"ichnode_token_of_a_{role}" for role in ("viewer", "operator")}


class KeepRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Console:
    """Asks the node's console as a program with a token."""

    def __init__(self, node, role: str | None):
        self.url = node.url
        self.headers = {"Authorization": f"Bearer {TOKENS[role]}"} if role else {}
        self.opener = urllib.request.build_opener(KeepRedirects())

    def ask(self, path: str, form: dict | None = None):
        """Status, headers and body."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=self.headers)
        try:
            with self.opener.open(request, timeout=20) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def page(self, path: str) -> str:
        """As it is read: without tags."""
        status, _, body = self.ask(path)
        assert status == 200, (status, body[:500])
        return html.unescape(re.sub(r"<[^>]*>", " ", body.decode()))


@needs_node
class StudyPage(NodeTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tokens = [
            {"name": role, "role": role, "sha256": hashlib.sha256(token.encode()).hexdigest()}
            for role, token in TOKENS.items()
        ]
        cls.console_node = cls.site.add_node("console", console={"tokens": tokens})
        cls.addClassCleanup(cls.console_node.stop)
        cls.console_node.start()
        cls.positive = phantom(cls.site.folder / "positive", "--bleed", "left", "--patient-id", PATIENT_ID)
        send_all(cls.console_node, cls.positive.files)
        cls.console_node.wait_until_delivered(cls.positive.uid)

    def setUp(self):
        super().setUp()
        self.operator = Console(self.console_node, "operator")

    def in_order(self, page: str, *texts: str):
        at = 0
        for text in texts:
            found = page.find(text, at)
            self.assertGreaterEqual(found, 0, f"{text!r} does not follow in\n{page}")
            at = found + len(text)

    def results(self, study) -> dict[str, bytes]:
        """Bytes of the node's result files by SOP Instance UID."""
        files = (self.console_node.folder / "data" / "results" / study.uid).rglob("*.dcm")
        return {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID: path.read_bytes() for path in files}

    def in_pacs(self, study) -> dict[str, bytes]:
        found = [*self.pacs.find(study.uid, "SR"), *self.pacs.find(study.uid, "OT")]
        contents = [self.pacs.download(identifier) for identifier in found]
        return {pydicom.dcmread(io.BytesIO(each), stop_before_pixels=True).SOPInstanceUID: each for each in contents}

    def test_page_tells_the_study_s_story_and_hands_out_what_the_pacs_has(self):
        study = self.positive
        page = self.operator.page(f"/studies/{study.uid}")
        self.assertIn("Intracranial haemorrhage suspected", page)
        self.in_order(page, "What happened", "First image", "Complete", "Analysis begins", "Outcome: positive", "Report")
        self.in_order(page, "Owed", "to pacs", "accepted")
        # The report's words are those of the object in the PACS.
        (identifier,) = self.pacs.find(study.uid, "SR")
        report = pydicom.dcmread(io.BytesIO(self.pacs.download(identifier)))
        texts = [item.TextValue for item in self.items(report) if item.ValueType == "TEXT"]
        self.assertTrue(any("Intracranial hemorrhage suspected" in text for text in texts))
        for text in texts:
            self.assertIn(text, page)
        self.in_order(page, "Structured Report", "Imaging Measurement Report", "Image Library", "20 images")
        # Every object, byte for byte: as the file that was sent, and as what the PACS holds.
        _, _, body = self.operator.ask(f"/studies/{study.uid}")
        paths = re.findall(rf'href="(/studies/{re.escape(study.uid)}/objects/([0-9.]+))"', body.decode())
        results, held = self.results(study), self.in_pacs(study)
        self.assertEqual({uid for _, uid in paths}, set(results))
        self.assertGreater(len(held), 2)
        self.assertLessEqual(set(held), set(results))
        for path, uid in paths:
            status, headers, content = self.operator.ask(path)
            self.assertEqual((status, headers["Content-Type"]), (200, "application/dicom"))
            self.assertRegex(headers["Content-Disposition"], rf'^attachment; filename="ich-[a-z-]+-{uid}\.dcm"$')
            self.assertEqual(content, results[uid])
            if uid in held:
                self.assertEqual(self.data_set(content), self.data_set(held[uid]))
        # Looking at it is in the audit trail; who may not see patients sees none.
        viewed = re.compile(r"<EventIdentification[^>]*>(?:(?!</AuditMessage>).)*UserID=\"operator\"")
        folder = self.console_node.folder / "data" / "audit"
        wait_for(lambda: viewed.search("".join(map(read_or_empty, folder.rglob("*")))), "it is in the audit trail", 5)
        stranger = Console(self.console_node, None)
        self.assertIn("Intracranial haemorrhage suspected", stranger.page(f"/studies/{study.uid}"))
        self.assertEqual(stranger.ask(paths[0][0])[0], 401)
        self.assertIn(PATIENT_ID, self.operator.page(f"/studies/{study.uid}"))
        for path in (f"/studies/{study.uid}", f"/studies/{study.uid}/live/course", paths[0][0]):
            self.assertNotIn(PATIENT_ID.encode(), stranger.ask(path)[2])

    def items(self, item):
        for child in item.ContentSequence:
            yield child
            if "ContentSequence" in child:
                yield from self.items(child)

    def data_set(self, content: bytes) -> bytes:
        path = self.folder / "object.dcm"
        path.write_bytes(content)
        return data_set_bytes(path)

    def test_results_that_the_pacs_has_lost_are_sent_again(self):
        study = self.positive
        before = self.in_pacs(study)
        for identifier in [*self.pacs.find(study.uid, "SR"), *self.pacs.find(study.uid, "OT")]:
            request = urllib.request.Request(f"{self.pacs.url}/instances/{identifier}", method="DELETE")
            urllib.request.urlopen(request, timeout=20).close()
        self.assertEqual(self.in_pacs(study), {})
        # A viewer may not, and nothing happens.
        status, _, _ = Console(self.console_node, "viewer").ask(f"/studies/{study.uid}/resend", {})
        self.assertEqual(status, 403)
        status, headers, _ = self.operator.ask(f"/studies/{study.uid}/resend", {})
        self.assertEqual(status, 303)
        page = self.operator.page(headers["Location"])
        self.in_order(page, "Done:", "result objects of study", "are sent again to pacs")
        wait_for(lambda: self.in_pacs(study).keys() == before.keys(), "all objects are in the PACS again", 20)
        for uid, content in self.in_pacs(study).items():
            self.assertEqual(self.data_set(content), self.data_set(before[uid]))
        known = self.console_node.wait_until_delivered(study.uid)
        self.assertEqual([each["state"] for each in known["deliveries"]], ["delivered", "delivered"])
        self.assertEqual(len(known["analyses"]), 1)
        page = self.operator.page(f"/studies/{study.uid}")
        self.in_order(page, "accepted", "Operator", "results are sent again to pacs", "accepted")
        # The command line does the same.
        said = self.console_node.command("study", "resend", study.uid)
        self.assertIn("are sent again to pacs", said)
        self.console_node.wait_until_delivered(study.uid)
        self.assertEqual(set(self.in_pacs(study)), set(before))
        self.assertIn("no study 1.2.3", self.console_node.command("study", "resend", "1.2.3"))

    def test_what_cannot_be_done_is_said_and_why(self):
        study = phantom(self.folder, "--patient-id", "PAGE3", "--seed", "3")
        send_all(self.console_node, study.files[:10] + study.files[11:])
        wait_for(lambda: self.console_node.study(study.uid), "the study is known", 10)
        page = self.operator.page(f"/studies/{study.uid}")
        self.in_order(page, "No result yet", "Read the study as if there were no AI", "now", "Waits")
        status, headers, _ = self.operator.ask(f"/studies/{study.uid}/resend", {})
        self.assertIn("no results that were sent", self.operator.page(headers["Location"]))
        status, headers, _ = self.operator.ask(f"/studies/{study.uid}/complete", {})
        self.assertEqual(status, 303)
        self.assertIn("analysed as it stands", self.operator.page(headers["Location"]))
        self.console_node.wait_until_delivered(study.uid)
        page = self.operator.page(f"/studies/{study.uid}")
        self.in_order(page, "this is no negative result", "incomplete", "Send the whole study again")
        self.assertIn("completed by hand", page)
        for path in ("/studies/1.2.3", "/studies/x", f"/studies/{study.uid}/objects/1.2.3"):
            self.assertEqual(self.operator.ask(path)[0], 404, path)


if __name__ == "__main__":
    unittest.main()
