"""The JSON API of a real node against docs/openapi.yaml, by schemathesis; and its rights, by hand.

ICHNODE_API_EXAMPLES (requests for each operation and phase, at most) makes it longer: make fuzz-api.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from node_fixture import LOOPBACK, ROOT, NodeTestCase, free_ports, needs_node, phantom, send_all, wait_for

EXAMPLES = int(os.environ.get("ICHNODE_API_EXAMPLES", "6"))
# Everything that needs a schema's states in sequence is found by the longer form.
PHASES = "examples,coverage,fuzzing,stateful" if EXAMPLES > 6 else "examples,coverage,fuzzing"
OPERATOR, VIEWER = "ichnode_operator-of-the-tests", "ichnode_viewer-of-the-tests"


def entry(name: str, role: str, token: str) -> dict:
    return {"name": name, "role": role, "sha256": hashlib.sha256(token.encode()).hexdigest()}


@needs_node
class APITests(NodeTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        (nobody,) = free_ports(1)
        # Nothing takes results there: deliveries stay, and can be tried again.
        cls.api = cls.site.add_node(
            "api",
            console={"tokens": [entry("tests", "operator", OPERATOR), entry("reader", "viewer", VIEWER)]},
            peers=[{"name": "pacs", "ae_title": "NOBODY", "host": LOOPBACK, "port": nobody}],
            delivery={"first_retry_seconds": 5, "most_retry_seconds": 60},
        )
        cls.api.start()
        cls.studies = []

    @classmethod
    def tearDownClass(cls):
        cls.api.stop()

    def ask(self, path: str, method: str = "GET", token: str | None = OPERATOR) -> tuple[int, dict, dict]:
        """Status, JSON, headers."""
        request = urllib.request.Request(f"{self.api.url}/api/v1{path}", method=method)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.loads(response.read()), dict(response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read()), dict(error.headers)

    def stored(self) -> list[str]:
        """Two studies that were analysed."""
        if not self.studies:
            for seed in ("81", "82"):
                study = phantom(self.folder / seed, "--seed", seed)
                send_all(self.api, study.files)
                self.studies.append(study.uid)
        wait_for(lambda: self.ask("/studies?state=concluded")[1].get("total") == 2, "two outcomes", 60, self.api.log_tail)
        return self.studies

    def test_rights(self):
        uid = self.stored()[0]
        for path in ("/studies", f"/studies/{uid}", f"/studies/{uid}/explanation", "/deliveries", "/alerts"):
            status, problem, headers = self.ask(path, token=None)
            self.assertEqual(status, 401, path)
            self.assertIn("Bearer", headers["WWW-Authenticate"])
            self.assertTrue(problem["detail"])
            self.assertEqual(self.ask(path, token="ichnode_wrong")[0], 401)
            self.assertEqual(self.ask(path, token=VIEWER)[0], 200)
        self.assertEqual(self.ask(f"/studies/{uid}/reprocess", "POST", None)[0], 401)
        status, problem, _ = self.ask(f"/studies/{uid}/reprocess", "POST", VIEWER)
        self.assertEqual((status, problem["status"]), (403, 403))
        self.assertEqual(self.ask("/health", token=None)[0], 200)

    def test_ways_of_a_study(self):
        uid = self.stored()[1]
        status, detail, _ = self.ask(f"/studies/{uid}")
        self.assertEqual(status, 200)
        self.assertEqual(detail["study"]["studyInstanceUID"], uid)
        self.assertTrue(detail["study"]["patientID"])
        self.assertIn("chosen", [each["verdict"] for each in detail["series"]])
        self.assertEqual(self.ask(f"/studies/{uid}/release", "POST")[0], 409)
        self.assertIn("neither ignored nor held", self.ask(f"/studies/{uid}/release", "POST")[1]["detail"])
        self.assertEqual(self.ask(f"/studies/{uid}/ignore", "POST")[0], 200)
        self.assertEqual(self.ask(f"/studies/{uid}")[1]["study"]["decision"], "ignored")
        self.assertEqual(self.ask(f"/studies/{uid}/release", "POST")[0], 200)
        pending = self.ask("/deliveries?state=pending&limit=1")[1]["deliveries"][0]["id"]
        self.assertEqual(self.ask(f"/deliveries/{pending}")[1]["destination"], "pacs")
        self.assertEqual(self.ask(f"/deliveries/{pending}/retry", "POST")[0], 200)
        # By whom, as the audit trail has it.
        self.assertIn("tests", self.api.command("audit", "show", "--limit", "50"))

    def test_as_described(self):
        uids = self.stored()
        ids = [each["id"] for each in self.ask("/deliveries?limit=500")[1]["deliveries"]]
        description = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
        # Half of the requests are for what is there.
        parameters = description["components"]["parameters"]
        for name, known in (("StudyInstanceUID", uids), ("DeliveryID", ids)):
            self.assertTrue(known)
            schema = parameters[name]["schema"]
            parameters[name]["schema"] = {"anyOf": [{"enum": known}, schema]}
            parameters[name]["examples"] = {str(each): {"value": each} for each in known}
        path = self.folder / "openapi.json"
        path.write_text(json.dumps(description))
        started = self.api.process.pid
        result = subprocess.run(
            [
                str(Path(sys.executable).parent / "st"),
                "run",
                str(path),
                f"--url={self.api.url}",
                f"--header=Authorization: Bearer {OPERATOR}",
                "--checks=all",
                f"--phases={PHASES}",
                f"--max-examples={EXAMPLES}",
                "--workers=2",
                "--continue-on-failure",
                "--generation-database=none",
                "--no-color",
                "--warnings=off",
            ]
            + ([] if EXAMPLES > 6 else ["--seed=1", "--no-shrink"]),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,
        )
        self.assertEqual(result.returncode, 0, result.stdout[-8000:] + self.api.log_tail(10))
        self.assertIn("generated", result.stdout)
        self.api.require_running()
        self.assertEqual(self.api.process.pid, started)


if __name__ == "__main__":
    unittest.main()
