"""When a study counts as complete: what the scanner declares, what the PACS holds."""

import json
import time
import unittest
import urllib.request
from pathlib import Path

from node_fixture import NodeTestCase, RestartableNode, Study, needs_node, phantom, send_all, wait_for

QUIET_SECONDS = 25
DEADLINE_SECONDS = 30
# Before time alone decides.
SOON_SECONDS = 20
HELD = "the PACS holds no more images of the series"


@needs_node
class Counting(NodeTestCase):
    """A node that may ask the PACS."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        completion = {"grace_seconds": 1, "quiet_seconds": QUIET_SECONDS, "deadline_seconds": DEADLINE_SECONDS}
        cls.asking = cls.site.add_node("asking", completion=completion)
        configuration = json.loads(cls.asking.configuration.read_text())
        configuration["routes"][0]["counts_from"] = "pacs"
        cls.asking.configuration.write_text(json.dumps(configuration))
        cls.asking.start()
        cls.addClassCleanup(cls.asking.stop)

    @property
    def node(self) -> RestartableNode:
        return self.asking

    def archive(self, files: list[Path]) -> None:
        """Into the PACS, past the node."""
        for path in files:
            request = urllib.request.Request(f"{self.pacs.url}/instances", data=path.read_bytes())
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()

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


if __name__ == "__main__":
    unittest.main()
