#!/usr/bin/env python3
"""The Debian package in a clean Debian 12 with systemd of its own: installed as docs/OPERATIONS.md says, a study through
it, upgraded while a sender is connected, removed and purged. `make package-test` builds the package first.

ICHNODE_PACKAGE=file tests that package. Needs root, debootstrap and systemd-nspawn; takes about three minutes."""

import json
import os
import re
import subprocess
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "Tests" / "Tools")]
from debian_root import DebianRoot  # noqa: E402
from node_fixture import BLEED_SEED, example_head, needs_example_head, wait_for  # noqa: E402

BUILT = ROOT / ".build" / "deb"
UNIT = "/lib/systemd/system/ichnode.service"
MOST_EXPOSURE = 1.5


def package() -> Path:
    named = os.environ.get("ICHNODE_PACKAGE")
    found = [Path(named)] if named else sorted(BUILT.glob("ichnode_*.deb"))
    if not found:
        raise unittest.SkipTest("there is no package: run make deb")
    return found[-1]


def commands(section: str) -> str:
    """What a section of docs/OPERATIONS.md has its reader type, as it is written there."""
    text = (ROOT / "docs" / "OPERATIONS.md").read_text()
    _, _, rest = text.partition(f"\n## {section}\n")
    lines = rest.partition("\n## ")[0].splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Package(unittest.TestCase):
    """The tests are steps, in the order of their names."""

    @classmethod
    def setUpClass(cls):
        cls.package = package()
        cls.root = DebianRoot(BUILT)
        cls.addClassCleanup(cls.root.close)
        (cls.root.path / "var/tmp" / cls.package.name).write_bytes(cls.package.read_bytes())

    def unit(self, *names: str) -> dict[str, str]:
        shown = self.root.run(f"systemctl show ichnode --property={','.join(names)}").stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def is_ready(self) -> bool:
        return self.root.beside("curl", "-s", "http://127.0.0.1:8080/health/ready").stdout == "ready\n"

    def reports(self, uid: str) -> list:
        """In the Orthanc beside it."""
        query = json.dumps({"Level": "Instance", "Query": {"StudyInstanceUID": uid, "Modality": "SR"}})
        found = self.root.beside("curl", "-s", "http://127.0.0.1:8042/tools/find", "--data", query).stdout
        return json.loads(found or "[]")

    @needs_example_head
    def test_1_what_the_documents_say_installs_it_and_a_study_comes_back(self):
        install = commands("Install").replace("./ichnode_VERSION_amd64.deb", f"/var/tmp/{self.package.name}")
        beside, *steps = commands("The first study").splitlines()
        self.assertIn(self.package.name, install)
        self.root.prepare(f"apt-get update -qq; export DEBIAN_FRONTEND=noninteractive\n{install} -y\n{beside} -y")
        self.root.boot()
        wait_for(self.is_ready, "the node is ready", 60, lambda: self.root.run("journalctl -u ichnode -n 30").stdout)
        state = self.unit("ActiveState", "User", "Type", "NRestarts")
        self.assertEqual(state, {"ActiveState": "active", "User": "ichnode", "Type": "notify", "NRestarts": "0"})
        self.assertEqual(self.root.run("stat -c '%a %U %G' /etc/ichnode/ichnode.yaml").stdout.strip(), "640 root ichnode")
        folder = self.root.path / "var/tmp/head"
        study = example_head(folder, "PACKAGE", BLEED_SEED)
        told = [self.root.run(step.replace("FOLDER", "/var/tmp/head")).stdout for step in steps]
        self.assertNotIn("BAD", told[0])
        self.assertIn(study.uid, told[-1])
        wait_for(lambda: self.reports(study.uid), "a report lies in the Orthanc", 120, self.history)
        log = self.root.run("journalctl -u ichnode --no-pager").stdout
        self.assertNotIn(" error ", log)

    def history(self) -> str:
        return self.root.run("ichnode study list; ichnode outbox list; journalctl -u ichnode -n 30", check=False).stdout

    def test_2_the_unit_is_closed(self):
        told = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", str(self.root.path) + UNIT], capture_output=True, text=True
        )
        exposure = float(re.search(r"exposure level for .*: ([0-9.]+)", told.stdout).group(1))
        print(f"exposure {exposure}", file=sys.stderr)
        self.assertLessEqual(exposure, MOST_EXPOSURE)

    def test_0_lintian_finds_no_error(self):
        told = subprocess.run(["lintian", "--allow-root", str(self.package)], capture_output=True, text=True)
        errors = [line for line in told.stdout.splitlines() if line.startswith("E:")]
        self.assertEqual(errors, [], told.stdout + told.stderr)

    def test_3_man_pages_and_completions_are_there(self):
        self.assertIn("ichnode-study-show", self.root.run("ls /usr/share/man/man1").stdout)
        for name in ("man1/ichnode.1.gz", "man1/ichnode-doctor.1.gz", "man5/ichnode.yaml.5.gz"):
            page = self.root.path / "usr/share/man" / name
            told = subprocess.run(["man", "--warnings", "-l", str(page)], capture_output=True, text=True)
            if told.returncode != 127:
                self.assertEqual(told.stderr, "", name)
        self.root.run("bash -c 'source /usr/share/bash-completion/completions/ichnode'")

    def test_4_an_upgrade_ends_what_runs_and_goes_on(self):
        """Within an association that stays open."""
        sender = subprocess.Popen(
            ["nsenter", f"--target={self.root.leader}", "--net", "--", sys.executable, "-c", HOLD],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(sender.stdout.close)
        self.assertEqual(sender.stdout.readline(), "open\n")
        before = self.root.run("ichnode study list --json").stdout
        self.root.run(f"dpkg -i /var/tmp/{self.package.name}")
        wait_for(self.is_ready, "the node is ready again", 60, self.history)
        self.assertIn(sender.wait(60), (0, 1))
        uids = [each["studyInstanceUID"] for each in json.loads(before)]
        after = [each["studyInstanceUID"] for each in json.loads(self.root.run("ichnode study list --json").stdout)]
        self.assertEqual(after, uids)
        self.assertEqual(self.unit("ActiveState")["ActiveState"], "active")

    def test_5_what_is_killed_comes_again(self):
        self.root.run("systemctl kill --signal=SIGKILL --kill-whom=main ichnode")
        time.sleep(1)
        wait_for(self.is_ready, "the node is ready again", 90, self.history)
        self.assertEqual(self.unit("NRestarts")["NRestarts"], "1")

    def test_6_purged_nothing_is_left_but_what_was_received(self):
        self.root.run("apt-get purge -y ichnode")
        self.assertFalse((self.root.path / "etc/ichnode").exists())
        for name in ("usr/lib/ichnode", "usr/share/ichnode", "usr/bin/ichnode", "lib/systemd/system/ichnode.service"):
            self.assertFalse((self.root.path / name).exists(), name)
        self.assertTrue(any((self.root.path / "var/lib/ichnode/spool/studies").rglob("*.dcm")))
        self.assertEqual(self.root.run("grep -l '^ichnode\\|^dicom-' /proc/[0-9]*/comm", check=False).stdout, "")


# An association that stays open until the node ends it.
HOLD = """
import time
from pynetdicom import AE
entity = AE(ae_title="HOLDER")
entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2")
association = entity.associate("127.0.0.1", 11112, ae_title="ICHNODE")
assert association.is_established
print("open", flush=True)
for _ in range(600):
    if not association.is_alive():
        break
    time.sleep(0.1)
"""


if __name__ == "__main__":
    unittest.main(verbosity=2)
