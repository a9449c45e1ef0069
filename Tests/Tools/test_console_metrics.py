"""Metrics of a node at work, and what packaging/ makes of them, checked by Prometheus' own tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from node_fixture import ROOT, NodeTestCase, echoscu, needs_node, phantom, send_all, storescu, wait_for
from processes import http

RULES = ROOT / "packaging" / "prometheus" / "ichnode.rules.yml"
RULE_TESTS = ROOT / "packaging" / "prometheus" / "ichnode.rules.test.yml"
DASHBOARD = ROOT / "packaging" / "grafana" / "ichnode.json"
NAME = re.compile(r"\bichnode_[a-z_]+")


def promtool(*arguments: str, text: str | None = None) -> str:
    """Its output; an AssertionError with it where it finds a fault."""
    result = subprocess.run(
        ["promtool", *arguments], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )
    if result.returncode != 0:
        raise AssertionError(f"promtool {' '.join(arguments)}:\n{result.stdout}")
    return result.stdout


def documented() -> set[str]:
    """Names of docs/METRICS.md, with what Prometheus makes of histograms."""
    found = set()
    for line in (ROOT / "docs" / "METRICS.md").read_text().splitlines():
        row = re.match(r"\| `(\w+)` \| (\w+) \|", line)
        if row:
            name, kind = row.groups()
            found |= {f"{name}_{end}" for end in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found


def dashboard_expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    # Grafana's own variables.
    return [each.replace("$__rate_interval", "5m").replace("$instance", ".*") for each in found]


needs_promtool = unittest.skipIf(shutil.which("promtool") is None, "promtool is not installed: run scripts/setup test")


@needs_promtool
class PackagingTests(unittest.TestCase):
    def test_rules_hold_when_they_should(self):
        self.assertIn("SUCCESS", promtool("check", "rules", str(RULES)))
        self.assertIn("SUCCESS", promtool("test", "rules", str(RULE_TESTS)))

    def test_each_rule_is_tested_and_says_what_to_do(self):
        text = "\n".join(line for line in RULES.read_text().splitlines() if not line.lstrip().startswith("#"))
        rules = re.split(r"\n      - alert: ", text)[1:]
        self.assertGreater(len(rules), 10)
        for rule in rules:
            name = rule.split("\n")[0]
            with self.subTest(name):
                self.assertIn(f"alertname: {name}\n        exp_alerts", RULE_TESTS.read_text())
                self.assertIn(f"alertname: {name}}}", RULE_TESTS.read_text(), "and when it does not hold")
                for part in ("severity: ", "summary: ", "description: "):
                    self.assertIn(part, rule)

    def test_rule_in_a_comment_is_one(self):
        lines = RULES.read_text().splitlines()
        start = next(index for index, line in enumerate(lines) if "# - alert: ICHNodeNoStudies" in line)
        rule = []
        for line in lines[start:]:
            if not line.lstrip().startswith("#"):
                break
            rule.append(line.replace("# ", "", 1))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rules.yml"
            path.write_text("groups:\n  - name: ichnode\n    rules:\n" + "\n".join(rule) + "\n")
            self.assertIn("1 rules found", promtool("check", "rules", str(path)))

    def test_dashboard_asks_what_can_be_parsed(self):
        expressions = dashboard_expressions()
        self.assertGreater(len(expressions), 30)
        rules = [{"record": f"dashboard:{index}", "expr": each} for index, each in enumerate(expressions)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rules.yml"
            path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
            self.assertIn(f"{len(rules)} rules found", promtool("check", "rules", str(path)))

    def test_names_exist(self):
        text = "\n".join([RULES.read_text(), RULE_TESTS.read_text(), DASHBOARD.read_text()])
        used = {each for each in NAME.findall(text) if each != "ichnode_"}
        self.assertEqual(used - documented(), set())

    def test_dashboard_shows_everything(self):
        shown = set(NAME.findall("\n".join(dashboard_expressions())))
        wanted = {each for each in documented() if not each.endswith(("_sum", "_count"))}
        self.assertEqual(wanted - shown, {"ichnode_ledger_readable"})


@needs_promtool
@needs_node
class NodeMetricsTests(NodeTestCase):
    def metrics(self) -> str:
        return http(f"{self.node.url}/metrics").decode()

    def test_at_work(self):
        study = phantom(self.folder, "--seed", "71")
        send_all(self.node, study.files)
        echoscu(self.node)
        storescu(self.node, study.files[0])
        # While it works, again and again.
        wait_for(lambda: self.checked() and self.node.study(study.uid)["study"]["state"] == "concluded", "a result")
        self.node.wait_until_settled(study.uid)
        wait_for(lambda: self.value("ichnode_studies", 'state="receiving"') == 0, "fresh gauges", 15)
        text = self.checked()
        names = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
        known = {re.sub(r"_(bucket|sum|count)$", "", name) for name in documented()}
        self.assertEqual(names - known, set())
        # What needs a certificate, a sign-in or something owed may be missing.
        missing = {"ichnode_tls_certificate_expires_timestamp_seconds", "ichnode_console_sign_ins_total"}
        missing |= {f"ichnode_outbox_{each}" for each in ("owed", "oldest_seconds", "given_up")}
        self.assertLessEqual(known - names, missing)
        for name in ("association", "instance_receive", "decode", "encode", "score", "time_to_complete"):
            self.assertGreater(self.value(f"ichnode_{name}_seconds_count"), 0, name)
        self.assertGreater(self.value("ichnode_time_to_flag_seconds_count"), 0)
        self.assertGreater(self.value("ichnode_delivery_seconds_count", 'destination="pacs"'), 0)
        self.assertGreaterEqual(self.value("ichnode_studies", 'state="concluded"'), 1)
        self.assertEqual(self.value("ichnode_ready"), 1)
        self.assertEqual(self.value("ichnode_model_info"), 1)
        self.assertNotIn(study.uid, text)

    def checked(self) -> str:
        text = self.metrics()
        promtool("check", "metrics", text=text)
        return text

    def value(self, name: str, label: str = "") -> float:
        """Of all its series together."""
        values = [
            float(line.rsplit(" ", 1)[1])
            for line in self.metrics().splitlines()
            if re.match(rf"{name}[ {{]", line) and label in line
        ]
        self.assertTrue(values, f"no {name} {label}")
        return sum(values)


if __name__ == "__main__":
    unittest.main()
