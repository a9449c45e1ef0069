"""When a study counts as complete: what the scanner declares, what the PACS holds, what it is asked to send."""

import json
import time
import unittest
import urllib.request
from pathlib import Path

from node_fixture import LOOPBACK, NodeTestCase, RestartableNode, Study, needs_node, phantom, send_all, wait_for
from processes import free_ports

QUIET_SECONDS = 25
DEADLINE_SECONDS = 30
# Before time alone decides.
SOON_SECONDS = 20
HELD = "the PACS holds no more images of the series"


class AskingTestCase(NodeTestCase):
    """A node that may ask the PACS."""

    ROUTE: dict[str, str]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        completion = {"grace_seconds": 1, "quiet_seconds": QUIET_SECONDS, "deadline_seconds": DEADLINE_SECONDS}
        cls.asking = cls.site.add_node(cls.__name__, completion=completion)
        configuration = json.loads(cls.asking.configuration.read_text())
        configuration["routes"][0] |= cls.ROUTE
        cls.asking.configuration.write_text(json.dumps(configuration))
        cls.asking.start()
        cls.addClassCleanup(cls.asking.stop)

    @property
    def node(self) -> RestartableNode:
        return self.asking

    def request_of_pacs(self, path: str, content: bytes, method: str) -> None:
        request = urllib.request.Request(f"{self.pacs.url}/{path}", data=content, method=method)
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()

    def archive(self, files: list[Path]) -> None:
        """Into the PACS, past the node."""
        for path in files:
            self.request_of_pacs("instances", path.read_bytes(), "POST")

    def wide(self) -> Study:
        """Slices further apart than they are thick: every second one could be under way."""
        return phantom(self.folder, "--thickness", "3")

    def completion(self, study: Study, seconds: float = SOON_SECONDS) -> str:
        """What decided; within so many seconds."""
        wait_for(lambda: self.analyses(study), "an analysis", seconds, self.node.log_tail)
        return self.analyses(study)[-1]["completion"]

    def analyses(self, study: Study) -> list[dict]:
        known = self.node.study(study.uid)
        return known["analyses"] if known else []


@needs_node
class Counting(AskingTestCase):
    ROUTE = {"counts_from": "pacs"}

    def test_as_many_images_as_the_scanner_declares_leave_no_doubt(self):
        study = phantom(self.folder, "--thickness", "3", "--declare-count", "0")
        send_all(self.node, study.files)
        self.assertEqual(self.completion(study), "all images that the scanner declared are there")
        self.assert_one_report(study)

    def test_as_many_images_as_the_pacs_holds_leave_no_doubt(self):
        study = self.wide()
        self.archive(study.files)
        send_all(self.node, study.files)
        self.assertEqual(self.completion(study), HELD)
        self.assert_one_report(study)

    def test_images_that_the_pacs_holds_are_waited_for(self):
        study = self.wide()
        self.archive(study.files)
        send_all(self.node, study.files[:14])
        time.sleep(6)
        self.assertEqual(self.analyses(study), [])
        send_all(self.node, study.files[14:])
        self.assertEqual(self.completion(study), HELD)
        self.assert_one_report(study)

    def test_images_that_only_the_pacs_holds_make_it_incomplete_and_never_negative(self):
        study = self.wide()
        self.archive(study.files)
        send_all(self.node, study.files[:14])
        self.assertEqual(
            self.completion(study, DEADLINE_SECONDS + SOON_SECONDS),
            "deadline passed; 14 of 20 images that the PACS holds",
        )
        self.assertNotEqual(self.assert_one_report(study).outcome, "Absent")


@needs_node
class Retrieving(AskingTestCase):
    ROUTE = {"counts_from": "pacs", "retrieve_from": "pacs"}

    def setUp(self):
        super().setUp()
        self.move_to(self.node.dicom_port)

    def move_to(self, port: int) -> None:
        """Where the PACS believes that the node is."""
        place = {"AET": "ICHNODE", "Host": LOOPBACK, "Port": port}
        self.request_of_pacs("modalities/node", json.dumps(place).encode(), "PUT")

    def send_without(self, missing: slice, *options: str) -> Study:
        study = phantom(self.folder, *options)
        self.archive(study.files)
        sent = list(study.files)
        del sent[missing]
        send_all(self.node, sent)
        return study

    def assert_whole(self, study: Study, completion: str) -> None:
        self.assertEqual(self.completion(study), completion)
        self.assert_one_report(study)
        self.assert_in_spool(study, study.files)
        self.assertEqual(len(self.node.stored(study.uid)), len(study.files), "as they were, once each")
        self.assertEqual(len(self.analyses(study)), 1)

    def test_slices_that_are_missing_between_others_are_sent_by_the_pacs(self):
        study = self.send_without(slice(8, 11))
        self.assert_whole(study, "associations ended and grace passed")
        (said,) = self.events(study, "retrieve")
        self.assertRegex(said, r"^asked pacs for series [0-9.]+: 20 images sent$")

    def test_the_rest_of_a_series_of_which_few_came_is_sent_by_the_pacs(self):
        self.assert_whole(self.send_without(slice(4, None)), "associations ended and grace passed")

    def test_images_that_the_pacs_says_it_holds_are_sent_by_it(self):
        self.assert_whole(self.send_without(slice(14, None), "--thickness", "3"), HELD)

    def test_a_pacs_that_cannot_send_them_is_asked_once_and_the_study_incomplete(self):
        (nobody,) = free_ports(1)
        self.move_to(nobody)
        study = self.send_without(slice(8, 11))
        self.assertIn("deadline passed; no slice at", self.completion(study, DEADLINE_SECONDS + SOON_SECONDS))
        (said,) = self.events(study, "retrieve")
        self.assertRegex(said, "^asked pacs for series .*add our AE title, host and port to the PACS")
        self.assertIn("missing images did not come", self.node.log_text())
        self.assertNotEqual(self.assert_one_report(study).outcome, "Absent")


if __name__ == "__main__":
    unittest.main()
