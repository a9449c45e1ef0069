#!/usr/bin/env python3
"""The Debian package in a clean Debian 12 with systemd of its own: installed as docs/OPERATIONS.md says, a study through
it, its key a credential, upgraded in the middle of a C-STORE, killed, stopped, removed and purged. `make package-test`
builds the package first.

ICHNODE_PACKAGE=file tests that package. Needs root, debootstrap and systemd-nspawn; takes about five minutes."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "Tests" / "Tools")]
from debian_root import DebianRoot  # noqa: E402
from node_fixture import BLEED_SEED, example_head, needs_example_head, wait_for  # noqa: E402

BUILT = ROOT / ".build" / "deb"
UNIT = "/lib/systemd/system/ichnode.service"
MOST_EXPOSURE = 1.5
# First line of the configuration file of a later version.
LATER = "# As of version 99.0-1"


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

    def history(self) -> str:
        return self.root.run("ichnode study list; ichnode outbox list; journalctl -u ichnode -n 30", check=False).stdout

    def wait_until_ready(self, seconds: float = 60) -> None:
        wait_for(self.is_ready, "the node is ready", seconds, self.history)

    def drop_in(self, name: str, *lines: str) -> None:
        folder = self.root.path / "etc/systemd/system/ichnode.service.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.conf").write_text("\n".join(["[Service]", *lines, ""]))
        self.root.run("systemctl daemon-reload")

    def log(self, since: str = "") -> str:
        return self.root.run(f"journalctl -u ichnode --no-pager --output=cat {since}").stdout

    def test_00_lintian_finds_no_error(self):
        told = subprocess.run(["lintian", "--allow-root", str(self.package)], capture_output=True, text=True)
        errors = [line for line in told.stdout.splitlines() if line.startswith("E:")]
        self.assertEqual(errors, [], told.stdout + told.stderr)

    @needs_example_head
    def test_01_what_the_documents_say_installs_it_and_a_study_comes_back(self):
        install = commands("Install").replace("./ichnode_VERSION_amd64.deb", f"/var/tmp/{self.package.name}")
        beside, *steps = commands("The first study").splitlines()
        self.assertIn(self.package.name, install)
        self.root.prepare(
            f"apt-get update -qq; export DEBIAN_FRONTEND=noninteractive\n{install} -y\n{beside} -y\n"
            "apt-get install -y --no-install-recommends zsh fish"
        )
        self.root.boot()
        self.wait_until_ready()
        state = self.unit("ActiveState", "User", "Type", "NRestarts", "UnitFileState")
        expected = {"ActiveState": "active", "User": "ichnode", "Type": "notify", "NRestarts": "0"}
        self.assertEqual(state, expected | {"UnitFileState": "enabled"})
        folder = self.root.path / "var/tmp/head"
        study = example_head(folder, "PACKAGE", BLEED_SEED)
        told = [self.root.run(step.replace("FOLDER", "/var/tmp/head")).stdout for step in steps]
        self.assertNotIn("BAD", told[0])
        self.assertIn(study.uid, told[-1])
        wait_for(lambda: self.reports(study.uid), "a report lies in the Orthanc", 120, self.history)
        log = self.log().splitlines()
        noise = [line for line in log if " error " in line or " warning " in line]
        # The kernel of this machine, which a container shares, may be without Landlock.
        self.assertEqual([line for line in noise if "landlock" not in line], [])
        # One of each process's own libdispatch, daemon and infer child.
        self.assertLessEqual(sum("thread priority" in line for line in log), 2)
        # Every 30 s; "Ready" before.
        told = re.compile(r"\d+ associations open, \d+ studies under way, \d+ deliveries owed")
        wait_for(lambda: told.fullmatch(self.unit("StatusText")["StatusText"]), "the unit says what it does", 70)

    def test_02_the_unit_is_closed(self):
        told = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", str(self.root.path) + UNIT], capture_output=True, text=True
        )
        exposure = float(re.search(r"exposure level for .*: ([0-9.]+)", told.stdout).group(1))
        print(f"exposure {exposure}", file=sys.stderr)
        self.assertLessEqual(exposure, MOST_EXPOSURE)

    def test_03_man_pages_and_completions_are_there(self):
        self.assertIn("ichnode-study-show", self.root.run("ls /usr/share/man/man1").stdout)
        for name in ("man1/ichnode.1.gz", "man1/ichnode-doctor.1.gz", "man5/ichnode.yaml.5.gz"):
            page = self.root.path / "usr/share/man" / name
            told = subprocess.run(["man", "--warnings", "-l", str(page)], capture_output=True, text=True)
            if told.returncode != 127:
                self.assertEqual(told.stderr, "", name)
        completed = self.root.run(
            "source /usr/share/bash-completion/completions/ichnode; COMP_WORDS=(ichnode stu); COMP_CWORD=1; "
            "COMP_LINE='ichnode stu'; COMP_POINT=11; _ichnode ichnode stu ichnode; echo ${COMPREPLY[@]}"
        )
        self.assertEqual(completed.stdout.strip(), "study", "bash")
        self.root.run("zsh -n /usr/share/zsh/vendor-completions/_ichnode")
        loaded = self.root.run("zsh -fc 'autoload -U compinit && compinit -u -D && echo $_comps[ichnode]'")
        self.assertEqual(loaded.stdout.strip(), "_ichnode", "zsh")
        self.assertIn("study", self.root.run("fish -c 'complete --do-complete=\"ichnode stu\"'").stdout.split(), "fish")

    def test_04_files_are_what_is_needed_and_belong_to_whom_they_should(self):
        owners = "\n".join(
            [
                "640 root ichnode /etc/ichnode/ichnode.yaml",
                "750 root ichnode /etc/ichnode",
                "750 ichnode ichnode /var/lib/ichnode",
                "750 ichnode ichnode /run/ichnode",
            ]
        )
        paths = " ".join(line.split()[-1] for line in owners.splitlines())
        self.assertEqual(self.root.run(f"stat -c '%a %U %G %n' {paths}").stdout.strip(), owners)
        self.assertIn(":/usr/sbin/nologin", self.root.run("getent passwd ichnode").stdout)
        library = self.root.path / "usr/lib/ichnode"
        for program in ("ichnode", "ichnode-dicom"):
            sections = subprocess.run(["readelf", "-SW", str(library / program)], capture_output=True, text=True).stdout
            self.assertIn(".text", sections)
            self.assertNotIn(".symtab", sections, f"{program} is stripped")
            self.assertNotIn("not found", self.root.run(f"ldd /usr/lib/ichnode/{program}").stdout)
        names = {path.name.split(".so")[0] for path in (library / "openvino").iterdir()}
        plugins = {"libopenvino_intel_cpu_plugin", "libopenvino_onnx_frontend"}
        self.assertEqual(names, plugins | {"libopenvino", "libopenvino_c", "libtbb", "libtbbmalloc", "libhwloc"})
        # DCMTK is the workers' alone.
        self.assertNotIn("dcm", self.root.run("ldd /usr/lib/ichnode/ichnode").stdout)

    def test_05_a_key_that_the_node_cannot_read_comes_as_a_credential(self):
        """And without it the message says what to do."""
        certificate, key = "/etc/ichnode/node.pem", "/etc/ssl/private/node-key.pem"
        self.root.run(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost "
            f"-addext subjectAltName=DNS:localhost -keyout {key} -out {certificate} 2>&1 && chmod 600 {key}"
        )
        self.assertNotEqual(self.root.run(f"runuser -u ichnode -- cat {key}", check=False).returncode, 0)
        with (self.root.path / "etc/ichnode/ichnode.yaml").open("a") as file:
            file.write(f"tls: {{certificate: {certificate}, key: 'credential:tls-key', client_certificates: none}}\n")
        told = self.root.run("runuser -u ichnode -- ichnode config check", check=False)
        self.assertEqual(told.returncode, 78, told.stdout)
        self.assertIn("credential tls-key cannot be read (No such file or directory): the unit needs", told.stdout)
        self.drop_in("key", f"LoadCredential=tls-key:{key}")
        self.root.run("systemctl restart ichnode")
        self.wait_until_ready()
        secure = self.root.run(f"echoscu +tla +cf {certificate} -aec ICHNODE localhost 2762", check=False)
        self.assertEqual(secure.returncode, 0, secure.stdout + self.history())
        # As an administrator asks, with what the unit that runs was given.
        told = self.root.run("runuser -u ichnode -- ichnode config check", check=False)
        self.assertEqual(told.returncode, 0, told.stdout)
        checked = (
            f"systemd-run --quiet --pipe --wait --property=User=ichnode --property=LoadCredential=tls-key:{key} "
            "ichnode config check"
        )
        self.root.run("systemctl stop ichnode")
        self.assertNotEqual(self.root.run("runuser -u ichnode -- ichnode config check", check=False).returncode, 0)
        self.root.run(checked)
        self.root.run("systemctl start ichnode")
        self.wait_until_ready()

    def test_06_an_upgrade_in_the_middle_of_c_store_loses_nothing_that_was_acknowledged(self):
        study = f"2.25.{uuid.uuid4().int}"
        known = {each["studyInstanceUID"] for each in json.loads(self.root.run("ichnode study list --json").stdout)}
        later = self.later_package()
        program = str(HERE / "interrupted_sender.py")
        sender = subprocess.Popen(
            ["nsenter", f"--target={self.root.leader}", "--net", "--", sys.executable, program, "11112", study],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(sender.stdout.close)
        lines = [sender.stdout.readline() for _ in range(50)]
        self.assertIn("half sent\n", lines)
        # What the administrator wrote is kept, and what the package brings lies beside it.
        written = (self.root.path / "etc/ichnode/ichnode.yaml").read_text()
        self.root.run(f"dpkg -i --force-confold /var/tmp/{later}")
        self.wait_until_ready()
        told = "".join(lines) + sender.communicate(timeout=60)[0]
        self.assertEqual((self.root.path / "etc/ichnode/ichnode.yaml").read_text(), written)
        self.assertIn(LATER, (self.root.path / "etc/ichnode/ichnode.yaml.dpkg-dist").read_text())
        self.assertIn(LATER.split()[-1], self.root.run("dpkg-query --show ichnode").stdout)
        self.assertEqual(self.unit("ActiveState")["ActiveState"], "active")

        self.assertNotIn("refused", told)
        self.assertRegex(told, r"many (aborted|cut)")
        self.assertRegex(told, r"half (aborted|cut|closed)")
        acknowledged = {line.split()[1] for line in told.splitlines() if line.startswith("stored ")}
        spool = self.root.path / "var/lib/ichnode/spool"
        stored = {path.stem for path in (spool / "studies" / study).glob("*.dcm")}
        self.assertEqual(acknowledged - stored, set(), "acknowledged and lost")
        # One may be durable whose answer did not get through any more.
        self.assertLessEqual(len(stored - acknowledged), 1)
        self.assertEqual(list((spool / "incoming").iterdir()), [])
        shown = json.loads(self.root.run(f"ichnode study show --json {study}").stdout)
        self.assertEqual(shown["study"]["instanceCount"], len(stored))
        after = {each["studyInstanceUID"] for each in json.loads(self.root.run("ichnode study list --json").stdout)}
        self.assertEqual(after, known | {study})
        print(f"{len(acknowledged)} acknowledged, {len(stored)} there", file=sys.stderr)

    def later_package(self) -> str:
        """The same with another version and another configuration file, as an upgrade brings it."""
        name = f"ichnode_{LATER.split()[-1]}_all.deb"
        with tempfile.TemporaryDirectory(dir=self.root.path / "var/tmp") as folder:
            subprocess.run(["dpkg-deb", "--raw-extract", self.package, folder], check=True)
            control, example = Path(folder) / "DEBIAN/control", Path(folder) / "etc/ichnode/ichnode.yaml"
            version = f"Version: {LATER.split()[-1]}"
            control.write_text(re.sub(r"^Version: .*", version, control.read_text(), flags=re.MULTILINE))
            example.write_text(f"{LATER}\n{example.read_text()}")
            output = self.root.path / "var/tmp" / name
            subprocess.run(["dpkg-deb", "-Znone", "--build", folder, output], check=True, stdout=subprocess.DEVNULL)
        return name

    def restarts(self) -> int:
        return int(self.unit("NRestarts")["NRestarts"])

    def test_07_what_is_killed_comes_again(self):
        """Also after an end that is in order, which systemd did not ask for."""
        for signal in ("SIGKILL", "SIGTERM"):
            before = self.restarts()
            self.root.run(f"kill -s {signal.removeprefix('SIG')} {self.unit('MainPID')['MainPID']}")
            wait_for(lambda: self.restarts() == before + 1, f"systemd starts it again after {signal}", 60, self.history)
            self.wait_until_ready(60)

    def test_08_what_stands_still_is_killed_and_comes_again(self):
        self.assertEqual(self.unit("WatchdogUSec")["WatchdogUSec"], "3min")
        self.drop_in("watchdog", "WatchdogSec=6s", "RestartSec=1s")
        self.root.run("systemctl restart ichnode")
        self.wait_until_ready()
        # It is fed: longer than the time that it has.
        time.sleep(10)
        self.assertEqual(self.restarts(), 0)
        process = self.unit("MainPID")["MainPID"]
        self.root.run("systemctl kill --signal=SIGSTOP --kill-whom=main ichnode")
        wait_for(lambda: self.restarts() == 1, "systemd starts it again", 60, self.history)
        self.wait_until_ready()
        self.assertIn("Watchdog timeout", self.root.run("journalctl -u ichnode --no-pager").stdout)
        self.assertNotEqual(self.unit("MainPID")["MainPID"], process)
        self.assertEqual(self.root.run("ls /var/lib/systemd/coredump", check=False).stdout.count("ichnode"), 0)
        self.assertEqual(self.root.run("echoscu -aec ICHNODE localhost 11112").returncode, 0)

    def test_09_removed_and_installed_again_it_goes_on(self):
        known = self.root.run("ichnode study list --json").stdout
        self.root.run("apt-get remove -y ichnode")
        self.assertTrue((self.root.path / "etc/ichnode/ichnode.yaml").exists())
        self.assertEqual(self.root.run("grep -l '^ichnode\\|^dicom-' /proc/[0-9]*/comm", check=False).stdout, "")
        self.root.run(f"dpkg -i --force-confold /var/tmp/{self.package.name}")
        self.wait_until_ready()
        self.assertEqual(len(json.loads(self.root.run("ichnode study list --json").stdout)), len(json.loads(known)))
        self.assertEqual(self.unit("UnitFileState")["UnitFileState"], "enabled")

    def test_10_purged_nothing_is_left_but_what_was_received(self):
        self.root.run("apt-get purge -y ichnode")
        left = [str(path) for path in (self.root.path / "etc/ichnode").glob("*")]
        self.assertEqual(left, [str(self.root.path / "etc/ichnode/node.pem")], "what the administrator put there")
        for name in ("usr/lib/ichnode", "usr/share/ichnode", "usr/bin/ichnode", "lib/systemd/system/ichnode.service"):
            self.assertFalse((self.root.path / name).exists(), name)
        self.assertTrue(any((self.root.path / "var/lib/ichnode/spool/studies").rglob("*.dcm")))
        self.assertEqual(self.root.run("grep -l '^ichnode\\|^dicom-' /proc/[0-9]*/comm", check=False).stdout, "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
